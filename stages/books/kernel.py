"""Compiled order books: groups of updates of any number of instruments in one call, until something is unusual."""

from __future__ import annotations

from typing import Any

from numba import int64, njit, types

from .layout import (
    ACCEPTED,
    BEST,
    CHAIN,
    CHECKED,
    CONTIGUOUS,
    COUNT,
    CROSSED,
    ENDED,
    FITS,
    GROUP,
    IS_CROSSED,
    JOINING,
    KNOWN,
    LAST,
    LIVE,
    MONOTONE,
    NEEDS_ROOM,
    NEEDS_SPACE,
    NEXT,
    NONE,
    PREVIOUS,
    QUOTES,
    RECENT,
    RECV,
    ROOM,
    SEEN,
    SPAN,
    START,
    STATE,
    TIME,
    TOPS,
    TRIMMED,
    UNCHAINED,
    UNDONE,
    UNUSUAL,
    VERIFIED,
)
from .levels import GRID, INTS, READ_BYTES, READ_INTS, apply

_PRIME = 1099511628211
"""Of the FNV-1a hash, by which equal groups are known where nothing counts them."""


@njit([int64(int64, int64, int64, READ_BYTES, READ_BYTES, READ_INTS, READ_INTS)], nogil=True, cache=True)
def digest(time: int, first: int, last: int, action: Any, side: Any, price: Any, size: Any) -> int:
    """What tells a group from others where there is no sequence: a hash of its time and rows."""
    value: Any = int64(-3750763034362895579)
    for word in (time, last - first):
        value = (value ^ word) * _PRIME
    for row in range(first, last):
        for word in (int64(action[row]) * 4 + side[row], price[row], size[row]):
            value = (value ^ word) * _PRIME
        value ^= value >> 29
    return int(value) if value != NONE else 0


@njit([types.boolean(INTS, int64, int64)], nogil=True, cache=True)
def is_recent(recent: Any, seen: int, name: int) -> bool:
    """Whether a sequence or digest is among the last of a book."""
    for place in range(min(seen, RECENT)):
        if recent[place] == name:
            return True
    return False


@njit([types.void(GRID, GRID, int64, int64)], nogil=True, cache=True)
def remember(recent: Any, books: Any, book: int, name: int) -> None:
    """Keep a sequence or digest, in the place of the oldest."""
    recent[book, books[book, SEEN] % RECENT] = name
    books[book, SEEN] += 1


@njit([int64(int64, int64, int64, INTS, INTS, GRID, GRID, GRID, GRID, GRID, int64, INTS)], nogil=True, cache=True)
def settle(
    book: int, group: int, recv: int, keys: Any, sizes: Any, sides: Any, books: Any,
    told: Any, quotes: Any, tops: Any, every: int, counters: Any,
) -> int:  # fmt: skip
    """What follows from a book at the end of a group: whether it is crossed, and its best quote and top if changed.

    1 where it has just become crossed, else 0. `told` holds the tops as published last, (price, size) pairs of bids and
    of asks, best first; with `every` ns a book's top is published at most once in each such span of receive time.
    """
    best = (NONE, NONE, NONE, NONE)
    bids, asks = 2 * book, 2 * book + 1
    bid_at = sides[bids, START] + sides[bids, COUNT] - 1
    ask_at = sides[asks, START] + sides[asks, COUNT] - 1
    has_bid, has_ask = sides[bids, COUNT] > 0, sides[asks, COUNT] > 0
    if has_bid and has_ask:
        best = (keys[bid_at], sizes[bid_at], -keys[ask_at], sizes[ask_at])
    elif has_bid:
        best = (keys[bid_at], sizes[bid_at], NONE, NONE)
    elif has_ask:
        best = (NONE, NONE, -keys[ask_at], sizes[ask_at])
    crossed = has_bid and has_ask and best[0] >= best[2]
    began = crossed and books[book, CROSSED] == 0
    books[book, CROSSED] = crossed
    changed = False
    for i in range(4):
        changed = changed or books[book, BEST + i] != best[i]
    if changed:
        unknown = (has_bid and keys[bid_at] < sides[bids, KNOWN]) or (has_ask and keys[ask_at] < sides[asks, KNOWN])
        out = counters[QUOTES]
        quotes[out, 0], quotes[out, 1], quotes[out, 2] = group, books[book, LAST], books[book, TIME]
        for i in range(4):
            quotes[out, 3 + i] = books[book, BEST + i] = best[i]
        quotes[out, 7] = crossed or unknown
        counters[QUOTES] = out + 1
    depth = told.shape[1] // 4
    if depth == 0 or (every > 0 and recv // every == books[book, SPAN]):
        return 1 if began else 0
    changed = unknown = False
    out = counters[TOPS]
    for half in range(2):
        slot = 2 * book + half
        place = sides[slot, START] + sides[slot, COUNT] - 1
        for level in range(depth):
            while place >= sides[slot, START] and sizes[place] == 0:
                place -= 1
            there = place >= sides[slot, START]
            price = (keys[place] if half == 0 else -keys[place]) if there else NONE
            size = sizes[place] if there else NONE
            unknown = unknown or (there and keys[place] < sides[slot, KNOWN])
            place -= 1
            at = 2 * (half * depth + level)
            changed = changed or told[book, at] != price or told[book, at + 1] != size
            tops[out, 4 + at], tops[out, 5 + at] = price, size
    if changed:
        tops[out, 0], tops[out, 1], tops[out, 2] = group, books[book, LAST], books[book, TIME]
        tops[out, 3] = crossed or unknown
        told[book] = tops[out, 4:]
        counters[TOPS] = out + 1
        books[book, SPAN] = recv // every if every > 0 else 0
    return 1 if began else 0


@njit(
    [
        int64(
            READ_INTS, READ_INTS, READ_BYTES, READ_BYTES, READ_INTS, READ_INTS, READ_INTS, READ_INTS, READ_INTS,
            READ_BYTES, READ_BYTES, READ_INTS, READ_INTS,
            INTS, INTS, GRID, GRID, GRID, GRID, GRID, GRID, GRID, GRID, types.int8[::1], int64, INTS,
        )
    ],
    nogil=True,
    cache=True,
)  # fmt: skip
def advance(
    starts: Any, owners: Any, complete: Any, checked: Any, sequence: Any, first: Any, previous: Any, time: Any,
    recv: Any, action: Any, side: Any, price: Any, size: Any,
    keys: Any, sizes: Any, sides: Any, books: Any, recent: Any, told: Any, quotes: Any, tops: Any, trimmed: Any,
    undo: Any, crossed: Any, every: int, counters: Any,
) -> int:  # fmt: skip
    """Apply groups from `counters[GROUP]` on while each is the next one of a live book; why it stopped (layout.py).

    Groups: starts (groups + 1,) their first rows; owners (groups,) whose they are; complete, 1 for snapshots; checked,
            1 where there is a checksum; sequences, event and receive times, NONE where there is none. Rows: action ...
    State:  keys, sizes, sides, books, recent (books x RECENT), told (books x 4 depth).
    Output: quotes, tops, trimmed, undo by `counters`, crossed (groups,) 1 where a book was crossed after a group.
    """
    groups = len(owners)
    while counters[GROUP] < groups:
        group = counters[GROUP]
        book = owners[group]
        begin, end = starts[group], starts[group + 1]
        chain, last = books[book, CHAIN], books[book, LAST]
        if complete[group] == 1 or books[book, STATE] != LIVE or books[book, JOINING] == 1:
            return UNUSUAL
        name = sequence[group]
        if books[book, JOINING] != ACCEPTED:
            if chain == PREVIOUS:
                fits = previous[group] <= last < name and previous[group] != NONE
            elif chain == CONTIGUOUS:
                fits = first[group] <= last + 1 <= name and first[group] != NONE
            elif chain == NEXT:
                fits = name == last + 1
            elif chain == MONOTONE:
                fits = name > last
            else:
                if time[group] != NONE:
                    name = digest(time[group], begin, end, action, side, price, size)
                fits = time[group] == NONE or not is_recent(recent[book], books[book, SEEN], name)
            if not fits:
                return UNUSUAL
        rows = end - begin
        for slot in range(2 * book, 2 * book + 2):
            if sides[slot, COUNT] + rows > sides[slot, ROOM]:
                return NEEDS_ROOM
        if (
            counters[QUOTES] >= len(quotes)
            or counters[TOPS] >= len(tops)
            or counters[TRIMMED] + rows > len(trimmed)
            or (checked[group] == 1 and rows > len(undo))
        ):
            return NEEDS_SPACE
        counters[UNDONE] = 0
        verified = checked[group] == 1 and books[book, VERIFIED] == 1
        apply(
            book, group, begin, end, action, side, price, size, keys, sizes, sides, books, trimmed,
            undo if verified else undo[:0], counters,
        )  # fmt: skip
        if sequence[group] != NONE:
            books[book, LAST] = sequence[group]
        books[book, TIME], books[book, RECV] = time[group], recv[group]
        books[book, JOINING] = FITS
        if chain != UNCHAINED or time[group] != NONE:
            remember(recent, books, book, name)
        if verified:
            return CHECKED
        began = settle(book, group, recv[group], keys, sizes, sides, books, told, quotes, tops, every, counters)
        crossed[group] = books[book, CROSSED]
        counters[GROUP] = group + 1
        if began == 1:
            return IS_CROSSED
    return ENDED
