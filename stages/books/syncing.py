"""What is known of a book that awaits a snapshot, and the rules by which groups follow each other and join one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from .layout import NONE
from .received import Group
from .rule import BookRule

MAX_BUFFERED_ROWS = 1 << 17
"""Rows that a book keeps while it awaits a snapshot, 2.3 MB; then the oldest groups go, and are counted."""


def follows(rule: BookRule, last: int, group: Group) -> bool:
    """Whether a group is the next one after sequence `last`, or overlaps it without a hole."""
    if rule.chain == "previous":
        return NONE != group.previous <= last < group.sequence
    if rule.chain == "contiguous":
        return NONE != group.first <= last + 1 <= group.sequence
    if rule.chain == "next":
        return group.sequence == last + 1
    return rule.chain == "none" or group.sequence > last


def joins(rule: BookRule, snapshot: int, group: Group) -> bool:
    """Whether a group is the first one behind an HTTP snapshot.

    Binance futures: first <= snapshot <= sequence or prev == snapshot. Numbers are shared by all symbols there, so that
    a snapshot's may also lie between two groups of one symbol: nothing happened to its book in between.
    """
    if rule.join == "spot":
        return NONE != group.first <= snapshot + 1 <= group.sequence
    if rule.join == "futures":
        fits = NONE != group.first <= snapshot or NONE != group.previous <= snapshot
        return fits and snapshot <= group.sequence
    return follows(rule, snapshot, group)


def hole(rule: BookRule, last: int, group: Group) -> dict[str, int | None]:
    """What a gap says: the number expected, the one found, and how many are missing, where numbers are dense."""
    if rule.chain == "previous":
        return {"seq_expected": last, "seq_got": _told(group.previous), "missing": None}
    got = _told(group.first if rule.chain == "contiguous" else group.sequence)
    return {"seq_expected": last + 1, "seq_got": got, "missing": None if got is None else got - last - 1}


class Sync(msgspec.Struct):
    """One book's waiting: groups received meanwhile by rising sequence, and what came of asking for snapshots."""

    buffer: list[Group] = []
    rows: int = 0
    dropped: int = 0
    highest: int = NONE
    """Of all sequences seen."""
    passed: int = NONE
    """The highest that had come when it went live: what comes after may be in the snapshot, but is not late."""
    broken: bool = False
    """Whether it was live before, so that going live again is a resync."""
    since: int = NONE
    """Receive time of the last group before it broke."""
    tries: int = 0
    """Snapshots that did not fit."""
    snapshot: int = NONE
    """Sequence of the snapshot it went live from."""
    places: int = -1
    """Which of the rule's checksum places is right; -1 while unknown."""

    def keep(self, group: Group) -> bool:
        """Put a group among the others; whether this is the first time that old ones had to go."""
        at = len(self.buffer)
        while at and self.buffer[at - 1].sequence > group.sequence:
            at -= 1
        self.buffer.insert(at, group)
        self.rows += group.rows
        self.highest = max(self.highest, group.sequence)
        full = False
        while self.rows > MAX_BUFFERED_ROWS and len(self.buffer) > 1:
            self.rows -= self.buffer.pop(0).rows
            self.dropped += 1
            full = full or self.dropped == 1
        return full

    def rest_after(self, rule: BookRule, snapshot: int) -> list[Group] | None:
        """The groups to apply on top of a snapshot of this sequence; None where it is older than they are."""
        rest = [group for group in self.buffer if group.sequence > snapshot]
        if not rest:
            return [] if self.highest <= snapshot else None
        if not joins(rule, snapshot, rest[0]):
            return None
        if not all(follows(rule, one.sequence, two) for one, two in pairwise(rest)):
            return None
        return rest

    def settle(self) -> None:
        """Nothing is awaited any more."""
        self.buffer, self.rows, self.dropped, self.tries, self.passed = [], 0, 0, 0, self.highest
        self.highest, self.broken, self.since = NONE, False, NONE

    def state(self) -> dict[str, Any]:
        """All of it as plain values and arrays."""
        groups = self.buffer
        told = {name: getattr(self, name) for name in self.__struct_fields__ if name != "buffer"}
        heads = [[group.sequence, group.first, group.previous, group.time, group.recv] for group in groups]
        rows = {
            name: np.concatenate([getattr(group, name) for group in groups]) if groups else np.zeros(0, kind)
            for name, kind in _ROWS.items()
        }
        lengths = np.array([group.rows for group in groups], np.int64)
        return {"told": told, "heads": np.array(heads, np.int64).reshape(-1, 5), "lengths": lengths, **rows}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Sync:
        """What `state` gave."""
        ends = np.cumsum(np.asarray(state["lengths"]))
        rows = [np.split(np.array(state[name], kind), ends)[:-1] for name, kind in _ROWS.items()]
        buffer = [
            Group(*head, *columns) for head, *columns in zip(np.asarray(state["heads"]).tolist(), *rows, strict=True)
        ]
        return cls(buffer=buffer, **state["told"])


def _told(sequence: int) -> int | None:
    return None if sequence == NONE else sequence


_ROWS = {"action": np.int8, "side": np.int8, "price": np.int64, "size": np.int64}
