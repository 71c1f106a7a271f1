"""Compiled loops that put trades, quotes and finer bars into the cells of open bars.

A cell is one open bar of one instrument; its fields lie in row `c` of four arrays:

    times   int64 (cells, 8)    END, OPEN_TS, CLOSE_TS in ns; COUNT of trades; INSTRUMENT; OLDER cell; PARTIAL; UNKNOWN
    prices  price (cells, 5)    OPEN, HIGH, LOW, CLOSE, ANCHOR in units of 10^-scale, or float64
    sizes   size  (cells, 2)    VOLUME, BUY_VOLUME
    moments float64 (cells,)    sum of (price - anchor) * size, for the volume-weighted average price

`newest[i]` is the cell of instrument `i` that ends last, and OLDER leads from there back in time; cell 0 is
the end of every chain and covers no time. All functions are plain Python underneath: `.py_func` on object
arrays of Python ints does the same for decimals of more than 18 digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import boolean, float64, int8, int32, int64, njit, types

END, OPEN_TS, CLOSE_TS, COUNT, INSTRUMENT, OLDER, PARTIAL, UNKNOWN = range(8)
TIME_FIELDS = 8
OPEN, HIGH, LOW, CLOSE, ANCHOR = range(5)
PRICE_FIELDS = 5
VOLUME, BUY_VOLUME = range(2)
SIZE_FIELDS = 2
CELLS, INSTRUMENTS, CLOSED_UNTIL, LATE, UNPRICED, HORIZON, STOP = range(7)
"""Places in `counters`: cells in use (with cell 0), instruments seen, end of what is closed in ns, rows that
came too late, rows without a price, end of complete input bars in ns, and why the kernel stopped early."""
COUNTERS = 8
DONE, NO_CELL, OVERFLOW = range(3)
FIRST_NS, LAST_NS = np.iinfo(np.int64).min, np.iinfo(np.int64).max

BUY = 1
NO_VOLUME, NO_BUY_VOLUME, NO_COUNT = 1, 2, 4
"""Bits of UNKNOWN: what a bar made of finer ones cannot know because one of them did not."""


def _in(kind: Any) -> Any:
    """A contiguous vector that is only read, as Arrow buffers are."""
    return types.Array(kind, 1, "C", readonly=True)


def _tick_signature(price: Any, size: Any) -> Any:
    return int64(
        _in(int64), _in(int32), _in(price), _in(size), _in(int8), size, int64,
        int64[::1], int64[::1], int64[:, ::1], price[:, ::1], size[:, ::1], float64[::1], int64[::1], int64,
    )  # fmt: skip


def _bar_signature(price: Any, size: Any) -> Any:
    return int64(
        _in(int64), _in(int64), _in(int32), _in(price), _in(price), _in(price), _in(price),
        _in(size), _in(size), _in(float64), _in(int64), _in(int64), _in(boolean), size, int64,
        int64[::1], int64[::1], int64[:, ::1], price[:, ::1], size[:, ::1], float64[::1], int64[::1], int64,
    )  # fmt: skip


_PAIRS = [(int64, int64), (float64, float64), (int64, float64), (float64, int64)]


@njit(
    [int64(int64, int64, int64, int64[::1], int64[:, ::1], int64[::1])],
    nogil=True,
    cache=True,
)
def find_cell(t: int, every: int, instrument: int, newest: Any, times: Any, counters: Any) -> int:
    """The cell of `instrument` whose interval holds `t` (ns), made if need be; 0 if closed, -1 if no cell is left."""
    end = t - t % every + every
    if end <= counters[CLOSED_UNTIL]:
        return 0
    newer = 0
    cell = newest[instrument]
    while cell != 0 and times[cell, END] > end:
        newer = cell
        cell = times[cell, OLDER]
    if cell != 0 and times[cell, END] == end:
        return int(cell)
    fresh = counters[CELLS]
    if fresh == times.shape[0]:
        return -1
    counters[CELLS] = fresh + 1
    times[fresh, END] = end
    times[fresh, OPEN_TS] = LAST_NS
    times[fresh, CLOSE_TS] = FIRST_NS
    times[fresh, COUNT] = 0
    times[fresh, INSTRUMENT] = instrument
    times[fresh, OLDER] = cell
    times[fresh, PARTIAL] = 0
    times[fresh, UNKNOWN] = 0
    if newer == 0:
        newest[instrument] = fresh
    else:
        times[newer, OLDER] = fresh
    return int(fresh)


@njit([_tick_signature(*pair) for pair in _PAIRS], nogil=True, cache=True)
def add_ticks(
    ts: Any, codes: Any, price: Any, size: Any, side: Any, limit: Any, every: int,
    known: Any, newest: Any, times: Any, prices: Any, sizes: Any, moments: Any, counters: Any, first: int,
) -> int:  # fmt: skip
    """Put rows from `first` on into cells; the row it stopped at, which is `len(ts)` when DONE.

    `ts` int64 ns; `codes` int32 into `known`, which maps them to instruments (-1: not seen, numbered here in
    order of appearance); `size` and `side` (1 buy) empty where there are none; `limit` the largest volume
    that may be stored. Within an interval the row with the latest time closes, of equals the last.
    """
    sized = len(size) > 0
    sided = len(side) > 0
    rows = len(ts)
    counters[STOP] = DONE
    for row in range(first, rows):
        t = ts[row]
        p = price[row]
        if p != p:
            counters[UNPRICED] += 1
            continue
        instrument = known[codes[row]]
        if instrument < 0:
            instrument = counters[INSTRUMENTS]
            counters[INSTRUMENTS] = instrument + 1
            known[codes[row]] = instrument
        cell = newest[instrument]
        if times[cell, CLOSE_TS] <= t < times[cell, END]:
            times[cell, CLOSE_TS] = t
            prices[cell, CLOSE] = p
            if p > prices[cell, HIGH]:
                prices[cell, HIGH] = p
            if p < prices[cell, LOW]:
                prices[cell, LOW] = p
        else:
            cell = find_cell(t, every, instrument, newest, times, counters)
            if cell < 0:
                counters[STOP] = NO_CELL
                return row
            if cell == 0:
                counters[LATE] += 1
                continue
            if times[cell, CLOSE_TS] == FIRST_NS:
                prices[cell, OPEN] = p
                prices[cell, HIGH] = p
                prices[cell, LOW] = p
                prices[cell, ANCHOR] = p
                sizes[cell, VOLUME] = 0
                sizes[cell, BUY_VOLUME] = 0
                moments[cell] = 0.0
            if p > prices[cell, HIGH]:
                prices[cell, HIGH] = p
            if p < prices[cell, LOW]:
                prices[cell, LOW] = p
            if t < times[cell, OPEN_TS]:
                times[cell, OPEN_TS] = t
                prices[cell, OPEN] = p
            if t >= times[cell, CLOSE_TS]:
                times[cell, CLOSE_TS] = t
                prices[cell, CLOSE] = p
        times[cell, COUNT] += 1
        if sized:
            volume = sizes[cell, VOLUME] + size[row]
            if volume > limit:
                counters[STOP] = OVERFLOW
                return row
            sizes[cell, VOLUME] = volume
            moments[cell] += float(p - prices[cell, ANCHOR]) * float(size[row])
            if sided and side[row] == BUY:
                sizes[cell, BUY_VOLUME] += size[row]
    return rows


@njit([_bar_signature(*pair) for pair in _PAIRS], nogil=True, cache=True)
def add_bars(
    starts: Any, ends: Any, codes: Any, open_: Any, high: Any, low: Any, close: Any,
    volume: Any, buy_volume: Any, vwap: Any, trades: Any, unknown: Any, complete: Any, limit: Any, every: int,
    known: Any, newest: Any, times: Any, prices: Any, sizes: Any, moments: Any, counters: Any, first: int,
) -> int:  # fmt: skip
    """Like `add_ticks` for finer bars: `starts` and `ends` ns; `vwap` in the units of prices, NaN if unknown.

    `unknown` has the bits of what a row does not know (its value is 0 then). A bar that is not complete makes
    its coarser bar partial, and time is then known to have reached its start only.
    """
    rows = len(starts)
    counters[STOP] = DONE
    for row in range(first, rows):
        t = starts[row]
        if open_[row] != open_[row] or close[row] != close[row] or high[row] != high[row] or low[row] != low[row]:
            counters[UNPRICED] += 1
            continue
        instrument = known[codes[row]]
        if instrument < 0:
            instrument = counters[INSTRUMENTS]
            counters[INSTRUMENTS] = instrument + 1
            known[codes[row]] = instrument
        cell = find_cell(t, every, instrument, newest, times, counters)
        if cell < 0:
            counters[STOP] = NO_CELL
            return row
        if cell == 0:
            counters[LATE] += 1
            continue
        if times[cell, CLOSE_TS] == FIRST_NS:
            prices[cell, HIGH] = high[row]
            prices[cell, LOW] = low[row]
            prices[cell, ANCHOR] = open_[row]
            sizes[cell, VOLUME] = 0
            sizes[cell, BUY_VOLUME] = 0
            moments[cell] = 0.0
        if high[row] > prices[cell, HIGH]:
            prices[cell, HIGH] = high[row]
        if low[row] < prices[cell, LOW]:
            prices[cell, LOW] = low[row]
        if t < times[cell, OPEN_TS]:
            times[cell, OPEN_TS] = t
            prices[cell, OPEN] = open_[row]
        if t >= times[cell, CLOSE_TS]:
            times[cell, CLOSE_TS] = t
            prices[cell, CLOSE] = close[row]
        if complete[row]:
            counters[HORIZON] = max(counters[HORIZON], ends[row])
        else:
            counters[HORIZON] = max(counters[HORIZON], t)
            times[cell, PARTIAL] = 1
        times[cell, UNKNOWN] |= unknown[row]
        times[cell, COUNT] += trades[row]
        total = sizes[cell, VOLUME] + volume[row]
        if total > limit:
            counters[STOP] = OVERFLOW
            return row
        sizes[cell, VOLUME] = total
        sizes[cell, BUY_VOLUME] += buy_volume[row]
        if volume[row] > 0:
            moments[cell] += (vwap[row] - float(prices[cell, ANCHOR])) * float(volume[row])
    return rows
