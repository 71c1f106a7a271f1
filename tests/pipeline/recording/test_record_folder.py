"""A folder that records readings of the weather: rows in its log, then in files, each once, whatever happens."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import DiskFull, ManagerClosed, RecordFolder, StorageFailed, open_recording, read_recording
from pipeline.storage import root as roots
from pipeline.storage.disk import RealDisk
from pipeline.storage.manifest import read_manifest
from pipeline.storage.publish import digest_file

HOUR = 3_600_000_000_000


def readings(hour: int, rows: int = 10, station: str = "north") -> pa.RecordBatch:
    """Degrees of one hour."""
    return pa.RecordBatch.from_pydict(
        {
            "ts_recv": pa.array([hour * HOUR + row for row in range(rows)], pa.timestamp("ns", "UTC")),
            "station": pa.array([station] * rows).dictionary_encode(),
            "degrees": [hour + row / 10 for row in range(rows)],
        }
    )


def write(recording: RecordFolder, batches: Sequence[pa.RecordBatch]) -> list[tuple[str, Any]]:
    """A file of them, not yet published."""
    file = recording.new_file("degrees/station=north", batches[0].schema)
    for batch in batches:
        file.write(pa.Table.from_batches([batch]))
    return [("north", file)]


def hours(folder: Path, after: int = 0) -> list[int]:
    """Which hours are in the log."""
    return [run.batch.column("ts_recv")[0].value // HOUR for run in read_recording(folder, after=after)]


async def test_what_was_appended_is_read_back_in_order_from_any_position_while_it_is_written(tmp_path: Path) -> None:
    async with open_recording(tmp_path) as recording:
        positions = [await recording.append(readings(hour), "north") for hour in range(5)]
        assert positions == sorted(set(positions))
        assert hours(tmp_path) == [0, 1, 2, 3, 4] and hours(tmp_path, positions[2]) == [3, 4]
        [last] = read_recording(tmp_path, after=positions[3])
        assert (last.position, last.tag) == (positions[4], "north") and last.batch.equals(readings(4))
        assert recording.covered == 0 and await recording.state() is None
    async with open_recording(tmp_path) as recording:
        assert await recording.append(readings(5)) > positions[-1]
        assert hours(tmp_path) == [0, 1, 2, 3, 4, 5]


async def test_appends_that_come_together_share_a_write(tmp_path: Path) -> None:
    async with open_recording(tmp_path) as recording:
        await asyncio.gather(*(recording.append(readings(hour)) for hour in range(100)))
        assert recording._journal.groups < 10
        assert hours(tmp_path) == list(range(100))


async def test_files_are_committed_together_with_how_far_they_reach(tmp_path: Path) -> None:
    async with open_recording(tmp_path) as recording:
        position = [await recording.append(readings(hour)) for hour in range(3)][1]
        files = await recording.apart(write, recording, [readings(0), readings(1)])
        assert not list(tmp_path.rglob("*.parquet"))
        done = await recording.publish(files, covers=position, state=b"two hours")
        assert (done.files, done.rows, recording.covered) == (1, 20, position)
    [entry] = [entry for entry in read_manifest(tmp_path).committed.files.values() if entry.rows and entry.batch_id]
    path = tmp_path / (entry.file or "")
    assert path.name == "north_000001-1.parquet"
    assert pq.read_metadata(path).num_row_groups == 2
    assert (entry.rows, entry.min_ts, entry.max_ts) == (20, 0, HOUR + 9)
    assert digest_file(path) == (entry.bytes, int(entry.xxh3 or "", 16))
    async with open_recording(tmp_path) as recording:
        assert await recording.state() == b"two hours"
        assert [entry.file for entry in recording.files()] == [entry.file]
        assert hours(tmp_path, recording.covered) == [2]


async def test_files_that_were_not_committed_are_removed_when_the_folder_is_opened(tmp_path: Path) -> None:
    async with open_recording(tmp_path) as recording:
        await recording.append(readings(0))
        [(_, file)] = await recording.apart(write, recording, [readings(0)])
        await recording.apart(file.finish)
        left = tmp_path / "degrees/station=north/north_000001-7.parquet"
        left.write_bytes(file.path.read_bytes())
        mine = tmp_path / "degrees/station=north/notes.parquet"
        mine.write_bytes(b"my own")
    async with open_recording(tmp_path) as recording:
        assert len(recording.removed) == 2
        assert [path for path in (tmp_path / "degrees").rglob("*") if path.is_file()] == [mine]


async def test_segments_go_once_they_are_old_and_in_files(tmp_path: Path) -> None:
    async with open_recording(tmp_path, segment_bytes=1) as recording:
        positions = [await recording.append(readings(hour)) for hour in range(6)]
        assert (await recording.expire(100 * HOUR)).segments == 0, "nothing is in files"
        for hour in range(4):
            files = await recording.apart(write, recording, [readings(hour)])
            await recording.publish(files, covers=positions[hour], state=b"")
        gone = await recording.expire(2 * HOUR)
        assert gone.segments == 2 and gone.num_bytes > 0
        assert hours(tmp_path) == [2, 3, 4, 5]
        assert (await recording.expire(2 * HOUR)).segments == 0
        assert (await recording.expire(100 * HOUR)).segments == 2
    assert hours(tmp_path) == [4, 5]
    async with open_recording(tmp_path, segment_bytes=1) as recording:
        assert hours(tmp_path, recording.covered) == [4, 5]
        assert await recording.append(readings(6)) > positions[-1]
    assert len(list((tmp_path / "wal").iterdir())) == 3


async def test_a_torn_tail_is_cut_and_whole_records_before_it_stand(tmp_path: Path) -> None:
    async with open_recording(tmp_path) as recording:
        for hour in range(3):
            await recording.append(readings(hour))
        [segment] = (tmp_path / "wal").iterdir()
        raw, manifest = segment.read_bytes(), max(tmp_path.glob("MANIFEST-*")).read_bytes()
    for cut in (len(raw) - 1, len(raw) - 300, len(raw) - 700):
        folder = tmp_path / f"cut-{cut}"
        (folder / "wal").mkdir(parents=True)
        (folder / "MANIFEST-000001").write_bytes(manifest)
        (folder / "wal" / segment.name).write_bytes(raw[:cut])
        async with open_recording(folder) as recording:
            assert recording.recovered.journal_cut_bytes > 0 or cut in _ends(raw)
            found = hours(folder)
            assert found == list(range(len(found))) and len(found) < 3
            await recording.append(readings(9))
            assert hours(folder) == [*found, 9]


def _ends(raw: bytes) -> list[int]:
    return [place for place in range(len(raw)) if raw[place : place + 4] == b"KTSP"]


class FullDisk(RealDisk):
    """Has no room while it is told so."""

    full = False

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(fd, pieces, offset)


async def test_a_full_disk_takes_nothing_that_was_acknowledged_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk()
    monkeypatch.setattr(roots.StorageRoot.open.__func__, "__kwdefaults__", {  # type: ignore[attr-defined]
        **roots.StorageRoot.open.__func__.__kwdefaults__, "disk": disk})  # type: ignore[attr-defined]  # fmt: skip
    async with open_recording(tmp_path) as recording:
        position = await recording.append(readings(0))
        disk.full = True
        with pytest.raises(DiskFull):
            await recording.append(readings(1))
        files = await recording.apart(write, recording, [readings(0)])
        with pytest.raises(DiskFull):
            await recording.publish(files, covers=position, state=b"")
        assert recording.covered == 0 and not list(tmp_path.rglob("*north*.parquet"))
        disk.full = False
        await recording.append(readings(2))
        files = await recording.apart(write, recording, [readings(0)])
        await recording.publish(files, covers=position, state=b"")
        assert hours(tmp_path) == [0, 2]


async def test_one_process_has_the_folder_and_the_other_is_told_which(tmp_path: Path) -> None:
    async with open_recording(tmp_path):
        with pytest.raises(StorageFailed, match=r"is in use by process \d+"):
            async with open_recording(tmp_path):
                pass


async def test_a_closed_recording_says_so(tmp_path: Path) -> None:
    recording = open_recording(tmp_path)
    with pytest.raises(ManagerClosed, match="use `async with`"):
        await recording.append(readings(0))
    async with recording:
        await recording.append(readings(0))
    await recording.close()
    with pytest.raises(ManagerClosed):
        await recording.append(readings(1))


async def test_a_call_beside_the_loop_ends_before_its_caller_is_cancelled(tmp_path: Path) -> None:
    async with open_recording(tmp_path) as recording:
        began, goes_on, ended = threading.Event(), threading.Event(), []

        def call() -> None:
            began.set()
            goes_on.wait(20)
            ended.append(True)

        task = asyncio.create_task(recording.apart(call))
        await asyncio.to_thread(began.wait, 20)
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done(), "what it works on would be tidied up under its hands"
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended


async def test_a_caller_that_is_cancelled_changes_nothing(tmp_path: Path) -> None:
    async with open_recording(tmp_path) as recording:
        task = asyncio.create_task(recording.append(readings(0)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await recording.append(readings(1))
        assert hours(tmp_path) == [0, 1]


@pytest.mark.parametrize("what", ["removed", "moved", "replaced"])
async def test_nothing_is_acknowledged_in_a_folder_that_is_no_longer_there(tmp_path: Path, what: str) -> None:
    """Bytes of a file that was removed can be written for weeks, and are nowhere."""
    folder, gone = tmp_path / "weather", "the folder was removed, moved or replaced meanwhile"
    recording = open_recording(folder)
    async with recording:
        position = await recording.append(readings(0))
        if what == "removed":
            shutil.rmtree(folder)
        else:
            folder.rename(tmp_path / "elsewhere")
        if what == "replaced":
            async with open_recording(folder) as another:
                await another.append(readings(9))
        with pytest.raises(StorageFailed, match=gone):
            await recording.append(readings(1))
        folder.mkdir(exist_ok=True)  # as whoever makes a file in it does
        files = await recording.apart(write, recording, [readings(0)])
        with pytest.raises(StorageFailed, match=gone):
            await recording.publish(files, covers=position, state=b"")
        assert not list(folder.rglob("*.parquet"))
        with pytest.raises(StorageFailed, match=gone):
            await recording.close()
    assert hours(folder) == ([9] if what == "replaced" else [])
