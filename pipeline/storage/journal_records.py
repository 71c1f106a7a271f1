"""Records of the journal: bound to their place in it, read back verified, and found again behind a damaged one."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import xxhash

from .codecs import Buffer
from .disk import Disk
from .segments import CHECKSUM, HEAD_BYTES, HEADER, MAGIC, Record

PLACE: Final = struct.Struct("<IIIHI")
"""Segment, offset in it, epoch, bytes of the container's name, bytes of the key: what a payload begins with.

So a record counts only where it was written: not as part of another's payload, nor copied elsewhere.
"""
GROUP: Final = 255
"""Kind of the record that every write begins with: its `gen` is the offset up to which the segment was on disk."""
WINDOW_BYTES: Final = 4 << 20
_MAGIC: Final = MAGIC.to_bytes(4, "little")


class JournalRecord(NamedTuple):
    """What was appended for a container."""

    container: str
    kind: int
    key: bytes
    gen: int
    payload: bytes


class Gap(NamedTuple):
    """Bytes of a segment that are no whole record, with whole ones behind them."""

    segment: int
    offset: int
    num_bytes: int


class Placed(NamedTuple):
    """A record and where it ends."""

    record: JournalRecord
    end: int


@dataclass
class Survey:
    """What one segment holds."""

    end: int = 0
    """Behind the last record that counts."""
    records: int = 0
    gens: dict[str, int] = field(default_factory=dict)
    """Highest generation by container."""
    gaps: list[Gap] = field(default_factory=list)
    """Damage in what had been on disk; their records are lost."""
    cut_bytes: int = 0
    """Behind `end`: what a crash left of a write that had not been synced."""
    cut_records: int = 0
    """Whole records among those bytes."""


def placed(
    segment: int, offset: int, epoch: int, container: bytes, kind: int, key: bytes, gen: int, pieces: Sequence[Buffer]
) -> Record:
    """The record as it is to be written at this place."""
    place = PLACE.pack(segment, offset, epoch, len(container), len(key))
    return Record(kind, 0, b"", gen, [place + container + key, *pieces])


def walk(disk: Disk, fd: int, segment: int, epoch: int, end: int, start: int = 0) -> Iterator[Placed | Gap]:
    """Whole records between two offsets, and the gaps between them; what is behind the last one is not told.

    Reads a few megabytes at a time, or a record where it is larger. Raises OSError.
    """
    window = _Window(disk, fd, end)
    offset = gap = start
    while offset < end:
        found = _read(window, offset, segment, epoch)
        if found is None:
            offset = window.find(_MAGIC, offset + 1)
            continue
        if gap < offset:
            yield Gap(segment, gap, offset - gap)
        yield found
        offset = gap = found.end


def survey(disk: Disk, fd: int, segment: int, epoch: int, size: int) -> Survey:
    """Where a segment ends that was not closed: R-3, R-4.

    Every write says up to where the segment had been on disk by then. A bad record before that place is damage, and
    what follows it counts. A bad record behind every such place is where a crash tore a write: the segment ends.
    """
    found = Survey()
    behind: list[tuple[Gap, Survey]] = []
    synced = 0
    for item in walk(disk, fd, segment, epoch, size):
        if isinstance(item, Gap):
            behind.append((item, found))
            found = Survey(item.offset + item.num_bytes, 0, {}, [], 0, 0)
            continue
        found.end = item.end
        record = item.record
        if record.kind == GROUP:
            synced = max(synced, record.gen)
        else:
            found.records += 1
            if record.gen > found.gens.get(record.container, -1):
                found.gens[record.container] = record.gen
    stretches = [*(stretch for _, stretch in behind), found]
    total = Survey()
    for number, stretch in enumerate(stretches):
        if number:
            gap = behind[number - 1][0]
            if gap.offset >= synced:
                total.cut_records = sum(rest.records for rest in stretches[number:])
                break
            total.gaps.append(gap)
        total.end = stretch.end
        total.records += stretch.records
        for container, gen in stretch.gens.items():
            total.gens[container] = max(gen, total.gens.get(container, -1))
    total.cut_bytes = size - total.end
    return total


def _read(window: _Window, offset: int, segment: int, epoch: int) -> Placed | None:
    """The record at this place, None where there is no whole one that belongs here."""
    head = window.view(offset, HEAD_BYTES + PLACE.size)
    if head is None:
        return None
    magic, kind, _, key_len, length, gen = HEADER.unpack_from(head)
    if magic != MAGIC or key_len or length < PLACE.size:
        return None
    own_segment, own_offset, own_epoch, name_len, own_key_len = PLACE.unpack_from(head, HEAD_BYTES)
    names = PLACE.size + name_len + own_key_len
    if (own_segment, own_offset, own_epoch) != (segment, offset, epoch) or names > length:
        return None
    body = window.view(offset, HEAD_BYTES + length)
    if body is None:
        return None
    payload = body[HEAD_BYTES:]
    digest = xxhash.xxh3_64(body[: HEADER.size])
    digest.update(payload)
    if digest.intdigest() != CHECKSUM.unpack_from(body, HEADER.size)[0]:
        return None
    container = bytes(payload[PLACE.size : PLACE.size + name_len]).decode()
    key = bytes(payload[PLACE.size + name_len : names])
    return Placed(JournalRecord(container, kind, key, gen, bytes(payload[names:])), offset + HEAD_BYTES + length)


class _Window:
    """A part of a file in memory, which moves on as it is read."""

    def __init__(self, disk: Disk, fd: int, end: int) -> None:
        self._disk, self._fd, self._end = disk, fd, end
        self._start = 0
        self._bytes = b""

    def view(self, offset: int, num_bytes: int) -> memoryview | None:
        """These bytes; None where the file ends before."""
        if offset + num_bytes > self._end:
            return None
        if not self._start <= offset or offset + num_bytes > self._start + len(self._bytes):
            self._load(offset, num_bytes)
            if num_bytes > len(self._bytes):
                return None
        return memoryview(self._bytes)[offset - self._start : offset - self._start + num_bytes]

    def find(self, wanted: bytes, offset: int) -> int:
        """Where `wanted` is next from `offset` on, or the end."""
        while offset + len(wanted) <= self._end:
            if self.view(offset, len(wanted)) is None:
                break
            at = self._bytes.find(wanted, offset - self._start)
            if at >= 0:
                return self._start + at
            offset = self._start + len(self._bytes) - len(wanted) + 1
        return self._end

    def _load(self, offset: int, num_bytes: int) -> None:
        self._start = offset
        self._bytes = self._disk.read(self._fd, min(max(num_bytes, WINDOW_BYTES), self._end - offset), offset)
