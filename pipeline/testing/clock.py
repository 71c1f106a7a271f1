"""A clock that stands still until a test moves it."""

from __future__ import annotations

import heapq
from itertools import count

import anyio


class VirtualClock:
    """Wall and monotonic time that advance only by `advance`; sleepers wake in order of their deadlines."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self._start_ns = now_ns
        self._elapsed_ns = 0
        self._sleepers: list[tuple[int, int, anyio.Event]] = []
        self._order = count()

    def now_ns(self) -> int:
        return self._start_ns + self._elapsed_ns

    def monotonic_ns(self) -> int:
        return self._elapsed_ns

    async def sleep_until(self, monotonic_ns: int) -> None:
        if monotonic_ns <= self._elapsed_ns:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        heapq.heappush(self._sleepers, (monotonic_ns, next(self._order), woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        """Move time on; returns when everyone who was woken has come to rest again."""
        until = self._elapsed_ns + round(seconds * 1e9)
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, woken = heapq.heappop(self._sleepers)
            self._elapsed_ns = due
            woken.set()
            await anyio.wait_all_tasks_blocked()
        self._elapsed_ns = until
