"""Flushes that fail: tried again under the same id, cut off when they hang, and what becomes of rows nobody takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from data_support import HandClock, rows, settle, until

from pipeline.data import DataFlow
from pipeline.data.attempts import Attempts
from pipeline.data.policy import StreamingSettings
from pipeline.data.streaming import BatchId, StreamingManager, StreamItem
from pipeline.errors import DiskFull, FlushedAway, ReentrantDeadlock, StorageFailed
from pipeline.mending.dead_letters import DeadLetter, DeadLetters
from pipeline.storage.workspace import Workspace


class Flaky:
    """A callback that raises so many times before it takes anything."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tried: list[BatchId] = []
        self.taken: list[int] = []

    async def __call__(self, items: Sequence[StreamItem], batch_id: BatchId) -> None:
        self.tried.append(batch_id)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("not now")
        self.taken += [number for item in items if item.append for number in item.value["n"].to_pylist()]


def make(
    workspace: Workspace, callback: object, clock: HandClock | None = None, **settings: object
) -> StreamingManager:
    flow = DataFlow(mode="streaming", streaming_settings=StreamingSettings(**settings))  # type: ignore[arg-type]
    return StreamingManager("st", flow, workspace, flush=callback, clock=clock)  # type: ignore[arg-type]


def tear(path: Path) -> None:
    """A process died while it added a letter."""
    with path.open("ab") as file:
        file.write(b"torn")


async def letters(workspace: Workspace) -> list[DeadLetter]:
    found = DeadLetters(workspace.folder)
    every = await workspace.io.submit(found, list, found)
    assert found.unread_bytes == 0
    return every


async def test_s3_and_s4_a_failed_batch_stays_first_in_line_and_is_tried_again_under_the_same_id(
    workspace: Workspace,
) -> None:
    clock, callback = HandClock(), Flaky(2)
    manager = make(workspace, callback, clock, buffer_size=10, max_attempts=3, backoff_seconds=2)
    await manager.append("s", rows(0, 10))
    await settle()
    assert len(callback.tried) == 1
    await manager.append("s", rows(10, 5))
    assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(15))
    clock.advance(0.99)
    await settle()
    assert len(callback.tried) == 1, "the wait is at least half of what is set"
    clock.advance(1.01)
    await settle()
    assert len(callback.tried) == 2
    clock.advance(4)
    await settle()
    assert callback.tried == [BatchId("st", 0, 9)] * 3
    await manager.close()
    assert callback.taken == list(range(15))
    assert callback.tried[-1] == BatchId("st", 10, 14)
    assert manager.stats().retries == 2


async def test_s4_waits_grow_twofold_to_a_minute_and_are_the_same_in_every_run() -> None:
    one, other = (Attempts("st", StreamingSettings(backoff_seconds=1), HandClock()) for _ in range(2))
    batch_id = BatchId("st", 0, 9)
    waits = [one._backoff(batch_id, number) for number in range(1, 40)]
    assert waits == [other._backoff(batch_id, number) for number in range(1, 40)]
    for number, wait in enumerate(waits):
        assert min(60, 2**number) / 2 <= wait <= min(60, 2**number)
    assert one._backoff(BatchId("st", 10, 19), 1) != waits[0], "batches do not all come back at one moment"


async def test_s4_what_nobody_took_becomes_a_dead_letter_and_the_next_batch_goes_on(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    callback = Flaky(1)
    manager = make(workspace, callback, buffer_size=10, on_failure="dead_letter")
    await manager.store("v", {"price": 1})
    await manager.append("s", rows(0, 9))
    await until(lambda: manager.stats().dead_letters == 10)
    await manager.append("t", rows(10, 10))
    await manager.flush()
    assert callback.taken == list(range(10, 20))
    value, series = await letters(workspace)
    assert (value.key, value.append, value.value, value.first_seq) == ("v", False, {"price": 1}, 0)
    assert (series.key, series.append, series.first_seq) == ("s", True, 1)
    assert series.value["n"].to_pylist() == list(range(9))
    assert series.batch_id == BatchId("st", 0, 9)
    assert series.error == "RuntimeError: not now"
    with pytest.raises(FlushedAway, match=r"dead letters in .*st\.flush\.seg"):
        await manager.retrieve("s")
    with pytest.raises(FlushedAway, match="ask whoever received it"):
        await manager.retrieve("t")
    assert "are dead letters in" in caplog.text
    await manager.close()


async def test_dead_letters_of_an_earlier_process_stay_before_those_of_this_one(workspace: Workspace) -> None:
    for start in (0, 100):
        manager = make(workspace, Flaky(1), on_failure="dead_letter")
        await manager.append("s", rows(start, 3))
        await manager.close()
        path = workspace.folder / "dead_letters" / "st.flush.seg"
        await workspace.io.submit(path, tear, path)
    manager = make(workspace, Flaky(1), on_failure="dead_letter")
    await manager.append(b"\xff", rows(200, 3))
    await manager.close()
    assert [letter.value["n"].to_pylist()[0] for letter in await letters(workspace)] == [0, 100, 200]


async def test_where_dead_letters_cannot_be_written_the_container_fails_and_keeps_the_rows(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DiskFull("no room for dead letters")

    monkeypatch.setattr("pipeline.mending.dead_letters.DeadLetterFile.add_blocking", refuse)
    manager = make(workspace, Flaky(1), buffer_size=10, on_failure="dead_letter")
    await manager.append("s", rows(0, 10))
    with pytest.raises(DiskFull, match="still in memory and readable"):
        await manager.flush()
    assert (await manager.retrieve("s")).num_rows == 10
    with pytest.raises(DiskFull, match="could not be written anywhere"):
        await manager.close()


async def test_s8_a_callback_that_hangs_has_failed_and_its_late_success_changes_nothing(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    release = asyncio.Event()
    tried: list[BatchId] = []
    ended: list[int] = []

    async def callback(items: Sequence[StreamItem], batch_id: BatchId) -> None:
        tried.append(batch_id)
        number = len(tried)
        while not release.is_set() and number == 1:
            try:
                await release.wait()
            except asyncio.CancelledError:  # it does not even hear that it is cancelled
                continue
        ended.append(number)

    manager = make(workspace, callback, clock, buffer_size=10, max_attempts=2, flush_timeout_seconds=5)
    await manager.append("s", rows(0, 10))
    await settle()
    clock.advance(5)
    await settle()
    assert manager.stats().timeouts == 1
    assert manager.stats().flushes == 0
    clock.advance(1)
    await settle()
    assert tried == [BatchId("st", 0, 9)] * 2
    assert manager.stats().flushes == 1
    with caplog.at_level(logging.WARNING):
        release.set()
        await settle()
    assert ended == [2, 1]
    assert "ended after all" in caplog.text
    assert manager.stats().flushes == 1
    assert manager.stats().flushed_rows == 10
    await manager.close()


async def test_s8_a_callback_that_hangs_for_ever_ends_in_an_error_that_says_where_the_rows_are(
    workspace: Workspace,
) -> None:
    clock = HandClock()

    async def callback(items: Sequence[StreamItem], batch_id: BatchId) -> None:
        await asyncio.get_running_loop().create_future()

    manager = make(workspace, callback, clock, buffer_size=10)
    await manager.append("s", rows(0, 10))
    flushing = asyncio.create_task(manager.flush())
    await settle()
    clock.advance(60)
    with pytest.raises(StorageFailed, match=r"rows 0 to 9 .*not returned within 60 s.*still in memory"):
        await flushing
    with pytest.raises(StorageFailed, match=r"10 rows not flushed.*dead_letters/st\.flush"):
        await manager.close()


async def test_s5_what_is_not_flushed_by_the_deadline_of_a_close_is_written_down_and_told(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    cancelled: list[bool] = []

    async def callback(items: Sequence[StreamItem], batch_id: BatchId) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.append(True)

    manager = make(workspace, callback, clock, buffer_size=10)
    await manager.append("s", rows(0, 10))
    await manager.append("s", rows(10, 3))
    closing = asyncio.create_task(manager.close(deadline_seconds=3))
    await settle()
    clock.advance(3)
    await closing
    assert cancelled
    assert [number for letter in await letters(workspace) for number in letter.value["n"].to_pylist()] == list(
        range(13)
    )
    assert "13 rows not flushed" in caplog.text
    assert manager.stats().charged_bytes == 0


async def test_s5_closing_after_a_failure_writes_down_what_was_not_flushed(workspace: Workspace) -> None:
    manager = make(workspace, Flaky(9), buffer_size=10)
    await manager.append("s", rows(0, 10))
    await settle()
    with pytest.raises(StorageFailed, match=r"not now.*they are in .*dead_letters"):
        await manager.close()
    assert [letter.value["n"].to_pylist() for letter in await letters(workspace)] == [list(range(10))]


async def test_s5_a_caller_who_is_cancelled_does_not_cancel_the_flush(workspace: Workspace) -> None:
    release = asyncio.Event()
    taken: list[BatchId] = []

    async def callback(items: Sequence[StreamItem], batch_id: BatchId) -> None:
        await release.wait()
        taken.append(batch_id)

    manager = make(workspace, callback, buffer_size=10)
    appending = asyncio.create_task(manager.append("s", rows(0, 10)))
    flushing = asyncio.create_task(manager.flush())
    await settle()
    appending.cancel()
    flushing.cancel()
    await settle()
    release.set()
    await manager.close()
    assert taken == [BatchId("st", 0, 9)]


async def test_e17_and_s7_a_callback_that_deletes_what_it_is_given_is_stopped(workspace: Workspace) -> None:
    found: list[BaseException] = []

    async def callback(items: Sequence[StreamItem], batch_id: BatchId) -> None:
        if found:
            return
        await manager.store("another", 1)
        try:
            await manager.delete("s")
        except ReentrantDeadlock as error:
            found.append(error)

    manager = make(workspace, callback, buffer_size=10, max_attempts=3)
    await manager.append("s", rows(0, 10))
    await until(lambda: bool(found))
    await manager.close()


async def test_e18_closing_twice_at_once_flushes_once(workspace: Workspace) -> None:
    callback = Flaky(0)
    manager = make(workspace, callback)
    await manager.append("s", rows(0, 10))
    await asyncio.gather(manager.close(), manager.close())
    await manager.close()
    assert callback.tried == [BatchId("st", 0, 9)]
