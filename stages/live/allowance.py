"""So much in so long: what a venue lets a client do, waited for in turn."""

from __future__ import annotations

import asyncio
from collections import deque

from pipeline import Clock


class Allowance:
    """At most `most` within any stretch of `window_seconds`; who asks first goes first."""

    def __init__(self, most: float, window_seconds: float, clock: Clock) -> None:
        self.most, self.clock = most, clock
        self.spent = 0.0
        self._window_ns = round(window_seconds * 1e9)
        self._taken: deque[tuple[int, float]] = deque()
        self._turn = asyncio.Lock()

    async def take(self, weight: float = 1) -> None:
        """Return when `weight` may be spent, and spend it; one above all that is allowed waits until nothing is."""
        async with self._turn:
            while not self._fits(weight):
                await self.clock.sleep_until(self._taken[0][0] + self._window_ns)
            self.spent += weight
            self._taken.append((self.clock.monotonic_ns(), weight))

    def _fits(self, weight: float) -> bool:
        now = self.clock.monotonic_ns()
        while self._taken and self._taken[0][0] + self._window_ns <= now:
            self.spent -= self._taken.popleft()[1]
        return not self._taken or self.spent + weight <= self.most
