"""Fills of many members, gathered in the order they were made, laid out as columns member by member."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import float64, from_dtype, int8, int64, njit, types

from .accounting import FILL

_FILLS = types.Array(from_dtype(FILL), 1, "C", readonly=True)


@njit([types.void(_FILLS, int64[::1])], nogil=True, cache=True)
def count(fills: Any, counts: Any) -> None:
    """Add the number of fills of each member to `counts` (members,)."""
    for i in range(len(fills)):
        counts[fills[i]["member"]] += 1


@njit(
    [types.void(_FILLS, int64, int64[::1], int64[::1], int8[::1], int64[::1], *[float64[::1]] * 6)],
    nogil=True,
    cache=True,
)
def lay_out(
    fills: Any, first: int, places: Any, times: Any, sides: Any, owners: Any,
    quantities: Any, prices: Any, fees: Any, slippages: Any, positions: Any, cash: Any,
) -> None:  # fmt: skip
    """Put each fill of a member from `first` at the member's next place, and move that on; `places` (members,)."""
    for i in range(len(fills)):
        fill = fills[i]
        member = fill["member"] - first
        if 0 <= member < len(places):
            at = places[member]
            places[member] = at + 1
            times[at], sides[at], owners[at] = fill["ts"], fill["side"], fill["instrument"]
            quantities[at], prices[at], fees[at] = fill["quantity"], fill["price"], fill["fee"]
            slippages[at], positions[at], cash[at] = fill["slippage"], fill["position_after"], fill["cash_after"]


class Sorted(NamedTuple):
    """Fills of some members, one member after the other; each array owns its memory."""

    members: list[int]
    offsets: np.ndarray[Any, np.dtype[np.int64]]
    """Where those of each member begin, and at last how many there are."""
    times: np.ndarray[Any, np.dtype[np.int64]]
    sides: np.ndarray[Any, np.dtype[np.int8]]
    owners: np.ndarray[Any, np.dtype[np.int64]]
    figures: list[np.ndarray[Any, np.dtype[np.float64]]]
    """The floats of FILL, in its order."""


def by_member(gathered: Sequence[np.ndarray[Any, Any]], members: int, together: int) -> Iterator[Sorted]:
    """FILL records that came in the order of time, by member, so many `together`; members without any are left out."""
    counts = np.zeros(members, np.int64)
    for fills in gathered:
        count(fills, counts)
    for first in range(0, members, together):
        own = counts[first : first + together]
        offsets = np.concatenate([[0], np.cumsum(own)])
        total = int(offsets[-1])
        if not total:
            continue
        times, owners = np.empty(total, np.int64), np.empty(total, np.int64)
        sides, figures = np.empty(total, np.int8), [np.empty(total) for _ in range(6)]
        places = offsets[:-1].copy()
        for fills in gathered:
            begin, end = fills[0]["member"], fills[-1]["member"]
            if begin < first + together and end >= first:
                lay_out(fills, first, places, times, sides, owners, *figures)
        with_fills = np.flatnonzero(own)
        cuts = np.append(offsets[:-1][with_fills], total)
        yield Sorted((with_fills + first).tolist(), cuts, times, sides, owners, figures)
