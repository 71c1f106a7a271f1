"""Journaled managers: what is acknowledged comes back, in every mode, whoever is cancelled, whatever the disk does."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from data_support import rows, settle, until
from journal_support import contents, opened

from pipeline.data import DataFlow
from pipeline.data.journaled import JournaledManager
from pipeline.data.policy import StreamingSettings
from pipeline.data.streaming import BatchId, StreamItem
from pipeline.errors import DiskFull, StorageFailed
from pipeline.storage.disk import RealDisk
from pipeline.testing.managers import check_data_manager, sample_values

MODES = ("memory", "streaming", "file", "hybrid")


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_passes_the_examination_with_a_journal(mode: str, tmp_path: Path) -> None:
    """C-1."""
    number = 0

    def make(policy: DataFlow) -> object:
        nonlocal number
        number += 1
        return root.make(f"c{number}", msgspec.structs.replace(policy, mode=mode, durability="process"))

    async with opened(tmp_path) as root:
        await check_data_manager(make)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
async def test_what_was_acknowledged_comes_back_in_a_process_that_opens_the_folder_anew(
    mode: str, tmp_path: Path
) -> None:
    """S-6, F-1, R-1."""
    policy = DataFlow(mode=mode, durability="durable", memory_limit_mb=4)
    values = sample_values()
    async with opened(tmp_path, clean=False) as root:
        manager = root.make(policy=policy)
        for key, value in values.items():
            await manager.store(key, value)
        for start in range(0, 100, 10):
            await manager.append("series", rows(start, 10))
        await manager.store("gone", 1)
        await manager.store("again", 1)
        await manager.delete("gone")
        await manager.store("again", 2)
        await manager.append(b"empty", [])
        before = await contents(manager)
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make(policy=policy)
        replayed = await root.restore(manager)
        assert replayed.gaps == []
        after = await contents(manager)
        assert list(after) == list(before)
        for key, value in before.items():
            assert type(after[key]) is type(value)
            same = after[key] == value if isinstance(value, pa.Table) else str(after[key]) == str(value)
            assert same, key
        await manager.append("series", rows(100, 10))
        assert (await manager.retrieve("series"))["n"].to_pylist() == list(range(110))
        await manager.close()


@pytest.mark.parametrize("mode", ["memory", "hybrid"])
async def test_a_group_comes_back_with_rows_that_lay_together_and_what_members_were_given_alone(
    mode: str, tmp_path: Path
) -> None:
    policy = DataFlow(mode=mode, durability="process", memory_limit_mb=1)
    names = [f"m{n:03}" for n in range(40)]
    async with opened(tmp_path, clean=False) as root:
        stores = root.members(policy)
        for step in range(5):
            await stores.append_rows("eq", names, list(range(0, 121, 3)), rows(step * 120, 120))
        await stores.store("m003", "note", {"a": 1})
        await stores.append("m003", "eq", rows(9000, 2))
        await stores.store("m004", "eq2", 1)
        await stores.delete("m004", "eq")
        await stores.append_rows("eq", names[:10], list(range(11)), rows(0, 10))
        before = {name: {key: await stores.retrieve(name, key) for key in stores.keys(name)} for name in names}
        await stores.close()
    async with opened(tmp_path) as root:
        stores = root.members(policy)
        await root.restore(stores)
        for name in names:
            after = {key: await stores.retrieve(name, key) for key in stores.keys(name)}
            assert list(after) == list(before[name]), name
            assert after == before[name], name
        await stores.close()


@pytest.mark.parametrize("kind", ["asyncio", "anyio"])
@pytest.mark.parametrize("mode", MODES)
async def test_e10_and_c3_a_caller_cancelled_at_any_step_leaves_what_is_held_and_what_comes_back_the_same(
    mode: str, kind: str, tmp_path: Path
) -> None:
    """After each cancellation the key holds the old or the new, here and after a crash alike; nothing stays charged."""
    policy = DataFlow(mode=mode, durability="durable", memory_limit_mb=2)
    async with opened(tmp_path, clean=False) as root:
        manager = root.make(policy=policy)
        await manager.store("k", -1)
        cancelled = 0
        for number in range(24):
            task = asyncio.create_task(_call(manager, number, kind))
            await settle(number // 2)
            cancelled += not task.done()
            task.cancel()
            await asyncio.wait((task,))
        assert cancelled
        await manager.flush()
        before = await contents(manager)
        assert before["k"] in range(-1, 24)
        await manager.close()
        assert manager.stats().charged_bytes == 0
        assert root.workspace.io.threads <= 4
    async with opened(tmp_path) as root:
        manager = root.make(policy=policy)
        await root.restore(manager)
        assert await contents(manager) == before
        await manager.close()


async def _call(manager: JournaledManager, number: int, kind: str) -> None:
    async def work() -> None:
        await manager.store("k", number)
        await manager.append("s", rows(number, 1))

    if kind == "asyncio":
        await work()
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(work)


class FullDisk(RealDisk):
    """Has no room for the journal, or for what `only` says, while it is told so."""

    full = False
    only = "wal"

    def __init__(self) -> None:
        self._refused: dict[int, bool] = {}

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        fd = super().open(path, write=write, create=create)
        self._refused[fd] = self.only in str(path)
        return fd

    def free_bytes(self, path: Path) -> int:
        return 0 if self.full else super().free_bytes(path)

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> int:
        if self.full and self._refused.get(fd):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(fd, pieces, offset)


@pytest.mark.parametrize("mode", MODES)
async def test_e12_while_the_journal_has_no_room_changes_stand_and_are_written_when_there_is_some(
    mode: str, tmp_path: Path
) -> None:
    disk = FullDisk()
    policy = DataFlow(mode=mode, durability="durable")
    async with opened(tmp_path, disk=disk, clean=False) as root:
        manager = root.make(policy=policy)
        await manager.append("s", rows(0, 1))
        disk.full = True
        with pytest.raises(DiskFull, match="readable, and are not yet in the journal"):
            await manager.append("s", rows(1, 1))
        together = [manager.append("s", rows(90, 1)), manager.store("k", 1), manager.delete("s"), manager.recorded()]
        for found in await asyncio.gather(*together, return_exceptions=True):
            assert isinstance(found, DiskFull)
        assert (await manager.retrieve("s"))["n"].to_pylist() == [0, 1], "what was refused has not happened"
        with pytest.raises(KeyError):
            await manager.retrieve("k")
        disk.full = False
        await manager.append("s", rows(2, 1))
        assert (await manager.retrieve("s"))["n"].to_pylist() == [0, 1, 2]
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make(policy=policy)
        await root.restore(manager)
        assert (await manager.retrieve("s"))["n"].to_pylist() == [0, 1, 2]
        await manager.close()


async def test_changes_for_which_there_was_no_room_come_back_before_later_ones_that_were_written_first(
    tmp_path: Path,
) -> None:
    """Those on their way when the disk filled up keep their numbers, whatever came to the journal between them."""
    disk = FullDisk()
    async with opened(tmp_path, disk=disk, clean=False) as root:
        manager = root.make()
        await manager.append("s", rows(0, 1))
        disk.full = True
        refused = [asyncio.create_task(manager.append("s", rows(n, 1))) for n in (1, 2)]
        await until(lambda: manager.recording._unwritten != {} or all(task.done() for task in refused))
        disk.full = False
        late = asyncio.create_task(manager.append("s", rows(3, 1)))
        await asyncio.gather(*refused, late, return_exceptions=True)
        before = (await manager.retrieve("s"))["n"].to_pylist()
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make()
        await root.restore(manager)
        assert (await manager.retrieve("s"))["n"].to_pylist() == before == [0, 1, 2, 3]
        await manager.close()


class BrokenDisk(RealDisk):
    """Whose syncs fail once it is told so."""

    broken = False

    def sync(self, fd: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        super().sync(fd)


async def test_c9_when_the_journal_fails_for_good_every_change_says_so_and_nothing_acknowledged_is_lost(
    tmp_path: Path,
) -> None:
    disk = BrokenDisk()
    policy = DataFlow(durability="durable")
    async with opened(tmp_path, disk=disk) as root:
        manager = root.make(policy=policy)
        await manager.store("safe", 1)
        disk.broken = True
        for number in range(2):
            with pytest.raises(StorageFailed, match="what was acknowledged is in it"):
                await manager.store("k", number)
        assert await manager.retrieve("k") == 0
        with pytest.raises(StorageFailed):
            await manager.close()
        disk.broken = False
    async with opened(tmp_path) as root:
        manager = root.make(policy=policy)
        await root.restore(manager)
        assert (await contents(manager))["safe"] == 1
        await manager.close()


@pytest.mark.parametrize("mode", ["memory", "hybrid"])
async def test_the_journal_of_a_container_that_overwrites_stays_bounded_and_gives_everything_back(
    mode: str, tmp_path: Path
) -> None:
    policy = DataFlow(mode=mode, durability="process", memory_limit_mb=4)
    async with opened(tmp_path, segment_bytes=1 << 17, clean=False) as root:
        manager = root.make(policy=policy)
        assert manager.recording.rewriter is not None
        manager.recording.rewriter._slack = 1 << 18
        await manager.append("old", rows(0, 1000))
        await manager.store("older", {"a": (1, 2)})
        for number in range(400):
            await manager.store(f"k{number % 7}", np.full(2000, number))
            await manager.append("old", rows(1000 + number, 1))
            assert await root.wal_bytes() < 3 << 20, number
        assert manager.recording.rewriter.rewrites
        before = await contents(manager)
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make(policy=policy)
        await root.restore(manager)
        after = await contents(manager)
        assert list(after) == list(before), "keys come back in the order in which they were first stored"
        assert after["old"] == before["old"]
        assert after["older"] == {"a": (1, 2)}
        assert all(after[f"k{n}"].tolist() == before[f"k{n}"].tolist() for n in range(7))
        assert manager.recording.live.live_bytes == pytest.approx(manager.stats().charged_bytes, rel=1)
        await manager.close()


async def test_a_key_that_changes_while_it_is_rewritten_comes_back_as_it_was_last(tmp_path: Path) -> None:
    async with opened(tmp_path, clean=False) as root:
        manager = root.make()
        rewriter = manager.recording.rewriter
        assert rewriter is not None
        for key in ("appended", "replaced", "deleted"):
            for start in range(0, 30, 10):
                await manager.append(key, rows(start, 10))
            task = asyncio.create_task(rewriter.rewrite(None, key))
            await settle(1)
            if key == "appended":
                await manager.append(key, rows(30, 5))
            elif key == "deleted":
                await manager.delete(key)
            else:
                await manager.store(key, "new")
            await task
            await manager.store(f"after {key}", 1)
        before = await contents(manager)
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make()
        await root.restore(manager)
        after = await contents(manager)
        assert after == before
        assert after["appended"]["n"].to_pylist() == list(range(35))
        await manager.close()


async def test_a_process_that_dies_while_it_rewrites_loses_nothing(tmp_path: Path) -> None:
    table = pa.table({"n": list(range(100))})
    async with opened(tmp_path, clean=False) as root:
        manager = root.make()
        for start in range(0, 100, 10):
            await manager.append("s", rows(start, 10))
        rewriter = manager.recording.rewriter
        assert rewriter is not None
        read, stopped = rewriter._read, asyncio.Event()

        async def stops(member: Any, key: Any) -> Any:
            async for number, piece in _numbered(read(member, key)):
                yield piece
                if number == 2:
                    stopped.set()
                    await asyncio.get_running_loop().create_future()

        rewriter._read = stops
        task = asyncio.create_task(rewriter.rewrite(None, "s"))
        await stopped.wait()
        await manager.append("s", rows(100, 10))
        task.cancel()
        await asyncio.wait((task,))
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make()
        await root.restore(manager)
        assert (await manager.retrieve("s"))["n"].to_pylist() == [*table["n"].to_pylist(), *range(100, 110)]
        await manager.close()


@pytest.mark.parametrize("mode", MODES)
async def test_e12_a_store_that_is_closed_without_room_says_which_changes_are_not_on_disk(
    mode: str, tmp_path: Path
) -> None:
    disk = FullDisk()
    policy = DataFlow(mode=mode, durability="durable")
    async with opened(tmp_path, disk=disk) as root:
        manager = root.make(policy=policy)
        await manager.append("s", rows(0, 1))
        await manager.store("old", 1)
        disk.full = True
        together = [manager.append("s", rows(1, 1)), manager.store("new", 2), manager.delete("old")]
        for found in await asyncio.gather(*together, return_exceptions=True):
            assert isinstance(found, DiskFull)
        with pytest.raises(DiskFull) as raised:
            await manager.close()
        disk.full = False
        text = str(raised.value)
        for change in ("append of 's'", "store of 'new'", "delete of 'old'"):
            assert change in text
        assert "without 3 changes" in text and "next call" not in text and "readable" not in text
        assert "make them again when it is open again" in text
    async with opened(tmp_path) as root:
        manager = root.make(policy=policy)
        await root.restore(manager)
        assert await contents(manager) == {"s": pa.table({"n": [0]}), "old": 1}, "and that was the truth"
        await manager.close()


@pytest.mark.parametrize("ends", ["killed", "closed"])
async def test_a_rewrite_that_was_cut_short_does_not_keep_later_processes_from_rewriting(
    ends: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pieces without their last count for nothing: they neither hold the journal nor name a key."""
    async with opened(tmp_path, segment_bytes=1 << 15, clean=ends == "closed") as root:
        manager = root.make()
        for start in range(0, 1000, 100):
            await manager.append("s", rows(start, 100))
        rewriter = manager.recording.rewriter
        assert rewriter is not None
        read, stopped = rewriter._read, asyncio.Event()

        async def stops(member: Any, key: Any) -> Any:
            async for number, piece in _numbered(read(member, key)):
                yield piece
                if number == 2:
                    stopped.set()
                    await asyncio.get_running_loop().create_future()

        rewriter._read = stops
        task = asyncio.create_task(rewriter.rewrite(None, "s"))
        await stopped.wait()
        task.cancel()
        await asyncio.wait((task,))
        await manager.close()
    for _ in range(2):
        async with opened(tmp_path, segment_bytes=1 << 15) as root:
            manager = root.make()
            await root.restore(manager)
            assert manager.recording.live.oldest == (None, "s")
            rewriter = manager.recording.rewriter
            assert rewriter is not None
            rewriter._slack = 1 << 16
            for number in range(100):
                await manager.store("hot", np.full(1000, number))
                assert await root.wal_bytes() < 400_000, number
            await until(lambda rewriter=rewriter: rewriter._task is None)
            assert rewriter.rewrites
            assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(1000))
            assert manager.recording.live.live_bytes < 3 * manager.stats().charged_bytes
            await manager.close()
    assert not caplog.records


async def _numbered(pieces: Any) -> Any:
    number = 0
    async for piece in pieces:
        number += 1
        yield number, piece


async def test_r6_a_cut_gives_the_state_at_its_mark_whatever_came_later_and_only_commits_let_records_go(
    tmp_path: Path,
) -> None:
    """What a checkpoint needs of a manager."""
    policy = DataFlow(mode="memory")
    async with opened(tmp_path, segment_bytes=1 << 15, clean=False) as root:
        root.workspace.checkpointed = True
        manager = root.make(policy=policy)
        assert manager.recording.rewriter is not None
        manager.recording.rewriter._slack = 1 << 15
        mark = None
        for number in range(60):
            await manager.store(f"k{number % 3}", np.full(500, number))
            if number in (20, 40):
                await manager.recorded()
                cut = manager.cut()
                mark = await root.journal.mark()
                before = await contents(manager)
                manager.committed(cut)
        await manager.close()
    assert mark is not None
    async with opened(tmp_path) as root:
        root.workspace.checkpointed = True
        manager = root.make(policy=policy)
        await root.restore(manager, until=mark)
        after = await contents(manager)
        assert list(after) == list(before)
        assert [value[0] for value in after.values()] == [value[0] for value in before.values()] == [39, 40, 38]
        await manager.close()


async def test_s3_and_s6_unflushed_batches_come_back_under_the_same_id_and_flushed_ones_do_not(
    tmp_path: Path,
) -> None:
    """A callback that hangs when the process dies is called again, in the next, with what it was called with."""
    flow = DataFlow(mode="streaming", durability="process", streaming_settings=StreamingSettings(buffer_size=10))
    calls: list[tuple[BatchId, list[Any]]] = []
    hangs = asyncio.Event()

    async def callback(items: Sequence[StreamItem], batch_id: BatchId) -> None:
        found = [(item.key, item.value["n"].to_pylist() if item.append else item.value) for item in items]
        calls.append((batch_id, found))
        if batch_id.first_seq >= 10 and not hangs.is_set():
            await asyncio.get_running_loop().create_future()

    async with opened(tmp_path, clean=False) as root:
        manager = root.make(policy=flow, flush=callback)
        await manager.append("s", rows(0, 10))
        await until(lambda: manager.stats().flushes == 1)
        await manager.append("s", rows(10, 9))
        await manager.store("v", {"last": (1, 2)})
        await until(lambda: len(calls) == 2)
        await manager.append("s", rows(19, 3))
        await manager.append("t", rows(0, 2))
        await manager.delete("t")
        task = asyncio.create_task(manager.close(deadline_seconds=0))
        await task
    hangs.set()
    async with opened(tmp_path, clean=False) as root:
        manager = root.make(policy=flow, flush=callback)
        await root.restore(manager)
        await until(lambda: manager.stats().flushes == 1)
        assert calls[2] == calls[1]
        assert calls[2][0] == BatchId("c", 10, 19)
        await manager.flush()
        assert calls[3] == (BatchId("c", 20, 22), [("s", [19, 20, 21])])
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make(policy=flow, flush=callback)
        await root.restore(manager)
        await manager.append("s", rows(50, 1))
        await manager.close()
        assert calls[4] == (BatchId("c", 23, 23), [("s", [50])]), "numbers go on, also when all has been flushed"
        assert len(calls) == 5
