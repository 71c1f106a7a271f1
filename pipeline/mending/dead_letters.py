"""Dead letters: what a container could not work on, kept on disk with the reason, to be looked at and given again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import xxhash

from ..errors import CorruptEntry, DataError, InputError, PenstockError, StorageFailed
from ..frames import Batch
from ..storage import codecs
from ..storage.disk import DISK, Disk, open_regular
from ..storage.executor import IoExecutor
from ..storage.names import file_part
from ..storage.room import storage_error
from ..storage.segments import CHECKSUM, HEADER, MAGIC, read_record, record_bytes, scan

FOLDER = "dead_letters"
"""In a phase's folder: one file of records for each container that has any."""
SUFFIX = ".seg"
FLUSHES = ".flush.seg"
"""Ends the name of a container's second file: what a flush callback would not take."""
DEAD: Final = 32
"""Kind of such a record; its `flags` say in which form the value is, as `storage.codecs` numbers them."""
_NAMED: Final = 8
"""Runs that are listed by name where one of them has to be given."""
_HEAD: Final = struct.Struct("<I")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A row, or what else was to be worked on together, that was given up after so many attempts.

    Row `first_seq` of what container `source` sent is its offset: the same row has the same in every run.
    """

    container: str
    """Who could not work on it."""
    value: Any
    """A record batch of the rows; for a flush what was to be flushed."""
    rows: int = 1
    source: str = ""
    """Whose output the rows are of."""
    first_seq: int = 0
    """Number of the first row in that output, from 0."""
    error: str
    attempts: int
    """Calls that failed with it among their rows."""
    time_ns: int
    """When it was given up, ns since 1970 UTC by the run's clock."""
    batch_id: tuple[str, int, int] | None = None
    """Of a flush: container, first and last row of what it was asked to keep; the same in every attempt."""
    key: str | None = None
    """Of a flush: what the value is stored under."""
    append: bool = False
    """Of a flush: whether the value extends a series."""


_FIELDS: Final = tuple(name for name in DeadLetter.__struct_fields__ if name != "value")


def said(error: BaseException) -> str:
    """An error as dead letters have it: its kind and its words."""
    return f"{type(error).__name__}: {error}"


def rows_of(batch: Batch) -> Any:
    """The rows of a batch as a letter's value: columns, or what can be told of rows that have no such form."""
    try:
        return batch.columns
    except (PenstockError, pa.ArrowException, TypeError, ValueError, OverflowError):
        return [msgspec.to_builtins(row, enc_hook=repr, str_keys=True) for row in batch.rows]


class DeadLetterFile:
    """Appends the dead letters of one container to its file; what was added is on disk for good.

    Holds no descriptor and costs nothing before the first letter. `rows` and `num_bytes` are what has been added.
    """

    def __init__(self, phase: Path, container: str, io: IoExecutor, *, disk: Disk = DISK) -> None:
        self.phase, self.container = phase, container
        self.path = path_of(phase, container)
        self.rows = self.letters = self.num_bytes = 0
        self._io, self._disk = io, disk
        self._lock = threading.Lock()
        self._broken: str | None = None

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Append the letters; they are synced when this returns, and it happens though the caller is cancelled.

        Raises `DiskFull`, after which the file is as it was, or `StorageFailed`; the letters are then still the
        caller's.
        """
        if letters:
            await asyncio.shield(self._io.submit(self, self.add_blocking, letters))

    def add_blocking(self, letters: Sequence[DeadLetter]) -> None:
        """As `add`, for a worker thread."""
        with self._lock:
            if self._broken is not None:
                raise StorageFailed(self._broken)
            pieces: list[bytes | memoryview] = []
            for number, letter in enumerate(letters, self.letters + 1):
                pieces += _record(letter, number)
            self._append(pieces)
            self.letters += len(letters)
            self.rows += sum(letter.rows for letter in letters)

    def _append(self, pieces: Sequence[bytes | memoryview]) -> None:
        disk, call = self._disk, "make"
        try:
            is_new = not self.num_bytes
            if is_new:
                disk.make_folder(self.path.parent)
            fd = self._opened(create=is_new)
            try:
                call = "write"
                if is_new:
                    disk.truncate(fd, 0)
                end = disk.write(fd, pieces, self.num_bytes)
                call = "sync"
                disk.sync(fd)
                if is_new:
                    disk.sync_folder(self.path.parent)
                    disk.sync_folder(self.path.parent.parent)
            except OSError:
                if call == "sync":
                    # What the system says of these bytes from now on means nothing.
                    self._broken = f"sync {self.path}: it has failed once, and nothing is added to the file any more"
                with contextlib.suppress(OSError):
                    disk.truncate(fd, self.num_bytes)
                raise
            finally:
                disk.close(fd)
        except OSError as error:
            raise storage_error(error, call, str(self.path)) from error
        self.num_bytes = end

    def _opened(self, *, create: bool) -> int:
        if create:
            with contextlib.suppress(FileExistsError):
                return self._disk.open(self.path, create=True)
        return self._disk.open(self.path, write=True)

    def mark(self) -> tuple[int, int, int]:
        """Letters, rows and bytes so far, for a checkpoint."""
        return self.letters, self.rows, self.num_bytes

    def rewind(self, mark: Sequence[int]) -> None:
        """Go on behind a `mark` of this file, with what was added after it cut off. Blocking; raises `DataError`."""
        letters, rows, num_bytes = mark
        try:
            found = self._disk.file_bytes(self.path) or 0
            if found < num_bytes:
                raise StorageFailed(f"{self.path} has {found:,} bytes, expected the {num_bytes:,} of the checkpoint")
            if found > num_bytes:
                fd = self._disk.open(self.path, write=True)
                try:
                    self._disk.truncate(fd, num_bytes)
                    self._disk.sync(fd)
                finally:
                    self._disk.close(fd)
        except OSError as error:
            raise storage_error(error, "cut", str(self.path)) from error
        self.letters, self.rows, self.num_bytes = letters, rows, num_bytes


def path_of(phase: Path, container: str) -> Path:
    """The file of a container's dead letters."""
    return phase / FOLDER / f"{file_part(container)}{SUFFIX}"


def phases_with_letters(folder: Path) -> list[Path]:
    """Folders of the phases with dead letters: `folder` itself, those of the run it is, or of `<output>/<name>`.

    Of the latter it is the latest run, or, where that has none, the only one with any. Raises `InputError` where
    there are several of those. Blocks.
    """
    if (folder / FOLDER).is_dir():
        return [folder]
    for base in (folder, folder / "latest"):
        found = [path.parent for path in base.glob(f"*/{FOLDER}") if not path.parent.name.startswith(".")]
        if found:
            return sorted(found)
    runs = sorted({path.parent.parent for path in folder.glob(f"[!.]*/[!.]*/{FOLDER}")})
    runs = [run for run in runs if run.name != "latest"]
    if len(runs) > 1:
        named = ", ".join(map(str, runs[:_NAMED])) + (f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else "")
        raise InputError(f"{len(runs)} runs in {folder} have dead letters; give one: {named}")
    return phases_with_letters(runs[0]) if runs else []


class DeadLetters:
    """Reads the dead letters of a phase, or of one of its containers, also while they are written. Blocks.

    Iterating gives them by container, in the order they came. `unread_bytes` counts what lies behind the last whole
    record of the files read so far: a letter that is being written, or damage.
    """

    def __init__(self, phase: Path, container: str | None = None) -> None:
        self.phase, self.container = phase, container
        self.unread_bytes = 0

    def paths(self) -> list[Path]:
        if self.container is not None:
            rows = path_of(self.phase, self.container)
            flushes = rows.with_name(f"{rows.name.removesuffix(SUFFIX)}{FLUSHES}")
            return [path for path in (rows, flushes) if path.is_file()]
        return sorted((self.phase / FOLDER).glob(f"*{SUFFIX}"))

    def __iter__(self) -> Iterator[DeadLetter]:
        self.unread_bytes = 0
        for path in self.paths():
            try:
                fd = open_regular(path)
            except OSError as error:
                raise storage_error(error, "open", str(path)) from error
            try:
                yield from self._read(path, fd)
            finally:
                os.close(fd)

    def _read(self, path: Path, fd: int) -> Iterator[DeadLetter]:
        end = 0
        for found in scan(fd):
            if found.kind != DEAD:
                break
            where = f"{path}:{found.offset}"
            payload = read_record(fd, found.offset, found.key, found.length, found.gen, where)
            assert payload is not None
            end = found.offset + record_bytes(len(found.key), found.length)
            yield _letter(payload.to_pybytes(), found.flags, where)
        self.unread_bytes += max(0, os.fstat(fd).st_size - end)


def _record(letter: DeadLetter, number: int) -> list[bytes | memoryview]:
    """One record as it lies in the file: `storage.segments` tells of its form."""
    kind, encoded = _encoded(letter.value)
    head = msgspec.msgpack.encode({name: getattr(letter, name) for name in _FIELDS})
    pieces = [memoryview(_HEAD.pack(len(head)) + head)]
    pieces += [memoryview(piece).cast("B") for piece in encoded.pieces if len(piece)]
    header = HEADER.pack(MAGIC, DEAD, kind, 0, sum(map(len, pieces)), number)
    digest = xxhash.xxh3_64(header)
    for piece in pieces:
        digest.update(piece)
    return [header + CHECKSUM.pack(digest.intdigest()), *pieces]


def _encoded(value: Any) -> tuple[int, codecs.Encoded]:
    """Any value in a form that another process can read; what has none as text."""
    try:
        kind = codecs.STREAM if isinstance(value, pa.RecordBatch) else codecs.kind_of(value)
        return kind, codecs.encode(value, kind)
    except (DataError, pa.ArrowException):
        return codecs.TEXT, codecs.encode(ascii(value), codecs.TEXT)


def _letter(payload: bytes, kind: int, where: str) -> DeadLetter:
    (length,) = _HEAD.unpack_from(payload)
    begin = _HEAD.size + length
    try:
        head = msgspec.msgpack.decode(payload[_HEAD.size : begin])
        value = codecs.decode(kind, payload[begin:])
        known = {name: head[name] for name in _FIELDS if name in head}
        return msgspec.convert({**known, "value": value}, DeadLetter)
    except (msgspec.MsgspecError, pa.ArrowException, DataError, ValueError) as error:
        raise CorruptEntry("a dead letter", where, f"{said(error)}; it may be of another version") from error
