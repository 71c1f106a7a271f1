"""Compiled sides of books: sorted by price with the best at the end, so that most changes move little.

All sides lie in two arrays, keys and sizes; a row of `sides` says where (layout.py). A key is the price of a bid and
the negative price of an ask, so that the best level of either side is the one with the largest key.

A level that is gone leaves its place behind, with size 0: often the same price comes back, or a neighbour takes it, and
a new level moves others only as far as to the next such place. The last place of a side is never one.
"""

from __future__ import annotations

from typing import Any

from numba import int8, int64, njit, types

from .layout import COUNT, GONE, LIMIT, ROOM, START, TRIMMED, UNDONE

SQUEEZED = 64
"""Places from which on a side more than half empty is made dense again."""
CLEARS, DELETES, CHANGES_NOTHING, BIDS = 4, 3, 0, 1
"""Actions and the side as in the rows; compiled code takes no constants from the package of schemas."""


def readable(kind: Any, dimensions: int = 1) -> Any:
    """A contiguous array that is only read."""
    return types.Array(kind, dimensions, "C", readonly=True)


INTS, GRID = int64[::1], int64[:, ::1]
READ_INTS, READ_BYTES = readable(int64), readable(int8)


@njit([int64(INTS, int64, int64, int64)], nogil=True, cache=True)
def place(keys: Any, first: int, last: int, key: int) -> int:
    """The first place in `[first, last)` with at least this key, else `last`; looked for from the end, ever faster."""
    high, step = last, 1
    while high - step >= first and keys[high - step] >= key:
        high -= step
        step *= 2
    low = max(first, high - step + 1)
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@njit([int64(INTS, INTS, GRID, int64, int64, int64)], nogil=True, cache=True)
def put(keys: Any, sizes: Any, sides: Any, slot: int, key: int, size: int) -> int:
    """Set a level of the side `slot`, or with size 0 take it out; returns its size before (0: there was none)."""
    first = sides[slot, START]
    last = first + sides[slot, COUNT]
    at = place(keys, first, last, key)
    if at < last and keys[at] == key:
        before: int = sizes[at]
        sizes[at] = size
        if size == 0 and before != 0:
            sides[slot, GONE] += 1
            if at == last - 1:
                while sides[slot, COUNT] > 0 and sizes[first + sides[slot, COUNT] - 1] == 0:
                    sides[slot, COUNT] -= 1
                    sides[slot, GONE] -= 1
        elif size != 0 and before == 0:
            sides[slot, GONE] -= 1
        return before
    if size == 0:
        return 0
    if at > first and sizes[at - 1] == 0:
        keys[at - 1] = key
        sizes[at - 1] = size
        sides[slot, GONE] -= 1
        return 0
    while at < last:
        key, keys[at] = keys[at], key
        size, sizes[at] = sizes[at], size
        at += 1
        if size == 0:
            sides[slot, GONE] -= 1
            return 0
    keys[last] = key
    sizes[last] = size
    sides[slot, COUNT] += 1
    return 0


@njit([types.void(INTS, INTS, GRID, int64)], nogil=True, cache=True)
def squeeze(keys: Any, sizes: Any, sides: Any, slot: int) -> None:
    """Take out the places whose level is gone."""
    first = sides[slot, START]
    to = first
    for at in range(first, first + sides[slot, COUNT]):
        if sizes[at] != 0:
            keys[to] = keys[at]
            sizes[to] = sizes[at]
            to += 1
    sides[slot, COUNT] = to - first
    sides[slot, GONE] = 0


@njit(
    [
        types.void(
            int64, int64, int64, int64, READ_BYTES, READ_BYTES, READ_INTS, READ_INTS,
            INTS, INTS, GRID, GRID, GRID, GRID, INTS,
        )
    ],
    nogil=True,
    cache=True,
)  # fmt: skip
def apply(
    book: int, group: int, first: int, last: int, action: Any, side: Any, price: Any, size: Any,
    keys: Any, sizes: Any, sides: Any, books: Any, trimmed: Any, undo: Any, counters: Any,
) -> None:  # fmt: skip
    """Rows `[first, last)` into a book whose sides have room for them; then what lies too deep is cut off.

    `trimmed` gets what was cut off. Where `undo` has rows, it gets what takes all of it back (not beyond a clear).
    """
    for row in range(first, last):
        what = action[row]
        if what == CHANGES_NOTHING:
            continue
        if what == CLEARS:
            for half in range(2):
                if side[row] == 0 or side[row] == half + 1:
                    sides[2 * book + half, COUNT] = 0
                    sides[2 * book + half, GONE] = 0
            continue
        slot = 2 * book + (0 if side[row] == BIDS else 1)
        key = price[row] if side[row] == BIDS else -price[row]
        before = put(keys, sizes, sides, slot, key, 0 if what == DELETES else size[row])
        if len(undo) > 0:
            step = counters[UNDONE]
            undo[step, 0], undo[step, 1], undo[step, 2] = slot, key, before
            counters[UNDONE] = step + 1
    for slot in range(2 * book, 2 * book + 2):
        while sides[slot, COUNT] - sides[slot, GONE] > books[book, LIMIT]:
            at = sides[slot, START]
            if sizes[at] == 0:
                sides[slot, GONE] -= 1
            else:
                out = counters[TRIMMED]
                trimmed[out, 0], trimmed[out, 1], trimmed[out, 2], trimmed[out, 3] = group, slot, keys[at], sizes[at]
                counters[TRIMMED] = out + 1
            sides[slot, START] += 1
            sides[slot, ROOM] -= 1
            sides[slot, COUNT] -= 1
        if sides[slot, COUNT] > SQUEEZED and 2 * sides[slot, GONE] > sides[slot, COUNT]:
            squeeze(keys, sizes, sides, slot)


@njit([types.void(INTS, INTS, GRID, GRID, GRID, INTS, int64)], nogil=True, cache=True)
def take_back(keys: Any, sizes: Any, sides: Any, trimmed: Any, undo: Any, counters: Any, kept: int) -> None:
    """Undo the group applied last: what it cut off, beyond the first `kept` rows of `trimmed`, then its changes."""
    while counters[TRIMMED] > kept:
        counters[TRIMMED] -= 1
        slot = trimmed[counters[TRIMMED], 1]
        sides[slot, START] -= 1
        sides[slot, ROOM] += 1
        sides[slot, COUNT] += 1
        keys[sides[slot, START]] = trimmed[counters[TRIMMED], 2]
        sizes[sides[slot, START]] = trimmed[counters[TRIMMED], 3]
    while counters[UNDONE] > 0:
        counters[UNDONE] -= 1
        step = counters[UNDONE]
        put(keys, sizes, sides, undo[step, 0], undo[step, 1], undo[step, 2])
