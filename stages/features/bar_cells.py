"""The arrays open bars live in: filled by kernels, emptied when time has passed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline import InputError, fitting

from . import bar_closing as c
from . import bar_kernels as k
from .bar_input import BarInput
from .cell_state import taken, told
from .exact import Values
from .instruments import Instruments

MAX_OPEN_BARS = 4_000_000
"""Open bars of all instruments together (128 bytes each) before the watermark must be stuck."""
FIRST_CELLS = 1024


class Cells:
    """Open bars of one stream."""

    def __init__(self, found: BarInput, every_ns: int) -> None:
        self.every_ns = every_ns
        self.found = found
        wide = object in (found.prices.dtype, found.sizes.dtype)
        self._add_ticks: Callable[..., int] = k.add_ticks.py_func if wide else k.add_ticks
        self._add_bars: Callable[..., int] = k.add_bars.py_func if wide else k.add_bars
        self._take_due: Callable[..., int] = c.take_due.py_func if wide else c.take_due
        self.counters = np.zeros(k.COUNTERS, np.int64)
        self.counters[k.CELLS] = 1
        self.counters[k.CLOSED_UNTIL] = self.counters[k.HORIZON] = k.FIRST_NS
        self._newest = np.zeros(0, np.int64)
        self._cells = np.zeros(FIRST_CELLS, self.record)
        self._cells[0]["end"], self._cells[0]["close_ts"] = k.FIRST_NS, k.LAST_NS
        self._limit = found.sizes.limit if found.sizes.dtype is object else found.sizes.dtype(found.sizes.limit)

    @property
    def closed_until(self) -> int:
        """Bars ending here (ns) or earlier are closed for good."""
        return int(self.counters[k.CLOSED_UNTIL])

    @property
    def record(self) -> np.dtype[Any]:
        """What an open bar is in memory."""
        return k.cell_type(self.found.prices.dtype, self.found.sizes.dtype)

    @property
    def late(self) -> int:
        return int(self.counters[k.LATE])

    @property
    def unpriced(self) -> int:
        return int(self.counters[k.UNPRICED])

    @property
    def horizon(self) -> int:
        """How far time is known to have come, ns: the latest tick, or the end of the latest complete bar."""
        used = self._cells[1 : self.counters[k.CELLS]]
        if self.found.kind == "bars" or not len(used):
            return int(self.counters[k.HORIZON])
        return int(used["close_ts"].max())

    def add_ticks(self, instruments: Instruments, times: Values, codes: Values, columns: tuple[Values, ...]) -> None:
        """Put rows into bars; opens bars and numbers instruments as needed. Raises `InputError` on overflow."""
        self._run(self._add_ticks, instruments, (times, codes, *columns), len(times))

    def add_bars(
        self, instruments: Instruments, starts: Values, ends: Values, codes: Values, columns: tuple[Values, ...]
    ) -> None:
        """The same for finer bars."""
        self._run(self._add_bars, instruments, (starts, ends, codes, *columns), len(starts))

    def close(self, until: int) -> Values | None:
        """Take out bars that end at `until` (ns) or before; None where there are none.

        They are records of `bar_kernels.cell_type`, ordered by end, then instrument.
        """
        counters = self.counters
        if until <= counters[k.CLOSED_UNTIL]:
            return None
        closed = np.empty(counters[k.CELLS], self._cells.dtype)
        due = self._take_due(until, self._cells, self._newest, counters, closed)
        return closed[:due] if due else None

    def snapshot(self) -> dict[str, Any]:
        """Open bars, and how far time has come."""
        counters = self.counters
        return {
            "counters": counters.copy(),
            "newest": self._newest[: counters[k.INSTRUMENTS]].copy(),
            "cells": told(self._cells[: counters[k.CELLS]]),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a snapshot of bars of the same numbers. Raises `StateMismatch`."""
        self.counters = fitting("counters", state["counters"], self.counters)
        self._newest = fitting("newest bars", state["newest"], self._newest, rows=True)
        cells = taken(state["cells"], self.record)
        size = FIRST_CELLS
        while size < len(cells):
            size *= 2
        self._cells = _grown(cells, size)

    def _run(self, kernel: Callable[..., int], instruments: Instruments, columns: tuple[Any, ...], rows: int) -> None:
        if len(self._newest) <= instruments.most:
            self._newest = _grown(self._newest, 2 * instruments.most + 1)
        current = self._newest[instruments.known]  # an instrument not seen yet (-1) finds the last place, which is 0
        row = 0
        while True:
            row = kernel(
                *columns, self._limit, self.every_ns, instruments.known, current, self._newest,
                self._cells, self.counters, row,
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
        size = 2 * len(self._cells)
        if size > MAX_OPEN_BARS:
            raise InputError(
                f"{len(self._cells)} bars of {self.every_ns} ns are open at once (at most {MAX_OPEN_BARS}): the "
                "watermark stands still, or the bars are too short for this stream"
            )
        self._cells = _grown(self._cells, size)


def _grown(values: Values, size: int) -> Values:
    grown = np.zeros(size, values.dtype)
    grown[: len(values)] = values
    return grown
