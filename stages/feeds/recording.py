"""What every reader of recordings gives back, cut to equal batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline import Batch, first_rows

from .counts import Counts


@dataclass(frozen=True)
class Recording:
    """A recording that was found: its schema, its files, and a reader that makes batches of any size."""

    schema: pa.Schema
    files: tuple[Path, ...]
    """Everything that decides what comes out, in reading order."""
    read: Callable[[Counts], Iterator[pa.RecordBatch]]
    unused: tuple[str, ...] = ()
    """Columns of the files that no standard column is made of."""
    notes: tuple[str, ...] = ()
    """What a person should know of how it is read."""
    narrowed: Callable[[frozenset[str]], Recording] | None = None
    """The same with these columns alone, for what is much faster read so; None: it makes no difference."""


def cut(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows`, only the last may be shorter; empty batches vanish.

    A small piece of a big batch is copied, so that whoever keeps it does not keep the big one alive.
    """
    held: list[pa.RecordBatch] = []
    have = last_rows = 0
    for batch in batches:
        taken, last_rows = 0, batch.num_rows
        while batch.num_rows - taken >= rows - have:
            piece = batch.slice(taken, rows - have)
            taken += piece.num_rows
            yield _joined([*held, piece], batch.num_rows)
            held, have = [], 0
        if taken < batch.num_rows:
            held.append(batch.slice(taken))
            have += batch.num_rows - taken
    if held:
        yield _joined(held, last_rows)


def span_of(batches: Iterator[pa.RecordBatch], rows: int | None = None) -> tuple[int, int] | None:
    """Smallest and largest event time (ns) of the first `rows` rows; None without any."""
    first: int | None = None
    last: int | None = None
    for columns in batches:
        batch = Batch(columns if rows is None else columns.slice(0, rows))
        if batch.min_ts is not None and batch.max_ts is not None:
            first = batch.min_ts if first is None else min(first, batch.min_ts)
            last = batch.max_ts if last is None else max(last, batch.max_ts)
        if rows is not None:
            rows -= batch.num_rows
            if not rows:
                break
    return None if first is None or last is None else (first, last)


def span_of_several(items: Iterable[Batch | tuple[Batch, ...]], rows: int | None = None) -> tuple[int, int] | None:
    """Smallest and largest event time (ns) of the first `rows` rows of what a feed gives; None without any."""
    stamps: list[int] = []
    for item in items:
        batches = item if isinstance(item, tuple) else (item,)
        told = batches if rows is None else first_rows(batches, rows)
        stamps += [ts for batch in told for ts in (batch.min_ts, batch.max_ts) if ts is not None]
        stamps = [min(stamps), max(stamps)] if stamps else []
        if rows is not None:
            rows -= sum(batch.num_rows for batch in told)
            if not rows:
                break
    return (stamps[0], stamps[-1]) if stamps else None


def _joined(pieces: list[pa.RecordBatch], parent_rows: int) -> pa.RecordBatch:
    if len(pieces) > 1:
        return pa.concat_batches(pieces)
    piece = pieces[0]
    if piece.num_rows * 2 >= parent_rows:
        return piece
    return pa.RecordBatch.from_arrays([pa.concat_arrays([column]) for column in piece.columns], schema=piece.schema)
