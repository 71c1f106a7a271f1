"""A log of segments: which records live where, which bytes are dead, and when a file may go."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa

from ..errors import CorruptEntry, DataError, DiskFull, StorageFailed
from . import segments
from .executor import IoExecutor
from .segments import Record

T = TypeVar("T")

REWRITE_SHARE: Final = 0.6
"""Share of dead bytes above which a full segment's live records are copied elsewhere."""
HOP_BYTES: Final = 1 << 20
"""Bytes moved per job, so that nobody waits long for a thread."""
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)


class Extent:
    """Where a record lies. The log moves it when it rewrites a segment; whoever owns it gives it back with `free`."""

    __slots__ = ("gen", "key", "length", "offset", "segment")

    def __init__(self, segment: Segment, offset: int, key: bytes, length: int, gen: int) -> None:
        self.segment, self.offset, self.key, self.length, self.gen = segment, offset, key, length, gen

    @property
    def num_bytes(self) -> int:
        """Bytes on disk, head and key included."""
        return segments.record_bytes(len(self.key), self.length)


class Segment:
    """One file of the log. `tail` belongs to the thread that writes it, everything else to the loop."""

    __slots__ = ("closed", "fd", "live", "live_bytes", "path", "pins", "sealed", "tail", "uncommitted", "writing")

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self.fd = path, fd
        self.tail = 0
        self.live: set[Extent] = set()
        self.live_bytes = 0
        self.pins = 0
        self.uncommitted = 0
        self.sealed = self.writing = self.closed = False


class SegmentLog:
    """Append-only segments in a folder, written and read by the I/O executor.

    All methods belong to one loop; nothing exists on disk before the first `append`. Records are found again by
    the `Extent` that `append` gave out. A record never changes; what replaces it is another record.
    """

    def __init__(self, folder: Path, io: IoExecutor, *, segment_bytes: int = segments.SEGMENT_BYTES) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.corrupt = 0
        """Records that did not pass verification."""
        self.rewritten_bytes = 0
        self._io = io
        self._numbers = itertools.count()
        self._segments: set[Segment] = set()
        self._tails: list[Segment] = []
        self._lock = threading.Lock()
        """Guards `_tails`, `writing` and `uncommitted`, which threads touch."""
        self._rewrite: asyncio.Task[None] | None = None
        self._closed = False
        self._used = False

    @property
    def disk_bytes(self) -> int:
        """Bytes of all segment files, dead ones included."""
        return sum(segment.tail for segment in self._segments)

    @property
    def live_bytes(self) -> int:
        return sum(segment.live_bytes for segment in self._segments)

    @property
    def num_segments(self) -> int:
        return len(self._segments)

    def append(self, owner: Hashable, encode: Callable[[], Sequence[Record]]) -> asyncio.Future[list[Extent]]:
        """Write the records that `encode` makes in the worker thread; all of them or none.

        The future gives one extent per record, or raises `DiskFull`, `StorageFailed`, or what `encode` raised. If
        nobody awaits it the extents are live all the same: see `discard`.
        """
        job = self._io.submit(owner, self._write, encode)
        done: asyncio.Future[list[Extent]] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda future: future.cancelled() or future.exception())

        def commit(job: asyncio.Future[tuple[Segment, list[Extent]]]) -> None:
            error = job.exception()
            if error is not None:
                done.set_exception(error)
                return
            segment, extents = job.result()
            self._commit(segment, extents)
            done.set_result(extents)

        job.add_done_callback(commit)
        return done

    def read(self, owner: Hashable, extent: Extent, then: Callable[[pa.Buffer], T]) -> asyncio.Future[T]:
        """`then(payload)`, made in the worker thread of the verified payload.

        Raises `CorruptEntry` after one more try on a fresh descriptor.
        """
        segment = extent.segment
        segment.pins += 1
        job = self._io.submit(owner, _read, segment, extent.offset, extent, then)
        job.add_done_callback(lambda job: self._unpin(segment, job.exception()))
        return job

    def read_nowait(self, extent: Extent) -> pa.Buffer | None:
        """The payload if it is in the page cache, read without waiting for any disk; else None.

        A corrupt record gives None too: `read` looks again and says what is wrong.
        """
        segment = extent.segment
        if not _NOWAIT or segment.closed:
            return None
        try:
            return segments.read_record(segment.fd, extent.offset, extent.key, extent.length, extent.gen, "", _NOWAIT)
        except (OSError, CorruptEntry):
            return None

    def free(self, extent: Extent) -> None:
        """The record is dead. Files without live records are removed, mostly dead ones rewritten."""
        segment = extent.segment
        if extent in segment.live:
            segment.live.remove(extent)
            segment.live_bytes -= extent.num_bytes
            self._look_after(segment)

    async def close(self) -> None:
        """Remove all files; reads and writes under way finish first. The executor is closed by its owner."""
        if self._closed:
            return
        self._closed = True
        if self._rewrite is not None:
            await asyncio.wait((self._rewrite,))
        if self._used:
            await asyncio.shield(self._io.submit(self, self._remove_all))
            self._segments.clear()
            self._tails.clear()

    def _remove_all(self) -> None:
        for segment in self._segments:
            if not segment.closed:
                segment.closed = True
                os.close(segment.fd)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, encode: Callable[[], Sequence[Record]]) -> tuple[Segment, list[Extent]]:
        """In a worker thread: records into a segment that belongs to this thread alone meanwhile."""
        records = encode()
        segment = None
        try:
            segment = self._take_tail()
            start = offset = segment.tail
            lengths = segments.write_records(segment.fd, start, records)
            extents = []
            for record, length in zip(records, lengths, strict=True):
                extents.append(Extent(segment, offset, record.key, length, record.gen))
                offset += extents[-1].num_bytes
            segment.tail = offset
        except OSError as error:
            if segment is not None:
                self._cut_back(segment)
            raise storage_error(error, "write", str(self.folder)) from error
        except BaseException:
            if segment is not None:
                self._cut_back(segment)
            raise
        with self._lock:
            segment.writing = False
            segment.uncommitted += 1
            if segment.tail >= self.segment_bytes:
                segment.sealed = True
            else:
                self._tails.append(segment)
        return segment, extents

    def _take_tail(self) -> Segment:
        with self._lock:
            if self._tails:
                segment = self._tails.pop()
                segment.writing = True
                return segment
            number = next(self._numbers)
        self._used = True
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{number:06d}.seg"
        segment = Segment(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        segment.writing = True
        return segment

    def _cut_back(self, segment: Segment) -> None:
        """A failed write leaves the segment ending with its last whole record."""
        with contextlib.suppress(OSError):
            os.ftruncate(segment.fd, segment.tail)
        with self._lock:
            segment.writing = False
            if segment.tail or segment in self._segments:
                self._tails.append(segment)
                return
        segment.closed = True
        os.close(segment.fd)
        with contextlib.suppress(OSError):
            segment.path.unlink()

    def _commit(self, segment: Segment, extents: Sequence[Extent]) -> None:
        self._segments.add(segment)
        with self._lock:
            segment.uncommitted -= 1
        segment.live.update(extents)
        segment.live_bytes += sum(extent.num_bytes for extent in extents)

    def _unpin(self, segment: Segment, error: BaseException | None) -> None:
        segment.pins -= 1
        if isinstance(error, CorruptEntry):
            self.corrupt += 1
        if not segment.live:
            self._look_after(segment)

    def _look_after(self, segment: Segment) -> None:
        if self._closed:
            return
        if not segment.live:
            if segment.pins == 0 and self._retire(segment):
                self._segments.discard(segment)
                self._io.submit(self, _unlink, segment)
        elif _is_sparse(segment) and (self._rewrite is None or self._rewrite.done()):
            self._rewrite = asyncio.get_running_loop().create_task(self._rewrite_sparse())

    def _retire(self, segment: Segment) -> bool:
        """Take the segment out of writers' reach; False while one has it."""
        with self._lock:
            if segment.writing or segment.uncommitted or segment.closed:
                return False
            if segment in self._tails:
                self._tails.remove(segment)
            return True

    async def _rewrite_sparse(self) -> None:
        """Copy the live records of mostly dead segments, about a megabyte per hop, until none is left."""
        while not self._closed:
            sparse = [segment for segment in self._segments if _is_sparse(segment)]
            if not sparse:
                return
            try:
                await self._empty(min(sparse, key=lambda segment: segment.live_bytes))
            except (DataError, OSError):
                return  # no room to copy to: the records stay where they are, the next `free` tries again

    async def _empty(self, segment: Segment) -> None:
        segment.pins += 1
        try:
            while segment.live and not self._closed:
                group: list[tuple[Extent, int]] = []
                size = 0
                for extent in sorted(segment.live, key=lambda extent: extent.offset):
                    group.append((extent, extent.offset))
                    size += extent.num_bytes
                    if size >= HOP_BYTES:
                        break
                target, offsets = await asyncio.shield(self._io.submit(self, self._copy, segment, group))
                moved = []
                for (extent, _), offset in zip(group, offsets, strict=True):
                    if extent in segment.live:
                        segment.live.remove(extent)
                        segment.live_bytes -= extent.num_bytes
                        extent.segment, extent.offset = target, offset
                        moved.append(extent)
                self.rewritten_bytes += size
                self._commit(target, moved)
        finally:
            self._unpin(segment, None)

    def _copy(self, segment: Segment, group: Sequence[tuple[Extent, int]]) -> tuple[Segment, list[int]]:
        """In a worker thread: raw records to a tail. Damage is copied with them, for the reader to find."""
        raw = [os.pread(segment.fd, extent.num_bytes, offset) for extent, offset in group]
        target = self._take_tail()
        try:
            offsets = []
            offset = target.tail
            for piece in raw:
                offsets.append(offset)
                offset += len(piece)
            segments.write_all(target.fd, target.tail, [memoryview(piece) for piece in raw])
            target.tail = offset
        except BaseException:
            self._cut_back(target)
            raise
        with self._lock:
            target.writing = False
            target.uncommitted += 1
            if target.tail >= self.segment_bytes:
                target.sealed = True
            else:
                self._tails.append(target)
        return target, offsets


def _is_sparse(segment: Segment) -> bool:
    return segment.sealed and 0 < segment.live_bytes < (1 - REWRITE_SHARE) * segment.tail


def storage_error(error: OSError, call: str, path: str) -> DataError:
    """The typed error for what the operating system said."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"{call} {path}: no room on the disk ({error.strerror})")
    return StorageFailed(f"{call} {path}: {error.strerror or error}")


def _read(segment: Segment, offset: int, extent: Extent, then: Callable[[pa.Buffer], T]) -> T:
    """In a worker thread: the value, with one more try on a fresh descriptor before the record is called corrupt."""
    where = f"{segment.path}:{offset}"
    try:
        payload = segments.read_record(segment.fd, offset, extent.key, extent.length, extent.gen, where)
    except (OSError, CorruptEntry):
        try:
            fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CorruptEntry(extent.key, where, f"the file cannot be opened again: {error.strerror}") from error
        try:
            payload = segments.read_record(fd, offset, extent.key, extent.length, extent.gen, where)
        except OSError as error:
            raise CorruptEntry(extent.key, where, f"the disk cannot read it: {error.strerror}") from error
        finally:
            os.close(fd)
    assert payload is not None
    return then(payload)


def _unlink(segment: Segment) -> None:
    segment.closed = True
    os.close(segment.fd)
    with contextlib.suppress(OSError):
        segment.path.unlink()
