"""What is done when something has waited long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ..clock import Clock


class Alarm:
    """Calls once, so many seconds after it was set; setting it again while it is set changes nothing."""

    def __init__(self, clock: Clock, seconds: float | None, ring: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._clock, self._seconds, self._ring = clock, seconds, ring
        self._task: asyncio.Task[None] | None = None

    def set(self) -> None:
        if self._seconds is None or self._task is not None:
            return
        deadline = self._clock.monotonic_ns() + int(self._seconds * 1e9)

        async def wait() -> None:
            await self._clock.sleep_until(deadline)
            self._task = None
            await self._ring()

        self._task = asyncio.get_running_loop().create_task(wait())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
