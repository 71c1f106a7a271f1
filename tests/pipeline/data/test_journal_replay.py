"""Which records of a container count, however they came to lie in the journal."""

from __future__ import annotations

from typing import Any

import pytest
from data_support import rows

from pipeline.data import DataFlow
from pipeline.data.journaled import JournaledManager
from pipeline.data.live import Filed, LiveRecords
from pipeline.data.memory import MemoryManager
from pipeline.data.recording import Recording
from pipeline.data.records import APPEND, DELETE, FILED, STORE, of_rows
from pipeline.data.replay import restore_journal
from pipeline.errors import CorruptEntry
from pipeline.storage.journal_records import Gap, JournalRecord
from pipeline.storage.workspace import Workspace


def record(gen: int, kind: int = APPEND, key: bytes = b"s") -> JournalRecord:
    return JournalRecord("c", kind, key, gen, b"".join(map(bytes, of_rows("s", [rows(gen, 1)], birth=1))))


async def restored(workspace: Workspace, found: list[Any]) -> tuple[JournaledManager, Any]:
    manager = JournaledManager(MemoryManager("c", DataFlow()), Recording("c", None, "process"), workspace)  # type: ignore[arg-type]
    return manager, await restore_journal(lambda: found, {"c": manager}, workspace.io)


async def test_records_for_which_there_was_no_room_count_in_the_order_of_their_changes(workspace: Workspace) -> None:
    manager, replayed = await restored(workspace, [record(1), record(4), record(2), record(5), record(3)])
    assert (await manager.retrieve("s"))["n"].to_pylist() == [1, 2, 3, 4, 5]
    assert replayed.changes == 5
    await manager.inner.close()


async def test_what_was_deleted_later_does_not_come_back_though_it_lies_behind(
    workspace: Workspace,
) -> None:
    manager, _ = await restored(workspace, [record(1), record(5, DELETE), record(3), record(6), record(4)])
    assert (await manager.retrieve("s"))["n"].to_pylist() == [6]
    await manager.inner.close()


async def test_r4_gaps_are_counted_and_told(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    manager, replayed = await restored(workspace, [record(1), Gap(1, 100, 60), record(2)])
    assert (replayed.gaps, replayed.lost_bytes) == ([Gap(1, 100, 60)], 60)
    assert "60 bytes of the journal in 1 places are damaged" in caplog.text
    assert (await manager.retrieve("s")).num_rows == 2
    await manager.inner.close()


async def test_a_record_that_has_no_head_is_refused_by_name(workspace: Workspace) -> None:
    with pytest.raises(CorruptEntry, match="head"):
        await restored(workspace, [JournalRecord("c", STORE, b"k", 1, b"\x05\0\0\0no")])


def test_no_record_that_counts_is_given_up() -> None:
    live = LiveRecords()
    live.count(STORE, "a", 1, 10)
    live.count(APPEND, "s", 2, 10)
    live.count(APPEND, "s", 3, 10)
    assert live.dead_up_to == 0
    live.count(STORE, "a", 4, 10)
    assert (live.dead_up_to, live.live_bytes, live.dead_bytes) == (1, 30, 10)
    live.count(FILED, Filed("s", False, 3, 10), 5, 4)
    assert live.dead_up_to == 2, "the third is not in a file"
    live.count(APPEND, "s", 6, 10)
    live.count(FILED, Filed("s", False, 6, 10), 7, 4)
    assert live.dead_up_to == 3, "the value of the fourth counts"
    live.count(DELETE, "a", 8, 1)
    assert live.dead_up_to == 4, "the files of the fifth count"
    live.count(FILED, Filed("s", True, 6, 0), 9, 8)
    assert live.dead_up_to == 5, "the sixth is behind the files"
    live.count(FILED, Filed("s", False, 0, 10), 10, 4)
    assert live.dead_up_to == 8
    live.count(APPEND, "late", 7, 10)
    assert live.dead_up_to == 6, "a record may come late"
    live.count(DELETE, "late", 11, 1)
    live.count(DELETE, "s", 12, 1)
    assert (live.dead_up_to, live.live_bytes) == (12, 0)
