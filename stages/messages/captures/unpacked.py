"""The bytes of a file, plain or gzip, as far as they can be had: damage ends them and is told."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

PACKED_BYTES = 1 << 16
"""Packed bytes read at a time; up to the damage, they are unpacked byte by byte."""

_GZIP = b"\x1f\x8b"
_OTHERS = {b"\x28\xb5\x2f\xfd": "zstandard (`zstd -d`)", b"PK\x03\x04": "zip (`unzip`)", b"BZh": "bzip2 (`bunzip2`)"}


def packed_as(head: bytes) -> str | None:
    """What packs bytes that begin so and is not read here, with the command that unpacks it; None for others."""
    return next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)


def unpacked(path: Path, size: int, damaged: Callable[[str], None]) -> Iterator[bytes]:
    """Pieces of at most about `size` bytes. `damaged` is told why, where they end before the file does."""
    with path.open("rb") as file:
        if file.read(2) != _GZIP:
            file.seek(0)
            while piece := file.read(size):
                yield piece
            return
        file.seek(0)
        yield from _gunzipped(file, size, damaged)


def _gunzipped(file: BinaryIO, size: int, damaged: Callable[[str], None]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(31)
    done = 0
    while packed := file.read(PACKED_BYTES):
        while packed:
            if unpacker.eof:
                packed = packed.lstrip(b"\0")
                if not packed:
                    break
                unpacker = zlib.decompressobj(31)  # files joined end to end are one
            before = unpacker.copy()
            try:
                piece = unpacker.decompress(packed, size)
            except zlib.error as error:
                last = _up_to_damage(before, packed, size)
                if last:
                    yield last
                damaged(f"damaged after {done + len(last):,} bytes of text ({error})")
                return
            packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            done += len(piece)
            if piece:
                yield piece
    if not unpacker.eof:
        if rest := unpacker.flush():
            done += len(rest)
            yield rest
        damaged(f"cut short after {done:,} bytes of text")


def _up_to_damage(before: zlib._Decompress, packed: bytes, size: int) -> bytes:
    """What can be unpacked of `packed`: a call that fails gives nothing, even of what came before the damage."""
    good, bad = 0, len(packed)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            before.copy().decompress(packed[:middle], size)
            good = middle
        except zlib.error:
            bad = middle
    return before.copy().decompress(packed[:good], size)
