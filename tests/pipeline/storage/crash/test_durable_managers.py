"""T6: random programs of durable data managers against a dict, with cancellations, full disks, and crashes."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from crash_disk import Fault, MemoryDisk, State
from crash_states import power_loss
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.data import DataFlow
from pipeline.data.factory import build_manager
from pipeline.data.journaled import JournaledManager
from pipeline.data.replay import restore_journal
from pipeline.errors import BackpressureTimeout, BudgetExceeded, DiskFull, SchemaMismatch
from pipeline.storage.journal import Journal, read_journal
from pipeline.storage.root import StorageRoot
from pipeline.storage.workspace import Workspace
from tests.counted import count
from tests.pipeline.data.data_support import batch, rows
from tests.pipeline.data.stepped import SteppedIo, SteppedLoop

SOAK = "PENSTOCK_SOAK" in os.environ
ROOT = Path("/root-of-a-disk-in-memory")
KEYS = ("a", "b", b"a", "")
RUNS = 20_000 if SOAK else 38
"""Of each mode and durability."""

CHANGES = st.tuples(
    st.sampled_from(["store", "store", "append", "append", "delete"]),
    st.sampled_from(KEYS),
    st.sampled_from([0, 1, 100, 1000, 3000]),
    st.one_of(st.none(), st.none(), st.integers(0, 12)),
)
"""A call, its key and rows, and after how many rounds of the loop it is cancelled, if it is."""
EVENTS = st.one_of(
    CHANGES, CHANGES, CHANGES, CHANGES,
    st.tuples(st.just("crash"), st.sampled_from(["kill", "power"]), st.integers(0, 1000), CHANGES),
    st.tuples(st.just("full"), st.integers(1, 4), st.just(0), st.none()),
    st.tuples(st.just("reopen"), st.just(""), st.just(0), st.none()),
)  # fmt: skip


class Session:
    """A durable manager on a disk in memory, from one opening of the folder to the next."""

    def __init__(self, mode: str, durability: str, folder: Path, state: State) -> None:
        self.disk = MemoryDisk(state)
        self.workspace = Workspace(folder)
        self.workspace.io = SteppedIo(1)
        self.root = StorageRoot.open(ROOT, disk=self.disk)
        assert self.root.recovered.is_clean, self.root.recovered
        self.workspace.journal = Journal(self.root, self.workspace.io, segment_bytes=60_000)
        limit = 100 if mode == "memory" else 9 * 8200 / (1 << 20)
        flow = DataFlow(mode=mode, durability=durability, memory_limit_mb=limit, admission_timeout_seconds=1000)
        manager = build_manager("m", flow, self.workspace)
        assert isinstance(manager, JournaledManager)
        self.manager = manager

    async def restore(self) -> None:
        read = partial(read_journal, ROOT / "wal", self.disk)
        found = await restore_journal(read, {self.manager.container: self.manager}, self.workspace.io)
        assert not found.gaps

    async def close(self) -> None:
        """In order, or what a crash has no time for: the state of the disk was taken before."""
        self.disk.fault = None
        await self.manager.close()
        assert self.workspace.journal is not None
        await self.workspace.journal.close()
        await self.workspace.close()
        self.root.close()


class Model:
    """What is there, and for each key what may be there after a crash."""

    def __init__(self) -> None:
        self.now: dict[Any, Any] = {}
        self.allowed: dict[Any, list[Any]] = {key: [None] for key in KEYS}

    def after(self, call: str, key: Any, new: pa.RecordBatch) -> Any:
        old = self.now.get(key)
        if call == "store":
            return new
        if call == "append":
            return pa.Table.from_batches([*(old.to_batches() if old is not None else []), new])
        return None

    def has(self, key: Any, state: Any, *, promised: bool) -> None:
        if state is None:
            self.now.pop(key, None)
        else:
            self.now[key] = state
        self.allowed[key] = [state] if promised else [*self.allowed[key], state]


def same(found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return found is None and wanted is None
    return type(found) is type(wanted) and bool(found.equals(wanted))


async def look(manager: JournaledManager, key: Any) -> Any:
    try:
        return await manager.retrieve(key)
    except KeyError:
        return None


async def change(manager: JournaledManager, model: Model, step: tuple[Any, ...], number: int) -> None:
    """One call; what it promised is noted, and what it did without a promise."""
    call, key, size, cancel_after = step
    new = batch(number, size) if call == "store" else rows(number * 10_000, size)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    work = {
        "store": lambda: manager.store(key, new),
        "append": lambda: manager.append(key, new),
        "delete": lambda: manager.delete(key),
    }[call]()
    task = asyncio.ensure_future(work)
    if cancel_after is not None:
        loop.calls[loop.rounds + 1 + cancel_after] = task.cancel
    after = model.after(call, key, new) if not _refused(model, call, key) else model.now.get(key)
    before = model.now.get(key)
    try:
        await task
    except (KeyError, SchemaMismatch):
        assert _refused(model, call, key), f"{call} of {key!r}"
    except (DiskFull, BudgetExceeded, BackpressureTimeout, asyncio.CancelledError):
        found = await look(manager, key)
        if same(found, after):
            model.has(key, after, promised=False)
        else:
            assert same(found, before), f"after {call} of {key!r} that was not to be"
            model.allowed[key].append(after)  # it may be in the journal all the same: on its way when it was given up
    else:
        assert not _refused(model, call, key)
        model.has(key, after, promised=True)
    finally:
        loop.calls.clear()


def _refused(model: Model, call: str, key: Any) -> bool:
    old = model.now.get(key)
    return (call == "delete" and old is None) or (call == "append" and isinstance(old, pa.RecordBatch))


async def examine(manager: JournaledManager, model: Model, *, crashed: bool) -> None:
    found = {key: await look(manager, key) for key in KEYS}
    for key, state in found.items():
        allowed = model.allowed[key] if crashed else [model.now.get(key)]
        if not any(same(state, each) for each in allowed):
            raise AssertionError(f"{key!r}: found {state}, expected one of {allowed}")
        if crashed:
            model.has(key, state, promised=True)
    assert set(manager.keys()) == {key for key, state in found.items() if state is not None}
    stats = manager.stats()
    assert stats.charged_bytes <= stats.peak_bytes <= (stats.limit_bytes or 0)


def full(left: int) -> Fault:
    """So many writes of the journal find no room."""

    def fault(call: int, what: str, path: Path) -> OSError | None:
        nonlocal left
        if what == "write" and left:
            left -= 1
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return None

    return fault


async def program(mode: str, durability: str, steps: list[tuple[Any, ...]], folder: Path) -> None:
    session = Session(mode, durability, folder / "0", State(ROOT))
    model = Model()
    await session.restore()
    for number, step in enumerate([*steps, ("reopen", "", 0, None)], 1):
        what = step[0]
        if what == "full":
            session.disk.fault = full(step[1])
        elif what in ("crash", "reopen"):
            state = session.disk.state
            if what == "crash":
                state = await crashed_at(session, model, step, number, durability)
            await session.close()
            session = Session(mode, durability, folder / str(number), state)
            await session.restore()
            await examine(session.manager, model, crashed=True)
        else:
            await change(session.manager, model, step, number)
        await examine(session.manager, model, crashed=False)
    await session.close()


async def crashed_at(session: Session, model: Model, step: tuple[Any, ...], number: int, durability: str) -> State:
    """The disk as a crash leaves it in the middle of one more call."""
    _, kind, seed, (call, key, size, rounds) = step
    new = batch(number, size) if call == "store" else rows(number * 10_000, size)
    if not _refused(model, call, key):
        model.allowed[key].append(model.after(call, key, new))
    calls = {"store": session.manager.store, "append": session.manager.append}
    task = asyncio.ensure_future(calls[call](key, new) if call in calls else session.manager.delete(key))
    for _ in range(rounds or 0):
        await asyncio.sleep(0)
    state = session.disk.state.copy()
    if kind == "power" and durability == "durable":
        state = power_loss(state, random.Random(seed))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return state


@pytest.fixture(autouse=True)
def without_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files that need not survive: those of the managers themselves. The journal's disk is in memory."""
    monkeypatch.setattr("os.fsync", lambda fd: None)


@pytest.mark.parametrize("durability", ["durable", "process"])
@pytest.mark.parametrize("mode", ["memory", "hybrid", "file", "streaming"])
def test_t6_a_durable_manager_answers_like_a_dict_through_crashes_and_full_disks(mode: str, durability: str) -> None:
    """C-1, R-1, S-6, F-1: 300 programs in all."""

    @settings(
        max_examples=RUNS, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(st.lists(EVENTS, min_size=5, max_size=25))
    def run(steps: list[tuple[Any, ...]]) -> None:
        loop = SteppedLoop()
        loop.leaps = True
        try:
            with tempfile.TemporaryDirectory() as folder:
                loop.run_until_complete(program(mode, durability, steps, Path(folder)))
        finally:
            loop.close()
        count("programs of durable managers")

    run()
