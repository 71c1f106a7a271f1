"""Dead letters: what was added is on disk whole, is read while more is written, and is cut back to a checkpoint."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from faulty import letters_in

from pipeline import Batch, CorruptEntry, DiskFull, Row, StorageFailed
from pipeline.mending.dead_letters import DeadLetter, DeadLetterFile, DeadLetters, path_of, rows_of
from pipeline.storage.disk import DISK, RealDisk
from pipeline.storage.executor import IoExecutor
from pipeline.storage.segments import Record, write_records


def letter(number: int, value: Any = None, **more: Any) -> DeadLetter:
    rows = pa.RecordBatch.from_pydict({"n": [number], "text": ["poison"]}) if value is None else value
    return DeadLetter(
        container="wörk/er", value=rows, source="data", first_seq=number, error="ValueError: no", attempts=3,
        time_ns=17, **more,
    )  # fmt: skip


@asynccontextmanager
async def writer(phase: Path, disk: Any = DISK) -> AsyncIterator[DeadLetterFile]:
    io = IoExecutor(2)
    try:
        yield DeadLetterFile(phase, "wörk/er", io, disk=disk)
    finally:
        await io.close()


async def test_letters_come_back_as_they_were_whatever_they_hold(tmp_path: Path) -> None:
    """S-4."""
    values = [
        pa.RecordBatch.from_pydict({"n": [1, 2]}),
        pa.table({"n": pa.array(["a", "b"]).dictionary_encode()}),
        {"deep": [1, {"er": None}]},
        "text",
        b"bytes",
    ]
    letters = [letter(n, value, rows=2) for n, value in enumerate(values)]
    letters.append(letter(9, values[1], batch_id=("wörk/er", 3, 4), key="trades", append=True))
    async with writer(tmp_path) as file:
        await file.add(letters[:2])
        await file.add([])
        await file.add(letters[2:])
        assert (file.letters, file.rows) == (6, 11)
    assert await letters_in(tmp_path) == letters
    assert await letters_in(tmp_path, "wörk/er") == letters
    assert await letters_in(tmp_path, "other") == []


async def test_without_a_letter_there_is_no_file_and_no_thread(tmp_path: Path) -> None:
    io = IoExecutor()
    await DeadLetterFile(tmp_path, "a", io).add([])
    assert io.threads == 0 and list(tmp_path.iterdir()) == []
    await io.close()


async def test_a_value_without_a_form_on_disk_is_told_as_text(tmp_path: Path) -> None:
    async with writer(tmp_path) as file:
        await file.add([letter(0, object())])
    (found,) = await letters_in(tmp_path)
    assert found.value.startswith("<object object")


class Loose(Row, frozen=True):
    n: int


def test_rows_that_are_no_columns_are_told_field_by_field() -> None:
    assert rows_of(Batch.from_rows([Loose(1)])) == pa.RecordBatch.from_pydict({"n": [1]})
    assert rows_of(Batch.from_rows([Loose("x")])) == [{"n": "x"}]  # type: ignore[arg-type]


def test_a_torn_letter_is_left_out_and_its_bytes_are_counted(tmp_path: Path) -> None:
    """T9: whatever length the file is cut to, whole letters are read and nothing else."""

    async def write() -> int:
        async with writer(tmp_path) as file:
            await file.add([letter(0)])
            first = file.num_bytes
            await file.add([letter(1)])
            return first

    first = asyncio.run(write())
    path = path_of(tmp_path, "wörk/er")
    raw = path.read_bytes()
    for length in range(0, len(raw), 5):
        path.write_bytes(raw[:length])
        reader = DeadLetters(tmp_path)
        assert [found.first_seq for found in reader] == [0][: length >= first]
        assert reader.unread_bytes == (length if length < first else length - first)
    path.write_bytes(raw[:first] + b"\0" * 100)
    reader = DeadLetters(tmp_path)
    assert [found.first_seq for found in reader] == [0] and reader.unread_bytes == 100


async def test_a_letter_of_another_version_is_an_error_that_says_where(tmp_path: Path) -> None:
    async with writer(tmp_path) as file:
        await file.add([letter(0)])
    path = path_of(tmp_path, "wörk/er")
    fd = os.open(path, os.O_RDWR)
    write_records(fd, 0, [Record(32, 99, b"", 1, [b"\x01\0\0\0\x80"])])
    os.close(fd)
    with pytest.raises(CorruptEntry, match=r"dead_letters.*:0 is corrupt"):
        await letters_in(tmp_path)


async def test_a_checkpoint_rewinds_the_file_and_writing_goes_on_there(tmp_path: Path) -> None:
    async with writer(tmp_path) as file:
        await file.add([letter(0)])
        mark = file.mark()
        await file.add([letter(1)])
    async with writer(tmp_path) as file:
        await asyncio.to_thread(file.rewind, mark)
        assert (file.letters, file.rows) == (1, 1)
        await file.add([letter(2)])
    assert [found.first_seq for found in await letters_in(tmp_path)] == [0, 2]
    async with writer(tmp_path) as file:
        with pytest.raises(StorageFailed, match="expected the 99,999"):
            await asyncio.to_thread(file.rewind, (9, 9, 99_999))


class Refusing(RealDisk):
    """A disk that fails a call when told to."""

    def __init__(self) -> None:
        self.fails: str | None = None

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> int:
        if self.fails == "write":
            super().write(fd, [bytes(pieces[0])[:5]], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(fd, pieces, offset)

    def sync(self, fd: int) -> None:
        if self.fails == "sync":
            raise OSError(errno.EIO, "Input/output error")
        super().sync(fd)


async def test_a_full_disk_leaves_the_file_as_it_was_and_it_may_be_tried_again(tmp_path: Path) -> None:
    """T4, E12."""
    disk = Refusing()
    async with writer(tmp_path, disk) as file:
        await file.add([letter(0)])
        disk.fails = "write"
        with pytest.raises(DiskFull):
            await file.add([letter(1)])
        assert file.mark()[:2] == (1, 1) and file.path.stat().st_size == file.num_bytes
        disk.fails = None
        await file.add([letter(2)])
    reader = DeadLetters(tmp_path)
    assert [found.first_seq for found in await asyncio.to_thread(list, reader)] == [0, 2] and not reader.unread_bytes


async def test_r2_a_failed_sync_is_never_tried_again(tmp_path: Path) -> None:
    disk = Refusing()
    async with writer(tmp_path, disk) as file:
        await file.add([letter(0)])
        disk.fails = "sync"
        with pytest.raises(StorageFailed, match="Input/output"):
            await file.add([letter(1)])
        disk.fails = None
        with pytest.raises(StorageFailed, match="failed once"):
            await file.add([letter(2)])
    assert [found.first_seq for found in await letters_in(tmp_path)] == [0]
