"""One WebSocket from being opened to being closed, whose messages are stamped when their bytes come."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import CLOSE, DATA_OPCODES

MAX_MESSAGE_BYTES = 64 << 20
CLOSE_SECONDS = 2.0
"""How long a server may take to answer that we close."""


class Heard(Protocol):
    """What a line tells, at once and in order, from within the loop's callback that read it."""

    def bytes_came(self) -> None: ...
    def opened(self) -> None: ...
    def received(self, payload: bytes) -> None: ...
    def closed(self, why: str) -> None: ...


class Line(ClientConnection):
    """Hands messages over as they are read, without a queue or task of its own: the session bounds them all together.

    Keeping it alive is the session's, too: a socket that is not read hears no pong.
    """

    def __init__(self, protocol: ClientProtocol, heard: Heard, **words: Any) -> None:
        super().__init__(protocol, **words)
        self.heard = heard
        self.said_why: str | None = None
        """Why we close it, where it is us."""
        self.lost = self.connection_lost_waiter
        self._was_opened = False
        self._is_held = False
        self._parts: list[bytes] = []
        self._last_call: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self.heard.bytes_came()
        super().data_received(data)

    def process_event(self, event: Any) -> None:
        if self.response is None:
            super().process_event(event)
            if self.protocol.handshake_exc is None:
                self._was_opened = True
                self.heard.opened()
        elif event.opcode in DATA_OPCODES:
            self._parts.append(event.data)
            if event.fin:
                payload, self._parts = b"".join(self._parts), []
                self.heard.received(payload)
        else:
            super().process_event(event)
            if event.opcode is CLOSE:  # a server that says so has to do so
                self._last_call = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._last_call is not None:
            self._last_call.cancel()
        if self._was_opened:
            self.heard.closed(self.said_why or _why(self.close_exc))

    def hold(self) -> None:
        """Read no more, so that the server has to wait."""
        if not self._is_held and not self.transport.is_closing():
            self._is_held = True
            self.transport.pause_reading()

    def free(self) -> None:
        """Read again."""
        if self._is_held and not self.transport.is_closing():
            self.transport.resume_reading()
        self._is_held = False

    @property
    def is_held(self) -> bool:
        return self._is_held

    async def say(self, payload: bytes) -> bool:
        """Send a message; False where the line is closed."""
        try:
            await self.send(payload, text=True)
        except ConnectionClosed:
            return False
        return True

    async def part(self, why: str) -> None:
        """Close as the protocol has it, or, where the server does not answer, at once."""
        self.said_why = self.said_why or why
        if self._is_held:  # its answer would not be read
            self.transport.abort()
        await self.close()
        await asyncio.shield(self.lost)

    def cut(self, why: str) -> None:
        """Close without another word."""
        self.said_why = self.said_why or why
        self.transport.abort()


class Dial:
    """Opens a line; whatever comes of it, `hang_up` leaves nothing open."""

    def __init__(self, url: str, heard: Heard, context: ssl.SSLContext | None) -> None:
        self.line: Line | None = None
        self._url, self._heard, self._context = url, heard, context

    async def open(self) -> Line:
        """Raises OSError, or what `websockets` raises for a handshake that was refused or makes no sense."""
        words: dict[str, Any] = {"ssl": self._context} if self._url.startswith("wss:") else {}
        made: Any = self._made
        await connect(
            self._url, create_connection=made, open_timeout=None, ping_interval=None, close_timeout=CLOSE_SECONDS,
            max_size=MAX_MESSAGE_BYTES, max_queue=None, compression=None, **words,
        )  # fmt: skip
        assert self.line is not None
        return self.line

    async def hang_up(self) -> None:
        """Close what is still open, and wait until it is."""
        line = self.line
        if line is not None and hasattr(line, "transport"):
            line.transport.abort()
            await asyncio.shield(line.lost)

    def _made(self, protocol: ClientProtocol, **words: Any) -> Line:
        self.line = Line(protocol, self._heard, **words)
        return self.line


def _why(error: Exception) -> str:
    cause = error.__cause__
    return f"{error}" if cause is None else f"{error}: {cause or type(cause).__name__}"
