"""A series: rows appended under one key, kept in pieces so that nothing is rewritten as it grows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from ..storage.codecs import has_dictionaries
from .base import Key
from .values import batches_size, check_series, series_table

PIECE_BYTES: Final = 256 << 10
"""A piece of this size takes no more rows; what follows starts another."""
MERGE_AT: Final = 64
"""Batches in a piece that are copied into one: a thousand single rows weigh far more than one batch of a thousand."""


def piece_bytes(limit: int) -> int:
    """Size of pieces in a budget of `limit` bytes, small enough for several to fit."""
    return min(PIECE_BYTES, max(1, limit // 16))


class Piece:
    """Some batches of a series, in order; the last piece of a series still grows."""

    __slots__ = ("batches", "size")

    def __init__(self, batches: list[pa.RecordBatch], size: int) -> None:
        self.batches, self.size = batches, size

    def add(self, batches: Iterable[pa.RecordBatch], size: int) -> int:
        """Append batches of `size` bytes and return the bytes that merging small ones has freed."""
        self.batches.extend(batches)
        self.size += size
        if len(self.batches) < MERGE_AT or has_dictionaries(self.batches[0].schema):
            return 0
        # A new list, because a reader or a writer thread may hold the old one.
        self.batches = [pa.concat_batches(self.batches)]
        merged = min(self.size, batches_size(self.batches))
        freed, self.size = self.size - merged, merged
        return freed


class Series:
    """A series in memory."""

    __slots__ = ("_piece_bytes", "key", "name", "pieces", "schema", "size")

    def __init__(self, name: str, key: Key, piece_bytes: int = PIECE_BYTES) -> None:
        self.name, self.key = name, key
        self.schema: pa.Schema | None = None
        self.pieces: deque[Piece] = deque()
        self.size = 0
        """Bytes charged for all pieces."""
        self._piece_bytes = piece_bytes

    def check(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Raises `SchemaMismatch` if the batches do not belong here."""
        if batches:
            check_series(self.name, self.key, self.schema, batches[0].schema)

    def extend(self, batches: Sequence[pa.RecordBatch], size: int) -> tuple[Piece | None, int]:
        """Append batches of `size` bytes; the piece begun for them, if one was, and bytes freed by merging."""
        if not batches:
            return None, 0
        if self.schema is None:
            self.schema = batches[0].schema
        begun = None
        if not self.pieces or self.pieces[-1].size >= self._piece_bytes:
            begun = Piece([], 0)
            self.pieces.append(begun)
        freed = self.pieces[-1].add(batches, size)
        self.size += size - freed
        return begun, freed

    def drop(self, piece: Piece) -> int:
        """Forget a piece and return its bytes."""
        self.pieces.remove(piece)
        self.size -= piece.size
        return piece.size

    def table(self) -> pa.Table:
        return series_table(self.schema, [batch for piece in self.pieces for batch in piece.batches])
