"""Compiled loops that take closed bars out of the cells, in order, and lay them out as columns.

Like those of `bar_kernels` they are plain Python underneath, for decimals of more than 18 digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, int32, int64, njit

from .bar_kernels import CELLS, CLOSED_UNTIL, FIRST_NS, INSTRUMENTS, NO_VOLUME, PAIRS, cells_of

END, START, SEQUENCE, COUNT, OWNER = range(5)
"""Lines of `whole`, which `lay_out` fills: ns, ns, ordinal, trades, instrument."""
OPEN, HIGH, LOW, CLOSE = range(4)
"""Lines of `prices`."""
VOLUME, BUY_VOLUME = range(2)
"""Lines of `sizes`."""
NO_VWAP, PARTIAL = 8, 16
"""What `lay_out` has found beside the bits of `unknown`: bars without an average price, bars not complete."""


def _take_signature(price: Any, size: Any) -> Any:
    cells = cells_of(price, size)
    return int64(int64, cells, int64[::1], int64[::1], cells)


def _lay_signature(price: Any, size: Any) -> Any:
    return int64(
        cells_of(price, size), int64, int64, int64, float64,
        int64[:, ::1], int32[::1], price[:, ::1], size[:, ::1], float64[::1],
    )  # fmt: skip


@njit([_take_signature(*pair) for pair in PAIRS], nogil=True, cache=True)
def take_due(until: int, cells: Any, newest: Any, counters: Any, closed: Any) -> int:
    """Move the cells that end at `until` (ns) or before to `closed`, ordered by end, then instrument; how many.

    Those that stay close up, in their order, so that cells in use are always the first ones.
    """
    counters[CLOSED_UNTIL] = until
    used = counters[CELLS]
    places = np.empty(used, np.int64)
    ends = np.empty(used, np.int64)
    due = 0
    for instrument in range(counters[INSTRUMENTS]):
        newer = 0
        place = newest[instrument]
        while place != 0 and cells[place]["end"] > until:
            newer = place
            place = cells[place]["older"]
        if newer == 0:
            newest[instrument] = 0
        else:
            cells[newer]["older"] = 0
        while place != 0:
            places[due] = place
            ends[due] = cells[place]["end"]
            due += 1
            place = cells[place]["older"]
    if due == 0:
        return 0
    # One instrument's bars have different ends, so a stable sort by end leaves instruments in order.
    order = np.argsort(ends[:due], kind="mergesort")
    for row in range(due):
        place = places[order[row]]
        closed[row] = cells[place]
        cells[place]["end"] = FIRST_NS
    moved = places  # read to the end above; from here on the new place of each old one
    moved[0] = 0
    kept = 1
    for place in range(1, used):
        if cells[place]["end"] != FIRST_NS:
            moved[place] = kept
            if kept != place:
                cells[kept] = cells[place]
            kept += 1
    for place in range(1, kept):
        cells[place]["older"] = moved[cells[place]["older"]]
    for instrument in range(counters[INSTRUMENTS]):
        newest[instrument] = moved[newest[instrument]]
    counters[CELLS] = kept
    return due


@njit([_lay_signature(*pair) for pair in PAIRS], nogil=True, cache=True)
def lay_out(
    closed: Any, every: int, first: int, never_known: int, unit: float,
    whole: Any, codes: Any, prices: Any, sizes: Any, vwap: Any,
) -> int:  # fmt: skip
    """Fill the lines of columns from bars `every` ns long, the ordinal of the first of which is `first`.

    `vwap` is the volume-weighted average price, `unit` (10^scale) being one of the price's units, and NaN where
    nothing was traded or nobody knows. Returns bits of what was found: the `unknown` of all bars, NO_VWAP, PARTIAL.
    """
    found = 0
    for row in range(len(closed)):
        bar = closed[row]
        end = bar["end"]
        whole[END, row] = end
        whole[START, row] = end - every
        whole[SEQUENCE, row] = first + row
        whole[COUNT, row] = bar["count"]
        whole[OWNER, row] = bar["instrument"]
        codes[row] = bar["instrument"]
        prices[OPEN, row] = bar["open"]
        prices[HIGH, row] = bar["high"]
        prices[LOW, row] = bar["low"]
        prices[CLOSE, row] = bar["close"]
        volume = bar["volume"]
        sizes[VOLUME, row] = volume
        sizes[BUY_VOLUME, row] = bar["buy_volume"]
        unknown = bar["unknown"]
        found |= unknown
        if (unknown | never_known) & NO_VOLUME == 0 and volume != 0:
            vwap[row] = (float(bar["anchor"]) + bar["moment"] / float(volume)) / unit
        else:
            vwap[row] = np.nan
            found |= NO_VWAP
        if bar["partial"] != 0:
            found |= PARTIAL
    return found
