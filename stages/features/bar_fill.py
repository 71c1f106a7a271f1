"""Bars for intervals in which nothing was traded: the last close again, with no volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline import InputError, fitting

from . import bar_kernels as k
from .cell_state import taken, told
from .exact import Values

BLOCK_BARS = 65_536
"""Bars made at a time."""
MAX_EMPTY_INTERVALS = 1_000_000
"""Intervals in a row without a bar of any instrument, before a time stamp must be wrong."""


class Filler:
    """Continues every instrument from its first bar on, interval by interval; remembers the last bar of each."""

    def __init__(self, every_ns: int) -> None:
        self.every_ns = every_ns
        self._next: int | None = None
        self._last_real = 0
        self._seen = np.zeros(0, bool)
        self._last: Values | None = None

    def fill(self, closed: Values | None, until: int) -> Iterator[tuple[Values, Values]]:
        """All bars that end at `until` (ns) or before, in order, and which of them (bool) are empty.

        `closed` are the real ones among them; at the end of time those that were cut off, which pass alone.
        Raises `InputError` after `MAX_EMPTY_INTERVALS` without a real one.
        """
        if until == k.LAST_NS:
            if closed is not None:
                yield closed, np.zeros(len(closed), bool)
            return
        if closed is not None:
            self._remember(closed)
            if self._next is None:
                self._next = int(closed[0]["end"])
        if self._next is None:
            return
        instruments = len(self._seen)
        span = max(1, BLOCK_BARS // instruments) * self.every_ns
        done = 0
        while self._next <= until:
            ends = np.arange(self._next, min(until, self._next + span - self.every_ns) + 1, self.every_ns)
            stop = done
            if closed is not None:
                stop += int(np.searchsorted(closed["end"][done:], ends[-1], side="right"))
                part = closed[done:stop]
                done = stop
            else:
                part = None
            if part is not None and len(part):
                self._last_real = int(part[-1]["end"])
            if (int(ends[-1]) - self._last_real) // self.every_ns > MAX_EMPTY_INTERVALS:
                raise InputError(
                    f"no bar for more than {MAX_EMPTY_INTERVALS} intervals of {self.every_ns} ns: a time stamp is "
                    "wrong, or `empty: skip` is wanted"
                )
            yield self._block(ends, part)
            self._next = int(ends[-1]) + self.every_ns

    def snapshot(self) -> dict[str, Any]:
        """Where the grid stands, and the last bar of each instrument."""
        return {
            "next": self._next,
            "last_real": self._last_real,
            "seen": self._seen.copy(),
            "last": None if self._last is None else told(self._last),
        }

    def restore(self, state: dict[str, Any], dtype: np.dtype[Any]) -> None:
        """Continue from a snapshot, with bars that are records of `dtype`. Raises `StateMismatch`."""
        self._next, self._last_real = state["next"], state["last_real"]
        self._seen = fitting("instruments seen", state["seen"], self._seen, rows=True)
        self._last = None if state["last"] is None else taken(state["last"], dtype)

    def _remember(self, closed: Values) -> None:
        """Make room for the instruments of these bars."""
        most = int(closed["instrument"].max()) + 1
        more = most - len(self._seen)
        if self._last is None:
            self._last = np.zeros(0, closed.dtype)
        if more > 0:
            self._last = np.concatenate([self._last, np.zeros(more, closed.dtype)])
            self._seen = np.concatenate([self._seen, np.zeros(more, bool)])

    def _block(self, ends: Values, part: Values | None) -> tuple[Values, Values]:
        """The grid of `ends` times instruments, from the first bar of each on; carries the last bars over."""
        assert self._last is not None
        instruments = len(self._seen)
        pool = self._last
        source = np.full((len(ends), instruments), -1)
        if part is not None:
            pool = np.concatenate([self._last, part])
            rows = (part["end"] - ends[0]) // self.every_ns
            source[rows, part["instrument"]] = np.arange(instruments, len(pool))
        real = source >= 0
        before = np.where(self._seen, np.arange(instruments), -1)
        carried = np.maximum.accumulate(np.vstack([before, source]), axis=0)
        self._seen = carried[-1] >= 0
        self._last = pool.take(np.maximum(carried[-1], 0))
        known = carried[1:] >= 0
        filled = pool.take(carried[1:][known])
        empty: Values = ~real[known]
        at, owner = np.nonzero(known)
        filled["end"], filled["instrument"] = ends[at], owner
        for name in ("open", "high", "low"):
            filled[name][empty] = filled["close"][empty]
        for name in ("anchor", "volume", "buy_volume", "moment", "count", "partial"):
            filled[name][empty] = 0
        return filled, empty
