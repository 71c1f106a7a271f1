"""Time is injected: everything asks a `Clock`, nothing asks the system."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time in nanoseconds since 1970 UTC, monotonic time, and waiting."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC; for stamps, may step."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds on a clock that never steps back; for durations and deadlines."""
        ...

    async def sleep_until(self, monotonic_ns: int) -> None:
        """Return once `monotonic_ns()` has reached the given deadline; at once when it has passed."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep_until(self, monotonic_ns: int) -> None:
        await asyncio.sleep(max(0, monotonic_ns - time.monotonic_ns()) / 1e9)
