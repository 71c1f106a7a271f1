"""Begins a replay at a moment: nothing before it comes out, but every book as it stood then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline import Batch, receive_times
from stages.schemas import CLEAR, FLAG_MAYBE_BAD_BOOK, Names, Scales

if TYPE_CHECKING:
    from stages.books.keeper import BookKeeper

Window = tuple[pa.RecordBatch, ...]
"""Batches of several kinds of record that cover the same time."""
_HOLES = ("gap", "checksum")
"""Events of a book, without a channel, after which it is not published until it comes whole."""


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
        self._whole_at: dict[str, int] = {}
        self._holed_at: dict[str, int] = {}

    def take(self, columns: pa.RecordBatch) -> None:
        """Rows of any kind of record; only those of books matter, and events that tell of holes in them."""
        kind = (columns.schema.metadata or {}).get(b"record")
        if columns.num_rows and kind == b"quality_event":
            for event in columns.select(["kind", "channel", "instrument_id", "ingest_seq"]).to_pylist():
                if event["kind"] in _HOLES and event["channel"] is None and event["instrument_id"] is not None:
                    self._holed_at[event["instrument_id"]] = event["ingest_seq"]
        if not columns.num_rows or kind != b"book_delta":
            return
        if self._keeper is None:
            self._keeper = _keeper_of(columns.schema)
        self._keeper.apply(columns)
        clears = columns.filter(pa.array(np.asarray(columns.column("action")) == CLEAR)) if self._holed_at else None
        for row in [] if clears is None else clears.select(["instrument_id", "ingest_seq"]).to_pylist():
            self._whole_at[row["instrument_id"]] = row["ingest_seq"]
        last = columns.num_rows - 1
        self._last = (columns.column("ingest_seq")[last].as_py(), columns.column("source_id")[last].as_py())

    def keyframes(self, ts_recv: int) -> pa.RecordBatch | None:
        """All books by name, stamped so, with the ordinal of the last row that made them."""
        if self._keeper is None:
            return None
        names = sorted(self._keeper.instruments_kept())
        return together([self._told(self._keeper.keyframe(name, ts_recv, *self._last), name) for name in names])

    def _told(self, keyframe: pa.RecordBatch, name: str) -> pa.RecordBatch:
        """With MAYBE_BAD_BOOK where a hole was told since the book last came whole."""
        if self._holed_at.get(name, -1) <= self._whole_at.get(name, -1):
            return keyframe
        place = keyframe.schema.get_field_index("flags")
        flags = pa.array(np.asarray(keyframe.column(place)) | np.uint8(FLAG_MAYBE_BAD_BOOK))
        return keyframe.set_column(place, keyframe.schema.field(place), flags)


def _keeper_of(schema: pa.Schema) -> BookKeeper:
    from stages.books.keeper import BookKeeper
    from stages.books.rule import BookRule

    published = BookRule(chain="none", join="stream", snapshots="stream")
    scales = Scales(schema.field("price").type.scale, schema.field("size").type.scale)
    return BookKeeper(lambda name: published, scales, Names())
