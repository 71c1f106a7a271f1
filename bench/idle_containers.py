"""What a thousand idle hybrid managers cost: memory, threads, descriptors.

python bench/idle_containers.py [--quick]
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path
from typing import Any

from pipeline.data import DataFlow, build_manager
from pipeline.storage.workspace import Workspace

TARGETS = {"rss_mb": 20, "threads": 8}


def main(quick: bool = False) -> dict[str, Any]:
    """Figures for a thousand managers that hold one small value each."""
    return asyncio.run(_measure(100 if quick else 1000))


async def _measure(count: int) -> dict[str, Any]:
    workspace = Workspace(Path(tempfile.gettempdir()) / "never-made")
    flow = DataFlow(mode="hybrid", memory_limit_mb=5)
    warm = build_manager("warm", flow, workspace)
    await warm.store("result", {"sharpe": 1.5})
    gc.collect()
    threads, descriptors, rss = threading.active_count(), len(os.listdir("/proc/self/fd")), _rss()
    tracemalloc.start()
    managers = [build_manager(f"portfolio_{n:04}", flow, workspace) for n in range(count)]
    for manager in managers:
        await manager.store("result", {"sharpe": 1.5})
    traced = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    figures = {
        "managers": count,
        "traced_mb": round(traced / 1e6, 2),
        "rss_mb": round((_rss() - rss) / 1e6, 2),
        "threads": threading.active_count() - threads,
        "descriptors": len(os.listdir("/proc/self/fd")) - descriptors,
        "folder_made": workspace.folder.exists(),
    }
    for manager in [warm, *managers]:
        await manager.close()
    await workspace.close()
    return figures


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    for name, figure in main("--quick" in sys.argv).items():
        print(f"{name:24} {figure}")
