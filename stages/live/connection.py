"""A connection that is kept: opened again when it is lost, and handed over before the venue would close it."""

from __future__ import annotations

import asyncio

from websockets.exceptions import WebSocketException

from stages.messages import MessageKind
from stages.venues import ConnectionPlan

from .call import Call
from .conduct import Means
from .hosts import host_of
from .waiting import ended, pause, within

SPREAD = 0.5
"""When a connection is renewed is drawn from the first such part of `renew_before`, so that not all are at once."""


class Connection:
    """Brings the streams of one plan for as long as the session lasts.

    While one call hands over to the next nothing is missing; what comes by both is left out later, by its numbers.
    """

    def __init__(self, source: str, plan: ConnectionPlan, means: Means) -> None:
        self.source, self.plan, self.means = source, plan, means
        self.opened = self.refused = self.handed_over = 0
        self._call: Call | None = None
        self._next: Call | None = None
        self._loss_is_told = False
        self._backoff = means.backoff()
        self._host = host_of(plan.url, means.venue.limits, means.clock)

    async def keep(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._call = await self._open()
                while self._call is not None:
                    self._call = await self._carried_on(self._call)
                await pause(self.means.clock, self._backoff.next())
        finally:
            for call in self._calls():
                await call.hang_up()

    async def part(self, why: str) -> None:
        """Close what is open; it is opened anew unless `keep` is cancelled."""
        await asyncio.gather(*(call.part(why) for call in self._calls()))

    def follow_the_buffer(self) -> None:
        """Read no more where the buffer is full, and again where it is not."""
        for call in self._calls():
            call.follow_the_buffer()

    def _calls(self) -> list[Call]:
        return [call for call in (self._call, self._next) if call is not None]

    async def _carried_on(self, call: Call) -> Call | None:
        """Until the call is lost; the one it has handed over to, if there is one."""
        assert call.living is not None
        preparing = asyncio.ensure_future(self._prepare())
        try:
            await asyncio.wait({call.living, preparing}, return_when=asyncio.FIRST_COMPLETED)
            if not call.living.done():
                preparing.result()
                await call.part("another connection takes over")
                await asyncio.wait({call.living})
        finally:
            await ended(preparing)
        call.living.result()
        if call.has_data:
            self._backoff.reset()
        follower, self._next = self._next, None
        if follower is not None:
            if not follower.is_closed:
                self.handed_over += 1
                follower.release()
                return follower
            await follower.hang_up()
        self._loss_is_told = True
        return None

    async def _prepare(self) -> None:
        """When it is time, open the next call beside this one; return when it brings data, or might."""
        hours, conduct = self.means.venue.limits.connection_hours, self.means.conduct
        if hours is None:
            await asyncio.Event().wait()
            return
        early = conduct.renew_before * float(self.means.random.uniform(1 - SPREAD, 1))
        await pause(self.means.clock, max(hours * 3600 - early, 0))
        while True:
            self._next = await self._open(on_hold=True)
            try:
                await within(self.means.clock, conduct.handover, self._next.proven.wait())
            except TimeoutError:
                pass  # its streams may be quiet ones
            if not self._next.is_closed:
                return
            call, self._next = self._next, None
            await call.hang_up()
            await pause(self.means.clock, self._backoff.next())

    async def _open(self, *, on_hold: bool = False) -> Call:
        """A call that is open, however long it takes; the first refusal of several is told."""
        while True:
            await self.means.buffer.free.wait()
            await self._host.connections.take()
            call = Call(self.source, self.plan, self.means, on_hold=on_hold)
            try:
                await call.open()
            except (OSError, WebSocketException) as error:
                self._was_refused(error, on_hold)
            else:
                self.opened += 1
                self._loss_is_told = self._loss_is_told and on_hold
                return call
            await pause(self.means.clock, self._backoff.next())

    def _was_refused(self, error: Exception, on_hold: bool) -> None:
        self.refused += 1
        why = f"{type(error).__name__}: {error}"
        self.means.log.warning("%s: %s could not be opened: %s", self.source, self.plan.url[:200], why)
        if not (self._loss_is_told or on_hold):
            self._loss_is_told = True
            self.means.buffer.add(MessageKind.CLOSED, self.source, self.plan.url, f"not opened: {why}".encode())
