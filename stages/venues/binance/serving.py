"""Binance's side of the conversation: streams that are subscribed to, and books, times and refusals over HTTP.

Sources: the documentation of spot, USD-M and COIN-M market streams (subscribing, combined streams, pings), of their
depth endpoints (limits and weights) and of their general rules (429, 418, Retry-After, X-MBX-USED-WEIGHT-1M).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from stages.messages import MessageKind, Messages
from stages.venues.serving import (
    BookAsked,
    BookNow,
    Event,
    OtherAsked,
    Reply,
    Subscriptions,
    TimeAsked,
    VenueServer,
)

from .group import nanoseconds
from .reading import REFUSALS
from .streams import Stream, stream_named, streams_of
from .wire import PartialDepth

_WRAPPED = b'{"stream":"'
_DATA = b'","data":'
_MS = 1_000_000
_JSON = (("Content-Type", "application/json;charset=UTF-8"),)
_PLACES = ("", "/public", "/market", "/private")
"""In front of `/ws` and `/stream`: USD-M futures tell their streams apart there."""
_LIMIT = re.compile(r"[0-9]{1,20}")
_CODES = {400: -1121, 404: -1000, 418: -1003, 429: -1003}
_ODD = {"24hrTicker": "ticker", "24hrMiniTicker": "miniTicker", "markPriceUpdate": "markPrice", "depthUpdate": "depth"}
"""Events whose streams are called otherwise."""


class _Request(msgspec.Struct):
    method: str
    params: list[Any] = []
    id: int | str | None = None


class _Named(msgspec.Struct):
    """Of an event that no wrapper names the stream of, what tells it."""

    e: str = "bookTicker"
    s: str = ""
    k: dict[str, Any] = {}
    o: dict[str, Any] = {}


_request = msgspec.json.Decoder(_Request)
_depth = msgspec.json.Decoder(PartialDepth)
_named = msgspec.json.Decoder(_Named)


class _Habits(msgspec.Struct, frozen=True):
    """What differs between the markets."""

    weights: tuple[tuple[int, int], ...]
    """A number of levels and what asking for up to so many weighs, the largest last."""
    limit: int
    """Levels that are given where none are asked for."""
    ping_seconds: float
    pong_seconds: float
    tells_time: bool = True
    """Whether books tell when they were so."""
    tells_pair: bool = False


_FUTURES = _Habits(((50, 2), (100, 5), (500, 10), (1000, 20)), 500, 180, 600)
_HABITS = {
    "/api/v3/depth": _Habits(((100, 5), (500, 25), (1000, 50), (5000, 250)), 100, 20, 60, tells_time=False),
    "/fapi/v1/depth": _FUTURES,
    "/dapi/v1/depth": msgspec.structs.replace(_FUTURES, tells_pair=True),
}
"""By where books are asked for."""


class BinanceServer(VenueServer):
    """One market's server, by where its books are asked for, such as /api/v3/depth."""

    def __init__(self, depth_path: str) -> None:
        self._habits = _HABITS[depth_path]
        self.ping_seconds, self.pong_seconds = self._habits.ping_seconds, self._habits.pong_seconds
        self._depth_path, self._root = depth_path, depth_path.rpartition("/")[0]

    # -- streams -----------------------------------------------------------------------------------------------

    def opened(self, path: str) -> Subscriptions | None:
        parts = urlsplit(path)
        where = parts.path.rstrip("/")
        for place in _PLACES:
            if where == f"{place}/stream":
                named = "/".join(parse_qs(parts.query).get("streams", ()))
                return Subscriptions(filter(None, named.split("/")), wrapped=True)
            if where == f"{place}/ws" or where.startswith(f"{place}/ws/"):
                return Subscriptions(filter(None, where.removeprefix(f"{place}/ws").split("/")))
        return None

    def answer(self, said: str | bytes, subscriptions: Subscriptions) -> bytes | None:
        try:
            request = _request.decode(said)
        except REFUSALS as error:
            return _wrong(3, f"Invalid JSON: {error}", None)
        names = [name for name in request.params if isinstance(name, str)]
        result: Any = None
        match request.method:
            case "SUBSCRIBE" | "UNSUBSCRIBE" if len(names) < len(request.params) or not names:
                return _wrong(2, "Invalid request: params must be names of streams", request.id)
            case "SUBSCRIBE":
                subscriptions.names.update(dict.fromkeys(names))
            case "UNSUBSCRIBE":
                for name in names:
                    subscriptions.names.pop(name, None)
            case "LIST_SUBSCRIPTIONS":
                result = list(subscriptions.names)
            case "SET_PROPERTY" if len(request.params) == 2 and request.params[0] == "combined":
                subscriptions.wrapped = bool(request.params[1])
            case "GET_PROPERTY" if request.params == ["combined"]:
                result = subscriptions.wrapped
            case _:
                return _wrong(2, f"Invalid request: unknown method {request.method}", request.id)
        return msgspec.json.encode({"result": result, "id": request.id})

    def events(self, messages: Messages) -> list[Event | None]:
        named = [self._only_stream(url) for url in messages.url]
        return [
            _event(payload, named[url]) if kind == MessageKind.RECEIVED else None
            for kind, url, payload in zip(
                messages.kind.tolist(), messages.url_code.tolist(), messages.payloads(), strict=True
            )
        ]

    def _only_stream(self, url: str) -> str | None:
        """The name of the stream that an address asks for, if it is one only."""
        if len(streams_of(url)) != 1:
            return None
        subscriptions = self.opened(url)
        return next(iter(subscriptions.names), None) if subscriptions is not None else None

    def kin(self, stream: str) -> str:
        named = stream_named(stream)
        channel = named.channel
        if named.is_depth:
            channel = channel.rpartition("@")[0] or channel
        elif channel == "markPrice@1s":
            channel = "markPrice"
        return f"{named.symbol.lower()}@{channel}"

    def frame(self, name: str, data: bytes, *, wrapped: bool) -> bytes:
        return b"".join((_WRAPPED, name.encode(), _DATA, data, b"}")) if wrapped else data

    # -- HTTP --------------------------------------------------------------------------------------------------

    def asked(self, path: str) -> BookAsked | TimeAsked | OtherAsked | Reply:
        parts = urlsplit(path)
        if parts.path in (f"{self._root}/time", f"{self._root}/ping"):
            return TimeAsked(1)
        if parts.path != self._depth_path:
            return OtherAsked(1)
        words = parse_qs(parts.query)
        symbol = words.get("symbol", [""])[0].upper()
        if not symbol:
            return _reply(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        said = words.get("limit", [str(self._habits.limit)])[0]
        if not _LIMIT.fullmatch(said) or not int(said):
            return _reply(400, -1100, "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.")
        limit = min(int(said), self._habits.weights[-1][0])
        weight = next(weight for levels, weight in self._habits.weights if limit <= levels)
        return BookAsked(symbol, limit, weight)

    def book(self, book: BookNow) -> bytes:
        told: dict[str, Any] = {"lastUpdateId": book.sequence}
        if self._habits.tells_time:
            told["E"] = book.now_ns // _MS
            told["T"] = (book.now_ns if book.event_ns is None else book.event_ns) // _MS
        if self._habits.tells_pair:
            told["symbol"], told["pair"] = book.symbol, book.symbol.partition("_")[0]
        told["bids"], told["asks"] = book.bids, book.asks
        return msgspec.json.encode(told)

    def told(self, body: bytes, symbol: str, now_ns: int) -> BookNow | None:
        try:
            said = _depth.decode(body)
        except REFUSALS:
            return None
        time = None if said.T is msgspec.UNSET else nanoseconds(said.T)
        return BookNow(symbol, said.lastUpdateId, tuple(said.bids), tuple(said.asks), time, now_ns)

    def time(self, path: str, now_ns: int) -> bytes:
        return msgspec.json.encode({"serverTime": now_ns // _MS} if urlsplit(path).path.endswith("/time") else {})

    def weighed(self, used: int) -> tuple[tuple[str, str], ...]:
        return (*_JSON, ("X-MBX-USED-WEIGHT-1M", str(used)))

    def refused(self, status: int, why: str = "", retry_seconds: float | None = None) -> Reply:
        said = why
        if status == 429:
            said = said or "Too much request weight used; please use WebSocket Streams for live updates to avoid bans."
        elif status == 418:
            said = said or "Way too much request weight used; IP banned. Please use WebSocket Streams for live updates."
        found = _reply(status, _CODES.get(status, -1001), said or "Internal error; unable to process your request.")
        if retry_seconds is None:
            return found
        return msgspec.structs.replace(found, headers=(*found.headers, ("Retry-After", f"{retry_seconds:.0f}")))


def _event(payload: bytes, named: str | None) -> Event | None:
    """Takes a wrapper off, without reading what is in it."""
    if payload.startswith(_WRAPPED):
        end = payload.find(_DATA, len(_WRAPPED), len(_WRAPPED) + 128)
        if end < 0 or not payload.endswith(b"}"):
            return None
        return Event(payload[len(_WRAPPED) : end].decode(errors="replace"), payload[end + len(_DATA) : -1])
    name = named or _name_of(payload)
    return None if name is None else Event(name, payload)


def _name_of(payload: bytes) -> str | None:
    """The stream of an event by itself; how often it was sent is not known of it."""
    try:
        event = _named.decode(payload)
    except REFUSALS:
        return None
    symbol = event.s or str(event.o.get("s", ""))
    if not symbol:
        return None
    channel = f"kline_{event.k.get('i')}" if event.e == "kline" else _ODD.get(event.e, event.e)
    return f"{symbol.lower()}@{channel}" if Stream(symbol, channel).is_known else None


def _wrong(code: int, why: str, id: int | str | None) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "msg": why}, "id": id})


def _reply(status: int, code: int, why: str) -> Reply:
    return Reply(status, msgspec.json.encode({"code": code, "msg": why}), _JSON)
