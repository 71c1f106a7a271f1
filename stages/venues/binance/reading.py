"""One message's bytes as events: quickly in a usual form, carefully in another, with a reason where it has none."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Struct

from . import wire
from .streams import Stream, stream_named, streams_of, symbol_asked_for

SNAPSHOT = "depthSnapshot"
"""Not Binance's: so Tardis calls a stream of the snapshots that it fetched, among the others."""
_ENDPOINT = re.compile(r"/(depth|openInterest|exchangeInfo)$")
"""Ends of the paths of which responses are read; those of others are known and counted."""
_BEGINS = re.compile(rb'\{"stream":"([^"\\]{1,128})"')


class Unreadable(Exception):
    """A message that is none of Binance's, or one that says something is wrong."""

    def __init__(self, detail: str, stream: Stream | None = None) -> None:
        super().__init__(detail)
        self.stream = stream


class TopLevels(Struct, gc=False):
    """The best levels of a book, as often as a stream gives them."""

    symbol: str
    sequence: int
    time: int | None
    depth: int
    bids: wire.Levels
    asks: wire.Levels


class WholeBook(Struct, gc=False):
    """A snapshot that updates join; `symbol` is None where the message does not tell."""

    symbol: str | None
    sequence: int
    time: int | None
    bids: wire.Levels
    asks: wire.Levels


class Instrument(Struct, gc=False):
    """One instrument of exchange information."""

    symbol: str
    time: int | None
    listed: wire.Listed


Found: TypeAlias = list[Any] | str
"""Events of a message, or what kind of control message it is."""

REFUSALS = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
_SHOWN = 200


def read(payload: bytes, url: str) -> Found:
    """What a message says. Raises `Unreadable`."""
    try:
        if payload.startswith(b'{"stream":"'):
            if b'@bookTicker"' in payload[:96]:
                return [wire.combined_ticker.decode(payload).data]
            combined = wire.combined.decode(payload)
            return _of_stream(combined.data, stream_named(combined.stream))
        elif payload.startswith(b'{"u":'):
            return [wire.ticker.decode(payload)]
        elif payload.startswith(b'{"e":'):
            return _raw(wire.event.decode(payload), url)
    except REFUSALS:
        pass
    return _carefully(payload, url)


def _carefully(payload: bytes, url: str) -> Found:
    """By its outline first, so that a reason is about the very structure it should have had."""
    stream: Stream | None = None
    try:
        start = payload.lstrip()[:1]
        if start == b"[":
            if url.startswith("http"):
                return "response"
            return _many(wire.outlines.decode(payload), None, url)
        told = wire.outline.decode(payload)
        inner: bytes | msgspec.Raw = payload
        if told.stream is not UNSET:
            stream = stream_named(told.stream)
            if told.data is UNSET:
                raise Unreadable(f"expected `data` beside the stream '{told.stream}', found none", stream)
            inner = told.data
            if bytes(inner).lstrip()[:1] == b"[":
                return _many(wire.outlines.decode(inner), stream, url)
            told = wire.outline.decode(inner)
        return _one(inner, told, stream, url)
    except Unreadable as error:
        error.stream = error.stream or stream
        raise
    except RecursionError:
        raise Unreadable("expected a message of Binance, found one nested too deeply", stream) from None
    except REFUSALS as error:
        raise Unreadable(f"expected a message of Binance: {error}"[:_SHOWN], stream or _begun(payload)) from None


def _begun(payload: bytes) -> Stream | None:
    """The stream that a message begins with, though the rest of it cannot be read."""
    found = _BEGINS.match(payload)
    return None if found is None else stream_named(found[1].decode(errors="replace"))


def _many(parts: list[msgspec.Raw], stream: Stream | None, url: str) -> Found:
    """Events of streams that are of all symbols; all are good, or the message is not."""
    if not parts:
        return "nothing new"
    found: list[Any] = []
    control = ""
    for part in parts:
        one = _one(part, wire.outline.decode(part), stream, url)
        if isinstance(one, str):
            control = one
        else:
            found.extend(one)
    return found or control


def _one(inner: bytes | msgspec.Raw, told: wire.Outline, stream: Stream | None, url: str) -> Found:
    if told.e is not UNSET:
        if told.e in wire.STATISTICS:
            return told.e
        if told.e not in wire.EVENTS:
            raise Unreadable(f"expected one of the events {', '.join(wire.EVENTS)}, found {told.e!r:.80}")
        event = msgspec.json.decode(_without_empty(inner), type=wire.EVENTS[told.e])
        return _of_stream(event, stream) if stream is not None else _raw(event, url)
    if told.lastUpdateId is not UNSET:
        return _book(msgspec.json.decode(_without_empty(inner), type=wire.PartialDepth), stream, url)
    if told.u is not UNSET:
        return [wire.ticker.decode(inner)]
    if told.openInterest is not UNSET:
        return [msgspec.json.decode(inner, type=wire.OpenInterest)]
    if told.symbols is not UNSET:
        told_of = msgspec.json.decode(inner, type=wire.ExchangeInfo)
        return [Instrument(listed.symbol, told_of.serverTime, listed) for listed in told_of.symbols] or "nothing new"
    if told.error is not UNSET or (told.code is not UNSET and told.msg is not UNSET):
        raise Unreadable(f"the venue refused a request: {bytes(inner)[:_SHOWN].decode(errors='replace')}")
    if told.result is not UNSET and told.id is not UNSET:
        return "reply"
    if told.serverTime is not UNSET:
        return "server time"
    if url.startswith("http") and _ENDPOINT.search(urlsplit(url).path) is None:
        return "response"
    raise Unreadable("expected an event (`e`), a book, a reply or exchange information, found none of their fields")


def _without_empty(inner: bytes | msgspec.Raw) -> bytes | msgspec.Raw:
    """Levels as they are since 2019: before, each had an empty list behind price and size."""
    text = bytes(inner)
    return text.replace(b",[]]", b"]") if b'",[]]' in text else inner


def _of_stream(event: Any, stream: Stream) -> Found:
    """An event, where depth is what the stream says it is: the whole book's changes, the best levels, or neither."""
    if not isinstance(event, wire.DepthUpdate) or stream.is_whole_depth:
        return [event]
    if stream.levels is not None:
        return [_top(event, stream.levels)]
    if stream.is_depth:
        return stream.channel.partition("@")[0]
    raise Unreadable(f"expected depth in a stream of depth, found it in '{stream.channel}'", stream)


def _raw(event: Any, url: str) -> Found:
    """An event that came without a stream's name: what the connection asked for says what depth is."""
    if not isinstance(event, wire.DepthUpdate):
        return [event]
    asked = [stream for stream in streams_of(url) if stream.is_depth and stream.symbol == event.s]
    if not asked:
        return [event]
    if len({(stream.levels, stream.is_whole_depth) for stream in asked}) > 1:
        raise Unreadable(
            f"expected depth of one kind for {event.s} on a connection without names of streams, found "
            f"{', '.join(stream.channel for stream in asked)}; ask for them by /stream"
        )
    return _of_stream(event, asked[0])


def _book(found: wire.PartialDepth, stream: Stream | None, url: str) -> Found:
    time = _first(found.T, found.E)
    if stream is None and url.startswith("ws"):
        partial = [each for each in streams_of(url) if each.levels is not None]
        if len(partial) != 1:
            raise Unreadable(f"expected one stream of partial depth in the address '{url:.80}', found {len(partial)}")
        stream = partial[0]
    if stream is not None and stream.channel == SNAPSHOT:
        return [WholeBook(stream.symbol, found.lastUpdateId, time, found.bids, found.asks)]
    if stream is None:
        symbol = symbol_asked_for(url) or (None if found.symbol is UNSET else found.symbol)
        return [WholeBook(symbol, found.lastUpdateId, time, found.bids, found.asks)]
    if stream.levels is None:
        raise Unreadable(
            f"expected the best levels in a stream of partial depth, found them in '{stream.channel}'", stream
        )
    return [TopLevels(stream.symbol, found.lastUpdateId, time, stream.levels, found.bids, found.asks)]


def _top(event: wire.DepthUpdate, depth: int) -> TopLevels:
    return TopLevels(event.s, event.u, _first(event.T, event.E), depth, event.b, event.a)


def _first(*times: int | Literal[msgspec.UnsetType.UNSET]) -> int | None:
    return next((time for time in times if time is not UNSET), None)
