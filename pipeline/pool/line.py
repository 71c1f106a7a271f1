"""The line of those who wait for room in the pool: first come, first served, but for who has its share already."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from ..clock import Clock

PATIENCE_SECONDS: Final = 1.0
"""How much longer who has its fair share already waits than somebody who came at the same time and has not."""


class Holder(Protocol):
    """Whoever has bytes of the pool: a data manager's account, or the edges together."""

    name: str
    charged: int


class Borrower(Holder, Protocol):
    """A data manager's account: a part of the pool is its own, what is above that is borrowed."""

    @property
    def guarantee(self) -> int:
        """Bytes of it that go to disk only after everybody's above theirs."""


class Waiter(Protocol):
    """Whoever waits for bytes of the pool."""

    @property
    def pool_need(self) -> int:
        """Bytes it would take now; 0 when it wants none, or its own limit forbids it."""

    @property
    def borrower(self) -> Borrower | None:
        """Who would have the bytes; None for an edge, which passes on what others wait for."""

    def serve(self) -> None:
        """There is room: take it in this step, or in another, staying first in line until then."""


class Line:
    """Waiters in the order in which they are served; each is in it once.

    Two queues in one: `patient` ones are served as if they had come a second later. Whoever is in line is therefore
    overtaken for a second at most, and nobody starves. Every call takes the same time, however many wait.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queues: tuple[OrderedDict[Waiter, int], OrderedDict[Waiter, int]] = (OrderedDict(), OrderedDict())
        self.first: Waiter | None = None
        """Who is served next; None when nobody waits."""

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def __contains__(self, waiter: object) -> bool:
        return waiter in self._queues[0] or waiter in self._queues[1]

    def add(self, waiter: Waiter, *, patient: bool) -> None:
        """Wait at the end; who is in line already goes there."""
        self.remove(waiter)
        due = self._clock.monotonic_ns() + int(patient * PATIENCE_SECONDS * 1e9)
        self._queues[patient][waiter] = due
        self._look()

    def remove(self, waiter: Waiter) -> bool:
        """Leave; False if it was not in line."""
        found = any(queue.pop(waiter, None) is not None for queue in self._queues)
        if found:
            self._look()
        return found

    def _look(self) -> None:
        heads = [next(iter(queue.items())) for queue in self._queues if queue]
        self.first = min(heads, key=lambda head: head[1])[0] if heads else None
