"""What wakes the one task that waits for something to happen on an edge."""

from __future__ import annotations

import asyncio


class Bell:
    """Wakes the one task that waits on it; several edges may share one."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Return at the next ring. Whoever waits checks its condition again, in a loop."""
        assert self._waiter is None, "one task waits on a bell"
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    @property
    def waiting(self) -> bool:
        return self._waiter is not None
