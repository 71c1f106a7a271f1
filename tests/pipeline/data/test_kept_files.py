"""Files of a durable file store: they are what lasts, the journal holds only what is not yet in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from data_support import rows, until
from journal_support import contents, opened
from test_journaled import FullDisk

from pipeline import DataFlow, open_stores
from pipeline.data.policy import FileSettings
from pipeline.data.records import FILED
from pipeline.errors import CorruptEntry, DiskFull
from pipeline.examination.places import Place
from pipeline.examination.verification import verify
from pipeline.storage.journal import read_journal
from pipeline.storage.journal_records import JournalRecord
from pipeline.threads import Workers

FLOW = DataFlow(mode="file", durability="durable", memory_limit_mb=4, file_settings=FileSettings(roll_rows=100))


def kinds(folder: Path) -> list[int]:
    return [record.kind for record in read_journal(folder / "wal") if isinstance(record, JournalRecord)]


def store_files(folder: Path) -> list[Path]:
    return sorted((folder / "store").glob("*/*"))


async def in_thread(root: Any, call: Any, *args: Any) -> Any:
    return await root.workspace.io.submit(root, call, *args)


async def test_f1_rows_come_back_from_their_files_and_what_was_not_yet_in_one_from_the_journal(tmp_path: Path) -> None:
    async with opened(tmp_path, clean=False) as root:
        manager = root.make(policy=FLOW)
        for start in range(0, 250, 10):
            await manager.append("s", rows(start, 10))
        await manager.store("v", {"a": (1, 2)})
        await manager.store("t", pa.table({"n": [1, 2]}))
        await until(lambda: manager.stats().flushes == 2)
        await manager.recorded()
        listed = [file for file in root.root.manifest.files if file.startswith("store/")]
        assert sorted(listed) == [
            str(path.relative_to(tmp_path)) for path in await in_thread(root, store_files, tmp_path)
        ]
        before = await contents(manager)
        written = manager.stats().flushes
        # The process dies here: nothing is flushed, nothing closed.
    assert kinds(tmp_path).count(FILED) == 4
    async with opened(tmp_path) as root:
        manager = root.make(policy=FLOW)
        await root.restore(manager)
        after = await contents(manager)
        assert list(after) == list(before) and after["s"] == before["s"] and after["v"] == {"a": (1, 2)}
        assert manager.stats().flushes == 0 < written, "no file was written again"
        await manager.append("s", rows(250, 10))
        assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(260))
        await manager.close()


async def test_f1_the_journal_gives_up_rows_that_are_in_files_and_files_go_when_they_are_replaced(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, segment_bytes=1 << 15, clean=False) as root:
        manager = root.make(policy=FLOW)
        assert manager.recording.rewriter is not None
        manager.recording.rewriter._slack = 1 << 16
        for number in range(150):
            await manager.append("s", rows(number * 50, 50))
            await manager.append("rare", rows(number, 1))
            await manager.store(f"k{number % 3}", np.full(100, number))
        assert await root.wal_bytes() < 400_000
        before = await contents(manager)
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make(policy=FLOW)
        await root.restore(manager)
        after = await contents(manager)
        assert list(after) == list(before)
        assert after["s"] == before["s"] and after["rare"] == before["rare"]
        assert [int(after[f"k{n}"][0]) for n in range(3)] == [147, 148, 149]
        used = manager.used_files()
        await manager.close()
        assert set(await in_thread(root, store_files, tmp_path)) == used, "replaced files are gone, none in use is"


async def test_f1_where_a_file_cannot_be_committed_nothing_has_happened_and_rows_stay_readable(tmp_path: Path) -> None:
    disk = FullDisk()
    disk.only = "MANIFEST"
    async with opened(tmp_path, disk=disk) as root:
        manager = root.make(policy=FLOW)
        await manager.store("v", {"a": 1})
        await manager.append("s", rows(0, 10))
        disk.full = True
        with pytest.raises(DiskFull):
            await manager.store("v", {"a": 2})
        assert await manager.retrieve("v") == {"a": 1}
        with pytest.raises(DiskFull):
            await manager.flush()
        assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(10))
        assert set(await in_thread(root, store_files, tmp_path)) == manager.used_files()
        disk.full = False
        await manager.flush()
        await manager.store("v", {"a": 2})
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make(policy=FLOW)
        await root.restore(manager)
        assert await contents(manager) == {"v": {"a": 2}, "s": pa.table({"n": list(range(10))})}
        await manager.close()


async def test_f3_a_store_finds_its_files_in_whatever_mode_it_is_opened_and_leaves_no_others(tmp_path: Path) -> None:
    memory = DataFlow(mode="memory", durability="durable")
    values = {"v": {"a": 1}, "t": pa.table({"n": [1, 2, 3]})}
    for turn, flow in enumerate([FLOW, memory, FLOW, DataFlow(mode="streaming", durability="durable"), FLOW]):
        async with open_stores(tmp_path) as stores:
            store = await stores.open("s", flow)
            if turn == 0:
                for key, value in values.items():
                    await store.store(key, value)
            await store.append("series", rows(turn * 150, 150))
            assert (await store.retrieve("series"))["n"].to_pylist() == list(range((turn + 1) * 150))
            for key, value in values.items():
                assert await store.retrieve(key) == value
    async with open_stores(tmp_path) as stores:
        await stores.open("s", memory)
    async with open_stores(tmp_path) as stores:
        store = await stores.open("s", memory)
        assert (await store.retrieve("series")).num_rows == 750
        assert not await stores._workspace.io.submit(stores, store_files, tmp_path)  # type: ignore[union-attr]


def spoil(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 4
        path.write_bytes(raw)


def bad_files(folder: Path) -> list[str]:
    return [bad.file for bad in verify(Place(folder)).bad]


@pytest.mark.parametrize("mode", ["file", "hybrid", "memory", "streaming"])
@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
@pytest.mark.parametrize("spoilt", ["v", "s"])
async def test_e13_a_file_that_is_lost_or_damaged_spoils_no_other_key_and_is_told_until_it_is_replaced_or_deleted(
    spoilt: str, how: str, mode: str, tmp_path: Path
) -> None:
    """E13, R-3, T9: whatever mode the store is opened in, and with `repair`."""
    flow = DataFlow(mode=mode, durability="durable", memory_limit_mb=4)
    async with open_stores(tmp_path) as stores:
        store = await stores.open("quotes", FLOW)
        for key in ("u", "v", "w"):
            await store.store(key, {"key": key})
        for start in range(0, 300, 100):
            await store.append("s", rows(start, 100))
            await store.flush()
        await store.append("tail", rows(0, 5))
        io = stores._workspace.io  # type: ignore[union-attr]
        before = await io.submit(stores, store_files, tmp_path)
        await store.store("last", 1)
    workers = Workers(1)
    path = before[1 if spoilt == "v" else 4]
    file = path.relative_to(tmp_path).as_posix()
    await workers.run(spoil, path, how)
    for turn in range(3):
        assert await workers.run(bad_files, tmp_path) == [file]
        async with open_stores(tmp_path, repair=turn == 1) as stores:
            assert [loss.file for loss in stores.recovered.lost] == ([] if how == "flipped" else [file])
            store = await stores.open("quotes", flow)
            if mode != "file" or how != "flipped":
                assert [(loss.file, loss.key) for loss in stores.recovered.lost] == [(file, spoilt)]
            assert sorted(map(str, store.keys())) == ["last", "s", "tail", "u", "v", "w"]
            for key in {"u", "v", "w"} - {spoilt}:
                assert await store.retrieve(key) == {"key": key}
            if spoilt == "v":
                assert (await store.retrieve("s"))["n"].to_pylist() == list(range(300))
            assert (await store.retrieve("tail"))["n"].to_pylist() == list(range(5))
            with pytest.raises(CorruptEntry) as raised:
                await store.retrieve(spoilt)
            assert raised.value.key == spoilt and file in str(raised.value)
            with pytest.raises(CorruptEntry):
                async for _ in store.iter_batches(spoilt):
                    pass
            assert store.stats().corrupt == 1 and store.stats().entries == 6
            if turn == 2 and spoilt == "v":
                await store.store("v", {"key": "new"})
                assert await store.retrieve("v") == {"key": "new"}
            elif turn == 2:
                await store.delete("s")
                await store.append("s", rows(7, 1))
                assert (await store.retrieve("s"))["n"].to_pylist() == [7]
            if turn == 2:
                assert store.stats().corrupt == 0
    assert await workers.run(bad_files, tmp_path) == []
    async with open_stores(tmp_path) as stores:
        assert stores.recovered.is_clean
        store = await stores.open("quotes", FLOW)
        assert stores.recovered.is_clean
        assert (await store.retrieve("s")).num_rows == (300 if spoilt == "v" else 1)
        assert await store.retrieve("v") == {"key": "new" if spoilt == "v" else "v"}
    await workers.close()


@pytest.mark.parametrize("mode", ["file", "hybrid"])
async def test_e13_a_damaged_key_that_is_the_oldest_does_not_keep_the_journal_from_being_given_up(
    mode: str, tmp_path: Path
) -> None:
    workers = Workers(1)
    async with opened(tmp_path, segment_bytes=1 << 15) as root:
        manager = root.make(policy=FLOW)
        await manager.append("s", rows(0, 100))
        await manager.close()
    [path] = await workers.run(store_files, tmp_path)
    await workers.run(path.unlink)
    for _ in range(2):
        async with opened(tmp_path, segment_bytes=1 << 15) as root:
            manager = root.make(policy=DataFlow(mode=mode, durability="process", memory_limit_mb=4))
            await root.restore(manager)
            assert manager.recording.rewriter is not None
            manager.recording.rewriter._slack = 1 << 16
            for number in range(100):
                await manager.append("hot", rows(number, 100))
                if number % 10 == 9:
                    await manager.delete("hot")
            assert await root.wal_bytes() < 300_000
            with pytest.raises(CorruptEntry):
                await manager.retrieve("s")
            assert [lost.key for lost in manager.lost] == ["s"]
            await manager.close()
    await workers.close()
