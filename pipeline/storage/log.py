"""A log of segments: which records live where, which bytes are dead, and when a file may go."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa

from ..errors import CorruptEntry, DataError, DiskFull
from . import segments
from .executor import IoExecutor
from .extents import Extent, Held, Segment, read_verified
from .holes import Holes
from .room import check_free, storage_error
from .segments import Record

__all__ = ["Extent", "Segment", "SegmentLog", "storage_error"]

T = TypeVar("T")

REWRITE_SHARE: Final = 0.6
"""Share of dead bytes above which a full segment's live records are copied elsewhere."""
SPARE_SEGMENTS: Final = 2
"""Beside as many dead bytes as live ones, so many segments of them are left in peace."""
HOP_BYTES: Final = 1 << 20
"""Bytes moved per job, so that nobody waits long for a thread."""
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)


class SegmentLog:
    """Segments in a folder, written and read by the I/O executor.

    All methods belong to one loop; nothing exists on disk before the first `append`. Records are found again by
    the `Extent` that `append` gave out. A record never changes while it lives; what replaces it is another record, at
    the end of a segment or where a dead one lay that nobody reads.
    """

    def __init__(self, folder: Path, io: IoExecutor, *, segment_bytes: int = segments.SEGMENT_BYTES) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.min_free: int | None = None
        """Bytes that stay free on the disk; None: as many as `free_reserve` says."""
        self.corrupt = 0
        """Records that did not pass verification."""
        self.quarantined_bytes = 0
        """Of records that did not pass; their places are left alone until their segment goes."""
        self.rewritten_bytes = 0
        self.reused = 0
        """Records written where dead ones lay."""
        self._holes = Holes()
        self._scratch = bytearray()
        self._unlooked = 0
        self._io = io
        self._numbers = itertools.count()
        self._segments: set[Segment] = set()
        self._tails: list[Segment] = []
        self._lock = threading.Lock()
        """Guards `_tails`, `_holes`, `writing` and `uncommitted`, which threads touch."""
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
    def has_places(self) -> bool:
        with self._lock:
            return self._holes.any

    @property
    def num_segments(self) -> int:
        return len(self._segments)

    def append(self, owner: Hashable, encode: Callable[[], Sequence[Record]]) -> asyncio.Future[list[Extent]]:
        """Write the records that `encode` makes in the worker thread; all of them or none.

        The future gives one extent per record, or raises `DiskFull`, `StorageFailed`, or what `encode` raised. If
        nobody awaits it the extents are live all the same.
        """
        job = self._io.submit(owner, self._write, encode)
        done: asyncio.Future[list[Extent]] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda future: future.cancelled() or future.exception())

        def commit(job: asyncio.Future[list[Extent]]) -> None:
            error = job.exception()
            if error is not None:
                done.set_exception(error)
                return
            for segment, extents in groupby(job.result(), key=lambda extent: extent.segment):
                self._commit(segment, list(extents))
            done.set_result(job.result())

        job.add_done_callback(commit)
        return done

    def read(self, owner: Hashable, extent: Extent, then: Callable[[pa.Buffer], T]) -> asyncio.Future[T]:
        """`then(payload)`, made in the worker thread of the verified payload.

        Raises `CorruptEntry` after one more try on a fresh descriptor.
        """
        segment = self._pin(extent)

        def unpin(job: asyncio.Future[T]) -> None:
            if isinstance(job.exception(), CorruptEntry):
                self.corrupt += 1
                if not extent.damaged:
                    extent.damaged = True
                    self.quarantined_bytes += extent.num_bytes
            self._let_go(extent, segment)

        job = self._io.submit(owner, read_verified, segment, extent.offset, extent, then)
        job.add_done_callback(unpin)
        return job

    def hold(self, extent: Extent) -> Held:
        """Keep a live record readable though it is freed or moved, until it is let go."""
        segment = self._pin(extent)
        return Held(
            partial(read_verified, segment, extent.offset, extent, _whole), partial(self._let_go, extent, segment)
        )

    def _pin(self, extent: Extent) -> Segment:
        extent.segment.pins += 1
        extent.readers += 1
        return extent.segment

    def _let_go(self, extent: Extent, segment: Segment) -> None:
        """It is read no more where it lay in this segment."""
        extent.readers -= 1
        self._unpin(segment)
        if extent not in extent.segment.live and extent.segment in self._segments:
            self._offer(extent)

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

    def glance(self, extent: Extent) -> memoryview | None:
        """Like `read_nowait`, for who copies the payload at once: it is overwritten by the next glance."""
        segment = extent.segment
        if not _NOWAIT or segment.closed:
            return None
        if len(self._scratch) < extent.num_bytes:
            self._scratch = bytearray(extent.num_bytes)
        view = memoryview(self._scratch)[: extent.num_bytes]
        try:
            return segments.read_into(view, segment.fd, extent.offset, extent.key, extent.gen, _NOWAIT)
        except OSError:
            return None

    def free(self, extent: Extent) -> None:
        """The record is dead. Its place is given to others, files without live records are removed, mostly dead ones
        rewritten."""
        segment = extent.segment
        if extent in segment.live:
            segment.live.remove(extent)
            segment.live_bytes -= extent.num_bytes
            self._offer(extent)
            self._look_after(segment, extent.space)

    def check_free(self, owner: Hashable, num_bytes: int) -> asyncio.Future[None]:
        """Raises `DiskFull` where so many bytes would not leave `min_free` on the disk; nothing is written."""
        return self._io.submit(owner, check_free, self.folder, num_bytes, self.min_free)

    def _offer(self, extent: Extent) -> None:
        """The place of a dead record nobody reads is for others."""
        if not (extent.readers or extent.damaged or extent.segment.draining):
            with self._lock:
                self._holes.add(extent.space, extent.segment, extent.offset)

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

    def _write(self, encode: Callable[[], Sequence[Record]]) -> list[Extent]:
        """In a worker thread: records into places and a segment that belong to this thread alone meanwhile."""
        records = encode()
        extents: dict[int, Extent] = {}
        sizes = [record.num_bytes for record in records]
        try:
            self._fill_holes(records, extents, self._holes.take)
            try:
                self._check_tail(sizes, extents)
            except DiskFull:  # what takes no new room may still be written
                self._fill_holes(records, extents, self._holes.take_larger)
                self._check_tail(sizes, extents)
            for at, extent in extents.items():
                segments.write_records(extent.segment.fd, extent.offset, [records[at]])
            rest = [at for at in range(len(records)) if at not in extents]
            if rest:
                extents.update(zip(rest, self._write_tail([records[at] for at in rest]), strict=True))
        except BaseException as error:
            with self._lock:
                for extent in extents.values():
                    extent.segment.uncommitted -= 1
                    if not extent.segment.draining:
                        self._holes.add(extent.space, extent.segment, extent.offset)
            if isinstance(error, OSError):
                raise storage_error(error, "write", str(self.folder)) from error
            raise
        with self._lock:
            self.reused += len(records) - len(rest)
        return [extents[at] for at in range(len(records))]

    def _fill_holes(
        self,
        records: Sequence[Record],
        extents: dict[int, Extent],
        take: Callable[[int], tuple[int, Segment, int] | None],
    ) -> None:
        """Give records that have no place yet one where a dead record lay, as far as there are such."""
        for at, record in enumerate(records):
            if at in extents:
                continue
            with self._lock:
                hole = take(record.num_bytes)
                if hole is None:
                    continue
                space, segment, offset = hole
                segment.uncommitted += 1
            length = record.num_bytes - segments.record_bytes(len(record.key), 0)
            extents[at] = Extent(segment, offset, record.key, length, record.gen, space)

    def _check_tail(self, sizes: Sequence[int], extents: Mapping[int, Extent]) -> None:
        """Raises `DiskFull` where what needs new room would leave too little."""
        needed = sum(size for at, size in enumerate(sizes) if at not in extents)
        if needed:
            check_free(self.folder, needed, self.min_free)

    def _write_tail(self, records: Sequence[Record]) -> list[Extent]:
        segment = self._take_tail()
        try:
            offset = segment.tail
            extents = []
            for record, length in zip(records, segments.write_records(segment.fd, offset, records), strict=True):
                extents.append(Extent(segment, offset, record.key, length, record.gen))
                offset += extents[-1].num_bytes
            segment.tail = offset
        except BaseException:
            self._cut_back(segment)
            raise
        self._return_tail(segment, len(extents))
        return extents

    def _return_tail(self, segment: Segment, uncommitted: int) -> None:
        with self._lock:
            segment.writing = False
            segment.uncommitted += uncommitted
            if segment.tail >= self.segment_bytes:
                segment.sealed = True
            else:
                self._tails.append(segment)

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
            segment.uncommitted -= len(extents)
        segment.live.update(extents)
        segment.live_bytes += sum(extent.num_bytes for extent in extents)
        if not segment.live:  # all of them died on the way
            self._look_after(segment)

    def _unpin(self, segment: Segment) -> None:
        segment.pins -= 1
        if not segment.live:
            self._look_after(segment)

    def _look_after(self, segment: Segment, freed: int = 0) -> None:
        self._unlooked += freed
        if self._closed:
            return
        if not segment.live:
            if segment.pins == 0 and self._retire(segment):
                self._segments.discard(segment)
                self._io.submit(self, _unlink, segment)
            return
        wanted = _is_sparse(segment)
        if self._unlooked > min(HOP_BYTES, self.segment_bytes // 4):  # adding up all segments is not for every record
            self._unlooked = 0
            wanted = wanted or self._sparsest() is not None
        if wanted and (self._rewrite is None or self._rewrite.done()):
            self._rewrite = asyncio.get_running_loop().create_task(self._rewrite_sparse())

    def _sparsest(self) -> Segment | None:
        """What is to be rewritten next: a mostly dead segment, or any while more is dead than lives."""
        full = [segment for segment in self._segments if segment.sealed and 0 < segment.live_bytes < segment.tail]
        dead = self.disk_bytes - self.live_bytes > self.live_bytes + SPARE_SEGMENTS * self.segment_bytes
        full = full if dead else [segment for segment in full if _is_sparse(segment)]
        return min(full, key=lambda segment: segment.live_bytes / segment.tail, default=None)

    def _retire(self, segment: Segment) -> bool:
        """Take the segment out of writers' reach; False while one has it."""
        with self._lock:
            if segment.writing or segment.uncommitted or segment.closed:
                return False
            if segment in self._tails:
                self._tails.remove(segment)
            self._holes.drop(segment)
            return True

    async def _rewrite_sparse(self) -> None:
        """Copy the live records of mostly dead segments, about a megabyte per hop, until none is left."""
        while not self._closed:
            segment = self._sparsest()
            if segment is None:
                return
            try:
                await self._empty(segment)
            except (DataError, OSError):
                return  # no room to copy to: the records stay where they are, the next `free` tries again

    async def _empty(self, segment: Segment) -> None:
        segment.pins += 1
        with self._lock:
            segment.draining = True
            self._holes.drop(segment)
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
                        extent.segment, extent.offset, extent.space = target, offset, extent.num_bytes
                        moved.append(extent)
                self.rewritten_bytes += size
                with self._lock:
                    target.uncommitted -= len(group) - len(moved)
                self._commit(target, moved)
        finally:
            segment.draining = False
            self._unpin(segment)

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
        self._return_tail(target, len(group))
        return target, offsets


def _is_sparse(segment: Segment) -> bool:
    return segment.sealed and 0 < segment.live_bytes < (1 - REWRITE_SHARE) * segment.tail


def _whole(payload: pa.Buffer) -> pa.Buffer:
    return payload


def _unlink(segment: Segment) -> None:
    segment.closed = True
    os.close(segment.fd)
    with contextlib.suppress(OSError):
        segment.path.unlink()
