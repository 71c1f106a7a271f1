"""Recorders on bad days: a full disk, a folder that cannot be written to, a call that is cancelled."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from recordings import SPOT, USDM, committed, directly, messages_of, recorded_rows, rows_of, same

from pipeline import Context, DiskFull, InputError, StorageFailed
from pipeline.storage.disk import RealDisk
from stages.feeds.captured import CaptureFeed
from stages.feeds.replay import Replay
from stages.quality.finding import find_events
from stages.recording import Recording
from stages.recording.ingesting import ingest
from stages.recording.recorder import open_recorder


@pytest.mark.parametrize("step", [3, 13, 16, 22])
async def test_a_disk_without_room_costs_nothing_that_was_acknowledged(
    step: int, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the so-and-so-manyth write on there is none; then there is again, and the next one goes on."""
    messages = messages_of(recordings).slice(0, 450)
    write, calls = RealDisk.write, [0]

    def full(disk: RealDisk, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> int:
        calls[0] += 1
        if calls[0] >= step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(disk, fd, pieces, offset)

    monkeypatch.setattr(RealDisk, "write", full)
    acknowledged = [0]

    async def record_all() -> None:
        async with open_recorder(tmp_path, Recording(roll_rows=2500)) as recorder:
            for at in range(0, len(messages), 30):
                await recorder.take(messages.slice(at, at + 30), USDM)
                acknowledged.append(at + 30)
            await recorder.roll()

    with pytest.raises(DiskFull):
        await record_all()
    monkeypatch.setattr(RealDisk, "write", write)
    async with open_recorder(tmp_path) as recorder:
        assert recorder._next_seq in (acknowledged[-1], acknowledged[-1] + 30)
        await recorder.take(messages.slice(recorder._next_seq), USDM)
    same(recorded_rows(tmp_path), directly(messages))
    assert set(tmp_path.rglob("*.parquet")) == set(committed(tmp_path))


async def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailed, match="cannot write to"):
        async with open_recorder(tmp_path / "file" / "r"):
            pass


async def test_after_a_failure_a_recorder_refuses_more_and_says_why(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = messages_of(recordings).slice(0, 60)
    async with open_recorder(tmp_path) as recorder:
        await recorder.take(messages.slice(0, 30), USDM)
        taking = asyncio.ensure_future(recorder.take(messages.slice(30), USDM))
        await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        with pytest.raises(StorageFailed, match="recording has failed before"):
            await recorder.take(messages.slice(30), USDM)
    async with open_recorder(tmp_path) as recorder:
        assert recorder._next_seq == 60, "it was in the log, though nobody was told"
    same(recorded_rows(tmp_path), directly(messages))


async def test_what_a_recorder_left_that_was_killed_before_files_rolled_can_be_read(
    recordings: Path, tmp_path: Path
) -> None:
    messages, killed = messages_of(recordings), tmp_path / "killed"
    async with open_recorder(tmp_path / "r") as recorder:
        await recorder.take(messages, USDM)
        shutil.copytree(tmp_path / "r", killed)
    assert not list(killed.rglob("*.parquet"))
    feed = Replay(path=str(killed)).build(Context())
    assert isinstance(feed, CaptureFeed)
    replayed, expected = rows_of(batch.columns for batches in feed.batches() for batch in batches), directly(messages)
    for kind in ("trade", "book_delta"):
        same({kind: replayed[kind]}, {kind: expected[kind]})
    with pytest.raises(InputError, match="expected files of records, found messages that are in none yet"):
        find_events(killed)
    async with open_recorder(killed):
        pass
    events = find_events(killed)
    assert events is not None and not len(events)


async def test_a_damaged_capture_does_not_bring_a_recording_into_the_future(recordings: Path, tmp_path: Path) -> None:
    """A time that is not true is never lower again: all that came later would be of then, and no capture be taken."""
    lines = gzip.decompress((recordings / SPOT[0]).read_bytes()).splitlines(keepends=True)[:3000]
    never = [lines[0], b"9" + lines[1][1:], *lines[2:1000]]
    (tmp_path / "spot_20240808.txt").write_bytes(b"".join(never))
    done = await ingest(tmp_path / "spot_20240808.txt", tmp_path / "r")
    assert done.figures.newest_ts == int(lines[999][:19]) and sum(done.wrong.values()) == 1
    later = b"2" + lines[2000][1:]
    (tmp_path / "spot_20240809.txt").write_bytes(b"".join([*lines[1000:2000], later, *lines[2001:]]))
    with pytest.raises(InputError, match=r"spot\.txt: expected messages that came until now, found one of 2056-04-"):
        await ingest(tmp_path / "spot_20240809.txt", tmp_path / "r")
    assert max(recorded_rows(tmp_path / "r")["trade"])[1].value > int(lines[1900][:19])
    (tmp_path / "others_20240809.txt").write_bytes(b"".join(lines[2000:]))
    done = await ingest(tmp_path / "others_20240809.txt", tmp_path / "r")
    assert done.figures.newest_ts == int(lines[-1][:19])
