"""A thousand managers that want more than the pool has: decisions, loop lag, memory; and what a large pool costs.

Each of 1,000 hybrid managers, of 10 MB each, is stored values of 100 kB until three times the pool of 200 MB has been
stored, and reads some back; the driver gives the loop back after each operation, with a ticker beside it. What the
loop's thread waited for a core is taken off in rows of their own, and of resident memory what the empty process has. A
pool that is never short is timed against none, operation by operation in one loop, in turns.

    python bench/pool_pressure.py [--quick] [--rounds N]
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from bench.harness import arguments, ratio, row, show
from bench.hybrid_mix import OwnLag
from pipeline.data import DataFlow, DataManager, build_manager
from pipeline.data.victims import Victims
from pipeline.pool import Pool
from pipeline.storage.workspace import Workspace

MANAGERS = 1000
POOL_BYTES = 200_000_000
VALUE_BYTES = 100_000
TIMES = 3
TASKS = 2
OPERATIONS = 2000


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (1 if options.quick else 5)
    spilling: dict[str, list[Found]] = {"bytes": [], "tables": []}
    for _ in range(rounds):
        for kind in spilling:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                spilling[kind].append(process.submit(_measure, kind).result())
    victims = [_victim_us() for _ in range(rounds)]
    turns = [_turn_us() for _ in range(rounds)]
    rows = [
        {**row("one of 1000 chosen to spill, one stored to meanwhile", victims, "us"), "target": "<= 50"},
        {**row("one of 1000 waiting served, and lined up again", turns, "us"), "target": "<= 50"},
    ]
    for kind, found in spilling.items():
        rows.append(row(f"{kind}: stored and read", [each.rate for each in found], "MB/s"))
        rows.append({**row(f"{kind}: accounted peak / pool", [each.peak for each in found]), "target": "<= 1.00"})
        rows.append({**row(f"{kind}: loop lag p50", [each.lag_p50_ms for each in found], "ms"), "target": "<= 0.5"})
        rows.append({**row(f"{kind}: loop lag p99", [each.lag_p99_ms for each in found], "ms"), "target": "<= 2"})
        rows.append(row("  the same without waits for a core: p50", [each.own_p50_ms for each in found], "ms"))
        rows.append(row("  p99", [each.own_p99_ms for each in found], "ms"))
        rows.append({**row(f"{kind}: added RSS / pool", [each.rss for each in found]), "target": "<= 1.15"})
        rows.append(row(f"{kind}: Jain's index of bytes stored", [each.fairness for each in found]))
    rows += asyncio.run(_cost(rounds * 20))
    return show("1,000 managers of 10 MB in a pool of 200 MB", rows)


class Found(NamedTuple):
    rate: float
    peak: float
    lag_p50_ms: float
    lag_p99_ms: float
    own_p50_ms: float
    own_p99_ms: float
    rss: float
    fairness: float


def _measure(kind: str) -> Found:
    """In a process of its own."""
    sys.setswitchinterval(0.0005)  # as the command line does
    folder = Path(tempfile.mkdtemp())
    try:
        return asyncio.run(_spill(kind, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _spill(kind: str, folder: Path) -> Found:
    """Two tasks store to all managers in turns."""
    pool = Pool(POOL_BYTES)
    workspace = Workspace(folder, pool=pool)
    flow = DataFlow(mode="hybrid", memory_limit_mb=10)
    managers = [build_manager(f"m{n}", flow, workspace) for n in range(MANAGERS)]
    source = np.random.default_rng(7).integers(0, 256, 2 * VALUE_BYTES, dtype=np.uint8).tobytes()
    stored = [0] * MANAGERS
    count = TIMES * POOL_BYTES // VALUE_BYTES
    most = 0

    def value(n: int) -> Any:
        start = n % VALUE_BYTES
        data = source[start : start + VALUE_BYTES]
        return data if kind == "bytes" else pa.record_batch({"v": np.frombuffer(data, np.int64).copy()})

    async def work(first: int) -> None:
        nonlocal most
        for n in range(first, count, TASKS):
            manager = n % MANAGERS
            await managers[manager].store(f"k{n}", value(n))
            stored[manager] += VALUE_BYTES
            if n % 4 == 0:
                await managers[manager].retrieve(f"k{n % MANAGERS}")
            if n % 16 == 0:
                most = max(most, _resident())
            await asyncio.sleep(0)

    value(0)  # pyarrow imports pandas with the first array it makes
    before = _resident()
    began = time.perf_counter()
    async with OwnLag() as lag:
        await asyncio.gather(*(work(first) for first in range(TASKS)))
    seconds = time.perf_counter() - began
    most = max(most, _resident())
    for manager in managers:
        await manager.close()
    await workspace.close()
    fairness = sum(stored) ** 2 / (MANAGERS * sum(each * each for each in stored))
    return Found(
        1.25 * count * VALUE_BYTES / seconds / 1e6, pool.peak / pool.limit, lag.percentile(50), lag.percentile(99),
        *np.percentile(lag.own_ms, (50, 99)).tolist(),
        (most - before) / POOL_BYTES, fairness,
    )  # fmt: skip


class Holder:
    """A manager as the arbiter sees it."""

    tick = put_tick = 0.0
    guarantee = 0
    borrowed = 0

    def __init__(self, number: int, pool: Pool | None = None) -> None:
        self.name, self.charged, self.pool = f"m{number}", 0, pool
        self.pool_need = 0
        self.borrower = self
        self.served = 0

    def serve(self) -> None:
        assert self.pool is not None
        self.charged += self.pool_need
        self.served += 1
        self.pool.take(self, self.pool_need)
        self.pool.turn_taken(self)


def _victim_us() -> float:
    """A decision after a store, where the one chosen lets go of half of what it has borrowed."""
    victims: Victims[Holder] = Victims()
    rng = np.random.default_rng(7)
    holders = [Holder(n) for n in range(MANAGERS)]
    for holder, size in zip(holders, rng.integers(1, 1 << 20, MANAGERS).tolist(), strict=True):
        holder.borrowed = size
        victims.note(holder)
    victims.furthest(MANAGERS)
    stores = rng.integers(0, MANAGERS, OPERATIONS).tolist()
    began = time.thread_time_ns()
    for number in stores:
        holder = holders[number]
        holder.borrowed += 100_000
        victims.note(holder)
        victim = victims.furthest(MANAGERS)
        assert victim is not None
        victim.borrowed //= 2
    return (time.thread_time_ns() - began) / OPERATIONS / 1e3


def _turn_us() -> float:
    """Somebody gives room back; the first in line takes it and lines up again, the others wait."""
    pool = Pool(1000 * MANAGERS)
    giver = Holder(-1)
    giver.charged = pool.limit
    pool.take(giver, pool.limit)
    waiters = [Holder(n, pool) for n in range(MANAGERS)]
    for waiter in waiters:
        waiter.pool_need = 100
        pool.line_up(waiter)
    began = time.thread_time_ns()
    for _ in range(OPERATIONS):
        giver.charged -= 100
        pool.give(giver, 100)
    spent = time.thread_time_ns() - began
    assert sorted(waiter.served for waiter in waiters) == [OPERATIONS // MANAGERS] * MANAGERS
    return spent / OPERATIONS / 1e3


async def _cost(rounds: int) -> list[dict[str, Any]]:
    """What a pool that is never short adds to a hit, a store and an append."""
    folder = Path(tempfile.mkdtemp())
    spaces = [Workspace(folder / "a"), Workspace(folder / "b", pool=Pool(16 << 30))]
    batch = pa.record_batch({"n": np.arange(100)})
    rows = []
    for mode in ("memory", "hybrid"):
        pair = [build_manager("m", DataFlow(mode=mode, memory_limit_mb=1000), space) for space in spaces]
        spent: dict[str, tuple[list[float], list[float]]] = {how: ([], []) for how in ("hit", "store", "append")}
        for turn in range(rounds + 1):
            for how, found in spent.items():
                for manager, times in zip(pair, found, strict=True):
                    ns = await _timed(manager, how, batch)
                    if turn:
                        times.append(ns)
        for how, (without, within) in spent.items():
            rows.append(ratio(f"{mode}: {how} without a pool / with one", within, without, ">= 0.97"))
        for manager in pair:
            await manager.close()
    for space in spaces:
        await space.close()
    shutil.rmtree(folder, ignore_errors=True)
    return rows


async def _timed(manager: DataManager, how: str, batch: pa.RecordBatch) -> float:
    began = time.thread_time_ns()
    if how == "hit":
        await manager.store("k", b"value")
        for _ in range(5000):
            manager.retrieve_nowait("k")
    elif how == "store":
        for n in range(500):
            await manager.store(f"k{n}", b"value")
    else:
        for _ in range(200):
            await manager.append("s", batch)
        await manager.delete("s")
    return time.thread_time_ns() - began


if __name__ == "__main__":
    main()
