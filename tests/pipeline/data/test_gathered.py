"""What only a checkpoint needs gathers until one is taken: then it is in the journal, and what follows never is."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from data_support import rows
from journal_support import contents, opened

from pipeline.data import DataFlow
from pipeline.data.records import APPEND
from pipeline.errors import DiskFull
from pipeline.storage.disk import RealDisk
from pipeline.storage.journal import read_journal

MODES = ("memory", "streaming", "file", "hybrid")


@pytest.mark.parametrize("mode", MODES)
async def test_r6_rows_appended_in_a_row_are_one_record_and_a_cut_parts_them(mode: str, tmp_path: Path) -> None:
    policy = DataFlow(mode=mode)
    async with opened(tmp_path, clean=False) as root:
        root.workspace.checkpointed = True
        manager = root.make(policy=policy)
        for start in range(0, 50, 10):
            await manager.append("s", rows(start, 10))
        first = manager.cut()
        for start in range(50, 80, 10):
            await manager.append("s", rows(start, 10))
        await manager.recorded(first)
        mark = await root.journal.mark()
        await manager.append("t", rows(0, 1))
        await manager.append("s", rows(80, 10))
        second = manager.cut()
        await manager.recorded(second)
        await manager.close()
    async with opened(tmp_path) as root:
        root.workspace.checkpointed = True
        found = [(record.kind, record.key) for record in read_journal(tmp_path / "wal")]
        assert found == [(APPEND, b"s"), (APPEND, b"s"), (APPEND, b"t"), (APPEND, b"s")]
        for until, wanted in ((mark, 50), (None, 90)):
            manager = root.make(policy=policy)
            await root.restore(manager, until=until)
            assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(wanted))
            assert ("t" in manager.keys()) == (until is None)
            await manager.close()


@pytest.mark.parametrize("mode", MODES)
async def test_what_follows_the_last_cut_is_never_written(mode: str, tmp_path: Path) -> None:
    """Nobody would read it: a run goes on from its checkpoint, and one that is complete needs no journal."""
    async with opened(tmp_path) as root:
        root.workspace.checkpointed = True
        manager = root.make(policy=DataFlow(mode=mode))
        await manager.append("s", rows(0, 10))
        manager.cut()
        await manager.recorded()
        await root.journal.mark()
        before = await root.wal_bytes()
        assert before
        await manager.append("s", rows(10, 10))
        await manager.store("v", 1)
        await manager.delete("v")
        await manager.flush()
        assert len(await manager.retrieve("s")) == 20
        await manager.close()
        await root.journal.mark()
        assert await root.wal_bytes() == before
        account = manager.recording._account
        assert account is None or account.charged == 0


async def test_much_is_written_before_a_cut_and_the_cut_waits_for_no_later_records(tmp_path: Path) -> None:
    async with opened(tmp_path) as root:
        root.workspace.checkpointed = True
        manager = root.make(policy=DataFlow(mode="memory"))
        for number in range(5):
            await manager.store(f"k{number}", bytes(1 << 20))
        assert len(manager.recording._inflight) == 4, "what is many is handed over"
        cut = manager.cut()
        later: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        manager.recording._inflight[manager.recording.next_gen()] = later
        await manager.recorded(cut)
        assert list(manager.recording._inflight.values()) == [later]
        manager.recording._inflight.clear()
        await manager.close()


async def test_rows_of_another_schema_and_replaced_keys_are_records_of_their_own(tmp_path: Path) -> None:
    """R-6: dictionaries that differ, metadata, a key that is replaced between two appends."""
    coded = [pa.table({"n": pa.array(words).dictionary_encode()}) for words in (["a", "b"], ["c"], ["b", "d"])]
    async with opened(tmp_path, clean=False) as root:
        root.workspace.checkpointed = True
        manager = root.make(policy=DataFlow(mode="memory"))
        for table in coded:
            await manager.append("coded", table)
        await manager.append("told", rows(0, 2))
        await manager.append("told", rows(2, 2).replace_schema_metadata({"unit": "n"}))
        await manager.append("s", rows(0, 2))
        await manager.delete("s")
        await manager.append("s", rows(2, 2))
        before = await contents(manager)
        manager.cut()
        await manager.recorded()
        await manager.close()
    async with opened(tmp_path) as root:
        root.workspace.checkpointed = True
        manager = root.make(policy=DataFlow(mode="memory"))
        await root.restore(manager)
        after = await contents(manager)
        assert list(after) == list(before)
        assert {key: value.to_pylist() for key, value in after.items()} == {
            key: value.to_pylist() for key, value in before.items()
        }
        await manager.close()


async def test_a_full_disk_keeps_what_had_gathered_in_order_and_the_next_cut_writes_it(tmp_path: Path) -> None:
    class Full(RealDisk):
        full = False

        def write(self, fd: int, pieces: Any, offset: int) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, "no space left on device")
            return super().write(fd, pieces, offset)

    disk = Full()
    async with opened(tmp_path, disk=disk, clean=False) as root:
        root.workspace.checkpointed = True
        manager = root.make(policy=DataFlow(mode="memory"))
        await manager.append("s", rows(0, 10))
        disk.full = True
        with pytest.raises(DiskFull):
            await manager.recorded(manager.cut())
        disk.full = False
        await manager.append("s", rows(10, 10))
        await manager.store("v", 1)
        await manager.recorded(manager.cut())
        await manager.close()
    async with opened(tmp_path) as root:
        root.workspace.checkpointed = True
        manager = root.make(policy=DataFlow(mode="memory"))
        await root.restore(manager)
        assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(20))
        assert await manager.retrieve("v") == 1
        await manager.close()
