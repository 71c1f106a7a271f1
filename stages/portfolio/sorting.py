"""Fills of many members, gathered in the order they were made, laid out as columns member by member."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, from_dtype, int8, int64, njit, types

from .accounting import FILL

_FILLS = types.Array(from_dtype(FILL), 1, "C", readonly=True)


@njit([types.void(_FILLS, int64[::1])], nogil=True, cache=True)
def count(fills: Any, counts: Any) -> None:
    """Add the number of fills of each member to `counts` (members,)."""
    for i in range(len(fills)):
        counts[fills[i]["member"]] += 1


@njit([types.void(_FILLS, int64[::1], int64[::1], int8[::1], int64[::1], float64[:, ::1])], nogil=True, cache=True)
def lay_out(fills: Any, places: Any, times: Any, sides: Any, owners: Any, figures: Any) -> None:
    """Put each fill at its member's next place and move that on; `figures` are (6, fills), in the order of FILL."""
    for i in range(len(fills)):
        fill = fills[i]
        at = places[fill["member"]]
        places[fill["member"]] = at + 1
        times[at], sides[at], owners[at] = fill["ts"], fill["side"], fill["instrument"]
        figures[0, at], figures[1, at] = fill["quantity"], fill["price"]
        figures[2, at], figures[3, at] = fill["fee"], fill["slippage"]
        figures[4, at], figures[5, at] = fill["position_after"], fill["cash_after"]


def sorted_columns(gathered: list[np.ndarray[Any, Any]], members: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Offsets by member, int64 (members + 1,), then `times`, `sides`, `owners` and `figures` of all fills."""
    counts = np.zeros(members, np.int64)
    for fills in gathered:
        count(fills, counts)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    total = int(offsets[-1])
    times, owners = np.empty(total, np.int64), np.empty(total, np.int64)
    sides, figures = np.empty(total, np.int8), np.empty((6, total))
    places = offsets[:-1].copy()
    for fills in gathered:
        lay_out(fills, places, times, sides, owners, figures)
    return offsets, times, sides, owners, figures
