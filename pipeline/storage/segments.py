"""Append-only files of checksummed records: what is written to disk and how it is read back, without any state."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import pyarrow as pa
import xxhash

from ..errors import CorruptEntry
from .codecs import Buffer

MAGIC: Final = 0x5053544B
"""`PSTK`, little endian like everything here."""
HEADER: Final = struct.Struct("<IBBHQQ")
"""Magic, kind, flags, key length, payload length, generation."""
CHECKSUM: Final = struct.Struct("<Q")
"""xxh3-64 over header, key and payload."""
HEAD_BYTES: Final = HEADER.size + CHECKSUM.size
SEGMENT_BYTES: Final = 64 << 20
_MAX_PIECES: Final = 1000
"""Buffers per system call; the kernel takes 1024."""


class Record(NamedTuple):
    """What is to be written: `kind` and `flags` belong to the writer, `gen` tells rewrites of a key apart."""

    kind: int
    flags: int
    key: bytes
    gen: int
    pieces: Sequence[Buffer]

    @property
    def num_bytes(self) -> int:
        """Bytes it takes in its file."""
        return record_bytes(len(self.key), sum(memoryview(piece).nbytes for piece in self.pieces))


class Found(NamedTuple):
    """A record met by `scan`, and where it lies."""

    offset: int
    kind: int
    flags: int
    key: bytes
    gen: int
    length: int


def record_bytes(key_len: int, length: int) -> int:
    """Bytes a record takes in its file."""
    return HEAD_BYTES + key_len + length


def write_records(fd: int, offset: int, records: Sequence[Record]) -> list[int]:
    """Write the records one behind the other from `offset` on and return the payload length of each.

    Uses as few system calls as possible and carries on after short writes. Raises OSError; what was written by
    then is for the caller to truncate.
    """
    pieces, lengths = pack_records(records)
    write_all(fd, offset, pieces)
    return lengths


def pack_records(records: Sequence[Record]) -> tuple[list[memoryview], list[int]]:
    """What is to be written for the records, one behind the other, and the payload length of each."""
    lengths: list[int] = []
    pending: list[memoryview] = []
    for record in records:
        views = [memoryview(piece).cast("B") for piece in record.pieces if len(piece)]
        length = sum(len(view) for view in views)
        header = HEADER.pack(MAGIC, record.kind, record.flags, len(record.key), length, record.gen)
        digest = xxhash.xxh3_64(header)
        digest.update(record.key)
        for view in views:
            digest.update(view)
        pending.append(memoryview(header + CHECKSUM.pack(digest.intdigest()) + record.key))
        pending.extend(views)
        lengths.append(length)
    return pending, lengths


def write_all(fd: int, offset: int, pieces: Sequence[memoryview]) -> int:
    """Write all pieces at `offset`, however often the kernel stops short; the offset behind them."""
    start = 0
    skip = 0
    while start < len(pieces):
        group = list(pieces[start : start + _MAX_PIECES])
        if skip:
            group[0] = group[0][skip:]
        written = os.pwritev(fd, group, offset)
        offset += written
        written += skip
        while start < len(pieces) and written >= len(pieces[start]):
            written -= len(pieces[start])
            start += 1
        skip = written
    return offset


def read_record(
    fd: int, offset: int, key: bytes, length: int, gen: int, where: str, flags: int = 0
) -> pa.Buffer | None:
    """The payload of the record at `offset`, verified; `flags` go to `preadv`.

    None if the kernel would have had to wait for the disk (`RWF_NOWAIT`) or gave less than asked with flags.
    Raises `CorruptEntry` when length, key, generation or checksum are not what was written, and OSError.
    """
    head = bytearray(HEAD_BYTES + len(key))
    payload = pa.allocate_buffer(length)
    wanted = len(head) + length
    try:
        found = os.preadv(fd, [head, payload] if length else [head], offset, flags)
    except BlockingIOError:
        return None
    if found < wanted:
        if flags:
            return None
        found = _read_on(fd, offset, head, payload, found)
        if found < wanted:
            raise CorruptEntry(key, where, f"the file ends after {found} of {wanted} bytes")
    why = _fault(head, payload, key, length, gen)
    if why:
        raise CorruptEntry(key, where, why)
    return payload


def read_into(view: memoryview, fd: int, offset: int, key: bytes, gen: int, flags: int) -> memoryview | None:
    """The payload of the record that fills `view`, verified, within `view`; None where it is not all there at once.

    One buffer that is used again and again stays in the processor's cache: half the cost of reading into a new one.
    """
    try:
        found = os.preadv(fd, [view], offset, flags)
    except BlockingIOError:
        return None
    start = HEAD_BYTES + len(key)
    if found < len(view) or _fault(view[:start], view[start:], key, len(view) - start, gen):
        return None
    return view[start:]


def _read_on(fd: int, offset: int, head: bytearray, payload: pa.Buffer, found: int) -> int:
    """Carry on after a short read, which a signal or a read above 2 GiB causes; bytes found in all."""
    views = [memoryview(head), memoryview(payload).cast("B")]
    while True:
        skip = found
        rest = []
        for view in views:
            if skip < len(view):
                rest.append(view[skip:])
            skip = max(0, skip - len(view))
        more = os.preadv(fd, rest, offset + found) if rest else 0
        if more == 0:
            return found
        found += more


def _fault(head: bytearray | memoryview, payload: Buffer, key: bytes, length: int, gen: int) -> str:
    """What is wrong with a record, or nothing."""
    magic, _, _, key_len, found_length, found_gen = HEADER.unpack_from(head)
    if magic != MAGIC:
        return "there is no record here"
    if (key_len, found_length, found_gen) != (len(key), length, gen) or bytes(head[HEAD_BYTES:]) != key:
        return "another record lies here"
    digest = xxhash.xxh3_64(head[: HEADER.size])
    digest.update(key)
    digest.update(payload)
    if digest.intdigest() != CHECKSUM.unpack_from(head, HEADER.size)[0]:
        return "checksum mismatch"
    return ""


def scan(fd: int, offset: int = 0) -> Iterator[Found]:
    """Records from `offset` up to the first bad one; the tail behind the last good one is what a crash left."""
    size = os.fstat(fd).st_size
    while offset + HEAD_BYTES <= size:
        head = os.pread(fd, HEAD_BYTES, offset)
        magic, kind, flags, key_len, length, gen = HEADER.unpack_from(head)
        if magic != MAGIC or offset + record_bytes(key_len, length) > size:
            return
        key = os.pread(fd, key_len, offset + HEAD_BYTES)
        try:
            read_record(fd, offset, key, length, gen, "")
        except CorruptEntry:
            return
        yield Found(offset, kind, flags, key, gen, length)
        offset += record_bytes(key_len, length)
