"""T8, C-3, E10: a caller cancelled at any await, in any way, loses no key, leaks no charge and starts no job twice."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Awaitable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pytest
from data_support import HandClock, batch, rows
from stepped import SteppedIo, SteppedLoop

from pipeline.data import DataFlow, DataManager, build_manager
from pipeline.errors import BackpressureTimeout, BudgetExceeded, DataError, ValueTooLarge
from pipeline.storage.workspace import Workspace
from tests.counted import count

MODES = ("memory", "streaming", "file", "hybrid")
KINDS = ("cancel", "twice", "wait_for", "anyio", "timeout")
CALLS = ("store", "overwrite", "append", "retrieve", "series", "delete", "stream", "flush", "close", "outsized")
BUDGET = 8 * 8200 / (1 << 20)
"""Room for eight batches of a thousand rows; six of nine have to go elsewhere in modes that have an elsewhere."""
MAX_ROUNDS = 400


async def filled(mode: str, workspace: Workspace) -> DataManager:
    """Values of which some are on disk where the mode has one, a series in several parts, and no room for one more."""
    flow = DataFlow(
        mode=mode,
        memory_limit_mb=BUDGET if mode != "memory" else 9.4 * 8200 / (1 << 20),
        on_full="block",
        admission_timeout_seconds=20,
    )
    manager = build_manager("m", flow, workspace, clock=HandClock())
    for n in range(5):
        await manager.store(f"k{n}", batch(n))
    for n in range(4):
        await manager.append("s", rows(n * 900, 900))
    return manager


EXPECTED: dict[str, Any] = {f"k{n}": batch(n) for n in range(5)} | {
    "s": pa.Table.from_batches([rows(n * 900, 900) for n in range(4)])
}


def call_of(manager: DataManager, call: str) -> Awaitable[Any]:
    async def stream() -> None:
        async with aclosing(manager.iter_batches("s")) as batches:  # type: ignore[type-var]
            async for _ in batches:
                await asyncio.sleep(0)

    return {
        "store": lambda: manager.store("new", batch(99)),
        "overwrite": lambda: manager.store("k1", batch(99, 1200)),
        "append": lambda: manager.append("s", rows(3600, 900)),
        "retrieve": lambda: manager.retrieve("k0"),
        "series": lambda: manager.retrieve("s"),
        "delete": lambda: manager.delete("k2"),
        "stream": stream,
        "flush": manager.flush,
        "close": manager.close,
        "outsized": lambda: manager.store("large", batch(7, 12_000)),
    }[call]()


AFTER: dict[str, dict[str, Any]] = {
    "store": {"new": batch(99)},
    "overwrite": {"k1": batch(99, 1200)},
    "append": {"s": pa.Table.from_batches([rows(n * 900, 900) for n in range(5)])},
    "delete": {"k2": None},
    "outsized": {"large": batch(7, 12_000)},
}
"""What a call changes; a cancelled one has changed this or nothing."""


async def cancelled(manager: DataManager, call: str, kind: str, at: int) -> str:
    """Make the call and cancel it `at` rounds of the loop later; how it ended."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    scope = anyio.CancelScope()
    limit = asyncio.timeout(None)

    async def work() -> None:
        if kind == "anyio":
            with scope:
                await call_of(manager, call)
            if scope.cancelled_caught:
                raise asyncio.CancelledError
        elif kind == "wait_for":
            await asyncio.wait_for(call_of(manager, call), 500)
        elif kind == "timeout":
            async with limit:
                await call_of(manager, call)
        else:
            await call_of(manager, call)

    task = asyncio.ensure_future(work())
    driver = asyncio.current_task()

    def disturb() -> None:
        if kind == "anyio":
            scope.cancel()
        elif kind == "wait_for":
            loop.seconds += 1000
        elif kind == "timeout":
            if not task.done():
                limit.reschedule(loop.time())
        elif kind == "everybody":
            for other in asyncio.all_tasks():
                if other is not driver:
                    other.cancel()
        else:
            task.cancel()

    if kind in ("wait_for", "timeout"):
        at += 1  # there is no limit before the task has begun
    loop.calls[loop.rounds + 1 + at] = disturb
    if kind == "twice":
        loop.calls[loop.rounds + 2 + at] = disturb
    try:
        await asyncio.shield(task) if kind == "everybody" else await task
    except (asyncio.CancelledError, TimeoutError):
        return "cancelled"
    except (BackpressureTimeout, BudgetExceeded, DataError, ValueTooLarge):
        return "refused"
    finally:
        disturbed = not any(number > loop.rounds for number in loop.calls)
        loop.calls.clear()
    return "done" if disturbed else "too late"


async def examine(manager: DataManager, call: str, outcome: str) -> None:
    """Everything is there that was, the call has changed all it was to change or nothing, and the books are right."""
    wanted = dict(EXPECTED)
    if outcome in ("done", "too late"):
        wanted |= AFTER.get(call, {})
    found = {key: await manager.retrieve(key) for key in manager.keys()}
    for key in wanted.keys() | found.keys() | AFTER.get(call, {}).keys():
        allowed = [wanted.get(key)]
        if outcome == "cancelled" and key in AFTER.get(call, {}):
            allowed.append(AFTER[call][key])
        assert any(same(found.get(key), each) for each in allowed), f"{key!r} after a {call} that was {outcome}"
    for key in list(manager.keys()):
        await manager.delete(key)
    await manager.flush()
    for _ in range(MAX_ROUNDS):
        if not manager.stats().charged_bytes and not manager.stats().disk_bytes:
            break
        await asyncio.sleep(0)
    stats = manager.stats()
    assert stats.charged_bytes == 0, f"a charge was leaked: {stats}"
    assert stats.disk_bytes == 0, f"bytes on disk belong to nobody: {stats}"
    assert stats.peak_bytes <= (stats.limit_bytes or 0)


def same(found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return found is None and wanted is None
    return type(found) is type(wanted) and bool(found.equals(wanted))


@pytest.fixture(autouse=True)
def without_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether bytes reach the disk is not the question here, and asking takes most of the time."""
    monkeypatch.setattr("os.fsync", lambda fd: None)


def run_once(mode: str, call: str, kind: str, at: int) -> str:
    """One program in a loop of its own; how the call ended."""
    loop = SteppedLoop()

    async def program(folder: Path) -> str:
        workspace = Workspace(folder, loan_limit_bytes=1 << 30)
        workspace.io = io = SteppedIo()
        manager = await filled(mode, workspace)
        try:
            outcome = await cancelled(manager, call, kind, at)
            if call != "close" and kind != "everybody":
                await examine(manager, call, outcome)
        finally:
            if kind == "everybody":
                with suppress(asyncio.CancelledError, DataError):
                    await manager.close()
            else:
                await manager.close()
                assert manager.stats().charged_bytes == 0
            await workspace.close()
        assert not io.pending
        if kind != "everybody":
            assert io.cancelled_jobs == workspace.loaned_bytes == 0
        for _ in range(20):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return outcome

    try:
        with tempfile.TemporaryDirectory() as folder:
            return loop.run_until_complete(program(Path(folder)))
    finally:
        loop.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_t8_cancelled_at_any_await_nothing_is_lost_and_nothing_leaks(mode: str, kind: str) -> None:
    """C-3, E10, M-6, S-5: exhaustive, at every round of the loop that a call takes."""
    told = {"done": 0, "cancelled": 0, "too late": 0, "refused": 0}
    for call in CALLS:
        for at in itertools.count():
            assert at < MAX_ROUNDS, f"{call} never ended"
            if at > 12 and mode == "memory" and call in ("store", "append"):
                break  # there is no room, nobody makes any, and the clock stands
            outcome = run_once(mode, call, kind, at)
            told[outcome] += 1
            count("cancellations")
            if outcome in ("too late", "refused"):
                break
    assert told["cancelled"] > 0 or mode == "memory", told


@pytest.mark.parametrize("mode", MODES)
def test_e10_where_every_task_is_cancelled_at_once_the_rest_still_ends(mode: str) -> None:
    """As the end of `asyncio.run` does it, the manager's own tasks included: nobody hangs, no thread is left (E11)."""
    for call, at in itertools.product(CALLS, range(0, 24, 2)):
        run_once(mode, call, "everybody", at)
        count("cancellations")
