"""Version 1 of Kraken's protocol: arrays that end with a channel and a pair, and numbers as texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from stages.schemas import BUY, SELL
from stages.venues.facts import Book, Candle, Fact, Level, Quote, Trade, Unreadable, later
from stages.venues.factual import About, Found, checked
from stages.venues.subscribing import plans, words
from stages.venues.venue import ConnectionPlan, Decoder

from .market import CHANNEL, DEPTHS, LIMITS, KrakenDecoder, KrakenMarket, asset_pairs

_USUAL = {"trade": "trade", "quote": "spread", "book_delta": "book-1000", "bar": "ohlc-1"}
_CONTROL = frozenset(("heartbeat", "systemStatus", "subscriptionStatus", "pong"))
_BEGINS = re.compile(rb"\s*\[\s*(\d{1,18})\s*,")
_ENDS = re.compile(rb'"((?:book|ohlc)-\d+|trade|ticker|spread)"\s*,\s*"([^"\\\s]{1,64})"\s*\]\s*$')
_WRITES = re.compile(
    rb'\s*\[\s*\d{1,18}\s*,.*,\s*"((?:book|ohlc)-\d+|trade|ticker|spread)"\s*,\s*"[^"\\\s/]+/[^"\\\s/]+"\s*\]\s*$'
)
"""A pair has a stroke here; others' arrays may end alike without one."""
_EVENT = re.compile(rb'\s*\{.*"event":\s*"(systemStatus|subscriptionStatus)"')
_NS_OF_MINUTE = 60 * 10**9

_Entry = Annotated[list[str], Meta(min_length=3, max_length=4)]
"""Price, size, time, and `r` where a level was told before."""


class Levels(Struct, gc=False):
    """A snapshot (`as`, `bs`) or changes (`a`, `b`), and the checksum `c` of the book after these."""

    asks: list[_Entry] | None = field(default=None, name="as")
    bids: list[_Entry] | None = field(default=None, name="bs")
    a: list[_Entry] | None = None
    b: list[_Entry] | None = None
    c: str | None = None


class Ticker(Struct, gc=False):
    """Price, whole lots and size of the best ask and bid."""

    a: tuple[str, Raw, str]
    b: tuple[str, Raw, str]


class Event(Struct, gc=False):
    """What is no channel's; a response of HTTP has `result` instead."""

    event: str = ""
    status: str = ""
    channelName: str = ""
    pair: str = ""
    channelID: int | None = None
    result: Raw | UnsetType = UNSET


_four = msgspec.json.Decoder(tuple[int, Raw, str, str])
_five = msgspec.json.Decoder(tuple[int, Raw, Raw, str, str])
_event = msgspec.json.Decoder(Event)
_levels = msgspec.json.Decoder(Levels)
_ticker = msgspec.json.Decoder(Ticker)
_trades = msgspec.json.Decoder(list[tuple[str, str, str, Literal["b", "s"], str, str]])
_spread = msgspec.json.Decoder(Annotated[list[str], Meta(min_length=3, max_length=5)])
_candle = msgspec.json.Decoder(tuple[str, str, str, str, str, str, str, str, int])


class FirstDecoder(KrakenDecoder):
    """Remembers beside which channel and pair a connection's channel numbers stand for: with these a message begins,
    so that one whose end is missing can be told whose it was."""

    def __init__(self, suffix: str) -> None:
        super().__init__(suffix)
        self._channels: dict[str, dict[int, About]] = {}

    def read(self, payload: bytes, url: str, source: str) -> Found:
        if payload.lstrip()[:1] == b"[":
            return self._channel(payload, source)
        told = _event.decode(payload)
        if told.result is not UNSET:
            return checked(asset_pairs(payload))
        if told.event not in _CONTROL:
            _refuse(payload)
        if told.event == "subscriptionStatus":
            if told.status == "error":
                _refuse(payload)
            if told.status == "subscribed" and told.channelID is not None:
                self._note(source, told.channelID, told.channelName, told.pair)
        return told.event

    def about(self, payload: bytes, source: str) -> About:
        end = _ENDS.search(payload)
        if end is not None:
            return About(end[1].decode(), end[2].decode(errors="replace"))
        begin = _BEGINS.match(payload)
        known = self._channels.get(source, {})
        return About() if begin is None else known.get(int(begin[1]), About())

    def begun(self, source: str) -> None:
        self._channels.pop(source, None)

    def snapshot(self) -> dict[str, Any]:
        channels = {
            source: [[number, *about] for number, about in known.items()] for source, known in self._channels.items()
        }
        return {**super().snapshot(), "channels": channels}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._channels = {
            source: {number: About(channel, symbol) for number, channel, symbol in known}
            for source, known in state["channels"].items()
        }

    def _channel(self, payload: bytes, source: str) -> Found:
        parts: tuple[Raw, ...]
        try:
            number, *parts, name, pair = _four.decode(payload)  # type: ignore[assignment]
        except msgspec.ValidationError:
            number, *parts, name, pair = _five.decode(payload)  # type: ignore[assignment]
        known = CHANNEL.fullmatch(name)
        if known is None or (len(parts) > 1 and known[2] is None):
            raise Unreadable(f"expected one of the channels trade, ticker, spread, book, ohlc, found {name!r:.80}")
        found = checked(_facts(name, pair, parts))
        self._note(source, number, name, pair)
        if known[2]:
            self._depths.setdefault(pair, int(known[3] or DEPTHS[0]))
        return found

    def _note(self, source: str, number: int, channel: str, symbol: str) -> None:
        self._channels.setdefault(source, {})[number] = About(channel, symbol)


def _refuse(payload: bytes) -> NoReturn:
    text = payload[:200].decode(errors="replace")
    raise Unreadable(f"expected an event that is known and no error, found {text}")


def _facts(name: str, pair: str, parts: Sequence[Raw]) -> list[Fact]:
    channel, _, detail = name.partition("-")
    if channel == "book":
        return [_book(pair, [_levels.decode(part) for part in parts if bytes(part) != b"null"])]
    if channel == "trade":
        return [
            Trade(symbol=pair, time=time, price=price, size=size, side=BUY if side == "b" else SELL)
            for price, size, time, side, _, _ in _trades.decode(parts[0])
        ]
    if channel == "ticker":
        told = _ticker.decode(parts[0])
        return [Quote(symbol=pair, time=None, bid=(told.b[0], told.b[2]), ask=(told.a[0], told.a[2]))]
    if channel == "spread":
        bid, ask, time, *sizes = _spread.decode(parts[0])
        if len(sizes) == 1:
            raise Unreadable("expected sizes of both sides of a spread or of none, found one")
        bid_size, ask_size = sizes or ("", "")
        return [
            Quote(
                symbol=pair, time=time, bid=(bid, bid_size), ask=(ask, ask_size), bid_size_told=bool(sizes),
                ask_size_told=bool(sizes),
            )
        ]  # fmt: skip
    if channel == "ohlc":
        return [_candle_of(pair, int(detail or 1), parts[0])]
    raise Unreadable(f"expected a channel of pairs, found {name!r:.80}")


def _book(pair: str, parts: list[Levels]) -> Book:
    whole = [part for part in parts if part.asks is not None or part.bids is not None]
    changes = [part for part in parts if part.a is not None or part.b is not None]
    if bool(whole) == bool(changes) or len(whole) + len(changes) < len(parts):
        raise Unreadable("expected a snapshot (`as`, `bs`) or changes (`a`, `b`) of a book, found neither or both")
    bids = [entry for part in parts for entry in (part.bids if whole else part.b) or ()]
    asks = [entry for part in parts for entry in (part.asks if whole else part.a) or ()]
    sums = [part.c for part in parts if part.c is not None]
    if len(sums) > 1 or (sums and not (sums[0].isdecimal() and int(sums[0]) < 2**32)):
        raise Unreadable(f"expected one checksum of 32 bits, found {', '.join(sums)!r:.80}")
    return Book(
        symbol=pair,
        time=later([entry[2] for entry in (*bids, *asks)]),
        bids=[_level(entry) for entry in bids],
        asks=[_level(entry) for entry in asks],
        snapshot=bool(whole),
        checksum=int(sums[0]) if sums else None,
    )


def _level(entry: list[str]) -> Level:
    return entry[0], entry[1]


def _candle_of(pair: str, minutes: int, part: Raw) -> Candle:
    """Its end may have decimals, which are to be left away."""
    time, end, open_, high, low, close, vwap, volume, count = _candle.decode(part)
    ends = int(end.partition(".")[0]) * 10**9 // _NS_OF_MINUTE * _NS_OF_MINUTE
    return Candle(
        symbol=pair, time=time, start=ends - minutes * _NS_OF_MINUTE, end=ends, open=open_, high=high, low=low,
        close=close, volume=volume, vwap=float(vwap), trades=count,
    )  # fmt: skip


class FirstVersion(KrakenMarket, frozen=True, kw_only=True):
    """Trades have no numbers, so that one that is missing cannot be told; snapshots of books have no checksum."""

    def decoder(self) -> Decoder:
        return FirstDecoder(self.suffix)

    def connections(
        self, symbols: Sequence[str], channels: Sequence[str], base_url: str | None = None
    ) -> list[ConnectionPlan]:
        found = words(channels, _USUAL, lambda word: (m := CHANNEL.fullmatch(word)) is not None and _is_here(m[0]))
        return plans(symbols, found, base_url or self.websocket_url, self.limits, _subscribe)

    def writes(self, payload: bytes) -> bool:
        return _EVENT.match(payload) is not None or _WRITES.match(payload) is not None

    def recognises(self, url: str, payload: bytes) -> bool:
        """Also pairs as HTTP lists them, since they are by the names of this version."""
        if url.startswith("https://api.kraken.com/0/public/AssetPairs"):
            return True
        return super().recognises(url, payload)


def _is_here(word: str) -> bool:
    return word not in ("instrument", "level3")


def _subscribe(word: str, symbols: Sequence[str]) -> dict[str, Any]:
    name, _, detail = word.partition("-")
    subscription: dict[str, Any] = {"name": name}
    if detail:
        subscription["depth" if name == "book" else "interval"] = int(detail)
    return {"event": "subscribe", "pair": list(symbols), "subscription": subscription}


KRAKEN_V1 = FirstVersion(
    name="kraken_v1",
    suffix="KRAKEN",
    websocket_url="wss://ws.kraken.com",
    http_url="https://api.kraken.com",
    limits=LIMITS,
    path="",
)
