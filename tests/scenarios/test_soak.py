"""T11: a thousand data managers for as long as one likes, with faults on the way: nothing grows, nothing is left.

`make soak DURATION=3600` runs it that many seconds; `make test` for some thousand calls.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data import DataFlow, DataManager, build_manager
from pipeline.errors import BackpressureTimeout, DataError
from pipeline.lag import LagProbe
from pipeline.pool import Pool
from pipeline.storage.workspace import Workspace
from tests.counted import count

SECONDS = float(os.environ.get("PENSTOCK_SOAK_SECONDS", "60")) if "PENSTOCK_SOAK" in os.environ else None
"""None: so many calls instead, however long they take."""
CALLS = 9_000
MANAGERS = 1_000
LIMIT_MB = 5.0
POOL_MB = 24
KEYS = 6
FAULT_CALLS = 1_500
"""A fault of the disk after so many calls; with `make soak` each minute."""
MB = 1 << 20


class QuickClock:
    """Fifty times as fast as the system's: a rest of a second passes in a fiftieth of it."""

    def now_ns(self) -> int:
        return self.monotonic_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns() * 50

    async def sleep_until(self, monotonic_ns: int) -> None:
        await asyncio.sleep(max(0, monotonic_ns - self.monotonic_ns()) / 50e9)


class Disk:
    """Refuses every write while it is `full`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.refused = 0
        write = os.pwritev

        def refusing(*args: Any) -> int:
            if self.full:
                self.refused += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(*args)

        patch.setattr(os, "pwritev", refusing)


def value(manager: int, key: int, version: int) -> bytes:
    return np.full(1000 + 7000 * (key % 3), manager * 7 + key * 3 + version, dtype=np.int32).tobytes()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def work(managers: list[DataManager], disk: Disk, chance: random.Random) -> tuple[list[int], list[int]]:
    """Calls on random managers, each answer compared; bytes of memory and number of descriptors now and then."""
    versions: dict[tuple[int, int], int] = {}
    memory: list[int] = []
    files: list[int] = []
    calls = faults = 0
    begun = time.monotonic()
    while (calls < CALLS) if SECONDS is None else (time.monotonic() - begun < SECONDS):
        number, key = chance.randrange(MANAGERS), chance.randrange(KEYS)
        known = versions.get((number, key))
        name = f"k{key}"
        calls += 1
        due = calls // FAULT_CALLS if SECONDS is None else int((time.monotonic() - begun) // 60)
        if due > faults:
            faults += 1
            disk.full = True
        try:
            if known is None or chance.random() < 0.5:
                await managers[number].store(name, value(number, key, calls))
                versions[number, key] = calls
            elif chance.random() < 0.2:
                await managers[number].delete(name)
                del versions[number, key]
            else:
                assert await managers[number].peek(name) == value(number, key, known)
        except BackpressureTimeout:
            disk.full = False
        if disk.full and disk.refused > 3 * faults:
            disk.full = False
        await asyncio.sleep(0)
        if calls % (500 if SECONDS is None else 5_000) == 0:
            if SECONDS is None:
                gc.collect()
            memory.append(resident())
            files.append(descriptors())
    disk.full = False
    count("faults in the soak", faults)
    for (number, key), version in versions.items():
        assert await managers[number].peek(f"k{key}") == value(number, key, version), "lost in the soak"
    return memory, files


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory and descriptors are counted in /proc")
async def test_t11_a_thousand_managers_neither_grow_nor_leave_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A-1, C-9, E19: the pool is never exceeded, what is stored comes back, faults pass."""
    disk = Disk(monkeypatch)
    pool = Pool(POOL_MB * MB)
    workspace = Workspace(tmp_path / "work", pool=pool)
    flow = DataFlow(mode="hybrid", memory_limit_mb=LIMIT_MB, admission_timeout_seconds=30)
    managers = [build_manager(f"m{n}", flow, workspace, clock=QuickClock()) for n in range(MANAGERS)]
    lag = LagProbe()
    probing = asyncio.create_task(lag.run())
    try:
        memory, files = await work(managers, disk, random.Random(11))
    finally:
        probing.cancel()
        for manager in managers:
            try:
                await manager.close()
            except DataError as error:
                raise AssertionError(f"{manager.name} did not close: {error}") from error
        await workspace.close()
    assert pool.peak <= pool.limit
    assert pool.charged == 0
    assert disk.refused > 0
    late = memory[len(memory) // 3 :]
    growth = statistics.fmean(late[len(late) // 2 :]) - statistics.fmean(late[: len(late) // 2])
    assert growth <= 0.25 * POOL_MB * MB, f"{growth / MB:.1f} MB more in the second half: {[m // MB for m in memory]}"
    assert max(files[len(files) // 3 :]) <= max(files[: len(files) // 3]) + 2, files
    assert not list((tmp_path / "work").rglob("*.seg")), "orphans"
    late_ms = lag.percentile_ms(99) or 0.0
    print(f"the loop was late: p50 {lag.percentile_ms(50):.2f} ms, p99 {late_ms:.2f} ms, of {lag.samples}")
    assert SECONDS is None or late_ms <= 20
