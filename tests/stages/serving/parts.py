"""Parts of real captures as recordings to serve, and clients that take what is served as any program would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
from websockets.asyncio.client import connect as connecting
from websockets.exceptions import ConnectionClosed

from stages.interpreting import Interpreter, Interpreting
from stages.messages import MessageKind, Messages, RawMessage
from stages.messages.captures import open_captures
from stages.serving import ReplayServer
from stages.venues import venue_named
from tests.patience import SECONDS

connect = partial(connecting, open_timeout=None, ping_interval=None, close_timeout=SECONDS)
"""A client that gives nobody up for being slow."""


class Part(NamedTuple):
    """The beginning of a capture, with its own snapshot of the book in it."""

    venue: str
    symbol: str
    files: tuple[str, ...]
    streams: tuple[str, ...]
    depth: str

    def read(self, recordings: Path, count: int) -> Messages:
        """Its first `count` messages."""
        found: list[Messages] = []
        for run in open_captures([recordings / "hftbacktest" / file for file in self.files]).runs():
            found.append(run)
            if sum(map(len, found)) >= count:
                break
        return Messages.concat(found).slice(0, count)


SPOT = Part(
    "binance_spot", "BTCUSDT", ("spot/btcusdt_20240808.gz",),
    ("btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@100ms"), "/api/v3/depth",
)  # fmt: skip
USDM = Part(
    "binance_usdm", "BTCUSDT", ("usdm/btcusdt_20240808.gz",),
    ("btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@0ms"), "/fapi/v1/depth",
)  # fmt: skip
COINM = Part(
    "binance_coinm", "BTCUSD_PERP", ("cm/btcusd_perp_20240808.gz",),
    ("btcusd_perp@trade", "btcusd_perp@bookTicker", "btcusd_perp@depth@0ms"), "/dapi/v1/depth",
)  # fmt: skip


def recording(messages: Messages, most: int = 1000) -> Callable[[], Iterator[Messages]]:
    """A function that begins to read them, in runs of so many."""
    return lambda: (messages.slice(at, min(at + most, len(messages))) for at in range(0, len(messages), most))


def made(*payloads: bytes, every_ms: int = 100) -> Messages:
    """Messages of one connection, so far apart."""
    return Messages.of(
        RawMessage(1_700_000_000_000_000_000 + at * every_ms * 1_000_000, at, MessageKind.RECEIVED, "one", "", payload)
        for at, payload in enumerate(payloads)
    )


def trade(number: int, symbol: str = "BTCUSDT") -> bytes:
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":1700000000000,"s":"{symbol}","t":{number},'
        f'"p":"100.5","q":"2","T":1700000000000,"m":true,"M":true}}}}'
    ).encode()


async def asked(url: str) -> tuple[int, Any, Any]:
    """Status, body and headers of a GET."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, msgspec.json.decode(await response.read()), response.headers


class Taker:
    """A client that keeps all it gets, in the order it got it."""

    def __init__(self, server: ReplayServer, part: Part, streams: Sequence[str] | None = None) -> None:
        self.server, self.part = server, part
        self.path = f"/stream?streams={'/'.join(streams or part.streams)}"
        self.got: list[RawMessage] = []
        self.closed: list[tuple[int | None, str | None]] = []
        self.statuses: list[int] = []

    def note(self, kind: MessageKind, url: str, payload: bytes) -> None:
        place = len(self.got)
        self.got.append(RawMessage(place, place, kind, "socket", url, payload))

    async def fetch(self) -> int:
        """Ask for the book."""
        url = f"{self.server.http_url}{self.part.depth}?symbol={self.part.symbol}&limit=1000"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            body = await response.read()
            if response.status == 200:
                self.note(MessageKind.RESPONSE, url, body)
            self.statuses.append(response.status)
            return response.status

    async def take(self, *, fetch: bool = True, connections: int = 1) -> None:
        """The documented procedure: connect, keep what comes, fetch the book when the first update is there."""
        for _ in range(connections):
            fetching: asyncio.Task[int] | None = None
            url = self.server.websocket_url + self.path
            async with connect(url, max_queue=4096) as socket:
                self.note(MessageKind.OPENED, url, b"")
                try:
                    async for said in socket:
                        assert isinstance(said, str)
                        self.note(MessageKind.RECEIVED, url, said.encode())
                        if fetch and fetching is None and "@depth" in said[:60]:
                            fetching = asyncio.create_task(self.fetch())
                except ConnectionClosed:
                    pass
                self.note(MessageKind.CLOSED, url, b"")
                self.closed.append((socket.close_code, socket.close_reason))
            if fetching is not None:
                await fetching

    async def take_all(self, begin: Callable[[], Any]) -> None:
        """With the book in hand before time begins: nothing depends on how fast the answer is."""
        url = self.server.websocket_url + self.path
        async with connect(url) as socket:
            await self.fetch()
            async with begin():
                async for said in socket:
                    assert isinstance(said, str)
                    self.note(MessageKind.RECEIVED, url, said.encode())
            self.closed.append((socket.close_code, socket.close_reason))


STAMPS = ("ts_recv", "ingest_seq", "source_id")


def stored(part: Part, messages: Messages, **settings: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows by kind, without what tells when and how they came."""
    interpreter = Interpreter(venue_named(part.venue), Interpreting(**settings))
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in interpreter.interpret(messages).batches:
        kind = batch.schema.metadata[b"record"].decode()
        found[kind] = batch.drop_columns([name for name in STAMPS if name in batch.schema.names]).to_pylist()
    return found


def books(part: Part, messages: Messages, levels: int = 20) -> dict[int, Any]:
    """The best levels of the book after each update that changes them, by the update's number."""
    rows = stored(part, messages, records=("book_snapshot",), depth=levels)["book_snapshot"]
    return {
        row["sequence"]: [[tuple(level.values())[:2] for level in row[side]] for side in ("bids", "asks")]
        for row in rows
    }


def deltas(part: Part, messages: Messages, after: int) -> list[dict[str, Any]]:
    """What is published of the book behind an update."""
    rows = stored(part, messages, records=("book_delta",))["book_delta"]
    return [row for row in rows if row["sequence"] > after]


def best_quotes(part: Part, messages: Messages) -> dict[int, Any]:
    """What the venue itself says the best levels are, by the number of the update that made them so."""
    rows = stored(part, messages, records=("quote",))["quote"]
    return {
        row["sequence"]: [[(row["bid_price"], row["bid_size"])], [(row["ask_price"], row["ask_size"])]] for row in rows
    }
