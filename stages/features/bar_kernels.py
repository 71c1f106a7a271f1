"""Compiled loops that put trades, quotes and finer bars into the cells of open bars.

A cell is one open bar of one instrument, a record of `cell_type`: two cache lines, what every row touches in the first.
`newest[i]` is the cell of instrument `i` that ends last, and `older` leads from there back in time; cell 0 is the end
of every chain and covers no time. All functions are plain Python underneath: `.py_func` on records of Python ints does
the same for decimals of more than 18 digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import boolean, float64, from_dtype, int8, int32, int64, njit, types
from numba.extending import register_jitable

CELLS, INSTRUMENTS, CLOSED_UNTIL, LATE, UNPRICED, HORIZON, STOP = range(7)
"""Places in `counters`: cells in use (with cell 0), instruments seen, end of what is closed in ns, rows that
came too late, rows without a price, end of complete input bars in ns, and why the kernel stopped early."""
COUNTERS = 8
DONE, NO_CELL, OVERFLOW = range(3)
FIRST_NS, LAST_NS = np.iinfo(np.int64).min, np.iinfo(np.int64).max

BUY = 1
NO_VOLUME, NO_BUY_VOLUME, NO_COUNT = UNKNOWN_BITS = (1, 2, 4)
"""Bits of `unknown`: what a bar made of finer ones cannot know because one of them did not."""


def cell_type(price: Any, size: Any) -> np.dtype[Any]:
    """The record of an open bar whose prices and sizes are of these dtypes; times in ns.

    `anchor` is the first price that came, `moment` the sum of (price - anchor) * size, from which the
    volume-weighted average price is made; `unknown` has the bits above.
    """
    return np.dtype(
        [
            ("end", "i8"), ("close_ts", "i8"), ("count", "i8"), ("high", price), ("low", price), ("close", price),
            ("volume", size), ("moment", "f8"), ("anchor", price), ("open", price), ("open_ts", "i8"),
            ("buy_volume", size), ("instrument", "i8"), ("older", "i8"), ("partial", "i8"), ("unknown", "i8"),
        ]
    )  # fmt: skip


def _in(kind: Any) -> Any:
    """A contiguous vector that is only read, as Arrow buffers are."""
    return types.Array(kind, 1, "C", readonly=True)


def cells_of(price: Any, size: Any) -> Any:
    """The compiled type of a vector of cells."""
    return from_dtype(cell_type(_DTYPES[price], _DTYPES[size]))[::1]


def _tick_signature(price: Any, size: Any) -> Any:
    return int64(
        _in(int64), _in(int32), _in(price), _in(size), _in(int8), size, int64,
        int64[::1], int64[::1], int64[::1], cells_of(price, size), int64[::1], int64,
    )  # fmt: skip


def _bar_signature(price: Any, size: Any) -> Any:
    return int64(
        _in(int64), _in(int64), _in(int32), _in(price), _in(price), _in(price), _in(price),
        _in(size), _in(size), _in(float64), _in(int64), _in(int64), _in(boolean), size, int64,
        int64[::1], int64[::1], int64[::1], cells_of(price, size), int64[::1], int64,
    )  # fmt: skip


_DTYPES = {int64: np.int64, float64: np.float64}
PAIRS = [(int64, int64), (float64, float64), (int64, float64), (float64, int64)]
"""Types of prices and sizes that kernels are compiled for."""


@register_jitable
def index(place: int) -> Any:
    """`place`, known not to be negative: spares the compiled loop a check per access."""
    return np.uint64(place)


@register_jitable
def find_cell(t: int, every: int, instrument: int, newest: Any, cells: Any, counters: Any) -> Any:
    """The cell of `instrument` whose interval holds `t` (ns), made if need be; 0 if closed, -1 if no cell is left."""
    end = t - t % every + every
    if end <= counters[CLOSED_UNTIL]:
        return 0
    newer = 0
    older = newest[instrument]
    while older != 0 and cells[older]["end"] > end:
        newer = older
        older = cells[older]["older"]
    if older != 0 and cells[older]["end"] == end:
        return older
    fresh = counters[CELLS]
    if fresh == len(cells):
        return -1
    counters[CELLS] = fresh + 1
    cell = cells[fresh]
    cell["end"] = end
    cell["open_ts"] = LAST_NS
    cell["close_ts"] = FIRST_NS
    cell["count"] = 0
    cell["instrument"] = instrument
    cell["older"] = older
    cell["partial"] = 0
    cell["unknown"] = 0
    if newer == 0:
        newest[instrument] = fresh
    else:
        cells[newer]["older"] = fresh
    return fresh


@register_jitable
def add_volume(cell: Any, price: Any, size: Any, limit: Any) -> bool:
    """Add a trade to a bar's volume; False, and nothing added, where the sum would exceed `limit`."""
    volume = cell["volume"] + size
    if volume > limit:
        return False
    cell["volume"] = volume
    cell["moment"] += float(price - cell["anchor"]) * float(size)
    return True


@njit([_tick_signature(*pair) for pair in PAIRS], nogil=True, cache=True)
def add_ticks(
    ts: Any, codes: Any, price: Any, size: Any, side: Any, limit: Any, every: int,
    known: Any, current: Any, newest: Any, cells: Any, counters: Any, first: int,
) -> int:  # fmt: skip
    """Put rows from `first` on into cells; the row it stopped at, which is `len(ts)` when DONE.

    `ts` int64 ns; `codes` int32 into `known`, which maps them to instruments (-1: not seen, numbered here in order of
    appearance), and into `current`, the newest cell of each (0 if none); `size` and `side` (1 buy) empty where there
    are none; `limit` the largest volume that may be stored. Within an interval the row with the latest time closes,
    of equals the last.
    """
    sized = len(size) > 0
    sided = len(side) > 0
    row, rows, one = index(first), index(len(ts)), index(1)
    counters[STOP] = DONE
    while row < rows:
        # Most rows come in time order and belong to the newest bar of their instrument. They have a loop of their own,
        # because the compiler runs out of registers where finding a bar is part of it.
        while row < rows:
            t = ts[row]
            p = price[row]
            cell = cells[index(current[index(codes[row])])]
            if not cell["close_ts"] <= t < cell["end"] or p != p:
                break
            if sized:
                q = size[row]
                if not add_volume(cell, p, q, limit):
                    break
                if sided:
                    cell["buy_volume"] += q if side[row] == BUY else q - q
            cell["count"] += 1
            cell["close_ts"] = t
            cell["close"] = p
            cell["high"] = max(p, cell["high"])
            cell["low"] = min(p, cell["low"])
            row += one
        if row == rows:
            break
        t = ts[row]
        p = price[row]
        if p != p:
            counters[UNPRICED] += 1
            row += one
            continue
        code = index(codes[row])
        instrument = known[code]
        if instrument < 0:
            instrument = counters[INSTRUMENTS]
            counters[INSTRUMENTS] = instrument + 1
            known[code] = instrument
        found = find_cell(t, every, instrument, newest, cells, counters)
        current[code] = newest[instrument]
        if found < 0:
            counters[STOP] = NO_CELL
            break
        if found == 0:
            counters[LATE] += 1
            row += one
            continue
        cell = cells[index(found)]
        if cell["close_ts"] == FIRST_NS:
            cell["open"] = p
            cell["high"] = p
            cell["low"] = p
            cell["anchor"] = p
            cell["volume"] = 0
            cell["buy_volume"] = 0
            cell["moment"] = 0.0
        if sized:
            q = size[row]
            if not add_volume(cell, p, q, limit):
                counters[STOP] = OVERFLOW
                break
            if sided:
                cell["buy_volume"] += q if side[row] == BUY else q - q
        cell["count"] += 1
        cell["high"] = max(p, cell["high"])
        cell["low"] = min(p, cell["low"])
        if t < cell["open_ts"]:
            cell["open_ts"] = t
            cell["open"] = p
        if t >= cell["close_ts"]:
            cell["close_ts"] = t
            cell["close"] = p
        row += one
    return int(row)


@njit([_bar_signature(*pair) for pair in PAIRS], nogil=True, cache=True)
def add_bars(
    starts: Any, ends: Any, codes: Any, open_: Any, high: Any, low: Any, close: Any,
    volume: Any, buy_volume: Any, vwap: Any, trades: Any, unknown: Any, complete: Any, limit: Any, every: int,
    known: Any, current: Any, newest: Any, cells: Any, counters: Any, first: int,
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
        found = find_cell(t, every, instrument, newest, cells, counters)
        if found < 0:
            counters[STOP] = NO_CELL
            return row
        if found == 0:
            counters[LATE] += 1
            continue
        cell = cells[found]
        if cell["close_ts"] == FIRST_NS:
            cell["high"] = high[row]
            cell["low"] = low[row]
            cell["anchor"] = open_[row]
            cell["volume"] = 0
            cell["buy_volume"] = 0
            cell["moment"] = 0.0
        cell["high"] = max(high[row], cell["high"])
        cell["low"] = min(low[row], cell["low"])
        if t < cell["open_ts"]:
            cell["open_ts"] = t
            cell["open"] = open_[row]
        if t >= cell["close_ts"]:
            cell["close_ts"] = t
            cell["close"] = close[row]
        if complete[row]:
            counters[HORIZON] = max(counters[HORIZON], ends[row])
        else:
            counters[HORIZON] = max(counters[HORIZON], t)
            cell["partial"] = 1
        cell["unknown"] |= unknown[row]
        cell["count"] += trades[row]
        total = cell["volume"] + volume[row]
        if total > limit:
            counters[STOP] = OVERFLOW
            return row
        cell["volume"] = total
        cell["buy_volume"] += buy_volume[row]
        if volume[row] > 0:
            cell["moment"] += (vwap[row] - float(cell["anchor"])) * float(volume[row])
    return rows
