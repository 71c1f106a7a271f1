"""The replay itself: messages leave when they are due, or as fast as they are taken, and faults come in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from pipeline import Clock
from stages.messages import Messages
from stages.venues.serving import Event

from .audience import Audience
from .client import TOO_SLOW, Client
from .faults import Disconnect, Fault, Moment, Refuse, Stall
from .script import Script
from .source import Source, cut
from .stock import Stock

T = TypeVar("T")
BREATH = 256
"""Messages after which others get a turn, however late it is."""


class _Run(NamedTuple):
    messages: Messages
    times: list[int]
    events: list[Event | None]


class Playing:
    """One pass through a recording."""

    def __init__(
        self,
        source: Source,
        stock: Stock,
        audience: Audience,
        faults: tuple[Fault, ...],
        clock: Clock,
        speed: float | None,
        wait_for: int,
    ) -> None:
        self.source, self.stock, self.audience, self.clock = source, stock, audience, clock
        self.speed, self.wait_for = speed, wait_for
        self.begins_ns = int(source.head[0].ts_recv[0])
        self.now_ns = self.begins_ns
        """The moment of the recording that has been reached."""
        self.script = Script(faults, self.begins_ns)
        self.messages = 0
        """How many of the recording have been played."""
        self.too_slow = 0
        self.max_lag_ns = 0
        self.refuses_until = 0
        """Until when nobody gets in, by the clock's monotonic time."""
        self.lock = asyncio.Lock()
        """Whoever calls the stock holds it."""
        self._position = 0
        self._anchor = 0

    async def play(self) -> None:
        """To the end of the recording; returns when the last message waits to be sent."""
        await self.audience.wait_for(self.wait_for)
        self._anchor = self.clock.monotonic_ns()
        reading = cut(self.source.runs())
        try:
            while (run := await self._next(reading)) is not None:
                await self._play(run)
        finally:
            await in_thread(reading.close)

    async def ask(self, call: Callable[[int], T]) -> T:
        """Ask the stock something as of now; the call gets the number of messages of this run that have gone."""
        async with self.lock:
            return await in_thread(lambda: call(self._position))

    async def _next(self, reading: Iterator[Messages]) -> _Run | None:
        def made() -> _Run | None:
            run = next(reading, None)
            if run is None:
                return None
            self.stock.turn(run)
            return _Run(run, run.ts_recv.tolist(), self.source.server.events(run))

        async with self.lock:
            run = await in_thread(made)
            if run is not None:
                self._position = 0
            return run

    async def _play(self, run: _Run) -> None:
        script, audience = self.script, self.audience
        for place, (ts, event) in enumerate(zip(run.times, run.events, strict=True)):
            if place % BREATH == 0:
                await asyncio.sleep(0)
            if self.speed is not None:
                await self._until(ts)
            if event is not None:
                for fault in script.moments(ts, event.stream):
                    await self._happen(fault)
                if self.speed is None and audience.subscribed < self.wait_for:
                    await audience.wait_for(self.wait_for)
                self.now_ns = ts
                for shown in script.shown(event.stream, event.data):
                    for client in audience.show(shown):
                        if client.is_full:
                            await self._full(client)
            self.now_ns = ts
            self._position = place + 1
            self.messages += 1

    async def _until(self, ts: int) -> None:
        assert self.speed is not None
        due = self._anchor + int((ts - self.begins_ns) / self.speed)
        now = self.clock.monotonic_ns()
        if due > now:
            await self.clock.sleep_until(due)
        else:
            self.max_lag_ns = max(self.max_lag_ns, now - due)

    async def _full(self, client: Client) -> None:
        if self.speed is None:
            await client.room()
            return
        await asyncio.sleep(0)  # so that what a burst has left behind goes as far as its socket takes it
        if client.is_full:
            self.too_slow += 1
            client.end(TOO_SLOW, "too slow: more waits for this client than is kept for one", at_once=True)

    async def _happen(self, fault: Moment) -> None:
        match fault:
            case Stall():
                await self.clock.sleep_until(self.clock.monotonic_ns() + int(fault.seconds * 1e9))
            case Refuse():
                self.refuses_until = self.clock.monotonic_ns() + int(fault.seconds * 1e9)
            case Disconnect():
                for client in list(self.audience.clients.values()):
                    if fault.client in (None, client.number):
                        client.end(fault.code, "disconnected by the script")


async def in_thread(call: Callable[[], T]) -> T:
    """Call it in a thread; where the caller is cancelled meanwhile, that takes effect when the call has returned."""
    calling = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        await asyncio.wait([calling])
        raise
