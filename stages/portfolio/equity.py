"""Equity kept on one time grid for all members, coarsened as the run grows, so that it never fills the memory."""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np

from pipeline import fitting

from .bars import Floats, Times

MINUTE, HOUR, DAY = 60_000_000_000, 3_600_000_000_000, 86_400_000_000_000
LADDER: dict[str, int] = {
    "bar": 0,
    "1m": MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "1h": HOUR,
    "4h": 4 * HOUR,
    "1d": DAY,
}
"""Bucket lengths in ns, each dividing the next; UTC days begin at midnight. `bar` keeps every bar."""
MAX_POINTS = 2_000
"""Points kept. Only a grid of days may grow past it, by one point a day."""

FIRST_POINTS = 250
"""Points there is room for at first; twice as many whenever they do not suffice, up to MAX_POINTS."""
FOLDED = 64
"""Members whose points are moved at a time."""


class EquityGrid:
    """The last equity of each bucket, for all members alike.

    A bar belongs to the bucket its end closes or falls into: `(begin, begin + interval]`, so a bar that ends at
    midnight belongs to the day before. Points carry the end of the last bar in their bucket. The interval is the finest
    of LADDER under which all bars so far make at most MAX_POINTS points; how they came in batches has no part in it.
    """

    def __init__(self, members: int) -> None:
        self._steps = list(LADDER.values())
        self._level = 0
        self.points = 0
        self.times: Times = np.empty(FIRST_POINTS, np.int64)
        self._memory: Floats = np.empty(members * FIRST_POINTS, np.float64)
        self.values: Floats = self._memory.reshape(members, -1)
        self._lent: ref[_Lent] | None = None
        """What a snapshot looks at."""

    @property
    def interval(self) -> str:
        """The present bucket length, a key of LADDER."""
        return list(LADDER)[self._level]

    def ends(self) -> Times:
        """Time of each point, int64 ns UTC."""
        return self.times[: self.points]

    def equity(self) -> Floats:
        """Equity by member and point."""
        return self.values[:, : self.points]

    def close(self) -> Floats:
        """All members' points one after another, (members * points,), in the memory they are in; the grid is done."""
        self._take_back()
        flat = self.values.reshape(-1)
        for member in range(len(self.values)):
            flat[member * self.points : (member + 1) * self.points] = self.values[member, : self.points]
        self.values = flat[: len(self.values) * self.points].reshape(len(self.values), self.points)
        return self.values.reshape(-1)

    def snapshot(self) -> dict[str, Any]:
        """Interval, times and values of all points.

        All but the newest point, which the next bar may replace, are lent where they lie, and written to no more while
        somebody looks at them: of ten thousand members they are 160 megabytes.
        """
        kept = max(self.points - 1, 0)
        lent = None if self._lent is None else self._lent()
        if lent is None:
            lent = _Lent(self._memory)
            self._lent = ref(lent)
        return {
            "interval": self.interval,
            "times": self.ends().copy(),
            "kept": np.asarray(lent).reshape(len(self.values), -1)[:, :kept],
            "newest": self.values[:, kept : self.points].copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a snapshot of as many members. Raises `StateMismatch`."""
        members = len(self.values)
        times = fitting("times of equity", state["times"], self.times, rows=True)
        kept, newest = (np.asarray(state[name]) for name in ("kept", "newest"))
        values = fitting("equity", np.concatenate([kept, newest], axis=1), np.empty((members, len(times))))
        self._level = list(LADDER).index(state["interval"])
        self.points = len(times)
        room = max(FIRST_POINTS, self.points)
        self.times = np.empty(room, np.int64)
        self.times[: self.points] = times
        self._memory = np.empty(members * room, np.float64)
        self.values = self._memory.reshape(members, -1)
        self.values[:, : self.points] = values

    def extend(self, ends: Times) -> Times:
        """Make room for bars with these ends (ascending); gives each bar its column of `values`.

        -1 stands for a bar that a later one of the same bucket replaces.
        """
        joined = np.concatenate([self.ends(), ends])
        starts = _bucket_starts(joined, self._steps[self._level])
        while np.count_nonzero(starts) > MAX_POINTS and self._level + 1 < len(self._steps):
            self._level += 1
            starts = _bucket_starts(joined, self._steps[self._level])
        columns = np.cumsum(starts) - 1
        last = np.append(starts[1:], True)
        self._fold(columns[: self.points], last[: self.points])
        self._reserve(int(columns[-1]) + 1)
        self.points = int(columns[-1]) + 1
        self.times[columns[last]] = joined[last]
        slots = columns[len(joined) - len(ends) :]
        return np.where(last[len(joined) - len(ends) :], slots, -1)

    def _fold(self, columns: Times, last: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        """Move each member's kept points to their new columns; the last one of a bucket stays."""
        if len(columns) and columns[-1] + 1 != len(columns):
            self._take_back()
            places, kept = columns[last], np.flatnonzero(last)
            for begin in range(0, len(self.values), FOLDED):
                own = self.values[begin : begin + FOLDED]
                own[:, places] = own[:, kept]

    def _take_back(self) -> None:
        """What is about to be written to is nobody else's any more."""
        if self._lent is not None and self._lent() is not None:
            self._memory = self._memory.copy()
            self.values = self._memory.reshape(len(self.values), -1)
        self._lent = None

    def _reserve(self, points: int) -> None:
        have = self.values.shape[1]
        if points <= have:
            return
        room = min(max(points, 2 * have), MAX_POINTS) if points <= MAX_POINTS else points + MAX_POINTS // 8
        members = len(self.values)
        del self.values  # what is looked at cannot be made larger
        try:
            self._memory.resize(members * room)  # where it lies, or moved by the operating system: never there twice
        except ValueError:  # somebody still looks at it
            self._lent = None
            self._memory = np.concatenate([self._memory, np.empty(members * (room - have), np.float64)])
        for member in reversed(range(members)):
            begin, end = member * have, member * have + self.points
            self._memory[member * room : member * room + self.points] = self._memory[begin:end]
        self.values = self._memory.reshape(members, -1)
        self.times = np.concatenate([self.times, np.empty(room - have, np.int64)])


class _Lent:
    """Stays alive as long as an array over this memory does, whatever views are made of it."""

    def __init__(self, memory: Floats) -> None:
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__


def _bucket_starts(ends: Times, step: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """True where a bar opens a bucket the bar before it does not belong to."""
    starts = np.ones(len(ends), np.bool_)
    if step:
        starts[1:] = np.diff((ends - 1) // step) != 0
    return starts
