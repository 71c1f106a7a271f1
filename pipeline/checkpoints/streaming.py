"""A file of records written and read piece by piece: what is on a disk goes to a disk without ever being in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import xxhash

from ..errors import CorruptEntry
from ..storage.disk import Disk
from ..storage.segments import CHECKSUM, HEAD_BYTES, HEADER, MAGIC, Record, pack_records, record_bytes

PIECE_BYTES: Final = 1 << 20


class Lying(NamedTuple):
    """Where a record lies."""

    kind: int
    key: bytes
    offset: int
    num_bytes: int
    """Head and key included."""


def write_whole(disk: Disk, path: Path, groups: Iterable[Sequence[Record]]) -> tuple[int, str]:
    """Write the file, with one group of records in memory at a time; its bytes and its xxh3, once it is on disk.

    Raises OSError and whatever making a group raises; nothing is left then.
    """
    disk.make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.tmp")
    with suppress(FileNotFoundError):
        disk.unlink(temporary)
    digest = xxhash.xxh3_64()
    end = 0
    fd = disk.open(temporary, create=True)
    try:
        try:
            for group in groups:
                pieces, _ = pack_records(group)
                for piece in pieces:
                    digest.update(piece)
                end = disk.write(fd, pieces, end)
            disk.sync(fd)
            disk.forget(fd, end)
        finally:
            disk.close(fd)
        disk.rename(temporary, path)
    except Exception:
        with suppress(OSError):  # a disk without room needs this one
            disk.unlink(temporary)
        raise
    disk.sync_folder(path.parent)
    return end, digest.hexdigest()


def digest_of(disk: Disk, fd: int) -> str:
    """The file's xxh3."""
    digest = xxhash.xxh3_64()
    at = 0
    while piece := disk.read(fd, PIECE_BYTES, at):
        digest.update(piece)
        at += len(piece)
    return digest.hexdigest()


def lying(disk: Disk, fd: int, path: Path) -> Iterator[Lying]:
    """Every record, unverified. Raises `CorruptEntry` where there is none."""
    offset, size = 0, disk.size(fd)
    while offset < size:
        head = disk.read(fd, HEAD_BYTES, offset)
        if len(head) < HEAD_BYTES:
            raise CorruptEntry(b"", str(path), f"a record is cut off at byte {offset}")
        magic, kind, _, key_len, length, _ = HEADER.unpack_from(head)
        num_bytes = record_bytes(key_len, length)
        if magic != MAGIC or offset + num_bytes > size:
            raise CorruptEntry(b"", str(path), f"there is no record at byte {offset}")
        yield Lying(kind, disk.read(fd, key_len, offset + HEAD_BYTES), offset, num_bytes)
        offset += num_bytes


def payload_of(disk: Disk, fd: int, path: Path, record: Lying) -> Any:
    """Its payload. Raises `CorruptEntry` where it is not as it was written."""
    raw = disk.read(fd, record.num_bytes, record.offset)
    digest = xxhash.xxh3_64(raw[: HEADER.size])
    digest.update(memoryview(raw)[HEAD_BYTES:])
    if len(raw) < record.num_bytes or digest.intdigest() != CHECKSUM.unpack_from(raw, HEADER.size)[0]:
        raise CorruptEntry(record.key, str(path), f"checksum mismatch at byte {record.offset}")
    return pa.py_buffer(raw).slice(HEAD_BYTES + len(record.key))
