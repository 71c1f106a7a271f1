"""The arrays open bars live in: filled by kernels, emptied when time has passed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import InputError

from . import bar_kernels as k
from .bar_input import BarInput
from .exact import Values
from .instruments import Instruments

MAX_OPEN_BARS = 4_000_000
"""Open bars of all instruments together (about 130 bytes each) before the watermark must be stuck."""
FIRST_CELLS = 1024


class ClosedBars(NamedTuple):
    """Bars ordered by end, then instrument; the fields of `bar_kernels`, one row per bar."""

    times: Values
    prices: Values
    sizes: Values
    moments: Values

    def __len__(self) -> int:
        return len(self.moments)


class Cells:
    """Open bars of one stream."""

    def __init__(self, found: BarInput, every_ns: int) -> None:
        self.every_ns = every_ns
        self.found = found
        wide = object in (found.prices.dtype, found.sizes.dtype)
        self._add_ticks: Callable[..., int] = k.add_ticks.py_func if wide else k.add_ticks
        self._add_bars: Callable[..., int] = k.add_bars.py_func if wide else k.add_bars
        self.counters = np.zeros(k.COUNTERS, np.int64)
        self.counters[k.CELLS] = 1
        self.counters[k.CLOSED_UNTIL] = self.counters[k.HORIZON] = k.FIRST_NS
        self._newest = np.zeros(0, np.int64)
        self._times = np.zeros((FIRST_CELLS, k.TIME_FIELDS), np.int64)
        self._times[0, k.END], self._times[0, k.CLOSE_TS] = k.FIRST_NS, k.LAST_NS
        self._prices = np.zeros((FIRST_CELLS, k.PRICE_FIELDS), found.prices.dtype)
        self._sizes = np.zeros((FIRST_CELLS, k.SIZE_FIELDS), found.sizes.dtype)
        self._moments = np.zeros(FIRST_CELLS)
        self._limit = found.sizes.limit if found.sizes.dtype is object else found.sizes.dtype(found.sizes.limit)

    @property
    def closed_until(self) -> int:
        """Bars ending here (ns) or earlier are closed for good."""
        return int(self.counters[k.CLOSED_UNTIL])

    @property
    def late(self) -> int:
        return int(self.counters[k.LATE])

    @property
    def unpriced(self) -> int:
        return int(self.counters[k.UNPRICED])

    @property
    def horizon(self) -> int:
        """How far time is known to have come, ns: the latest tick, or the end of the latest complete bar."""
        used = self._times[1 : self.counters[k.CELLS]]
        if self.found.kind == "bars" or not len(used):
            return int(self.counters[k.HORIZON])
        return int(used[:, k.CLOSE_TS].max())

    def add_ticks(self, instruments: Instruments, times: Values, codes: Values, columns: tuple[Values, ...]) -> None:
        """Put rows into bars; opens bars and numbers instruments as needed. Raises `InputError` on overflow."""
        self._run(self._add_ticks, instruments, (times, codes, *columns), len(times))

    def add_bars(
        self, instruments: Instruments, starts: Values, ends: Values, codes: Values, columns: tuple[Values, ...]
    ) -> None:
        """The same for finer bars."""
        self._run(self._add_bars, instruments, (starts, ends, codes, *columns), len(starts))

    def close(self, until: int) -> ClosedBars | None:
        """Take out bars that end at `until` (ns) or before; None where there are none."""
        if until <= self.counters[k.CLOSED_UNTIL]:
            return None
        self.counters[k.CLOSED_UNTIL] = until
        used = self.counters[k.CELLS]
        ends = self._times[1:used, k.END]
        owners = self._times[1:used, k.INSTRUMENT]
        due = ends <= until
        if not due.any():
            return None
        taken = np.flatnonzero(due) + 1
        taken = taken[np.lexsort((owners[taken - 1], ends[taken - 1]))]
        closed = ClosedBars(self._times[taken], self._prices[taken], self._sizes[taken], self._moments[taken])
        kept = np.flatnonzero(~due) + 1
        self._keep(kept[np.lexsort((ends[kept - 1], owners[kept - 1]))])
        return closed

    def _keep(self, cells: Values) -> None:
        """Move the cells that stay, ordered by instrument and end, to the front, and chain them again."""
        last = len(cells) + 1
        for field in (self._times, self._prices, self._sizes, self._moments):
            field[1:last] = field[cells]
        self.counters[k.CELLS] = last
        owners = self._times[1:last, k.INSTRUMENT]
        places = np.arange(1, last)
        has_older = np.zeros(len(cells), bool)
        has_older[1:] = owners[1:] == owners[:-1]
        self._times[1:last, k.OLDER] = np.where(has_older, places - 1, 0)
        self._newest[:] = 0
        self._newest[owners] = places

    def _run(self, kernel: Callable[..., int], instruments: Instruments, columns: tuple[Any, ...], rows: int) -> None:
        if len(self._newest) < instruments.most:
            self._newest = _grown(self._newest, 2 * instruments.most)
        row = 0
        while True:
            row = kernel(
                *columns, self._limit, self.every_ns, instruments.known, self._newest,
                self._times, self._prices, self._sizes, self._moments, self.counters, row,
            )  # fmt: skip
            if row == rows:
                break
            if self.counters[k.STOP] == k.OVERFLOW:
                raise InputError(
                    f"the volume of a bar of {self.every_ns} ns exceeds {self.found.sizes.limit} "
                    f"x 10^-{self.found.sizes.scale}; make shorter bars, or give sizes as decimal128 or float64"
                )
            self._grow()
        instruments.learn(int(self.counters[k.INSTRUMENTS]))

    def _grow(self) -> None:
        size = 2 * len(self._moments)
        if size > MAX_OPEN_BARS:
            raise InputError(
                f"{len(self._moments)} bars of {self.every_ns} ns are open at once (at most {MAX_OPEN_BARS}): the "
                "watermark stands still, or the bars are too short for this stream"
            )
        self._times, self._prices = _grown(self._times, size), _grown(self._prices, size)
        self._sizes, self._moments = _grown(self._sizes, size), _grown(self._moments, size)


def _grown(values: Values, size: int) -> Values:
    grown = np.zeros((size, *values.shape[1:]), values.dtype)
    grown[: len(values)] = values
    return grown
