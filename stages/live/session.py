"""A session with a venue: its connections, its snapshots, and the one stream of messages they come to."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from pipeline import Clock, SystemClock
from stages.messages import MessageKind, Messages
from stages.venues import ConnectionPlan, Venue

from .buffer import Buffer
from .conduct import Conduct, Means
from .connection import Connection
from .snapshots import Snapshots
from .waiting import ended, pause

LINGER_SECONDS: Final = 0.005
"""Runs are taken no oftener, unless they are long."""
WATCH_SECONDS: Final = 1.0
STOPPED: Final = "stopped"


class Session:
    """Brings what a venue sends as runs of messages, in the order it came, until it is stopped.

        async with Session(venue, venue.connections(["BTCUSDT"], ["trade"])) as session:
            while (messages := await session.messages()) is not None:
                ...

    Connections are numbered `venue/1` and so on, which is their messages' `source`; snapshots come from `venue/http`.
    `on_messages` is awaited with each run before it is given, so that it can be recorded first. What is not taken waits
    in one bounded buffer; when that is full, no socket is read, and the venue has to wait. Make it in a thread where
    addresses are `wss:`, since certificates are read from disk.
    """

    def __init__(
        self,
        venue: Venue,
        plans: Sequence[ConnectionPlan],
        *,
        http_url: str | None = None,
        conduct: Conduct | None = None,
        clock: Clock | None = None,
        random: np.random.Generator | None = None,
        on_messages: Callable[[Messages], Awaitable[None]] | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.venue, self.plans, self.http_url, self.on_messages = venue, plans, http_url, on_messages
        self.clock = clock or SystemClock()
        self.conduct = conduct or Conduct()
        self.buffer = Buffer(self.conduct.bound, self.clock.now_ns, self._follow_the_buffer, self._follow_the_buffer)
        addresses = (http_url or venue.http_url, *(plan.url for plan in plans))
        secure = any(address.startswith(("https:", "wss:")) for address in addresses)
        self._means = Means(
            venue, self.conduct, self.clock, random or np.random.default_rng(0), self.buffer,
            log or logging.getLogger("penstock.live"), ssl.create_default_context() if secure else None,
        )  # fmt: skip
        self.rescues = 0
        """How often sockets waited although there was room; never, unless something is wrong."""
        self._connections: dict[str, Connection] = {}
        self._snapshots: Snapshots | None = None
        self._stopping = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._partings: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._taken_at = 0.0

    async def __aenter__(self) -> Self:
        assert self._supervisor is None, "a session is entered once"
        self._supervisor = asyncio.create_task(self._supervise(), name=f"penstock:{self.venue.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End at once; nothing is left open."""
        if self._supervisor is not None:
            await ended(self._supervisor)

    async def messages(self) -> Messages | None:
        """What came since the last call, at least one message; None at the end. Raises what ended the session.

        Comes at once where something waits and the last run was taken 5 ms ago, or 512 messages wait.
        """
        buffer, loop = self.buffer, asyncio.get_running_loop()
        await buffer.arrived.wait()
        if not len(buffer):
            if self._error is not None:
                raise self._error
            return None
        soon = self._taken_at + LINGER_SECONDS
        if loop.time() < soon and not buffer.enough.is_set():
            try:
                async with asyncio.timeout_at(soon):
                    await buffer.enough.wait()
            except TimeoutError:
                pass
        self._taken_at = loop.time()
        messages = buffer.take()
        if self.on_messages is not None:
            await self.on_messages(messages)
        return messages

    def request(self, instrument_id: str) -> None:
        """Fetch a snapshot of this book; it comes among the messages."""
        if self._snapshots is not None:
            self._snapshots.ask(instrument_id)

    def renew(self, source: str, why: str) -> None:
        """Close a connection and open it anew, as where its snapshots come by subscribing."""
        connection = self._connections.get(source)
        if connection is not None:
            parting = asyncio.ensure_future(connection.part(why))
            self._partings.add(parting)
            parting.add_done_callback(self._partings.discard)

    def stop(self) -> None:
        """Close all connections; what came is still given, then the end."""
        self._stopping.set()

    def figures(self) -> Mapping[str, Any]:
        """Counts of what happened beside the messages themselves."""
        connections, snapshots = self._connections.values(), self._snapshots
        return {
            "connections": len(connections),
            "opened": sum(each.opened for each in connections),
            "refused": sum(each.refused for each in connections),
            "handed_over": sum(each.handed_over for each in connections),
            "snapshots": 0 if snapshots is None else snapshots.had,
            "snapshots_failed": 0 if snapshots is None else snapshots.failed,
            "waits_for_consumer": self.buffer.holds,
            "most_waiting": self.buffer.most_messages,
            "rescues": self.rescues,
        }

    # -- the supervisor --------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        name = self.venue.name
        self._connections = {
            source: Connection(source, plan, self._means)
            for source, plan in ((f"{name}/{number}", plan) for number, plan in enumerate(self.plans, 1))
        }
        self._snapshots = Snapshots(f"{name}/http", self.http_url, self._means)
        work = [*(each.keep() for each in self._connections.values()), self._snapshots.work(), self._watch()]
        tasks = [asyncio.ensure_future(each) for each in work]
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await asyncio.gather(*(each.part(STOPPED) for each in self._connections.values()))
        except Exception as error:
            self._error = error
        finally:
            await ended(stopping, *tasks, *self._partings)
            self.buffer.close()

    async def _watch(self) -> None:
        """Nobody waits for ever: sockets are read where there is room, and silence is told."""
        every = min(self.conduct.idle_every or WATCH_SECONDS, WATCH_SECONDS)
        quiet, seen = 0.0, 0
        while True:
            await pause(self.clock, every)
            if self.buffer.relieve():
                self.rescues += 1
            self._follow_the_buffer()
            quiet = quiet + every if self.buffer.added == seen else 0.0
            if self.conduct.idle_every is not None and quiet >= self.conduct.idle_every:
                self.buffer.add(MessageKind.IDLE, self.venue.name, "", b"")
                quiet = 0.0
            seen = self.buffer.added

    def _follow_the_buffer(self) -> None:
        for connection in self._connections.values():
            connection.follow_the_buffer()
