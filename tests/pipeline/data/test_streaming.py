"""The streaming manager: when it flushes, what it promises its callback, and what happens when that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from data_support import HandClock, rows, settle, until

from pipeline.data import DataFlow
from pipeline.data.policy import StreamingSettings
from pipeline.data.streaming import BatchId, StreamingManager, StreamItem
from pipeline.errors import BackpressureTimeout, FlushedAway, ReentrantDeadlock, StorageFailed
from pipeline.storage.workspace import Workspace


class Receiver:
    """A callback that can be held up."""

    def __init__(self) -> None:
        self.batches: list[tuple[Sequence[StreamItem], BatchId]] = []
        self.begun = 0
        self.at_once = 0
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def __call__(self, items: Sequence[StreamItem], batch_id: BatchId) -> None:
        self.begun += 1
        self.at_once += 1
        assert self.at_once == 1, "two flushes in flight"
        try:
            await self.open.wait()
            if self.error is not None:
                raise self.error
            self.batches.append((items, batch_id))
        finally:
            self.at_once -= 1

    @property
    def numbers(self) -> list[int]:
        return [number for items, _ in self.batches for item in items for number in item.value["n"].to_pylist()]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def make(
    workspace: Workspace, receiver: Receiver | None, clock: HandClock | None = None, **settings: float
) -> StreamingManager:
    flow = DataFlow(mode="streaming", streaming_settings=StreamingSettings(**settings))
    return StreamingManager("st", flow, workspace, flush=receiver, clock=clock)


async def test_rows_are_flushed_by_number_in_order_with_ids_that_name_them(
    workspace: Workspace, receiver: Receiver
) -> None:
    """S-1, S-3."""
    manager = make(workspace, receiver, buffer_size=100)
    for start in range(0, 1000, 30):
        await manager.append("s", rows(start, 30))
    await manager.close()
    assert receiver.numbers == list(range(1020))
    ids = [batch_id for _, batch_id in receiver.batches]
    assert ids[0] == BatchId("st", 0, 119)
    assert [each.first_seq for each in ids[1:]] == [each.last_seq + 1 for each in ids[:-1]]
    assert manager.stats().flushed_rows == 1020


async def test_rows_are_flushed_by_bytes(workspace: Workspace, receiver: Receiver) -> None:
    manager = make(workspace, receiver, buffer_size=10**9, buffer_mb=0.01)
    await manager.append("s", rows(0, 2000))
    await until(lambda: len(receiver.batches) == 1)
    await manager.close()


async def test_rows_are_flushed_by_age(workspace: Workspace, receiver: Receiver) -> None:
    clock = HandClock()
    manager = make(workspace, receiver, clock, max_age_seconds=5)
    await manager.append("s", rows(0, 1))
    await settle()
    clock.advance(4)
    await manager.append("s", rows(1, 1))
    await settle()
    assert receiver.begun == 0
    clock.advance(1)
    await settle()
    assert receiver.numbers == [0, 1]
    await manager.close()


async def test_when_both_buffers_are_full_storing_waits(workspace: Workspace, receiver: Receiver) -> None:
    """S-2."""
    manager = make(workspace, receiver, buffer_size=10)
    receiver.open.clear()
    await manager.append("s", rows(0, 10))
    await manager.append("s", rows(10, 10))
    third, fourth = (asyncio.create_task(manager.append("s", rows(n, 10))) for n in (20, 30))
    await settle()
    assert not third.done()
    assert manager.stats().waits == 2
    receiver.open.set()
    await asyncio.gather(third, fourth)
    await manager.close()
    assert receiver.numbers == list(range(40))


async def test_a_waiter_is_cancelled_or_gives_up_without_a_trace(workspace: Workspace, receiver: Receiver) -> None:
    clock = HandClock()
    manager = make(workspace, receiver, clock, buffer_size=10)
    receiver.open.clear()
    await manager.append("s", rows(0, 10))
    await manager.append("s", rows(10, 10))
    cancelled, late = (asyncio.create_task(manager.append("s", rows(900, 10))) for _ in range(2))
    await settle()
    cancelled.cancel()
    await settle()
    clock.advance(30)
    with pytest.raises(BackpressureTimeout, match="was not stored"):
        await late
    receiver.open.set()
    await manager.close()
    assert receiver.numbers == list(range(20))


async def test_without_a_callback_flushed_and_buffered_rows_are_one_answer(workspace: Workspace) -> None:
    manager = make(workspace, None, buffer_size=100)
    for start in range(0, 950, 10):
        await manager.append("s", rows(start, 10))
        if start % 50 == 0:
            await settle(3)
            assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(start + 10))
    streamed = [n async for piece in manager.iter_batches("s") for n in piece["n"].to_pylist()]
    assert streamed == list(range(950))
    await manager.flush()
    assert manager.stats().flushed_rows == 950
    assert list(workspace.folder.glob("store/st/*.parquet"))
    await manager.close()


async def test_what_a_callback_has_is_flushed_away_until_it_is_stored_again(
    workspace: Workspace, receiver: Receiver
) -> None:
    manager = make(workspace, receiver)
    await manager.store("v", 1)
    await manager.append("s", rows(0, 5))
    assert await manager.retrieve("v") == 1
    assert (await manager.retrieve("s")).num_rows == 5
    await manager.flush()
    await manager.append("s", rows(5, 5))
    for key in ("v", "s"):
        with pytest.raises(FlushedAway):
            await manager.retrieve(key)
        with pytest.raises(KeyError):
            manager.retrieve_nowait(key)
    await manager.store("v", 2)
    assert await manager.retrieve("v") == 2
    await manager.delete("v")
    with pytest.raises(KeyError):
        await manager.retrieve("v")
    assert list(manager.keys()) == ["s"]
    await manager.close()


async def test_a_failing_callback_fails_every_later_call_and_says_where_the_rows_are(
    workspace: Workspace, receiver: Receiver
) -> None:
    manager = make(workspace, receiver, buffer_size=10)
    receiver.error = RuntimeError("the other side is gone")
    await manager.append("s", rows(0, 10))
    await until(lambda: receiver.begun == 1 and receiver.at_once == 0)
    await settle()
    for call in (lambda: manager.append("s", rows(10, 1)), lambda: manager.store("v", 1), manager.flush):
        with pytest.raises(StorageFailed, match=r"rows 0 to 9 .*the other side is gone.*still in memory"):
            await call()
    assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(10))
    with pytest.raises(StorageFailed):
        await manager.close()
    await manager.close()
    assert receiver.begun == 1


async def test_a_failing_callback_wakes_those_who_wait(workspace: Workspace, receiver: Receiver) -> None:
    manager = make(workspace, receiver, buffer_size=10)
    receiver.open.clear()
    receiver.error = RuntimeError("no")
    await manager.append("s", rows(0, 10))
    await manager.append("s", rows(10, 10))
    waiting = [asyncio.create_task(manager.append("s", rows(20, 10))) for _ in range(2)]
    await settle()
    receiver.open.set()
    for found in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(found, StorageFailed)
    with pytest.raises(StorageFailed):
        await manager.close()


async def test_a_callback_may_store_while_there_is_room_and_is_stopped_where_it_would_wait_for_itself(
    workspace: Workspace,
) -> None:
    found: list[object] = []

    async def callback(items: Sequence[StreamItem], batch_id: BatchId) -> None:
        if found:
            return
        await manager.append("t", rows(0, 10))
        for call in (lambda: manager.append("t", rows(0, 1)), manager.flush, manager.close):
            try:
                await call()
            except ReentrantDeadlock as error:
                found.append(error)

    flow = DataFlow(mode="streaming", streaming_settings=StreamingSettings(buffer_size=10))
    manager = StreamingManager("st", flow, workspace, flush=callback)
    await manager.append("s", rows(0, 10))
    await manager.flush()
    assert len(found) == 3
    await manager.close()
    assert manager.stats().flushed_rows == 20


async def test_deleting_waits_for_the_flush_that_has_the_key(workspace: Workspace, receiver: Receiver) -> None:
    manager = make(workspace, receiver, buffer_size=10)
    receiver.open.clear()
    await manager.append("s", rows(0, 10))
    deleting = asyncio.create_task(manager.delete("s"))
    await settle()
    assert not deleting.done()
    receiver.open.set()
    await deleting
    assert list(manager.keys()) == []
    await manager.close()
