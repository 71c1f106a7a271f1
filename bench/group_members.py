"""What the members of a group cost: memory of an idle one, and time of each as they become many.

Idle is a portfolio that is planned, built and has seen a day of bars without trading; and, apart from that, its data
manager with one small value of each of its three keys. Time is that of whole runs through the pipeline, from reading
the configuration to the published summary, over members and bars: 100, 1,000 and 10,000 of them in turn.

    python bench/group_members.py [--quick] [--rounds N]
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.harness import arguments, row, show
from pipeline import DataFlow, Pipeline
from pipeline.data import MemberStores
from pipeline.stage import Context
from pipeline.storage.release import release_memory
from pipeline.storage.workspace import Workspace
from stages import Synthetic

IDLE = 5000
BARS = 4096
BASE = 50
"""Members of the run before, so that what is there once is not counted."""


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    counts = (20, 100, 500) if options.quick else (100, 1_000, 10_000)
    idle = 500 if options.quick else IDLE
    rounds = options.rounds or (1 if options.quick else 3)
    rows = []
    for title, measure in (("at rest in its group", resting), ("its data manager, three small values", stores)):
        found = []
        for _ in range(rounds):
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                found.append(process.submit(measure, idle).result())
        rows.append(row(f"{title}: bytes", found, "B"))
    together = {**row("an idle member, both together: bytes", [a + b for a, b in zip(*_pairs(rows), strict=True)], "B")}
    rows.append({**together, "target": "<= 20480"})
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        spent = process.submit(times, counts, rounds).result()
    for count in counts:
        rows.append(row(f"{count} members: ns per member and bar", spent[count], "ns"))
    few, some, many = (spent[count] for count in counts)
    for title, before in (
        (f"{counts[2]} members over {counts[1]}", some),
        (f"{counts[2]} members over {counts[0]}", few),
    ):
        grown = [b / a for a, b in zip(before, many, strict=True)]
        rows.append({**row(f"{title}: time per member and bar", grown, "x"), "target": "<= 1.2"})
    return show(f"{idle} idle members; runs of {', '.join(map(str, counts))} members over {BARS} bars", rows)


def _pairs(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    first, second = ([entry["median"]] for entry in rows)
    return first, second


def config(members: int, feed: dict[str, Any], quantity: float) -> dict[str, Any]:
    """So many pairs of averages, out of the same hundred and fifty averages."""
    fast = min(50, max(2, members // 10))
    return {
        "name": "members",
        "topology": "backtest",
        "containers": {
            "data": feed,
            "portfolio_*": {
                "strategy": {"type": "sma_cross", "quantity": quantity},
                "data_flow": {"mode": "hybrid", "memory_limit_mb": 5},
            },
        },
        "parameter_space": {
            "fast": {"start": 2, "stop": 1 + fast, "step": 1},
            "slow": {"start": 60, "stop": 59 + members // fast, "step": 1},
        },
    }


def bars(rows: int) -> dict[str, Any]:
    return {"type": "synthetic", "schema": "bar", "rows": rows, "interval": "1m", "volatility": 0.001, "seed": 5}


def resting(count: int) -> float:
    """Bytes of a member in a process of its own: recipe, name, state, its place in everything that is per member."""
    day = next(iter(Synthetic(schema="bar", rows=40, interval="1m", seed=5).build(context()).batches()))

    async def run(count: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            pipeline = Pipeline.from_yaml(config(count, {"type": "push"}, 1.0), output=folder)
            async with pipeline.start() as run:
                await run.push("data", day.columns)
                while not any(
                    each.name == "portfolio" and each.processed_rows == day.num_rows for each in run.status().containers
                ):
                    await asyncio.sleep(0.01)
                held = rss()
                run.push_end("data")
                await run.finished()
        return held

    base = asyncio.run(run(BASE))
    return (asyncio.run(run(count)) - base) / (count - BASE)


def stores(count: int) -> float:
    """Bytes of a member's data manager in a process of its own."""

    async def run() -> float:
        workspace = Workspace(Path(tempfile.gettempdir()) / "never-made")
        held = MemberStores("portfolio", lambda member: DataFlow(mode="hybrid", memory_limit_mb=5), workspace)
        before = 0
        for number in range(BASE + count):
            if number == BASE:
                before = rss()
            for key in ("fills", "equity", "statistics"):
                await held.store(f"portfolio_{number:05}", key, {"sharpe": 1.5})
        found = (rss() - before) / count
        await held.close()
        await workspace.close()
        return found

    return asyncio.run(run())


def times(counts: tuple[int, ...], rounds: int) -> dict[int, list[float]]:
    """Nanoseconds per member and bar of whole runs, in one process, which has run once before."""
    spent: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(1 + rounds):
        for count in counts if turn else counts[:1]:
            gc.collect()
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                pipeline = Pipeline.from_yaml(config(count, bars(BARS), 100.0), output=folder)
                asyncio.run(pipeline.run())
            if turn:
                spent[count].append((time.perf_counter() - began) * 1e9 / count / BARS)
    return spent


def rss() -> int:
    gc.collect()
    release_memory()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def context() -> Context:
    return Context(name="data")


if __name__ == "__main__":
    main()
