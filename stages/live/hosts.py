"""What one host allows: shared by all sessions of an event loop that speak to it."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from pipeline import Clock
from stages.venues import Limits

from .allowance import Allowance


class Host:
    """One host's budgets, and until when it wants to be left alone."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.clock = clock
        self.weights = Allowance(limits.weight_per_minute, 60, clock)
        self.connections = Allowance(limits.connections_per_minute, 60, clock)
        self.closed_until = 0
        """On the clock's monotonic time: no request before."""

    def leave_alone(self, seconds: float) -> None:
        """No request for so long from now; never shorter than what was said before."""
        self.closed_until = max(self.closed_until, self.clock.monotonic_ns() + round(seconds * 1e9))

    async def admit(self, weight: float) -> None:
        """Return when a request of this weight may be made."""
        await self.weights.take(weight)
        while self.closed_until > self.clock.monotonic_ns():
            await self.clock.sleep_until(self.closed_until)


_HOSTS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, int], Host]] = WeakKeyDictionary()


def host_of(url: str, limits: Limits, clock: Clock) -> Host:
    """The host of an address, one for all who ask in this loop by this clock; limits are those of the first."""
    known = _HOSTS.setdefault(asyncio.get_running_loop(), {})
    key = (urlsplit(url).netloc, id(clock))
    if key not in known:
        known[key] = Host(limits, clock)
    return known[key]
