"""The arrays in which all books of a keeper lie, and how they grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from pipeline import fitting

from .layout import (
    BEST,
    BOOK_WIDTH,
    CHAIN,
    CHAINS,
    COUNT,
    GONE,
    KNOWN,
    LAST,
    LIMIT,
    NONE,
    RECENT,
    ROOM,
    SIDE_WIDTH,
    START,
    TIME,
    VERIFIED,
)
from .rule import BookRule

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

MAX_LEVELS = 1 << 18
"""Levels a side of any book, 4 MiB; what lies deeper is cut off as beyond a venue's own depth, and told as gone."""
FIRST_ROOM = 64
"""Levels a side that has any has room for."""


class Shelf:
    """Books by number: two sides each in one growing pair of arrays, and a row of what else is known (layout.py)."""

    def __init__(self, depth: int) -> None:
        self.keys, self.sizes = _ints(1024), _ints(1024)
        self.used = 0
        self.sides, self.books = _ints(0, SIDE_WIDTH), _ints(0, BOOK_WIDTH)
        self.recent, self.told = _ints(0, RECENT), _ints(0, 4 * depth)

    def __len__(self) -> int:
        return len(self.books)

    def add(self, rule: BookRule) -> None:
        """One more book, empty."""
        book = np.full((1, BOOK_WIDTH), 0, np.int64)
        book[0, CHAIN] = CHAINS.index(rule.chain)
        book[0, LIMIT] = min(rule.depth or MAX_LEVELS, MAX_LEVELS)
        book[0, VERIFIED] = rule.checksum is not None
        book[0, [LAST, TIME]] = NONE
        book[0, BEST:] = NONE
        sides = np.zeros((2, SIDE_WIDTH), np.int64)
        sides[:, KNOWN] = NONE
        self.books = np.concatenate([self.books, book])
        self.sides = np.concatenate([self.sides, sides])
        self.recent = np.concatenate([self.recent, np.zeros((1, RECENT), np.int64)])
        self.told = np.concatenate([self.told, np.full((1, self.told.shape[1]), NONE, np.int64)])

    def make_room(self, book: int, levels: int) -> None:
        """So that both sides of a book may grow by this many levels: one that may not moves, to twice the room."""
        for slot in (2 * book, 2 * book + 1):
            start, room, count = self.sides[slot, [START, ROOM, COUNT]].tolist()
            if count + levels <= room:
                continue
            wanted = max(FIRST_ROOM, 1 << (2 * count + levels).bit_length())
            if self.used + wanted > len(self.keys):
                self._repack(wanted)
                start = int(self.sides[slot, START])
            for array in (self.keys, self.sizes):
                array[self.used : self.used + count] = array[start : start + count]
            self.sides[slot, [START, ROOM]] = self.used, wanted
            self.used += wanted

    def clear(self, book: int) -> None:
        """Take all levels out."""
        self.sides[2 * book : 2 * book + 2, [COUNT, GONE]] = 0
        self.sides[2 * book : 2 * book + 2, KNOWN] = NONE

    def side(self, book: int, half: int, levels: int | None = None) -> tuple[Ints, Ints]:
        """Copies of prices and sizes of one side (0 bids, 1 asks), best first, the first `levels` of them."""
        start, count = self.sides[2 * book + half, [START, COUNT]].tolist()
        places = np.flatnonzero(self.sizes[start : start + count])[::-1][:levels] + start
        keys = self.keys[places]
        return (-keys if half else keys), self.sizes[places]

    def snapshot(self) -> dict[str, Any]:
        """All of it; levels without the room around them."""
        used = [np.arange(start, start + count) for start, _, count, *_ in self.sides.tolist()]
        at = np.concatenate([*used, np.zeros(0, np.int64)])
        return {
            "keys": self.keys[at],
            "sizes": self.sizes[at],
            "sides": self.sides.copy(),
            "books": self.books.copy(),
            "recent": self.recent.copy(),
            "told": self.told.copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Bring back what `snapshot` gave, into a shelf that has no book yet."""
        self.sides = fitting("sides", state["sides"], self.sides, rows=True)
        self.books = fitting("books", state["books"], self.books, rows=True)
        self.recent = fitting("recent", state["recent"], self.recent, rows=True)
        self.told = fitting("told", state["told"], self.told, rows=True)
        self.keys = fitting("keys", state["keys"], self.keys, rows=True)
        self.sizes = fitting("sizes", state["sizes"], self.sizes, rows=True)
        self.used = len(self.keys)
        counts = self.sides[:, COUNT]
        self.sides[:, ROOM] = counts
        self.sides[:, START] = np.cumsum(counts) - counts

    def _repack(self, more: int) -> None:
        """New arrays, twice as long as what is in use needs: sides lie one after the other again, without holes."""
        rooms = self.sides[:, ROOM]
        starts = np.cumsum(rooms) - rooms
        self.used = int(rooms.sum())
        keys, sizes = _ints(2 * (self.used + more)), _ints(2 * (self.used + more))
        for new, (old, _, count, *_) in zip(starts.tolist(), self.sides.tolist(), strict=True):
            keys[new : new + count] = self.keys[old : old + count]
            sizes[new : new + count] = self.sizes[old : old + count]
        self.keys, self.sizes = keys, sizes
        self.sides[:, START] = starts


def _ints(*shape: int) -> Ints:
    return np.zeros(shape, np.int64)
