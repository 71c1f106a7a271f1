"""One life of a connection: opened, subscribed, kept alive, lost; what it hears becomes messages."""

from __future__ import annotations

import asyncio

from websockets.exceptions import ConnectionClosed

from stages.messages import MessageKind
from stages.venues import ConnectionPlan

from .allowance import Allowance
from .conduct import Means
from .line import Dial, Line
from .waiting import ended, pause, within


class Call:
    """Messages go to the session's buffer as they are heard; while `on_hold` they wait until the call is `released`."""

    def __init__(self, source: str, plan: ConnectionPlan, means: Means, *, on_hold: bool = False) -> None:
        self.source, self.plan, self.means = source, plan, means
        self.line: Line | None = None
        self.has_data = self.is_closed = False
        """Something was received: before that, it does not count as working."""
        self.proven = asyncio.Event()
        """Whether it works is known: something was received, or it is closed."""
        self.living: asyncio.Task[None] | None = None
        """Subscribes and keeps alive; ends when the line is lost."""
        self._held: list[tuple[MessageKind, bytes, int]] | None = [] if on_hold else None
        self._now = 0
        self._heard_ns = means.clock.monotonic_ns()
        self._allowance = Allowance(means.venue.limits.messages_per_second, 1, means.clock)

    # -- what the line tells ---------------------------------------------------------------------------------------

    def bytes_came(self) -> None:
        self._now = self.means.buffer.stamp()
        self._heard_ns = self.means.clock.monotonic_ns()

    def opened(self) -> None:
        self._add(MessageKind.OPENED, b"", self._now)

    def received(self, payload: bytes) -> None:
        if not self.has_data:
            self.has_data = True
            self.proven.set()
        self._add(MessageKind.RECEIVED, payload, self._now)

    def closed(self, why: str) -> None:
        self.is_closed = True
        self.proven.set()
        self._add(MessageKind.CLOSED, why.encode(), self.means.buffer.stamp())

    # -- what is done with it --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Dial. Raises OSError (TimeoutError among them) or `WebSocketException`; nothing is left open then."""
        dial = Dial(self.plan.url, self, self.means.context)
        try:
            line = await within(self.means.clock, self.means.conduct.open_timeout, dial.open())
            self.line = line
        finally:
            if self.line is None:
                await dial.hang_up()
        self.living = asyncio.ensure_future(self._live(line))
        self.follow_the_buffer()

    async def hang_up(self) -> None:
        """Leave nothing open."""
        if self.living is not None:
            await ended(self.living)

    async def part(self, why: str) -> None:
        """Close by the protocol, as far as the server takes part in it."""
        if self.line is not None:
            await self.line.part(f"by us: {why}")

    def release(self) -> None:
        """What waited goes to the buffer, as received now where that is later; what follows goes there at once."""
        held, self._held = self._held or [], None
        for kind, payload, ts_recv in held:
            self._add(kind, payload, ts_recv)
        self.follow_the_buffer()

    def follow_the_buffer(self) -> None:
        """Read no more where the buffer is full, and again where it is not."""
        if self.line is None:
            return
        if self.means.buffer.is_full or (
            self._held is not None and len(self._held) >= self.means.buffer.bound.messages
        ):
            self.line.hold()
        elif self.line.is_held:
            self._heard_ns = self.means.clock.monotonic_ns()
            self.line.free()

    # -- its tasks -------------------------------------------------------------------------------------------------

    async def _live(self, line: Line) -> None:
        lost = asyncio.ensure_future(asyncio.shield(line.lost))
        tasks = {asyncio.ensure_future(each(line)) for each in (self._subscribe, self._keep_alive, self._beat)}
        try:
            waiting = {lost, *tasks}
            while not lost.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {lost}:
                    task.result()
        finally:
            line.cut("by us: stopped")
            await ended(*tasks, lost)
            await asyncio.shield(line.lost)

    async def _subscribe(self, line: Line) -> None:
        for payload in self.plan.sends:
            if not await self._say(line, payload):
                return

    async def _beat(self, line: Line) -> None:
        """Send what the venue wants to hear."""
        beat = self.means.venue.heartbeat()
        while beat is not None:
            await pause(self.means.clock, beat.every_seconds)
            if not await self._say(line, beat.payload):
                return

    async def _keep_alive(self, line: Line) -> None:
        """Ask whether the other side is there, as long as its answers would be read."""
        conduct, clock = self.means.conduct, self.means.clock
        while True:
            await pause(clock, conduct.ping_every)
            silent = (clock.monotonic_ns() - self._heard_ns) / 1e9
            if line.is_held:
                continue
            if silent >= conduct.ping_every + conduct.ping_timeout:
                line.cut(f"by us: nothing was heard for {silent:.0f} s, not even an answer to a ping")
                return
            await self._allowance.take()
            try:
                await line.ping()
            except ConnectionClosed:
                return

    async def _say(self, line: Line, payload: bytes) -> bool:
        await self._allowance.take()
        self._add(MessageKind.SENT, payload, self.means.buffer.stamp())
        return await line.say(payload)

    def _add(self, kind: MessageKind, payload: bytes, ts_recv: int) -> None:
        if self._held is None:
            self.means.buffer.add(kind, self.source, self.plan.url, payload, ts_recv)
        else:
            self._held.append((kind, payload, ts_recv))
            if len(self._held) == self.means.buffer.bound.messages:
                self.follow_the_buffer()
