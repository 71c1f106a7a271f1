"""Which of a container's records in the journal still count, by bytes, and up to where none does."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable
from typing import Final, NamedTuple

from .records import APPEND, DELETE, FILED, FLUSHED, ROWS, STORE

STEP_BYTES: Final = 256 << 10
"""Places in the log are remembered this far apart."""


class Filed(NamedTuple):
    """What a record of files says: of which key, whether they are all of it, and what is behind them."""

    name: Hashable
    whole: bool
    tail: int
    dead_bytes: int


class Held:
    """What the records of one key take, and where the first that counts is."""

    __slots__ = ("files_gen", "first_gen", "num_bytes")

    def __init__(self, first_gen: int, num_bytes: int) -> None:
        self.first_gen, self.num_bytes = first_gen, num_bytes
        self.files_gen: int | None = None
        """The first record that tells of files."""


class LiveRecords:
    """Keys with the records that make them up. Records may become known in another order than that of their numbers."""

    def __init__(self) -> None:
        self.keys: dict[Hashable, Held] = {}
        self.live_bytes = 0
        self.last_gen = 0
        """The newest record that is written."""
        self._firsts: list[int] = []
        """A heap of first generations; those that no key has any more are dropped when they come up."""
        self._owners: dict[int, Hashable] = {}
        self._written = self._trimmed = 0
        self._steps: deque[tuple[int, int]] = deque()
        """Generations and the bytes of all records up to them."""

    @property
    def dead_bytes(self) -> int:
        """Of records that do not count any more, and have not been given up yet."""
        return max(0, self._written - self._trimmed - self.live_bytes)

    @property
    def oldest(self) -> Hashable | None:
        """The key with the oldest record that counts."""
        while self._firsts and self._firsts[0] not in self._owners:
            heapq.heappop(self._firsts)
        return self._owners[self._firsts[0]] if self._firsts else None

    @property
    def dead_up_to(self) -> int:
        """No record up to this generation counts."""
        return self.last_gen if self.oldest is None else min(self.last_gen, self._firsts[0] - 1)

    def worth_trimming(self, gen: int) -> bool:
        """Whether giving up records to this generation frees more than a little."""
        return bool(self._steps) and self._steps[0][0] <= gen

    def note(self, gen: int, num_bytes: int) -> None:
        """A record has been written."""
        self.last_gen = max(self.last_gen, gen)
        self._written += num_bytes
        if self._written - (self._steps[-1][1] if self._steps else self._trimmed) >= STEP_BYTES:
            self._steps.append((self.last_gen, self._written))

    def count(self, kind: int, key: Hashable, gen: int, num_bytes: int, *, passing: bool = False) -> None:
        """A record is in the journal. Of what only passes through, each counts until it is flushed, by its number."""
        self.note(gen, num_bytes)
        if passing and kind == FLUSHED:
            assert isinstance(key, int)
            while isinstance(oldest := self.oldest, int) and oldest <= key:
                self.forgotten(oldest, oldest)
            self.replaced("flushed", gen, num_bytes)
        elif passing:
            self.replaced(gen, gen, num_bytes)
        elif kind == STORE:
            self.replaced(key, gen, num_bytes)
        elif kind == DELETE:
            self.forgotten(key, gen)
        elif kind in (APPEND, ROWS):
            self.extended(key, gen, num_bytes)
        elif kind == FILED:
            assert isinstance(key, Filed)
            self.shrunk(key.name, key.dead_bytes)
            self.filed(key.name, gen, num_bytes, whole=key.whole, tail=key.tail)

    def filed(self, key: Hashable, gen: int, num_bytes: int, *, whole: bool, tail: int) -> None:
        """Files hold what was recorded of the key before `tail` (0: all of it); `whole`: and they are all of them."""
        held = self.keys.get(key)
        if held is None or whole:
            self.replaced(key, gen, num_bytes)
            held = self.keys[key]
            if held.first_gen != gen:
                return  # it means something else by now
            held.files_gen = gen
        else:
            held.files_gen = held.files_gen or gen
            held.num_bytes += num_bytes
            self.live_bytes += num_bytes
        first = min(held.files_gen, tail or gen)
        if first != held.first_gen:
            del self._owners[held.first_gen]
            held.first_gen = first
            self._own(first, key)

    def replaced(self, key: Hashable, gen: int, num_bytes: int) -> None:
        """From this record on nothing before it counts for the key."""
        held = self.keys.get(key)
        if held is not None and held.first_gen > gen:
            return
        self.forgotten(key, gen)
        self.keys[key] = Held(gen, num_bytes)
        self._own(gen, key)
        self.live_bytes += num_bytes

    def extended(self, key: Hashable, gen: int, num_bytes: int) -> None:
        held = self.keys.get(key)
        if held is None:
            self.replaced(key, gen, num_bytes)
            return
        held.num_bytes += num_bytes
        self.live_bytes += num_bytes
        if gen < held.first_gen:
            del self._owners[held.first_gen]
            held.first_gen = gen
            self._own(gen, key)

    def forgotten(self, key: Hashable, gen: int) -> None:
        """What the key held before this record does not count any more."""
        held = self.keys.get(key)
        if held is not None and held.first_gen <= gen:
            del self.keys[key], self._owners[held.first_gen]
            self.live_bytes -= held.num_bytes

    def moved(self, key: Hashable, old: Hashable) -> None:
        """The key's records are those of `old` from now on."""
        held, new = self.keys.pop(key), self.keys[old]
        del self._owners[held.first_gen], self.keys[old]
        self.keys[key] = new
        self._owners[new.first_gen] = key
        new.num_bytes += held.num_bytes

    def shrunk(self, key: Hashable, num_bytes: int) -> None:
        """Some of what the key held does not count any more."""
        held = self.keys.get(key)
        if held is not None:
            less = min(num_bytes, held.num_bytes)
            held.num_bytes -= less
            self.live_bytes -= less

    def trimmed(self, gen: int) -> None:
        """Records up to this generation have been given up."""
        while self._steps and self._steps[0][0] <= gen:
            self._trimmed = self._steps.popleft()[1]
        if gen >= self.last_gen:
            self._trimmed = self._written

    def _own(self, gen: int, key: Hashable) -> None:
        self._owners[gen] = key
        heapq.heappush(self._firsts, gen)
