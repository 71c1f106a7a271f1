"""Whole files: written under a temporary name, synced, renamed, and only then visible. Blocking; for worker threads."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ..errors import DataError
from .disk import DISK, Disk, open_regular
from .room import storage_error

_temporary = itertools.count()
_CHUNK: Final = 1 << 20
_ARROW_COMPRESSION: Final = {"snappy": "lz4", "lz4": "lz4", "zstd": "zstd", "gzip": "zstd", "none": None}
"""Arrow files know lz4 and zstd only; what they do not know becomes the one of the same temper."""


class Published(NamedTuple):
    """A finished file: its size and the xxh3-64 of its bytes."""

    path: Path
    num_bytes: int
    digest: int


class WholeFile:
    """A file being written beside its target. Visible after `publish`, gone after `discard`; one of them ends it.

    Used as a context manager it is discarded unless published. OSErrors become `DiskFull` or `StorageFailed`, and
    the temporary file is removed.
    """

    def __init__(self, folder: Path, *, sync: bool = True, disk: Disk = DISK) -> None:
        self.folder = folder
        self.path = folder / f".{os.getpid()}-{next(_temporary)}.tmp"
        self._sync, self._disk = sync, disk
        self._published = False
        with self.errors("create"):
            disk.make_folder(folder)
            disk.close(disk.open(self.path, create=True))

    def __enter__(self) -> WholeFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.discard()

    def publish(self, name: str, *, replace: bool = False) -> Published:
        """Sync and rename to `folder/name`; raises FileExistsError unless `replace`, and may then be tried again.

        R-2: a file whose sync fails is given up, and written anew under another name, once.
        """
        target = self.folder / name
        with self.errors("publish", target):
            num_bytes, digest = digest_file(self.path)
            if self._sync:
                self._sync_once(num_bytes, digest)
            if not replace and self._disk.file_bytes(target) is not None:  # one process, one writer per folder
                raise FileExistsError(str(target))
            self._disk.rename(self.path, target)
            self._published = True
            if self._sync:
                self._disk.sync_folder(self.folder)
            _KNOWN.note(target, digest)
        return Published(target, num_bytes, digest)

    def _sync_once(self, num_bytes: int, digest: int) -> None:
        """Sync the file, or else a copy of it that is proven to be one."""
        try:
            sync_file(self.path, self._disk)
            return
        except OSError as error:
            given_up, self.path = self.path, self.folder / f".{os.getpid()}-{next(_temporary)}.tmp"
            try:
                if _copy(given_up, self.path, self._disk) != (num_bytes, digest):
                    raise OSError(error.errno, f"{error.strerror}, and what had been written is not there") from error
                sync_file(self.path, self._disk)
            finally:
                with contextlib.suppress(OSError):
                    self._disk.unlink(given_up)

    def discard(self) -> None:
        """Remove the temporary file; nothing happens after `publish`."""
        if not self.__dict__.get("_published"):
            with contextlib.suppress(OSError):
                self._disk.unlink(self.path)

    @contextlib.contextmanager
    def errors(self, call: str, path: Path | None = None) -> Iterator[None]:
        """Turn what the operating system says into our errors and leave nothing behind."""
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            self.discard()
            raise storage_error(error, call, str(path or self.path)) from error


class TableFile(WholeFile):
    """Record batches going to one parquet or arrow file; each `write` is one row group."""

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        *,
        format: Literal["parquet", "arrow"] = "parquet",
        compression: str = "snappy",
        sync: bool = True,
        disk: Disk = DISK,
    ) -> None:
        super().__init__(folder, sync=sync, disk=disk)
        self.schema = schema
        self._format = format
        with self.errors("write"):
            self._sink = pa.OSFile(str(self.path), "wb")
            try:
                self._writer = self._begin(compression)
            except BaseException:
                self._sink.close()
                raise
        self._open = True

    def _begin(self, compression: str) -> Any:
        if self._format == "arrow":
            options = pa.ipc.IpcWriteOptions(compression=_ARROW_COMPRESSION[compression], use_threads=False)
            return pa.ipc.new_file(self._sink, self.schema, options=options)
        return pq.ParquetWriter(
            self._sink, self.schema, compression=compression, write_page_checksum=True, version="2.6",
            use_dictionary=[field.name for field in self.schema if _repeats(field.type)],
        )  # fmt: skip

    def write(self, table: pa.Table) -> None:
        """Append rows, as one row group of a parquet file."""
        with self.errors("write"):
            if self._format == "parquet":
                self._writer.write_table(table, row_group_size=max(1, table.num_rows))
            else:
                self._writer.write_table(table)

    def publish(self, name: str, *, replace: bool = False) -> Published:
        self._finish()
        return super().publish(name, replace=replace)

    def discard(self) -> None:
        with contextlib.suppress(OSError, DataError):
            self._finish()
        super().discard()

    def _finish(self) -> None:
        if self.__dict__.get("_open"):
            self._open = False
            with self.errors("write"):
                try:
                    self._writer.close()
                finally:
                    self._sink.close()  # what has no name any more takes room as long as it is open


def _repeats(kind: pa.DataType) -> bool:
    """Whether values are likely to come again; looking for floats and times that do costs half the write."""
    return not (pa.types.is_floating(kind) or pa.types.is_temporal(kind) or pa.types.is_nested(kind))


def publish_bytes(
    folder: Path, name: str, pieces: Sequence[bytes], *, replace: bool = False, disk: Disk = DISK
) -> Published:
    """Publish a small file of given bytes."""
    with WholeFile(folder, disk=disk) as file:
        with file.errors("write"):
            fd = disk.open(file.path, write=True)
            try:
                disk.write(fd, pieces, 0)
            finally:
                disk.close(fd)
        return file.publish(name, replace=replace)


def digest_published(path: Path) -> tuple[int, int]:
    """As `digest_file`, without reading what this process has published and nobody has touched since."""
    return _KNOWN.digest(path) or digest_file(path)


class _Known:
    """Checksums of files by what the system knows them by; the latest so many."""

    def __init__(self) -> None:
        self._digests: dict[tuple[int, int, int, int], int] = {}
        self._turn = threading.Lock()

    def note(self, path: Path, digest: int) -> None:
        with self._turn:
            self._digests[_known_by(path)] = digest
            if len(self._digests) > _MAX_KNOWN:
                del self._digests[next(iter(self._digests))]

    def digest(self, path: Path) -> tuple[int, int] | None:
        known_by = _known_by(path)
        with self._turn:
            digest = self._digests.get(known_by)
        return None if digest is None else (known_by[2], digest)


def _known_by(path: Path) -> tuple[int, int, int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


_MAX_KNOWN: Final = 10_000
_KNOWN: Final = _Known()


def digest_file(path: Path, progress: Callable[[int], None] = lambda num_bytes: None) -> tuple[int, int]:
    """Size and xxh3-64 of a file, read a megabyte at a time; each is told."""
    digest = xxhash.xxh3_64()
    num_bytes = 0
    with open(path, "rb", buffering=0, opener=open_regular) as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            num_bytes += len(chunk)
            progress(len(chunk))
    return num_bytes, digest.intdigest()


def sync_file(path: Path, disk: Disk) -> None:
    """The file's bytes are on disk."""
    fd = disk.open(path)
    try:
        disk.sync(fd)
    finally:
        disk.close(fd)


def _copy(source: Path, target: Path, disk: Disk) -> tuple[int, int]:
    """Copy a file a megabyte at a time; size and xxh3-64 of what was copied."""
    digest = xxhash.xxh3_64()
    offset = 0
    with contextlib.ExitStack() as open_files:
        reading = disk.open(source)
        open_files.callback(disk.close, reading)
        writing = disk.open(target, create=True)
        open_files.callback(disk.close, writing)
        while chunk := disk.read(reading, _CHUNK, offset):
            digest.update(chunk)
            offset = disk.write(writing, [chunk], offset)
    return offset, digest.intdigest()
