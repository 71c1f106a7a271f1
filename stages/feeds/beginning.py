"""Begins a replay at a moment: nothing before it comes out, but every book as it stood then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline import Batch, receive_times
from stages.schemas import Names, Scales

if TYPE_CHECKING:
    from stages.books.keeper import BookKeeper

Window = tuple[pa.RecordBatch, ...]
"""Batches of several kinds of record that cover the same time."""


def begun(windows: Iterator[Window], begin_ns: int | None) -> Iterator[Window]:
    """The windows from the first row that was received at `begin_ns` or later; in front of it, each book whose updates
    came before: CLEAR and adds with SNAPSHOT, stamped `begin_ns`. None: all of them."""
    if begin_ns is None:
        yield from windows
        return
    books = Books()
    for window in windows:
        starts = [_before(columns, begin_ns) for columns in window]
        for columns, start in zip(window, starts, strict=True):
            books.take(columns.slice(0, start))
        rest = tuple(columns.slice(at) for columns, at in zip(window, starts, strict=True) if at < columns.num_rows)
        if rest:
            if keyframes := books.keyframes(begin_ns):
                yield (keyframes,)
            yield rest
            yield from windows
            return


def _before(columns: pa.RecordBatch, begin_ns: int) -> int:
    """Rows before the first that was received then or later; those that step back behind it belong to it."""
    times = receive_times(Batch(columns))
    late = np.flatnonzero(times >= begin_ns) if times is not None else np.zeros(1, np.int64)
    return int(late[0]) if len(late) else columns.num_rows


def together(keyframes: Sequence[pa.RecordBatch]) -> pa.RecordBatch | None:
    """Books of several instruments as one batch; None where there is none."""
    found = [each for each in keyframes if each.num_rows]
    return pa.concat_batches(found) if found else None


class Books:
    """Books as published updates make them, which are whole and without gaps."""

    def __init__(self) -> None:
        self._keeper: BookKeeper | None = None
        self._last = (0, "")

    def take(self, columns: pa.RecordBatch) -> None:
        """Rows of any kind of record; only those of books matter."""
        if not columns.num_rows or (columns.schema.metadata or {}).get(b"record") != b"book_delta":
            return
        if self._keeper is None:
            self._keeper = _keeper_of(columns.schema)
        self._keeper.apply(columns)
        last = columns.num_rows - 1
        self._last = (columns.column("ingest_seq")[last].as_py(), columns.column("source_id")[last].as_py())

    def keyframes(self, ts_recv: int) -> pa.RecordBatch | None:
        """All books, stamped so, with the ordinal of the last row that made them."""
        if self._keeper is None:
            return None
        names = self._keeper.instruments_kept()
        return together([self._keeper.keyframe(name, ts_recv, *self._last) for name in names])


def _keeper_of(schema: pa.Schema) -> BookKeeper:
    from stages.books.keeper import BookKeeper
    from stages.books.rule import BookRule

    published = BookRule(chain="none", join="stream", snapshots="stream")
    scales = Scales(schema.field("price").type.scale, schema.field("size").type.scale)
    return BookKeeper(lambda name: published, scales, Names())
