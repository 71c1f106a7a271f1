"""A full disk is no trap: what lies on it can be read, deleting makes room, a restart needs none of the old files."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from data_support import TEN, Disk, HandClock, batch, rows, settle, until
from journal_support import contents, opened
from test_journaled import FullDisk

from pipeline import DataFlow, open_stores
from pipeline.data import build_manager
from pipeline.data.hybrid import HybridManager
from pipeline.data.policy import StreamingSettings
from pipeline.errors import BackpressureTimeout, DiskFull
from pipeline.storage import room
from pipeline.storage.log import SegmentLog
from pipeline.storage.workspace import FOR_THE_JOURNAL, Workspace
from pipeline.threads import Workers


class Free:
    """The free bytes of the disk as `check_free` sees them, less what is written in the meantime."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, num_bytes: int) -> None:
        self.folder, self.num_bytes = folder, num_bytes
        real = os.statvfs

        def statvfs(path: Any) -> Any:
            real(path)
            used = sum(file.stat().st_size for file in folder.rglob("*.seg"))
            return SimpleNamespace(f_bavail=max(0, self.num_bytes - used), f_blocks=1 << 40, f_frsize=1)

        monkeypatch.setattr(room.os, "statvfs", statvfs)


async def filled(manager: HybridManager, clock: HandClock) -> dict[str, Any]:
    """Everything that fits, in memory and on disk; the next one waits in vain."""
    held: dict[str, Any] = {}
    eviction = manager._eviction
    for n in range(200):
        task = asyncio.create_task(manager.store(f"k{n:03d}", batch(n)))
        await until(lambda task=task: task.done() or (eviction.resting and eviction.spill is None))
        await settle()
        if task.done():
            held[f"k{n:03d}"] = batch(n)
            continue
        clock.advance(40)
        with pytest.raises(BackpressureTimeout, match="min_free_disk_mb"):
            await task
        return held
    raise AssertionError("the disk is never full")


@pytest.fixture
async def full(workspace: Workspace, clock: HandClock, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Any:
    Free(monkeypatch, workspace.folder, 400_000)
    flow = DataFlow(mode="hybrid", memory_limit_mb=TEN, min_free_disk_mb=0.1)
    manager = HybridManager("h", flow, workspace, clock=clock)
    yield manager, await filled(manager, clock)
    await manager.close()


async def test_h6_what_lies_on_a_full_disk_is_read_while_memory_is_full_and_once_for_all_who_ask(
    full: Any, disk: Disk
) -> None:
    """E7, E12: on loan, as nothing can leave memory for it."""
    manager, held = full
    reads = disk.reads
    on_disk = [key for key in held if key not in manager._hot]
    assert on_disk and manager._eviction.refused is not None
    for key in on_disk:
        found = await asyncio.gather(*[manager.retrieve(key) for _ in range(5)])
        assert all(each.equals(held[key]) for each in found)
    assert disk.reads - reads == len(on_disk)
    assert manager.stats().peak_bytes <= manager.stats().limit_bytes


async def test_h6_who_waited_for_room_when_the_disk_filled_is_lent_the_value_at_the_end_of_the_time(
    full: Any, clock: HandClock
) -> None:
    manager, held = full
    key = next(key for key in held if key not in manager._hot)
    refused, manager._eviction.refused = manager._eviction.refused, None
    readers = [asyncio.create_task(manager.retrieve(key)) for _ in range(3)]
    await until(lambda: manager._account.waiting > 0)
    manager._eviction.refused = refused
    clock.advance(40)
    assert all(each.equals(held[key]) for each in await asyncio.gather(*readers))


async def test_h6_deleting_spilled_values_makes_room_on_a_full_disk(
    full: Any, workspace: Workspace, clock: HandClock
) -> None:
    """A place where a dead record lay takes no new room."""
    manager, held = full
    for key in [key for key in held if key not in manager._hot][:5]:
        await manager.delete(key)
        del held[key]
    for n in range(300, 305):
        task = asyncio.create_task(manager.store(f"k{n:03d}", batch(n)))
        while not task.done():
            await settle()
            await until(
                lambda task=task: task.done() or (manager._eviction.resting and manager._eviction.spill is None)
            )
            clock.advance(1)
        await task
        held[f"k{n:03d}"] = batch(n)
    assert workspace.spill.reused and workspace.spill.disk_bytes <= 400_000 - 104_857
    for key, value in held.items():
        assert (await manager.retrieve(key)).equals(value)


async def test_h6_small_records_take_the_place_of_a_large_one_where_there_is_no_other_and_none_is_lost_to_a_refusal(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.storage.segments import Record

    log = SegmentLog(workspace.folder / "spill", workspace.io)
    log.min_free = 0

    def record(size: int) -> Record:
        return Record(1, 0, b"k", 1, [bytes(size)])

    large, _ = await log.append(None, lambda: [record(10_000), record(10)])
    Free(monkeypatch, workspace.folder, log.disk_bytes)
    with pytest.raises(DiskFull):
        await log.append(None, lambda: [record(100)])
    log.free(large)
    with pytest.raises(DiskFull):
        await log.append(None, lambda: [record(9_000), record(9_000)])
    [small] = await log.append(None, lambda: [record(100)])
    assert small.offset == 0 and log.reused == 1, "the place was given back when there was none for the second"
    await log.close()


class SmallRecords(FullDisk):
    """Has room for little."""

    def write(self, fd: int, pieces: Any, offset: int) -> int:
        full, self.full = self.full, self.full and sum(map(len, pieces)) > 4000
        try:
            return super().write(fd, pieces, offset)
        finally:
            self.full = full

    def free_bytes(self, path: Path) -> int:
        return 1 << 20


async def test_e12_a_deletion_overtakes_what_there_is_no_room_for_and_both_come_back_in_order(tmp_path: Path) -> None:
    disk = SmallRecords()
    policy = DataFlow(mode="hybrid", durability="durable")
    async with opened(tmp_path, disk=disk, clean=False) as root:
        manager = root.make(policy=policy)
        for key in ("a", "b", "c"):
            await manager.store(key, key)
        disk.full = True
        with pytest.raises(DiskFull):
            await manager.store("large", b"x" * 50_000)
        await manager.delete("a")
        with pytest.raises(KeyError):
            await manager.retrieve("a")
        with pytest.raises(DiskFull):
            await manager.store("d", "refused, as it comes behind")
        disk.full = False
        await manager.store("e", "e")
        disk.full = True
        with pytest.raises(DiskFull):
            await manager.store("larger", b"y" * 60_000)
        await manager.delete("larger")
        await manager.store("f", "f")
        before = await contents(manager)
        assert sorted(before) == ["b", "c", "e", "f", "large"], "who deletes what has no room needs none"
        disk.full = False
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make(policy=policy)
        await root.restore(manager)
        assert await contents(manager) == before
        await manager.close()


async def test_e12_a_deletion_answers_for_itself_and_not_for_what_it_made_room_for(tmp_path: Path) -> None:
    """A store that waited for memory takes effect in the step of the deletion, and has no room on the disk."""
    disk = SmallRecords()
    policy = DataFlow(mode="hybrid", memory_limit_mb=0.2, min_free_disk_mb=1e9, durability="durable")
    async with opened(tmp_path, disk=disk, clean=False) as root:
        manager = root.make(policy=policy)
        await manager.store("a", b"a" * 80_000)
        disk.full = True
        storing = [asyncio.create_task(manager.store(key, key.encode() * 80_000)) for key in "bc"]
        with pytest.raises(DiskFull):
            await storing[0]
        assert not storing[1].done()
        await manager.delete("a")
        with pytest.raises(DiskFull):
            await storing[1]
        assert manager.keys() == ["b", "c"]
        disk.full = False
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make(policy=policy)
        await root.restore(manager)
        assert manager.keys() == ["b", "c"]
        await manager.close()


async def test_e12_no_checkpoint_of_a_time_in_which_there_was_what_had_no_room_and_is_deleted(tmp_path: Path) -> None:
    disk = SmallRecords()
    policy = DataFlow(mode="hybrid", durability="durable")
    async with opened(tmp_path, disk=disk, clean=False) as root:
        root.workspace.checkpointed = True
        manager = root.make(policy=policy)
        disk.full = True
        with pytest.raises(DiskFull):
            await manager.store("large", b"x" * 50_000)
        cut = manager.cut()
        await manager.delete("large")
        with pytest.raises(DiskFull, match="was deleted meanwhile"):
            await manager.recorded(cut)
        disk.full = False
        cut = manager.cut()
        await manager.recorded(cut)
        manager.committed(cut)
        await manager.close()


async def test_e12_spilling_leaves_the_journal_room_for_deletions_whatever_is_configured(tmp_path: Path) -> None:
    flow = DataFlow(mode="hybrid", durability="process", min_free_disk_mb=0)
    async with opened(tmp_path) as root:
        manager = root.make(policy=flow)
        assert root.workspace.spill.min_free == FOR_THE_JOURNAL
        await manager.close()
    workspace = Workspace(tmp_path / "run")
    manager = build_manager("m", DataFlow(mode="hybrid", min_free_disk_mb=0), workspace)
    assert workspace.spill.min_free == 0
    await manager.close()
    await workspace.close()


async def test_e12_a_streaming_store_comes_back_without_room_for_its_old_files_beside_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of the process before are of no use to it, and are gone before what it held is written anew."""
    flow = DataFlow(mode="streaming", durability="durable", streaming_settings=StreamingSettings(buffer_size=50))
    workers = Workers(1)
    async with opened(tmp_path, clean=False) as root:
        manager = root.make("s", flow)
        for start in range(0, 500, 50):
            await manager.append("s", rows(start, 50))
        await manager.flush()

    def files() -> list[Path]:
        return sorted((tmp_path / "store").rglob("*.parquet"))

    old = await workers.run(files)
    assert len(old) == 1
    seen: list[bool] = []
    replay = type(manager).restore_change

    async def restore_change(self: Any, change: Any) -> None:
        seen.append(old[0] in await workers.run(files))
        await replay(self, change)

    monkeypatch.setattr(type(manager), "restore_change", restore_change)
    async with open_stores(tmp_path) as stores:
        store = await stores.open("s", flow)
        assert (await store.retrieve("s"))["n"].to_pylist() == list(range(500))
        assert seen and not seen[0]
        await settle()
    await workers.close()
