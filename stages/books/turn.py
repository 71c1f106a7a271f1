"""What is decided about one batch's groups that are not simply the next ones of a live book."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..schemas import Scales
from .checksums import WRONG, matching_places
from .kept import Note, SnapshotNeeded, whole_book
from .kernel import digest, is_recent, remember
from .layout import (
    ACCEPTED,
    CROSSED,
    EMPTY,
    FITS,
    JOINING,
    KNOWN,
    LAST,
    LIVE,
    NONE,
    RECV,
    SEEN,
    STALE,
    STATE,
    SYNCING,
    TIME,
    WAITS,
)
from .received import Group, Received
from .rule import BookRule
from .shelf import Ints
from .syncing import MAX_BUFFERED_ROWS, Sync, follows, hole, joins
from .work import Work

MAX_TRIES = 5
"""Snapshots that may fail to fit before a book is given up as stale; one that fits later brings it back."""
COUNTS = ("unstarted", "superseded", "ignored_snapshots", "dropped")
"""Groups that leave no record: updates before a stream's first snapshot, updates that a snapshot holds already,
snapshots of a live book, and updates dropped because they were too many to keep."""


class Turn:
    """One batch: its rows to publish, and what is told about it."""

    def __init__(
        self, received: Received, owners: Ints, work: Work, rules: list[BookRule], syncs: list[Sync],
        names: list[str], scales: Scales, counts: dict[str, int],
    ) -> None:  # fmt: skip
        self.received, self.owners, self.work, self.shelf = received, owners, work, work.shelf
        self.rules, self.syncs, self.names, self.scales = rules, syncs, names, scales
        self.counts = counts
        self.published: list[tuple[int, int]] = []
        self.made: list[Ints] = []
        self.notes: list[Note] = []
        self.requests: list[SnapshotNeeded] = []

    def unusual(self, at: int) -> bool:
        """Decide about one group; True where it is to be applied after all."""
        book = int(self.owners[at])
        rule, sync = self.rules[book], self.syncs[book]
        group = self.received.group(at)
        reset = rule.reset_sequence is not None and group.sequence == rule.reset_sequence
        if self.received.complete[at] or reset:
            self._snapshot(at, book, rule, sync, group)
            return False
        name = self._name(rule, group)
        if self._is_repeated(book, name):
            self._note(at, "duplicate", seq_got=group.sequence, action_taken="dropped")
            return False
        state = self._state(book)
        if state == LIVE:
            return self._unexpected(at, book, rule, sync, group)
        if rule.snapshots == "stream":
            self._unstreamed(at, book, rule, sync, group)
        else:
            self._wait(at, book, rule, sync, group)
        return False

    def verify(self, at: int) -> bool:
        """Whether the checksum of the group just applied is right; if not, it is undone and a snapshot awaited."""
        book = int(self.owners[at])
        if self._is_right(at, book):
            return True
        self.work.take_back()
        self._wrong_checksum(at, book)
        return False

    def crossed(self, at: int) -> None:
        """A book has become crossed: once for as long as it stays so."""
        (bids, _), (asks, _) = (self.shelf.side(int(self.owners[at]), half, 1) for half in (0, 1))
        places = self.scales.price
        self._note(
            at,
            "crossed",
            action_taken="published with MAYBE_BAD_BOOK",
            detail=f"best bid {bids[0]}e-{places} is not below best ask {asks[0]}e-{places}",
        )

    def settle(self, at: int) -> None:
        """The end of a group that was dealt with here."""
        if self.work.settle(int(self.owners[at])):
            self.crossed(at)

    def _unexpected(self, at: int, book: int, rule: BookRule, sync: Sync, group: Group) -> bool:
        """A group of a live book that does not follow the last one."""
        row = self.shelf.books[book]
        last = int(row[LAST])
        if row[JOINING] == WAITS:
            if NONE != group.sequence <= last:
                self._superseded(at, book, rule, sync, group)
                return False
            if joins(rule, last, group):
                self._watch(at, rule, sync.passed, group, "none: the snapshot has what is missing")
                row[JOINING] = ACCEPTED
                return True
        elif group.sequence <= last:
            self._remember(book, group.sequence)
            self._watch(at, rule, last, group, "dropped")
            return False
        taken = "publishing stopped, snapshot asked for"
        start, end = int(row[RECV]), group.recv
        self._note(at, "gap", gap_start=start, gap_end=end, action_taken=taken, **hole(rule, last, group))
        self._break(at, book, sync)
        sync.highest = last
        if rule.snapshots == "http":
            self._keep(at, book, sync, group)
        else:
            sync.highest = max(last, group.sequence)
            self._remember(book, group.sequence)
        return False

    def _superseded(self, at: int, book: int, rule: BookRule, sync: Sync, group: Group) -> None:
        """An update that the snapshot has already: nothing is wrong, unless it is late or others are missing."""
        self.counts["superseded"] += 1
        self._remember(book, group.sequence)
        self._watch(at, rule, sync.passed, group, "none: the snapshot has it")
        sync.passed = max(sync.passed, group.sequence)

    def _unstreamed(self, at: int, book: int, rule: BookRule, sync: Sync, group: Group) -> None:
        """An update while the stream is to bring a snapshot: of no use, but it tells of further holes."""
        self.counts["superseded" if sync.broken else "unstarted"] += 1
        if group.sequence == NONE or rule.chain == "none":
            return
        self._watch(at, rule, sync.highest, group, "dropped; a snapshot is awaited already")
        sync.highest = max(sync.highest, group.sequence)
        self._remember(book, group.sequence)

    def _wait(self, at: int, book: int, rule: BookRule, sync: Sync, group: Group) -> None:
        """An update while a snapshot is fetched: kept."""
        if self._state(book) == EMPTY:
            self.shelf.books[book, STATE] = SYNCING
            self._request(book)
        self._watch(at, rule, sync.highest, group, "kept; a snapshot is awaited already")
        self._keep(at, book, sync, group)

    def _watch(self, at: int, rule: BookRule, highest: int, group: Group, taken: str) -> None:
        """Tell of a late group, or of a hole, by comparing with the highest sequence seen."""
        if highest == NONE:
            return
        if group.sequence <= highest:
            self._note(at, "out_of_order", seq_expected=highest, seq_got=group.sequence, action_taken=taken)
        elif not follows(rule, highest, group):
            self._note(at, "gap", gap_end=group.recv, action_taken=taken, **hole(rule, highest, group))

    def _snapshot(self, at: int, book: int, rule: BookRule, sync: Sync, group: Group) -> None:
        row = self.shelf.books[book]
        rest: list[Group] = []
        if rule.snapshots == "http":
            if row[STATE] == LIVE:
                if group.sequence == sync.snapshot:
                    self._note(at, "duplicate", seq_got=group.sequence, action_taken="dropped")
                else:
                    self.counts["ignored_snapshots"] += 1
                return
            found = sync.rest_after(rule, group.sequence)
            if found is None:
                self._refuse(at, book, sync)
                return
            rest = found
        elif self._is_same_again(at, book, rule, group):
            return
        self.shelf.clear(book)
        self.work.load(book, [group])
        self._bound(book, rule)
        self.work.load(book, rest)
        end = rest[-1] if rest else group
        row[LAST], row[TIME], row[RECV] = end.sequence, end.time, self.received.recv[at]
        row[JOINING] = WAITS if rule.snapshots == "http" and not rest else FITS
        if rule.snapshots == "stream":
            self._remember(book, self._name(rule, group))
        if self.received.checked[at] and rule.checksum is not None and not self._is_right(at, book):
            self._wrong_checksum(at, book)
            return
        row[STATE] = LIVE
        if sync.broken:
            self._note(
                at,
                "resync",
                seq_got=None if end.sequence == NONE else end.sequence,
                gap_start=sync.since if sync.since != NONE else None,
                gap_end=int(self.received.recv[at]),
                action_taken="book published anew",
                detail=f"{len(rest)} updates kept since then applied to the snapshot",
            )
        sync.settle()
        sync.snapshot = group.sequence
        self.settle(at)
        self.made.append(
            whole_book(
                self.shelf.side(book, 0),
                self.shelf.side(book, 1),
                int(self.received.last[at]),
                int(row[LAST]),
                int(row[TIME]),
                bool(row[CROSSED]),
            )
        )

    def _is_same_again(self, at: int, book: int, rule: BookRule, group: Group) -> bool:
        """Whether a live book has this snapshot of a stream already; told only where it is the very same message."""
        row = self.shelf.books[book]
        if row[STATE] != LIVE:
            return False
        if self._is_repeated(book, self._name(rule, group)) and (
            rule.chain == "none" or (group.sequence == row[LAST] and group.time == row[TIME])
        ):
            self._note(at, "duplicate", seq_got=group.sequence, action_taken="dropped")
            return True
        is_numbered_so = NONE != group.sequence == row[LAST] and group.sequence != rule.reset_sequence
        if rule.chain != "none" and is_numbered_so and self._is_as_it_stands(book, group):
            self.counts["ignored_snapshots"] += 1
            return True
        return False

    def _is_as_it_stands(self, book: int, group: Group) -> bool:
        """Whether a snapshot has a book's very levels: numbers that begin anew may be equal by chance."""
        for half in (0, 1):
            rows = np.flatnonzero(group.side == half + 1)
            rows = rows[np.argsort(group.price[rows] if half else -group.price[rows], kind="stable")]
            prices, sizes = self.shelf.side(book, half)
            if not (np.array_equal(group.price[rows], prices) and np.array_equal(group.size[rows], sizes)):
                return False
        return True

    def _refuse(self, at: int, book: int, sync: Sync) -> None:
        """A snapshot that does not fit: ask again, or give up."""
        sync.tries += 1
        if sync.tries < MAX_TRIES:
            self._request(book)
        elif self._state(book) != STALE:
            self.shelf.books[book, STATE] = STALE
            self._note(
                at,
                "stale",
                action_taken="no snapshot is asked for any more; one that fits is taken",
                detail=f"{sync.tries} snapshots did not fit the updates kept",
            )

    def _wrong_checksum(self, at: int, book: int) -> None:
        sync = self.syncs[book]
        self._note(
            at,
            "checksum",
            action_taken="publishing stopped, snapshot asked for",
            detail=f"the venue's checksum {self.received.checksum[at]} is not that of the book",
        )
        if self._state(book) == LIVE:
            self._break(at, book, sync)
            if self.received.sequence[at] != NONE:
                sync.highest = int(self.received.sequence[at])
        else:
            self._refuse(at, book, sync)

    def _break(self, at: int, book: int, sync: Sync) -> None:
        """A live book is trusted no longer."""
        row = self.shelf.books[book]
        row[STATE], row[JOINING] = SYNCING, FITS
        sync.broken, sync.since = True, int(row[RECV])
        self._request(book)

    def _keep(self, at: int, book: int, sync: Sync, group: Group) -> None:
        before = sync.dropped
        if sync.keep(group):
            self._note(
                at,
                "overflow_drop",
                action_taken="the oldest updates that await a snapshot are dropped",
                detail=f"more than {MAX_BUFFERED_ROWS} rows",
            )
        self.counts["dropped"] += sync.dropped - before
        self._remember(book, group.sequence)

    def _is_right(self, at: int, book: int) -> bool:
        rule, sync = self.rules[book], self.syncs[book]
        bids, asks = (self.shelf.side(book, half, rule.checksum_depth) for half in (0, 1))
        found = matching_places(rule, bids, asks, self.scales, int(self.received.checksum[at]), sync.places)
        if found != WRONG:
            sync.places = found
        return found != WRONG

    def _bound(self, book: int, rule: BookRule) -> None:
        """A full snapshot knows nothing beyond its last level."""
        for half in (0, 1):
            prices, _ = self.shelf.side(book, half)
            if rule.known_depth is not None and len(prices) >= rule.known_depth:
                self.shelf.sides[2 * book + half, KNOWN] = -prices[-1] if half else prices[-1]

    def _name(self, rule: BookRule, group: Group) -> int:
        """What a repeated group is known by; NONE where nothing tells."""
        if rule.chain != "none":
            return group.sequence
        if group.time == NONE:
            return NONE
        return int(digest(group.time, 0, group.rows, group.action, group.side, group.price, group.size))

    def _is_repeated(self, book: int, name: int) -> bool:
        return name != NONE and bool(is_recent(self.shelf.recent[book], self.shelf.books[book, SEEN], name))

    def _remember(self, book: int, name: int) -> None:
        if name != NONE:
            remember(self.shelf.recent, self.shelf.books, book, name)

    def _request(self, book: int) -> None:
        self.requests.append(SnapshotNeeded(self.names[book]))

    def _state(self, book: int) -> int:
        return int(self.shelf.books[book, STATE])

    def _note(self, at: int, kind: str, **told: Any) -> None:
        if told.get("seq_got") == NONE:
            told["seq_got"] = None
        self.notes.append(Note(at, kind, **told))
