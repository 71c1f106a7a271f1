"""The arbiter over real managers and a real disk: a thousand at once, and random histories, its promises watched."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import Disk, HandClock, batch, rows, settle, until

from pipeline.data import DataFlow, DataManager, build_manager
from pipeline.data.eviction import Eviction
from pipeline.data.relief import PoolRelief
from pipeline.edges.edge import Edge, EdgePolicy
from pipeline.edges.in_flight import EdgesAccount
from pipeline.errors import BackpressureTimeout, BudgetExceeded
from pipeline.frames import Batch
from pipeline.pool import Pool
from pipeline.storage.workspace import Workspace
from tests import patience

VALUE = 8200
"""Bytes charged for `batch(n)`."""
SOAK = "PENSTOCK_SOAK" in os.environ
MANAGERS = 1000
DISK_BYTES_PER_SECOND = 10e6
SECONDS = 60 if SOAK else 4
"""Virtual ones; in each second every manager gets one value in."""
TRIALS = 1000 if SOAK else 20
STEPS = 150


class Watch:
    """Looks at every step of the loop until it is told to stop."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look
        self.looks = 0
        self._stopped = False

    async def __aenter__(self) -> Watch:
        self._task = asyncio.ensure_future(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopped = True
        await self._task

    async def _run(self) -> None:
        while not self._stopped:
            self.look()
            self.looks += 1
            await asyncio.sleep(0)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def spills(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was spilled against the rules: of those that were free to write, it was not the furthest above."""
    wrong: list[str] = []
    known: set[Eviction] = set()
    made, shed = Eviction.__init__, Eviction.shed

    def init(self: Eviction, *args: Any, **more: Any) -> None:
        made(self, *args, **more)
        known.add(self)

    def watched(self: Eviction, num_bytes: int) -> Any:
        others = [each for each in known if each.spill is None and not each.resting and all_is_there(each)]
        most = max((each.borrowed for each in others), default=self.borrowed)
        if self.borrowed < most:
            wrong.append(f"{self._name} at {self.borrowed}, another at {most}")
        return shed(self, num_bytes)

    def all_is_there(eviction: Eviction) -> bool:
        """What is being read back is charged, but counts as borrowed only when it is there."""
        memory = eviction._memory
        held = sum(block.size for block in memory.blocks.values())
        return not eviction._stopped and not eviction.is_empty and held == memory.account.charged

    monkeypatch.setattr(Eviction, "__init__", init)
    monkeypatch.setattr(Eviction, "shed", watched)
    yield wrong
    known.clear()


async def test_e19_a_thousand_managers_above_their_share_all_progress_and_the_pool_holds(tmp_path: Path) -> None:
    """E19, A-2, A-6: a quarter of them ask four times as often as another; the virtual disk writes 10 MB a second."""
    clock = HandClock()
    pool = Pool(2 << 20, clock)
    workspace = Workspace(tmp_path / "work", pool=pool)
    flow = DataFlow(mode="hybrid", memory_limit_mb=10)
    managers = [build_manager(f"m{n:03}", flow, workspace, clock=clock) for n in range(MANAGERS)]
    stored = np.zeros(MANAGERS, np.int64)
    last = np.zeros(MANAGERS)
    slowest = 0.0
    churned, owed = workspace.churned, 0
    values = [batch(n) for n in range(10)]

    def written(num_bytes: int) -> None:
        nonlocal owed
        churned(num_bytes)
        owed += num_bytes
        if owed > DISK_BYTES_PER_SECOND / 100:
            clock.advance(owed / DISK_BYTES_PER_SECOND)
            owed = 0

    workspace.churned = written  # type: ignore[method-assign]

    async def work(number: int, task: int) -> None:
        nonlocal slowest
        turn = 0
        while clock.now < SECONDS * 1e9:
            await asyncio.sleep(0)  # so that all begin at once
            await managers[number].store(f"{task} {turn}", values[turn % 10])
            turn += 1
            if clock.now < SECONDS * 1e9:
                stored[number] += VALUE
                slowest = max(slowest, clock.now / 1e9 - last[number])
                last[number] = clock.now / 1e9

    def within() -> None:
        assert pool.charged <= pool.limit

    tasks = [work(number, task) for number in range(MANAGERS) for task in range(1 + number % 4)]
    async with Watch(within) as watch:
        await asyncio.gather(*tasks)
    assert pool.peak <= pool.limit
    assert pool.charged == sum(each.stats().charged_bytes for each in managers)
    assert stored.sum() > 15 * pool.limit
    assert max(slowest, SECONDS - float(last.min())) <= 2.0, (slowest, last.min())
    jain = float(stored.sum()) ** 2 / (MANAGERS * float((stored**2).sum()))
    assert jain >= 0.9, (jain, stored.min(), stored.max())
    assert watch.looks > 1000
    for each in managers:
        await each.close()
    await workspace.close()
    assert (pool.charged, pool.managers, workspace.reserve.held) == (0, 0, 0)


async def test_a3_nobody_is_taken_below_its_guarantee_while_anybody_is_above(
    tmp_path: Path, spills: list[str], disk: Disk
) -> None:
    pool = Pool(20 * VALUE)
    workspace = Workspace(tmp_path / "work", pool=pool)
    small, large = (build_manager(name, DataFlow(mode="hybrid", memory_limit_mb=1), workspace) for name in "sl")
    for n in range(4):
        await small.store(f"k{n}", batch(n))
    for n in range(100):
        await large.store(f"k{n}", batch(n))
    await until(lambda: pool.charged <= pool.low)
    assert small.stats().evictions == 0, "five values are its own"
    assert large.stats().evictions > 80
    assert not spills
    await small.close()
    await large.close()
    await workspace.close()


async def test_a3_when_all_that_spills_is_guaranteed_it_is_taken_only_for_somebody_who_waits(tmp_path: Path) -> None:
    """The rest is held by what cannot spill: better on disk than failing."""
    pool = Pool(20 * VALUE)
    workspace = Workspace(tmp_path / "work", pool=pool)
    hybrid, memory = (build_manager("h", DataFlow(mode="hybrid"), workspace), build_manager("m", DataFlow(), workspace))
    for n in range(4):
        await hybrid.store(f"k{n}", batch(n))
    for n in range(16):
        await memory.store(f"k{n}", batch(n))
    await settle()
    assert pool.charged == pool.limit and pool.spills == 0, "above 90 %, but four values are a guarantee"
    await memory.store("more", batch(7))
    assert pool.spills >= 1
    for n in range(4):
        assert (await hybrid.retrieve(f"k{n}")).equals(batch(n))
    await hybrid.close()
    await memory.close()
    await workspace.close()


class Table:
    """Rows that are written when the pool asks for it, oldest first."""

    tick = put_tick = 1.0
    name = "table"

    def __init__(self) -> None:
        self.charged = self.borrowed = 80
        self.asked = 0
        self.writing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def shed(self) -> tuple[int, asyncio.Future[None]]:
        self.asked += 1
        return 10, self.writing


async def test_a3_a_table_that_is_stored_to_while_it_writes_is_asked_again_when_that_is_done(tmp_path: Path) -> None:
    """A-3: once for each write, however often it is noted meanwhile."""
    workspace = Workspace(tmp_path, pool=Pool(100))
    relief, table = PoolRelief.join(workspace, HandClock()), Table()
    assert relief is not None and workspace.pool is not None
    workspace.pool.take(table, 99)
    for _ in range(3):
        relief.note(table)
        relief.press()
    assert table.asked == 1
    before, table.writing = table.writing, asyncio.get_running_loop().create_future()
    before.set_result(None)
    await until(lambda: table.asked == 2)
    assert workspace.pool.spilled_bytes == 10
    workspace.pool.give(table, 99)
    table.charged = 0
    table.writing.set_result(None)
    await until(lambda: workspace.pool is not None and workspace.pool.spilled_bytes == 20)
    await workspace.close()


async def test_random_histories_keep_every_promise_at_every_step_of_the_loop(
    tmp_path: Path, spills: list[str], disk: Disk, record_property: Callable[[str, object], None]
) -> None:
    """A-3, A-5, A-6, C-6, M-1: managers of two modes and an edge, cancelled callers, a disk that is full at times."""
    looks = spilled = waits = 0
    for seed in range(TRIALS):
        history = History(tmp_path / str(seed), seed, disk)
        async with Watch(history.look) as watch:
            await history.run()
        await history.end()
        looks += watch.looks
        spilled += history.pool.spills
        waits += history.pool.waits
        assert not spills, (seed, spills)
    record_property("loop steps looked at", looks)
    assert looks > 200 * TRIALS and spilled > 10 * TRIALS and waits > TRIALS


class History:
    """Some managers, an edge, and what they ought to have."""

    def __init__(self, folder: Path, seed: int, disk: Disk) -> None:
        self.rng = random.Random(seed)
        self.clock, self.disk = HandClock(), disk
        self.pool = Pool(self.rng.randrange(8, 30) * VALUE, self.clock)
        self.workspace = Workspace(folder, pool=self.pool)
        self.managers: list[DataManager] = [
            build_manager(f"h{n}", DataFlow(mode="hybrid", memory_limit_mb=self.rng.choice((0.05, 1))),
                          self.workspace, clock=self.clock)
            for n in range(self.rng.randrange(2, 9))
        ] + [
            build_manager(f"m{n}", DataFlow(memory_limit_mb=0.02, on_full="block"), self.workspace, clock=self.clock)
            for n in range(2)
        ]  # fmt: skip
        self.edges = EdgesAccount(self.pool, self.clock)
        self.edge = Edge("a", "b", EdgePolicy(max_bytes=1 << 14), self.edges)
        self.sending = asyncio.Lock()
        self.expected: dict[tuple[str, str], set[int]] = {}

    def look(self) -> None:
        pool, reserve = self.pool, self.workspace.reserve
        assert pool.charged <= pool.limit
        assert pool.charged == sum(each.stats().charged_bytes for each in self.managers) + self.edges.charged
        for each in self.managers:
            stats = each.stats()
            assert stats.limit_bytes is not None and stats.charged_bytes <= stats.limit_bytes
        assert reserve.held <= reserve.limit

    async def run(self) -> None:
        rng = self.rng
        going: list[asyncio.Future[None]] = []
        for _ in range(STEPS):
            going.append(asyncio.ensure_future(self._act(rng.choice(self.managers), f"k{rng.randrange(6)}")))
            if rng.random() < 0.1:
                going.append(asyncio.ensure_future(self._send()))
            if rng.random() < 0.1:
                rng.choice(going).cancel()
            if rng.random() < 0.02:
                self.disk.error = OSError(errno.ENOSPC, "No space left on device")
            if rng.random() < 0.1:
                self.disk.error = None
                self.clock.advance(1.1)
            while len([each for each in going if not each.done()]) > 8:
                await asyncio.sleep(0)
                self.disk.error = None
                self.clock.advance(0.01)
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
        self.disk.error = None
        while not all(each.done() for each in going):
            self.clock.advance(0.01)
            await asyncio.sleep(0)
        for each in going:
            if not each.cancelled():
                each.result()

    async def _act(self, manager: DataManager, key: str) -> None:
        action, number = self.rng.random(), self.rng.randrange(1000)
        values = self.expected.setdefault((manager.name, key), set())
        with contextlib.suppress(BackpressureTimeout, BudgetExceeded, KeyError):
            if action < 0.6:
                values.add(number)  # whoever is cancelled, or comes last, may have stored it
                await manager.store(key, batch(number, rows=self.rng.choice((100, 1000, 1500))))
            elif action < 0.9:
                found = await manager.retrieve(key)
                assert found.column("v")[0].as_py() in values
            else:
                await manager.delete(key)

    async def _send(self) -> None:
        async with self.sending:
            await self._send_alone()

    async def _send_alone(self) -> None:
        """An edge has one producer."""
        with contextlib.suppress(BudgetExceeded):
            await self.edge.send(Batch(rows(0, self.rng.choice((10, 500)))))
            frame = self.edge.receive_nowait()
            assert isinstance(frame, Batch)
            await asyncio.sleep(0)
            self.edge.finish(frame)

    async def end(self) -> None:
        self.edge.detach()
        self.clock.advance(1.1)  # the disk is tried again
        for manager in self.managers:
            for key in list(manager.keys()):
                async with asyncio.timeout(patience.SECONDS):
                    reading = asyncio.ensure_future(manager.retrieve(key))
                    while not reading.done():  # who has its fair share waits a second longer; a disk rests for one
                        self.clock.advance(0.0005)  # slowly, so that threads come to write
                        await asyncio.sleep(0)
                    found = reading.result()
                assert found.column("v")[0].as_py() in self.expected[manager.name, str(key)]
            await manager.close()
        await self.workspace.close()
        assert self.pool.charged == 0 == self.workspace.reserve.held
        assert self.pool.managers == 0
        assert self.pool.wanted == 0 and not len(self.pool.line)
