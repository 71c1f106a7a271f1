"""Records of the journal: bound to their place in it, read back verified, and found again behind a damaged one."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import xxhash

from .codecs import Buffer
from .disk import Disk
from .segments import CHECKSUM, HEAD_BYTES, HEADER, MAGIC

PLACE: Final = struct.Struct("<IIIHI")
"""Segment, offset in it, epoch, bytes of the container's name, bytes of the key: what a payload begins with.

So a record counts only where it was written: not as part of another's payload, nor copied elsewhere.
"""
GROUP: Final = 255
"""Kind of the record that every write begins with: its `gen` is the offset up to which the segment was on disk."""
WINDOW_BYTES: Final = 4 << 20
_MAGIC: Final = MAGIC.to_bytes(4, "little")
_FIXED: Final = struct.Struct(HEADER.format + CHECKSUM.format[1:] + PLACE.format[1:])
"""Everything of a record that has a fixed length."""
_SMALL: Final = 4096
"""Payload bytes up to which a copy costs less than a checksum in two parts."""


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


def packed(
    segment: int, offset: int, epoch: int, container: bytes, kind: int, key: bytes, gen: int, payload: Sequence[Buffer]
) -> tuple[list[bytes | memoryview], int]:
    """A record as it is to be written at this place, and its length."""
    views = [memoryview(piece).cast("B") for piece in payload if len(piece)]
    begin = PLACE.pack(segment, offset, epoch, len(container), len(key)) + container + key
    length = len(begin) + sum(map(len, views))
    header = HEADER.pack(MAGIC, kind, 0, 0, length, gen)
    if length <= _SMALL:
        body = b"".join((begin, *views))
        check = CHECKSUM.pack(xxhash.xxh3_64_intdigest(header + body))
        return [header + check + body], HEAD_BYTES + length
    digest = xxhash.xxh3_64(header)
    digest.update(begin)
    for view in views:
        digest.update(view)
    return [header + CHECKSUM.pack(digest.intdigest()) + begin, *views], HEAD_BYTES + length


def walk(disk: Disk, fd: int, segment: int, epoch: int, end: int, start: int = 0) -> Iterator[Placed | Gap]:
    """Whole records between two offsets, and the gaps between them; what is behind the last one is not told.

    Reads a few megabytes at a time, or a record where it is larger. Raises OSError.
    """
    window = _Window(disk, fd, end)
    names: dict[bytes, str] = {}
    for item in _found(window, segment, epoch, end, start):
        if isinstance(item, Gap):
            yield item
            continue
        stop, kind, gen, at, name_len, key_len = item
        raw = window.raw
        key_at = at + name_len
        container = raw[at:key_at]
        name = names.get(container)
        if name is None:
            name = names[container] = container.decode()
        payload_at = key_at + key_len
        record = JournalRecord(name, kind, raw[key_at:payload_at], gen, raw[payload_at : stop - window.start])
        yield Placed(record, stop)


def survey(disk: Disk, fd: int, segment: int, epoch: int, size: int) -> Survey:
    """Where a segment ends that was not closed: R-3, R-4.

    Every write says up to where the segment had been on disk by then. A bad record before that place is damage, and
    what follows it counts. A bad record behind every such place is where a crash tore a write: the segment ends.
    """
    found = Survey()
    behind: list[tuple[Gap, Survey]] = []
    synced = 0
    window = _Window(disk, fd, size)
    gens: dict[bytes, int] = {}
    for item in _found(window, segment, epoch, size, 0):
        if isinstance(item, Gap):
            found.gens = {name.decode(): gen for name, gen in gens.items()}
            gens.clear()
            behind.append((item, found))
            found = Survey(item.offset + item.num_bytes)
            continue
        found.end, kind, gen, at, name_len, _ = item
        if kind == GROUP:
            synced = max(synced, gen)
        else:
            found.records += 1
            name = window.raw[at : at + name_len]
            if gen > gens.get(name, -1):
                gens[name] = gen
    found.gens = {name.decode(): gen for name, gen in gens.items()}
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


_Located = tuple[int, int, int, int, int, int]
"""End in the file, kind, generation, place of the container's name in the window, bytes of it, bytes of the key."""


def _found(window: _Window, segment: int, epoch: int, end: int, start: int) -> Iterator[_Located | Gap]:
    """Whole records and the gaps between them; the window holds each while it is looked at."""
    offset = gap = start
    while offset < end:
        found = window.locate(offset, segment, epoch)
        if found is None:
            offset = window.find(_MAGIC, offset + 1)
            continue
        if gap < offset:
            yield Gap(segment, gap, offset - gap)
        yield found
        offset = gap = found[0]


class _Window:
    """A part of a file in memory, which moves on as it is read."""

    def __init__(self, disk: Disk, fd: int, end: int) -> None:
        self.start = 0
        self.raw = b""
        self._disk, self._fd, self._end = disk, fd, end

    def locate(self, offset: int, segment: int, epoch: int) -> _Located | None:
        """The record at this place, None where there is no whole one that belongs here."""
        at = offset - self.start
        if at < 0 or at + _FIXED.size > len(self.raw):
            if not self._load(offset, _FIXED.size):
                return None
            at = 0
        fields = _FIXED.unpack_from(self.raw, at)
        magic, kind, _, flat_key, length, gen, check, own_segment, own_offset, own_epoch, name_len, key_len = fields
        if (
            magic != MAGIC
            or own_offset != offset
            or own_segment != segment
            or own_epoch != epoch
            or flat_key
            or length < PLACE.size + name_len + key_len
        ):
            return None
        stop = at + HEAD_BYTES + length
        if stop > len(self.raw):
            if not self._load(offset, HEAD_BYTES + length):
                return None
            at, stop = 0, HEAD_BYTES + length
        raw = self.raw
        if length <= _SMALL:
            digest = xxhash.xxh3_64_intdigest(raw[at : at + HEADER.size] + raw[at + HEAD_BYTES : stop])
        else:
            parts = xxhash.xxh3_64(raw[at : at + HEADER.size])
            parts.update(memoryview(raw)[at + HEAD_BYTES : stop])
            digest = parts.intdigest()
        if digest != check:
            return None
        return self.start + stop, kind, gen, at + _FIXED.size, name_len, key_len

    def find(self, wanted: bytes, offset: int) -> int:
        """Where `wanted` is next from `offset` on, or the end."""
        while offset + len(wanted) <= self._end:
            at = offset - self.start
            if (at < 0 or at + len(wanted) > len(self.raw)) and not self._load(offset, len(wanted)):
                break
            found = self.raw.find(wanted, offset - self.start)
            if found >= 0:
                return self.start + found
            offset = self.start + len(self.raw) - len(wanted) + 1
        return self._end

    def _load(self, offset: int, num_bytes: int) -> bool:
        """Bytes from here on, so many at least; False where the file ends before."""
        if offset + num_bytes > self._end:
            return False
        self.start = offset
        self.raw = self._disk.read(self._fd, min(max(num_bytes, WINDOW_BYTES), self._end - offset), offset)
        return len(self.raw) >= num_bytes
