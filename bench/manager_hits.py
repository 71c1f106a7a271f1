"""What a hit costs: `retrieve_nowait` and an awaited `retrieve` of a resident value, against a plain dict.

    python bench/manager_hits.py [--quick]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.data import DataFlow, DataManager, build_manager
from pipeline.storage.workspace import Workspace

TARGETS = {"nowait": 4.5, "awaited": 8.0}


def main(quick: bool = False) -> dict[str, Any]:
    """Nanoseconds per hit and multiples of a dict's, medians of the rounds with least and most."""
    return asyncio.run(_measure(20_000 if quick else 200_000, 5 if quick else 9))


async def _measure(hits: int, rounds: int) -> dict[str, Any]:
    workspace = Workspace(Path(tempfile.gettempdir()) / "never-made")
    keys = [f"key {n}" for n in range(1000)]
    order = [keys[n * 7919 % 1000] for n in range(hits)]
    plain = {key: bytes(100) for key in keys}
    managers: dict[str, DataManager] = {}
    for mode in ("memory", "hybrid"):
        managers[mode] = build_manager("m", DataFlow(mode=mode), workspace)
        for key, value in plain.items():
            await managers[mode].store(key, value)
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        base = _time_dict(plain, order)
        found.setdefault("dict_ns", []).append(base)
        for mode, manager in managers.items():
            nowait = _time_nowait(manager.retrieve_nowait, order)
            awaited = await _time_awaited(manager, order)
            found.setdefault(f"{mode}_nowait_ns", []).append(nowait)
            found.setdefault(f"{mode}_nowait_x", []).append(nowait / base)
            found.setdefault(f"{mode}_awaited_ns", []).append(awaited)
            found.setdefault(f"{mode}_awaited_x", []).append(awaited / base)
    for manager in managers.values():
        await manager.close()
    await workspace.close()
    return {
        name: [round(statistics.median(values), 2), round(min(values), 2), round(max(values), 2)]
        for name, values in found.items()
    }


def _time_dict(plain: dict[str, bytes], order: list[str]) -> float:
    start = time.perf_counter_ns()
    for key in order:
        plain[key]
    return (time.perf_counter_ns() - start) / len(order)


def _time_nowait(retrieve: Callable[[str], Any], order: list[str]) -> float:
    start = time.perf_counter_ns()
    for key in order:
        retrieve(key)
    return (time.perf_counter_ns() - start) / len(order)


async def _time_awaited(manager: DataManager, order: list[str]) -> float:
    retrieve = manager.retrieve
    start = time.perf_counter_ns()
    for key in order:
        await retrieve(key)
    return (time.perf_counter_ns() - start) / len(order)


if __name__ == "__main__":
    for name, figure in main("--quick" in sys.argv).items():
        print(f"{name:24} median {figure[0]:>8} [{figure[1]} .. {figure[2]}]")
