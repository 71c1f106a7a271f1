"""Writes the journal's segments: one group of records at a time, synced where one of them asks for it. Blocking."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ..errors import DataError, StorageFailed
from .codecs import Buffer
from .entries import Entry, Mark
from .journal_records import GROUP, JournalRecord, Placed, packed, walk
from .manifest import WAL, segment_file
from .room import storage_error
from .root import StorageRoot
from .segments import SEGMENT_BYTES

FORGET_BYTES: Final = 1 << 20
"""So much that is on disk is forgotten at once."""


class Ask:
    """A record that is to be written; without `encode` only the place behind all earlier ones is asked for."""

    __slots__ = ("container", "durable", "encode", "gen", "key", "kind")

    def __init__(
        self,
        container: str = "",
        kind: int = 0,
        key: bytes = b"",
        gen: int = 0,
        encode: Callable[[], Sequence[Buffer]] | None = None,
        durable: bool = True,
    ) -> None:
        self.container, self.kind, self.key, self.gen = container, kind, key, gen
        self.encode, self.durable = encode, durable


class _Segment:
    """The file that is written now."""

    __slots__ = ("fd", "forgotten", "gens", "listed", "number", "path", "records", "synced", "tail")

    def __init__(self, number: int, path: Path, fd: int) -> None:
        self.number, self.path, self.fd = number, path, fd
        self.tail = self.synced = self.forgotten = self.records = 0
        self.listed = False
        """Whether the manifest knows it."""
        self.gens: dict[str, int] = {}


class JournalWriter:
    """Of one root; called by one thread at a time. No file exists before the first record.

    Segments are listed in the manifest before anything in them is acknowledged, and again with their length when the
    next one begins. One that could not be synced ends where it had been synced last: what came after is written again.
    """

    def __init__(self, root: StorageRoot, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.segment_bytes = segment_bytes
        self._root, self._disk, self._folder = root, root.disk, root.path / WAL
        self._segment: _Segment | None = None
        self._ended: list[Entry] = []
        """Segments that have ended and are not yet listed so."""
        self.moved: list[tuple[int, str, int]] = []
        """Segment, container and generation of records that were written again; for the caller to take."""
        self._again: list[JournalRecord] = []
        """Written to a file that could not be synced, and to be written again before anything else."""

    def write(self, asks: Sequence[Ask]) -> list[Mark | Exception]:
        """For each record the place behind it, or why it was not written: `DiskFull`, `StorageFailed`, or encoding.

        In the order given. Records that ask for it are on disk when this returns.
        """
        pieces: list[Sequence[Buffer] | Exception | None] = []
        for ask in asks:
            try:
                pieces.append(None if ask.encode is None else ask.encode())
            except Exception as error:
                pieces.append(error)
        sync = any(ask.durable for ask in asks)
        try:
            try:
                return self._write(asks, pieces, sync)
            except _SyncFailed as failed:
                self._abandon(failed)
            return self._write(asks, pieces, sync)
        except _SyncFailed as failed:
            # Its records stay where they are: they may be on disk, nobody was told so.
            self._again = []
            self._end_segment(failed.segment.tail)
            refused: DataError = StorageFailed(
                f"sync {failed.segment.path}: it failed on two files in a row ({failed})"
            )
        except OSError as failed:
            refused = storage_error(failed, "write", str(self._folder))
        except DataError as failed:
            refused = failed
        return [found if isinstance(found, Exception) else refused for found in pieces]

    def end(self) -> None:
        """Sync, and list the segment with its length; what is written later goes to another. Raises `DataError`."""
        if self._again or (self._segment is not None and self._segment.synced < self._segment.tail):
            [end] = self.write([Ask()])
            if isinstance(end, Exception):
                raise end
        if self._segment is not None:
            self._end_segment(self._segment.tail)
        if self._ended:
            self._root.commit(self._ended)
            self._ended = []

    def close(self) -> None:
        """Close the file as it is, without a sync; recovery finds its end."""
        if self._segment is not None:
            with contextlib.suppress(OSError):
                self._disk.close(self._segment.fd)
            self._segment = None

    def _write(
        self,
        asks: Sequence[Ask],
        pieces: Sequence[Sequence[Buffer] | Exception | None],
        sync: bool,
    ) -> list[Mark | Exception]:
        segment = self._segment
        if segment is not None and segment.tail >= self.segment_bytes:
            self._sync_before_end(segment)
            segment = None
        ends: list[Mark | Exception] = []
        if segment is None:
            if not self._again and all(found is None or isinstance(found, Exception) for found in pieces):
                here = Mark(self._root.manifest.next_segment, 0)
                return [found if isinstance(found, Exception) else here for found in pieces]
            segment = self._begin()
            if not self._again:
                self._list(segment)
        group = _Group(segment, self._root.epoch)
        for record in self._again:
            group.add(*record[:4], [record.payload])
        for ask, found in zip(asks, pieces, strict=True):
            if isinstance(found, Exception):
                ends.append(found)
                continue
            if found is not None:
                group.add(ask.container, ask.kind, ask.key, ask.gen, found)
            ends.append(Mark(segment.number, group.end if group.records else segment.tail))
        start = segment.tail
        if group.records:
            try:
                segment.tail = self._disk.write(segment.fd, group.pieces, start)
            except OSError:
                self._cut_back(segment)
                raise
            segment.gens.update(group.gens)
            segment.records += group.records
            if not segment.listed:
                self._list(segment)
        if (sync or self._again) and segment.synced < segment.tail:
            try:
                self._disk.sync(segment.fd)
            except OSError as error:
                raise _SyncFailed(segment, start, error) from error
            segment.synced = segment.tail
            if segment.synced - segment.forgotten >= FORGET_BYTES:
                self._disk.forget(segment.fd, segment.synced)
                segment.forgotten = segment.synced
        self.moved += [(segment.number, record.container, record.gen) for record in self._again]
        self._again = []
        self._root.check_place()  # bytes of a file that was removed are nowhere
        return ends

    def _begin(self) -> _Segment:
        """A new file, which is not yet listed."""
        number = self._root.manifest.next_segment
        self._disk.make_folder(self._folder)
        path = self._root.path / segment_file(number)
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(path)  # of a try that failed before it was listed
        fd = self._disk.open(path, create=True)
        try:
            self._disk.sync_folder(self._folder)
            self._disk.sync_folder(self._root.path)
        except BaseException:
            with contextlib.suppress(OSError):
                self._disk.close(fd)
            raise
        self._segment = _Segment(number, path, fd)
        return self._segment

    def _list(self, segment: _Segment) -> None:
        """Tell the manifest of the segment, and in the same commit of those that have ended before.

        Usually before anything is in it. Where one that could not be synced ends, what has to be written again is
        written first: a process that is killed in between finds it in the one file or in the other.
        """
        added = Entry(kind="add", file=segment_file(segment.number), gen=self._root.epoch)
        try:
            self._root.commit([*self._ended, added])
        except BaseException:
            self.close()  # the next try makes the file anew
            raise
        self._ended = []
        segment.listed = True

    def _sync_before_end(self, segment: _Segment) -> None:
        """The last sync of a file. Where it fails, what was not to be synced stays as it is: written."""
        with contextlib.suppress(OSError):
            if segment.synced < segment.tail:
                self._disk.sync(segment.fd)
                segment.synced = segment.tail
                self._disk.forget(segment.fd, segment.synced)
        self._end_segment(segment.tail)

    def _end_segment(self, num_bytes: int) -> None:
        """Nothing is written to it any more; the manifest is told with the next commit."""
        segment = self._segment
        assert segment is not None
        self._segment = None
        with contextlib.suppress(OSError):
            self._disk.close(segment.fd)
        self._ended.append(
            Entry(
                kind="add", file=segment_file(segment.number), bytes=num_bytes, rows=segment.records,
                offsets=segment.gens, gen=self._root.epoch,
            )
        )  # fmt: skip

    def _abandon(self, failed: _SyncFailed) -> None:
        """R-2: the file ends where it was synced last. What had been written since is read back, to be written anew."""
        segment = failed.segment
        try:
            found = list(walk(self._disk, segment.fd, segment.number, self._root.epoch, failed.start, segment.synced))
        except OSError:
            found = []
        whole = found[-1] if found else None
        end = whole.end if isinstance(whole, Placed) else segment.synced
        if end < failed.start or any(not isinstance(item, Placed) for item in found):
            # Written without a sync, as was asked for; it is left where it is, and no later mark can vouch for it.
            self._end_segment(failed.start)
            raise StorageFailed(
                f"sync {segment.path}: {failed}; what was written before cannot be read back"
            ) from failed
        self._again = [item.record for item in found if isinstance(item, Placed) and item.record.kind != GROUP]
        self._end_segment(segment.synced)

    def _cut_back(self, segment: _Segment) -> None:
        """A failed write leaves the file ending with its last whole record, or nothing is written to it any more."""
        if not segment.listed:
            self.close()
            return
        try:
            self._disk.truncate(segment.fd, segment.tail)
        except OSError:
            self._end_segment(segment.tail)


class _Group:
    """Records that are written together, behind one that says up to where the segment is on disk."""

    def __init__(self, segment: _Segment, epoch: int) -> None:
        self.records = 0
        self.gens: dict[str, int] = {}
        self._segment, self._epoch = segment, epoch
        self._names: dict[str, bytes] = {}
        self.pieces, num_bytes = packed(segment.number, segment.tail, epoch, b"", GROUP, b"", segment.synced, [])
        self.end = segment.tail + num_bytes

    def add(self, container: str, kind: int, key: bytes, gen: int, payload: Sequence[Buffer]) -> None:
        name = self._names.get(container)
        if name is None:
            name = self._names[container] = container.encode()
        pieces, num_bytes = packed(self._segment.number, self.end, self._epoch, name, kind, key, gen, payload)
        self.pieces += pieces
        self.end += num_bytes
        self.records += 1
        if gen > self.gens.get(container, self._segment.gens.get(container, -1)):
            self.gens[container] = gen


class _SyncFailed(Exception):
    """A sync failed; `start` is where the group begins that was to be synced."""

    def __init__(self, segment: _Segment, start: int, error: OSError) -> None:
        self.segment, self.start = segment, start
        super().__init__(error.strerror or str(error))
