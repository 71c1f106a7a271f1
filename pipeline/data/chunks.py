"""Rows of many members as they are kept together: one chunk in memory, or its parts on disk, and brought in order."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ..storage import codecs, segments
from ..storage.extents import Extent

BLOCK_MEMBERS: Final = 128
"""Members whose rows make one record on disk, and are brought in order together."""
LONG_RUN: Final = 64
"""Rows that follow each other, on average, from which on they are passed on as they lie instead of being gathered."""
Ints = np.ndarray[Any, np.dtype[np.int64]]


class Chunk:
    """Rows of some members, in order of their places: `places[i]` has `offsets[i]` to `offsets[i + 1]`.

    In memory it is one batch, on disk one record for each block of members: `cuts` are where blocks begin in `places`.
    `sizes` are the bytes charged to each member.
    """

    __slots__ = ("columns", "cuts", "extents", "offsets", "places", "schema", "sizes", "writing")

    def __init__(self, places: Ints, offsets: Ints, columns: pa.RecordBatch) -> None:
        self.places, self.offsets = places, offsets
        self.columns: pa.RecordBatch | None = columns
        self.schema = columns.schema
        borders = np.flatnonzero(np.diff(places // BLOCK_MEMBERS)) + 1
        self.cuts: list[int] = [0, *borders.tolist(), len(places)]
        self.sizes: Ints = -(-np.diff(offsets) * columns.nbytes // max(1, columns.num_rows))
        self.extents: list[Extent] = []
        self.writing: asyncio.Future[None] | None = None

    @property
    def num_bytes(self) -> int:
        return int(self.sizes.sum())

    def rows_of(self, place: int) -> tuple[int, int, int] | None:
        """The part in which a member's rows are, and where they begin and end in it."""
        at = int(np.searchsorted(self.places, place))
        if at == len(self.places) or self.places[at] != place:
            return None
        part = bisect_right(self.cuts, at) - 1
        begin = int(self.offsets[self.cuts[part]])
        return part, int(self.offsets[at]) - begin, int(self.offsets[at + 1]) - begin

    def part(self, number: int) -> pa.RecordBatch:
        """The rows of one part, while they are in memory."""
        assert self.columns is not None
        begin, end = int(self.offsets[self.cuts[number]]), int(self.offsets[self.cuts[number + 1]])
        return self.columns.slice(begin, end - begin)


def ranges(begins: Ints, lengths: Ints) -> Ints:
    """The numbers of many ranges, one after another."""
    ends = np.cumsum(lengths)
    within: Ints = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(begins - (ends - lengths), lengths)
    return within


def merged(parts: list[pa.RecordBatch], runs: Ints) -> Iterator[pa.RecordBatch]:
    """Rows in order of rank. A run is a column of `runs`: its rank, the part it is in, where it begins, its length."""
    _, part, begins, lengths = runs = runs[:, np.argsort(runs[0], kind="stable")]
    opens = np.flatnonzero(np.append(True, (np.diff(part) != 0) | (begins[1:] != begins[:-1] + lengths[:-1])))
    joined = np.add.reduceat(lengths, opens)
    if int(joined.sum()) >= LONG_RUN * len(opens):
        for number, begin, length in zip(part[opens].tolist(), begins[opens].tolist(), joined.tolist(), strict=True):
            yield parts[number].slice(begin, length)
        return
    table = pa.Table.from_batches(parts).unify_dictionaries().combine_chunks()
    before = np.append(0, np.cumsum([each.num_rows for each in parts]))
    yield from table.take(pa.array(ranges(before[part[opens]] + begins[opens], joined))).combine_chunks().to_batches()


def encoded(parts: Sequence[pa.RecordBatch], generation: int) -> list[segments.Record]:
    """In a worker thread."""
    kind = codecs.kind_of(parts[0])
    return [segments.Record(kind, 0, b"rows", generation, codecs.encode(part, kind).pieces) for part in parts]
