"""One venue's messages in a recording: interpreted in the order recorded, and put where files are made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stages.books.keeper import BookState
from stages.interpreting import Interpreted, Interpreter
from stages.messages import Messages
from stages.schemas import CLEAR, KEYFRAME
from stages.venues import Venue

from .partitions import Partitions
from .seen import Seen
from .settings import DAY_NS, Recording

MOST: Final = 8192
"""Messages in one record of the log."""


class Stream:
    """What is remembered of a venue from message to message."""

    def __init__(self, venue: Venue, settings: Recording) -> None:
        self.venue = venue
        self.interpreter = Interpreter(venue, settings.interpreting)
        self.seen = Seen()
        self.last_ts = -1
        """When the latest message came, ns; what came after it by the order recorded is taken to be no older."""
        self.steps_back = 0
        """Messages whose clock had stepped back."""
        self.window: int | None = None
        """Which stretch of time the files that are being made belong to."""
        self._roll_ns = settings.roll_ns
        self._keyframes: dict[str, pa.RecordBatch] | None = None

    def cut(self, messages: Messages) -> Iterator[Messages]:
        """Parts that lie within one window and one record of the log each."""
        windows = self._windows(self._raised(messages.ts_recv))
        ends = np.flatnonzero(np.diff(windows)) + 1
        begin = 0
        for end in [*ends.tolist(), len(messages)]:
            for start in range(begin, end, MOST):
                yield messages.slice(start, min(start + MOST, end))
            begin = end

    def window_of(self, messages: Messages) -> int:
        """The window of a part."""
        return int(self._windows(self._raised(messages.ts_recv[:1]))[0])

    def interpret(self, messages: Messages, partitions: Partitions) -> Interpreted:
        """Take a part that has been recorded; blocks. Raises `DiskFull`, `StorageFailed`."""
        self.seen.note(messages)
        raised = self._raised(messages.ts_recv)
        self.steps_back += int(np.count_nonzero(raised != messages.ts_recv))
        self.last_ts = int(raised[-1])
        if self._keyframes is None:
            self._keyframes = self._all_keyframes()
        interpreted = self.interpreter.interpret(with_times(messages, raised))
        for batch in interpreted.batches:
            if batch.schema.metadata[b"record"] == b"book_delta":
                self._begin_books(batch, partitions)
            partitions.add(self.venue.name, batch)
        return interpreted

    def rolled(self) -> None:
        """Files have been published: books begin the next ones as they are now."""
        self._keyframes = None

    def _raised(self, ts: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        found: np.ndarray[Any, np.dtype[np.int64]] = np.maximum.accumulate(np.maximum(ts, self.last_ts))
        return found

    def _windows(self, ts: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        days, within = ts // DAY_NS, ts % DAY_NS
        found: np.ndarray[Any, np.dtype[np.int64]] = days * (DAY_NS // self._roll_ns + 1) + within // self._roll_ns
        return found

    def _all_keyframes(self) -> dict[str, pa.RecordBatch]:
        books = self.interpreter.books
        live = [name for name in books.instruments_kept() if books.state(name) == BookState.LIVE]
        return {name: books.keyframe(name, 0, 0, KEYFRAME) for name in live}

    def _begin_books(self, batch: pa.RecordBatch, partitions: Partitions) -> None:
        """Where the first deltas of a book come since files rolled, what it was before comes first."""
        if not self._keyframes:
            return
        column = batch.column("instrument_id")
        codes = column.indices.to_numpy()
        for code, at in zip(*np.unique(codes, return_index=True), strict=True):
            keyframe = self._keyframes.pop(column.dictionary[int(code)].as_py(), None)
            if keyframe is not None and batch.column("action")[int(at)].as_py() != CLEAR:
                partitions.add(self.venue.name, _stamped(keyframe, batch, int(at)))

    def snapshot(self) -> dict[str, Any]:
        return {
            "interpreter": self.interpreter.snapshot(),
            "seen": self.seen.snapshot(),
            "last_ts": self.last_ts,
            "steps_back": self.steps_back,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.interpreter.restore(state["interpreter"])
        self.seen.restore(state["seen"])
        self.last_ts, self.steps_back = state["last_ts"], state["steps_back"]


def with_times(messages: Messages, ts_recv: np.ndarray[Any, np.dtype[np.int64]]) -> Messages:
    """The same messages as if they had come then."""
    return Messages(
        ts_recv, messages.ingest_seq, messages.kind, messages.source, messages.source_code, messages.url,
        messages.url_code, messages.payload,
    )  # fmt: skip


def _stamped(keyframe: pa.RecordBatch, like: pa.RecordBatch, row: int) -> pa.RecordBatch:
    """A keyframe with the time and ordinal of a row, before which it stands."""
    rows = keyframe.num_rows
    for name in ("ts_recv", "ingest_seq"):
        value = like.column(name)[row]
        place = keyframe.schema.get_field_index(name)
        keyframe = keyframe.set_column(place, keyframe.schema.field(name), pa.repeat(value, rows))
    return keyframe
