"""One client: what it subscribed to, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
from collections import deque

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from stages.venues.serving import Subscriptions

TOO_SLOW = 1008


class Client:
    """A queue between the replay and one socket, bounded in bytes.

    The replay either waits until there is room, or finds that there is none and ends the client; see `ReplayServer`.
    """

    def __init__(
        self, number: int, connection: ServerConnection, subscriptions: Subscriptions, most_bytes: int
    ) -> None:
        self.number, self.subscriptions = number, subscriptions
        self.sent = 0
        self.ended: tuple[int | None, str] | None = None
        """Code and reason with which it is closed behind all that waits; code None: without a closing frame."""
        self._connection = connection
        self._most = most_bytes
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._bell = asyncio.Event()
        self._room = asyncio.Event()
        self._gone = False

    @property
    def is_full(self) -> bool:
        return self._bytes >= self._most and not self._gone and self.ended is None

    @property
    def has_all(self) -> bool:
        """Whether nothing waits any more."""
        return self._gone or not self._waiting

    def put(self, frame: bytes) -> None:
        """Send behind what waits; nothing after `end`."""
        if self.ended is None and not self._gone:
            self._waiting.append(frame)
            self._bytes += len(frame)
            self._bell.set()

    async def room(self) -> None:
        """Wait until it is not full."""
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    async def drained(self) -> None:
        """Wait until all has been sent, or nobody is there any more."""
        while not self.has_all:
            self._room.clear()
            await self._room.wait()

    def end(self, code: int | None, reason: str, *, at_once: bool = False) -> None:
        """Close behind all that waits, or without it."""
        if self.ended is None:
            self.ended = (code, reason)
            if at_once:
                self._waiting.clear()
            self._bell.set()
            self._room.set()

    async def deliver(self) -> None:
        """Send what waits until the client goes or is ended; then its socket is closed."""
        send = self._connection.send
        try:
            while True:
                while self._waiting:
                    frame = self._waiting[0]
                    await send(frame, text=True)
                    if self._waiting:
                        self._waiting.popleft()
                    self._bytes -= len(frame)
                    self.sent += 1
                    self._room.set()
                if self.ended is not None:
                    break
                self._bell.clear()
                await self._bell.wait()
            code, reason = self.ended
            if code is None:
                self._connection.transport.close()
            else:
                await self._connection.close(code, reason)
        except ConnectionClosed:
            pass
        finally:
            self.gone()

    def gone(self) -> None:
        """The connection is no more: nothing waits for it."""
        self._gone = True
        self._waiting.clear()
        self._room.set()
