"""Merges sources of records by their times into one order, a window at a time, in bounded memory.

What comes first has the smaller stamp; of equal stamps that of the source of smaller rank; within a rank the smaller
`ingest_seq`; of one message the row that it had first, where sources tell, then the source that is listed first. A
source's own order is never changed: a stamp that steps back stands with the largest before it, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from pipeline import Batch, receive_times

from .instants import Int64s
from .words import Words

Order: TypeAlias = Literal["ts_recv", "ts_event"]
AHEAD_THREADS = 2
"""Threads that read ahead, one batch of each source that is open."""
_FOREVER = (1 << 63) - 1


@dataclass(frozen=True)
class Lane:
    """One source: what is in it, and how it is read."""

    kind: str
    rank: int
    schema: pa.Schema
    read: Callable[[], Iterator[pa.RecordBatch]]
    """Batches of the schema's columns; one more behind them is a row's place (uint32) in its message."""
    begins_ns: int | None = None
    """No row has an earlier stamp, so that it need not be opened sooner; None: nobody knows."""


class Merge:
    """The rows of all lanes in one order. Lanes of one kind share their schema, but for the words of dictionaries."""

    def __init__(self, lanes: Sequence[Lane], order: Order = "ts_recv") -> None:
        self.lanes, self.order = tuple(sorted(lanes, key=lambda lane: lane.rank)), order
        self.steps_back = 0
        """Rows whose stamp lay before that of a row in front of them in their source."""
        self.unsorted_rows = 0
        """Rows that went through without a sort, since they stood behind each other already."""
        self._kinds = tuple(dict.fromkeys(lane.kind for lane in lanes))
        self._schemas = {lane.kind: lane.schema for lane in lanes}
        self._words = {kind: Words(schema) for kind, schema in self._schemas.items()}
        self._shared = len({(lane.kind, lane.rank) for lane in lanes}) < len(lanes)

    def windows(self) -> Iterator[tuple[pa.RecordBatch, ...]]:
        """Batches that cover the same time, one of each kind there are rows of, kinds in the order of the lanes.

        Of each open source at least one batch is held, and one read ahead.
        """
        waiting = sorted(range(len(self.lanes)), key=lambda place: (self._begins(place), place), reverse=True)
        opened: dict[int, _Reading] = {}
        with ThreadPoolExecutor(AHEAD_THREADS, thread_name_prefix="penstock-merge") as pool:
            try:
                while waiting or opened:
                    horizon = self._horizon(opened, waiting, pool)
                    parts = {place: opened[place].take_before(horizon) for place in sorted(opened)}
                    for place, each in list(opened.items()):
                        each.fill(horizon)
                        if each.ended and not each.parts:
                            del opened[place]
                    if made := self._woven(parts):
                        yield made
            finally:
                for each in opened.values():
                    each.close()

    def _begins(self, place: int) -> int:
        begins = self.lanes[place].begins_ns
        return -_FOREVER if begins is None else begins

    def _horizon(self, opened: dict[int, _Reading], waiting: list[int], pool: Executor) -> int:
        """No row before this moment can still come; opens the lanes whose time has come."""
        while True:
            horizon = min((each.last for each in opened.values() if not each.ended), default=_FOREVER)
            if not waiting or (begins := self._begins(waiting[-1])) > horizon:
                return horizon
            if horizon == _FOREVER and any(each.first < begins for each in opened.values()):
                return begins
            place = waiting.pop()
            opened[place] = _Reading(self, self.lanes[place], pool)

    def _woven(self, parts: Mapping[int, list[Part]]) -> tuple[pa.RecordBatch, ...]:
        made = []
        for kind in self._kinds:
            chosen = [(place, part) for place, found in parts.items() for part in found]
            chosen = [(place, part) for place, part in chosen if self.lanes[place].kind == kind]
            if chosen:
                apart = _apart(chosen)
                order = self._ordered(chosen) if apart is None else None
                chosen = chosen if apart is None else apart
                self.unsorted_rows += 0 if apart is None else sum(len(part.stamps) for _, part in chosen)
                made.append(self._words[kind].batch([part.columns for _, part in chosen], order))
        return tuple(made)

    def _ordered(self, chosen: Sequence[tuple[int, Part]]) -> Int64s:
        """Where each row of the merged batch is among those of the parts, one after another."""
        stamps = np.concatenate([part.stamps for _, part in chosen])
        bits, base = len(stamps).bit_length(), int(stamps.min())
        if int(stamps.max()) - base < 1 << (63 - bits):
            stamps -= base  # stamp and place in one number, which sorts faster than anything else
            stamps <<= bits
            stamps |= np.arange(len(stamps))
            stamps.sort()
            order: Int64s = stamps & ((1 << bits) - 1)
            stamps >>= bits
        else:
            order = np.argsort(stamps, kind="stable")
            stamps = stamps[order]
        return self._by_ordinals(chosen, stamps, order) if self._shared else order

    def _by_ordinals(self, chosen: Sequence[tuple[int, Part]], stamps: Int64s, order: Int64s) -> Int64s:
        """Rows of one stamp that came by several sources of one rank, in order of their ordinals."""
        tied = stamps[1:] == stamps[:-1]
        if not tied.any():
            return order
        owner = np.repeat([place for place, _ in chosen], [len(part.stamps) for _, part in chosen])
        sorted_owner = owner[order]
        mixed = tied & (sorted_owner[1:] != sorted_owner[:-1])
        if not mixed.any():
            return order
        run = np.concatenate([[0], np.cumsum(~tied)])
        bad = np.zeros(run[-1] + 1, np.bool_)
        bad[run[1:][mixed]] = True
        again = bad[run]
        rows = order[again]
        ranks = np.array([lane.rank for lane in self.lanes])[owner[rows]]
        ordinals = np.concatenate([np.maximum.accumulate(part.ordinals()) for _, part in chosen])[rows]
        places = np.concatenate([part.in_message() for _, part in chosen])[rows]
        order[again] = rows[np.lexsort((rows, places, ordinals, ranks, run[again]))]
        return order


@dataclass(frozen=True)
class Part:
    """Rows of one source that wait for their turn."""

    columns: list[pa.Array]
    """As `Words` has them."""
    stamps: Int64s
    ordinal: int
    """Which column is `ingest_seq`."""
    places: np.ndarray[Any, np.dtype[np.uint32]] | None = None
    """Of each row among all that its message came to, where they lie in several sources; None: they do not."""

    def ordinals(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        found: np.ndarray[Any, np.dtype[np.uint64]] = self.columns[self.ordinal].to_numpy()
        return found

    def cut(self, start: int, stop: int) -> Part:
        places = None if self.places is None else self.places[start:stop]
        columns = [column.slice(start, stop - start) for column in self.columns]
        return Part(columns, self.stamps[start:stop], self.ordinal, places)

    def in_message(self) -> np.ndarray[Any, np.dtype[np.uint32]]:
        return np.zeros(len(self.stamps), np.uint32) if self.places is None else self.places


def _apart(chosen: Sequence[tuple[int, Part]]) -> list[tuple[int, Part]] | None:
    """The parts one behind the other in time, where none reaches into another of another source; else None."""
    ordered = sorted(chosen, key=lambda each: int(each[1].stamps[0]))
    for (place, part), (other, behind) in pairwise(ordered):
        if place != other and part.stamps[-1] >= behind.stamps[0]:
            return None
    return ordered


class _Reading:
    """A source that is open: what of it is held, and the batch that is being read ahead."""

    def __init__(self, merge: Merge, lane: Lane, pool: Executor) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self.last, self.read_rows = -_FOREVER, 0
        self._merge, self._lane, self._pool = merge, lane, pool
        self._words = merge._words[lane.kind].reader()
        self._ordinal = lane.schema.get_field_index("ingest_seq")
        self._batches = lane.read()
        self._coming = pool.submit(next, self._batches, None)
        self.extend()

    @property
    def first(self) -> int:
        return int(self.parts[0].stamps[0]) if self.parts else _FOREVER

    @property
    def held_rows(self) -> int:
        return sum(len(part.stamps) for part in self.parts)

    def fill(self, horizon: int) -> None:
        """Hold rows beyond the horizon, and half as many as were read last, so that the next one is far from it."""
        while not self.ended and (self.last <= horizon or 2 * self.held_rows < self.read_rows):
            self.extend()

    def extend(self) -> None:
        """Hold the next rows too; the ones after them are begun to be read."""
        columns = None
        while columns is None or not columns.num_rows:
            columns = self._coming.result()
            if columns is None:
                self.ended = True
                return
            self._coming = self._pool.submit(next, self._batches, None)
        batch = Batch(columns)
        stamps = receive_times(batch) if self._merge.order == "ts_recv" else batch.times()
        assert stamps is not None
        highest = np.maximum(np.maximum.accumulate(stamps), self.last)
        self._merge.steps_back += int(np.count_nonzero(stamps < highest))
        self.last, self.read_rows = int(highest[-1]), len(highest)
        width, places = len(self._lane.schema), None
        if columns.num_columns > width:
            places = columns.column(width).to_numpy()
            columns = columns.select(range(width))
        self.parts.append(Part(self._words(columns), highest, self._ordinal, places))

    def take_before(self, horizon: int) -> list[Part]:
        """The rows held whose stamp is smaller."""
        taken = []
        while self.parts and self.parts[0].stamps[0] < horizon:
            part = self.parts.pop(0)
            stop = int(np.searchsorted(part.stamps, horizon, side="left"))
            if stop < len(part.stamps):
                self.parts.insert(0, part.cut(stop, len(part.stamps)))
                part = part.cut(0, stop)
            taken.append(part)
        return taken

    def close(self) -> None:
        self._coming.exception()
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()
