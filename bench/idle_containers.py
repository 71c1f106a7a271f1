"""What a thousand idle containers with hybrid data managers cost: memory, threads, descriptors.

Once through the whole engine, begun and resting: one `Push` feed and a thousand transforms that have passed on one
row and keep what they give. Once the managers alone, each holding one small value. A run of one container, and one
manager, come before, so that what the first of them imports is not counted.

    python bench/idle_containers.py [--quick] [--rounds N]
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from bench.harness import arguments, row, show
from pipeline import Pipeline
from pipeline.containers.pushing import Push
from pipeline.data import DataFlow, build_manager
from pipeline.frames import Batch
from pipeline.stage import Context, Stage, Transform
from pipeline.storage.workspace import Workspace
from pipeline.topology import TopologyBuilder

FLOW = DataFlow(mode="hybrid", memory_limit_mb=5)
TARGETS = {"RSS": "<= 20", "threads": "<= 8"}
REST_SECONDS = 1.0


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    count = 100 if options.quick else 1000
    rounds = options.rounds or (1 if options.quick else 3)
    rows = []
    for title, measure in (("containers", containers), ("managers alone", managers)):
        found = []
        for _ in range(rounds):
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                found.append(process.submit(measure, count).result())
        rows.append({**row(f"{title}: RSS added", [each.rss_mb for each in found], "MB"), "target": TARGETS["RSS"]})
        added = row(f"{title}: threads added", [float(each.threads) for each in found])
        rows.append({**added, "target": TARGETS["threads"]})
        rows.append(row(f"{title}: descriptors added", [float(each.descriptors) for each in found]))
    return show(f"{count} idle containers, hybrid, 5 MB each", rows)


class Cost(NamedTuple):
    """What the process has, or has more of than before."""

    rss_mb: float
    threads: int
    descriptors: int

    @staticmethod
    def now() -> Cost:
        gc.collect()
        rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return Cost(rss / 1e6, threading.active_count(), len(os.listdir("/proc/self/fd")))

    def since(self, before: Cost) -> Cost:
        return Cost(self.rss_mb - before.rss_mb, self.threads - before.threads, self.descriptors - before.descriptors)


class PassOn(Stage, frozen=True):
    def build(self, context: Context) -> PassingOn:
        return PassingOn()


class PassingOn(Transform):
    def on_batch(self, batch: Batch) -> Batch:
        return batch


def containers(count: int) -> Cost:
    """In a process of its own."""

    async def run(count: int, before: Cost | None) -> Cost:
        builder = TopologyBuilder().add("feed", Push())
        for n in range(count):
            builder.add(f"container_{n:04}", PassOn(), ["feed"], data_flow=FLOW)
        with tempfile.TemporaryDirectory() as folder:
            async with Pipeline.from_topology(builder.build(), output=Path(folder)).start() as run:
                await run.push("feed", {"ts_event": [1], "price": [1.0]})  # with which the run begins
                await asyncio.sleep(REST_SECONDS)
                cost = Cost.now()
                run.push_end("feed")
                await run.finished()
        return cost.since(before) if before is not None else cost

    async def both() -> Cost:
        await run(1, None)
        return await run(count, Cost.now())

    return asyncio.run(both())


def managers(count: int) -> Cost:
    """In a process of its own."""

    async def run() -> Cost:
        workspace = Workspace(Path(tempfile.gettempdir()) / "never-made")
        held = [build_manager("warm", FLOW, workspace)]
        await held[0].store("result", {"sharpe": 1.5})
        before = Cost.now()
        for n in range(count):
            held.append(build_manager(f"portfolio_{n:04}", FLOW, workspace))
            await held[-1].store("result", {"sharpe": 1.5})
        cost = Cost.now().since(before)
        assert not workspace.folder.exists()
        for manager in held:
            await manager.close()
        await workspace.close()
        return cost

    return asyncio.run(run())


if __name__ == "__main__":
    main()
