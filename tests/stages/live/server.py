"""A venue on 127.0.0.1, of Binance's protocol, that does what a test says and nothing by itself."""

from __future__ import annotations

import asyncio
import http
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from pipeline import Clock
from pipeline.testing import VirtualClock
from stages.live.conduct import Conduct
from stages.live.session import Session
from stages.messages import MessageKind, RawMessage
from stages.venues import Limits, Venue, venue_named
from tests.patience import SECONDS

Answer = tuple[int, dict[str, str], bytes]
SPOT = venue_named("binance_spot")
T0 = 1_700_000_000_000


class LocalVenue:
    """Connections in the order they came, and what was asked by HTTP, whose answers a test may queue or compute."""

    def __init__(self) -> None:
        self.clients: list[ServerConnection] = []
        self.asked: list[str] = []
        self.refusals: deque[int] = deque()
        """Statuses that the next handshakes are refused with."""
        self.answers: deque[Answer | Callable[[], Awaitable[Answer]]] = deque()
        self.snapshot: Callable[[str], bytes] = lambda symbol: book(100)
        self._bell = asyncio.Event()
        self._server: Server | None = None
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        """It is this venue's from the first on; before `open` connections are refused."""

    async def open(self) -> None:
        self._server = await serve(
            self._serve, sock=self._socket, process_request=self._answer, ping_interval=None, close_timeout=SECONDS
        )

    async def close(self) -> None:
        if self._server is not None:
            for client in self.clients:
                client.transport.abort()
            self._server.close()
            await self._server.wait_closed()
            self._server = None
        self._socket.close()

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def client(self, number: int) -> ServerConnection:
        """The connection of that number, from 1, once it is open."""
        await self.until(lambda: len(self.clients) >= number)
        return self.clients[number - 1]

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return when something that happened here has made it so."""
        async with asyncio.timeout(SECONDS):
            while not is_so():
                self._bell.clear()
                await self._bell.wait()

    async def _serve(self, client: ServerConnection) -> None:
        self.clients.append(client)
        self._bell.set()
        await client.wait_closed()

    async def _answer(self, client: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return client.respond(self.refusals.popleft(), "not now") if self.refusals else None
        self.asked.append(request.path)
        self._bell.set()
        queued = self.answers.popleft() if self.answers else None
        if queued is None:
            symbol = parse_qs(urlsplit(request.path).query)["symbol"][0]
            queued = 200, {}, self.snapshot(symbol)
        status, more, body = queued if isinstance(queued, tuple) else await queued()
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close", **more})
        return Response(status, http.HTTPStatus(status).phrase, headers, body)


@asynccontextmanager
async def local_venue() -> AsyncIterator[LocalVenue]:
    venue = LocalVenue()
    await venue.open()
    try:
        yield venue
    finally:
        await venue.close()


def with_limits(venue: Venue, **changed: Any) -> Venue:
    limits: Limits = msgspec.structs.replace(venue.limits, **changed)
    return msgspec.structs.replace(venue, limits=limits)


def session_of(
    server: LocalVenue,
    channels: Sequence[str] = ("trade",),
    symbols: Sequence[str] = ("BTCUSDT",),
    venue: Venue = SPOT,
    clock: Clock | None = None,
    seed: int = 1,
    **words: Any,
) -> Session:
    conduct = Conduct(**{"first_retry": 0.01, "longest_retry": 0.05, **words.pop("conduct", {})})
    plans = venue.connections(symbols, channels, server.ws)
    return Session(
        venue, plans, http_url=server.http, conduct=conduct, clock=clock, random=np.random.default_rng(seed), **words
    )


class Taking:
    """All messages a session has given."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.got: list[RawMessage] = []

    async def until(self, is_so: Callable[[list[RawMessage]], bool]) -> list[RawMessage]:
        async with asyncio.timeout(SECONDS):
            while not is_so(self.got):
                run = await self.session.messages()
                assert run is not None, f"the session ended after {self.said()}"
                self.got += run
        return self.got

    async def count(self, kind: MessageKind, times: int) -> list[RawMessage]:
        """Once so many of a kind have come; those of that kind."""
        await self.until(lambda got: sum(message.kind == kind for message in got) >= times)
        return [message for message in self.got if message.kind == kind]

    async def rest(self) -> list[RawMessage]:
        """Once the session has ended."""
        async with asyncio.timeout(SECONDS):
            while (run := await self.session.messages()) is not None:
                self.got += run
        return self.got

    def said(self) -> list[tuple[str, bytes]]:
        return [(message.kind.name, message.payload) for message in self.got]


async def figure(session: Session, name: str, value: int, clock: VirtualClock | None = None) -> None:
    """Return when a figure of the session has reached a value; with a clock, it is moved on meanwhile."""
    async with asyncio.timeout(SECONDS):
        while session.figures()[name] < value:
            await asyncio.sleep(0 if clock is None else 0.001)  # sockets are real, and take real time
            if clock is not None:
                await clock.advance(0.05)


# -- what the venue says ---------------------------------------------------------------------------------------------


def trade(number: int, symbol: str = "BTCUSDT", ms: int | None = None) -> str:
    at = T0 + number if ms is None else ms
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{at},"s":"{symbol}","t":{number},'
        f'"p":"{100 + number % 7}.5","q":"2","T":{at},"m":true,"M":true}}}}'
    )


def quote(number: int, symbol: str = "BTCUSDT") -> str:
    return (
        f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"u":{number},"s":"{symbol}","b":"100","B":"{number}",'
        f'"a":"101","A":"1"}}}}'
    )


def depth(first: int, last: int, bid: str = "99.5", symbol: str = "BTCUSDT") -> str:
    return (
        f'{{"stream":"{symbol.lower()}@depth@100ms","data":{{"e":"depthUpdate","E":{T0 + last},"s":"{symbol}",'
        f'"U":{first},"u":{last},"b":[["{bid}","{last}"]],"a":[]}}}}'
    )


def book(last: int) -> bytes:
    return f'{{"lastUpdateId":{last},"bids":[["99","1"],["98","2"]],"asks":[["101","1"],["102","3"]]}}'.encode()
