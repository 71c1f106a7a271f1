"""The compiled work on one batch: groups applied until one is unusual, and what comes out, in arrays that grow."""

from __future__ import annotations

import numpy as np

from . import layout
from .kernel import advance, settle
from .layout import GROUP, NEEDS_ROOM, NEEDS_SPACE, QUOTES, TOPS, TRIMMED
from .levels import apply, take_back
from .received import Group, Received
from .shelf import Ints, Shelf


class Work:
    """Owns the output arrays, which are used batch after batch, and the counters of how far they are filled."""

    def __init__(self, shelf: Shelf, depth: int, every: int) -> None:
        self.shelf, self.every = shelf, every
        self._quotes = np.zeros((256, layout.QUOTE_WIDTH), np.int64)
        self._tops = np.zeros((256 if depth else 1, 4 + 4 * depth), np.int64)
        self._trimmed = np.zeros((256, layout.TRIMMED_WIDTH), np.int64)
        self._undo = np.zeros((256, layout.UNDO_WIDTH), np.int64)
        self._counters = np.zeros(layout.COUNTERS, np.int64)

    def begin(self, received: Received, owners: Ints) -> None:
        """Start on a batch; what came of the last one is no longer here."""
        self.received, self.owners = received, owners
        self._counters[:] = 0
        self.crossed = np.zeros(len(received), np.int8)

    @property
    def group(self) -> int:
        return int(self._counters[GROUP])

    def skip(self) -> None:
        """The group it is at has been dealt with."""
        self._counters[GROUP] += 1

    def advance(self) -> int:
        """On to the next group that is not simply applied; why it stopped (layout.py)."""
        of, shelf = self.received, self.shelf
        while True:
            reason: int = advance(
                of.starts, self.owners, of.complete, of.checked, of.sequence, of.first, of.previous, of.time,
                of.recv, of.action, of.side, of.price, of.size,
                shelf.keys, shelf.sizes, shelf.sides, shelf.books, shelf.recent, shelf.told,
                self._quotes, self._tops, self._trimmed, self._undo, self.crossed, self.every, self._counters,
            )  # fmt: skip
            rows = int(of.starts[min(self.group + 1, len(of))] - of.starts[self.group])
            if reason == NEEDS_ROOM:
                shelf.make_room(int(self.owners[self.group]), rows)
            elif reason == NEEDS_SPACE:
                self._make_space(rows)
            else:
                return reason

    def settle(self, book: int) -> bool:
        """Quote and top of a book after the group it is at; whether the book has become crossed by it."""
        self._make_space(0)
        shelf, group = self.shelf, self.group
        began = settle(
            book, group, int(self.received.recv[group]), shelf.keys, shelf.sizes, shelf.sides, shelf.books, shelf.told,
            self._quotes, self._tops, self.every, self._counters,
        )  # fmt: skip
        self.crossed[group] = shelf.books[book, layout.CROSSED]
        return bool(began)

    def load(self, book: int, groups: list[Group]) -> None:
        """Apply groups that were kept, without publishing what they cut off."""
        shelf, kept = self.shelf, self._counters[TRIMMED]
        for group in groups:
            shelf.make_room(book, group.rows)
            self._make_space(group.rows)
            apply(
                book, self.group, 0, group.rows, group.action, group.side, group.price, group.size, shelf.keys,
                shelf.sizes, shelf.sides, shelf.books, self._trimmed, self._undo[:0], self._counters,
            )  # fmt: skip
            self._counters[TRIMMED] = kept

    def take_back(self) -> None:
        """Undo the group it is at, which was applied and found wrong."""
        kept, shelf = int(self._counters[TRIMMED]), self.shelf
        while kept and self._trimmed[kept - 1, 0] == self.group:
            kept -= 1
        take_back(shelf.keys, shelf.sizes, shelf.sides, self._trimmed, self._undo, self._counters, kept)

    def quotes(self) -> Ints:
        return self._quotes[: self._counters[QUOTES]].copy()

    def tops(self) -> Ints:
        return self._tops[: self._counters[TOPS]].copy()

    def trimmed(self) -> Ints:
        return self._trimmed[: self._counters[TRIMMED]].copy()

    def _make_space(self, rows: int) -> None:
        """So that one more group of so many rows has where to leave what comes of it."""
        counters = self._counters
        self._quotes = _grown(self._quotes, int(counters[QUOTES]) + 1)
        self._tops = _grown(self._tops, int(counters[TOPS]) + 1)
        self._trimmed = _grown(self._trimmed, int(counters[TRIMMED]) + rows)
        self._undo = _grown(self._undo, rows)


def _grown(array: Ints, rows: int) -> Ints:
    """An array of at least so many rows, twice as long where it has to grow."""
    if rows <= len(array):
        return array
    return np.concatenate([array, np.zeros((max(rows, 2 * len(array)) - len(array), array.shape[1]), np.int64)])
