"""Who has to spill next for the pool: whoever is furthest above its guarantee."""

from __future__ import annotations

import heapq
from typing import Final, Generic, Protocol, TypeVar

SPARE_ENTRIES: Final = 64
"""Entries that are out of date which the queue may hold besides as many as there are victims."""
STALE_SHARE: Final = 8
"""Guarantees change for all when managers come and go; the queue is put right after an eighth as many decisions."""


class Victim(Protocol):
    """Whoever can let go of bytes."""

    @property
    def tick(self) -> float:
        """Rises with every use."""

    @property
    def put_tick(self) -> float:
        """What it was when something was stored last."""

    @property
    def borrowed(self) -> int:
        """Bytes above its guarantee that are not on their way to disk; negative below it."""


V = TypeVar("V", bound=Victim)


class Entry(Generic[V]):
    """How far above its guarantee a victim was when it was last looked at, and when it was used last."""

    __slots__ = ("borrowed", "order", "tick", "victim")

    def __init__(self, borrowed: int, order: int, tick: float, victim: V) -> None:
        self.borrowed, self.order, self.tick, self.victim = borrowed, order, tick, victim

    def __lt__(self, other: Entry[V]) -> bool:
        return (other.borrowed, self.order) < (self.borrowed, other.order)


class Victims(Generic[V]):
    """Victims by what they have borrowed; of equals the one that was used longest ago comes first.

    `note` is on the path of every `store` and only writes down who it was. The order is found when somebody has to
    spill, from a heap with one valid entry per victim: an entry that says too much is put right when it comes to the
    top, and whoever may have got more than its entry says was noted. So a decision costs the logarithm of the number
    of victims, and one look at each that was stored to since the last.
    """

    def __init__(self) -> None:
        self._heap: list[Entry[V]] = []
        self._entries: dict[V, Entry[V]] = {}
        self._noted: dict[V, int] = {}
        self._order = 0
        self._decisions = 0
        self._guarantees = 0

    def __bool__(self) -> bool:
        return bool(self._entries or self._noted)

    def note(self, victim: V) -> None:
        """It was stored to, and may have more than before."""
        self._noted[victim] = self._order = self._order + 1

    def forget(self, victim: V) -> None:
        """It has nothing to spill, or cannot now; it comes back when it is noted."""
        self._entries.pop(victim, None)
        self._noted.pop(victim, None)

    def furthest(self, guarantees: int) -> V | None:
        """The one furthest above its guarantee; None where nobody has anything.

        `guarantees` is what all guarantees depend on: the number of managers.
        """
        self._decisions += 1
        for victim, order in self._noted.items():
            self._put(victim, order)
        self._noted.clear()
        if self._guarantees != guarantees and STALE_SHARE * self._decisions >= len(self._entries):
            self._guarantees, self._decisions = guarantees, 0
            for entry in self._entries.values():
                entry.borrowed = entry.victim.borrowed
            self._rebuild()
        while self._heap:
            entry = self._heap[0]
            victim = entry.victim
            if self._entries.get(victim) is not entry:
                heapq.heappop(self._heap)
            elif victim.tick != entry.tick:  # read since then
                self._order += 1
                self._replace(victim, self._order)
            elif victim.borrowed != entry.borrowed:
                self._replace(victim, entry.order)
            else:
                return victim
        return None

    def ahead(self) -> int:
        """How far the one `furthest` has just given is above the next, at least."""
        return self._heap[0].borrowed - max((entry.borrowed for entry in self._heap[1:3]), default=0)

    def _put(self, victim: V, order: int) -> None:
        entry = self._entries[victim] = Entry(victim.borrowed, order, victim.put_tick, victim)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + SPARE_ENTRIES:
            self._rebuild()

    def _replace(self, victim: V, order: int) -> None:
        """Put the entry at the top where it belongs by now."""
        entry = self._entries[victim] = Entry(victim.borrowed, order, victim.tick, victim)
        heapq.heapreplace(self._heap, entry)

    def _rebuild(self) -> None:
        self._heap = list(self._entries.values())
        heapq.heapify(self._heap)
