"""The market data feed of Coinbase Advanced Trade: events of a channel in an envelope with a number.

Sources: Coinbase's documentation of Advanced Trade's WebSocket channels and rate limits, and of its public products.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from stages.books.rule import BookRule
from stages.schemas import BUY, SELL
from stages.venues.facts import Book, Candle, Fact, Quote, Trade, Unreadable, later
from stages.venues.factual import About, FactualDecoder, Found, checked
from stages.venues.subscribing import plans, words
from stages.venues.venue import ConnectionPlan, Decoder, Limits, Venue, comes_from

from .numbers import Numbers
from .products import Product, facts, known_time

_USUAL = {
    "trade": "market_trades",
    "quote": "ticker",
    "book_delta": "level2",
    "bar": "candles",
    "instrument": "status",
    "instrument_status": "status",
}
_CHANNELS = frozenset((*_USUAL.values(), "ticker_batch", "heartbeats"))
_RECORDS = {"market_trades": "trade", "ticker": "quote", "level2": "book_delta", "l2_data": "book_delta",
            "candles": "bar", "status": "instrument_status"}  # fmt: skip
_CONTROL = frozenset(("subscriptions", "heartbeats", "ticker_batch", "user", "futures_balance_summary"))
"""`ticker_batch` has no best bid and offer."""
_CANDLE_NS = 300 * 10**9
_BEGINS = re.compile(rb'\s*\{\s*"channel":\s*"(\w+)"')
_NUMBER = re.compile(rb'"sequence_num":\s*(\d{1,18})\s*[,}]')
_PRODUCT = re.compile(rb'"product_id":\s*"([^"\\\s]{1,64})"')
_WRITES = re.compile(
    rb'\s*\{\s*"channel":\s*"\w+",\s*("client_id":\s*"[^"]*",\s*)?"timestamp":\s*"[^"]*",\s*"sequence_num":'
)
"""A client's id was told until 2025."""

_Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Change(Struct, gc=False):
    side: Literal["bid", "offer", "ask"]
    event_time: str
    price_level: str
    new_quantity: str


class BookEvent(Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[Change]


class TradeTold(Struct, gc=False):
    """`side` is the maker's."""

    trade_id: str
    product_id: str
    price: str
    size: str
    side: Literal["BUY", "SELL"]
    time: str


class TradesEvent(Struct, gc=False):
    type: Literal["snapshot", "update"]
    trades: list[TradeTold]


class TickerTold(Struct, gc=False):
    """Best prices are told since 2024."""

    product_id: str
    best_bid: str = ""
    best_bid_quantity: str = ""
    best_ask: str = ""
    best_ask_quantity: str = ""


class TickersEvent(Struct, gc=False):
    tickers: list[TickerTold]


class CandleTold(Struct, gc=False):
    """Of five minutes; `start` in seconds."""

    product_id: str
    start: Annotated[str, Meta(pattern=r"^\d{1,9}\d?$")]
    open: str
    high: str
    low: str
    close: str
    volume: str


class CandlesEvent(Struct, gc=False):
    candles: list[CandleTold]


class StatusEvent(Struct, gc=False):
    products: list[Product]


class Envelope(Struct, gc=False):
    """Responses of HTTP have `products` instead."""

    channel: str = ""
    timestamp: str | None = None
    sequence_num: _Id | None = None
    events: Raw = Raw(b"[]")
    products: list[Product] | None = None


_envelope = msgspec.json.Decoder(Envelope)
_books = msgspec.json.Decoder(list[BookEvent])
_trades = msgspec.json.Decoder(list[TradesEvent])
_tickers = msgspec.json.Decoder(list[TickersEvent])
_candles = msgspec.json.Decoder(list[CandlesEvent])
_statuses = msgspec.json.Decoder(list[StatusEvent])


class AdvancedDecoder(FactualDecoder):
    """Remembers what arrived by each connection: its numbers run through all channels, and an update of a book is
    given the number it follows (`prev_sequence`) if nothing is missing since, which no message tells by itself."""

    def __init__(self, suffix: str) -> None:
        super().__init__(suffix)
        self._numbers: dict[str, Numbers] = {}

    def read(self, payload: bytes, url: str, source: str) -> Found:
        told = _envelope.decode(payload)
        if told.products is not None and not told.channel:
            return checked(facts(told.products, None))
        reads = _READS.get(told.channel)
        if (reads is None and told.channel not in _CONTROL) or told.sequence_num is None:
            text = payload[:200].decode(errors="replace")
            raise Unreadable(f"expected a numbered message of a channel that is known and no error, found {text}")
        found: Found = told.channel if reads is None else checked(reads(told.events, told.timestamp))
        numbers = self._numbers.setdefault(source, Numbers())
        numbers.arrived(told.sequence_num)
        for fact in found:
            if isinstance(fact, Book):
                fact.number = told.sequence_num
                fact.previous = numbers.book(fact.symbol, told.sequence_num)
        return found

    def about(self, payload: bytes, source: str) -> About:
        """Notes also that the message came, so that its number is not missed. A book that cannot be made out is the
        connection's only one, where it has one."""
        begin = _BEGINS.match(payload)
        if begin is None:
            return About()
        channel = begin[1].decode(errors="replace")
        numbers = self._numbers.setdefault(source, Numbers())
        number = _NUMBER.search(payload)
        products = {product.decode(errors="replace") for product in _PRODUCT.findall(payload)}
        if number is not None:
            numbers.arrived(int(number[1]))
        else:
            numbers.unread += 1
        if not products and _RECORDS.get(channel) == "book_delta":
            products = set(numbers.books)
        elif not products and channel == "market_trades":
            products = self.traders_of(payload)
        return About(channel, products.pop() if len(products) == 1 else None)

    def begun(self, source: str) -> None:
        self._numbers.pop(source, None)

    def snapshot(self) -> dict[str, Any]:
        return {**super().snapshot(), "numbers": {source: told.plain() for source, told in self._numbers.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._numbers = {
            source: Numbers(**{**told, "books": dict(told["books"])}) for source, told in state["numbers"].items()
        }


def _book(events: Raw, time: str | None) -> list[Fact]:
    """One for each product, so that a message is one change of a book. Times of levels in a snapshot are no one's."""
    found: dict[str, Book] = {}
    for event in _books.decode(events):
        whole = event.type == "snapshot"
        book = found.get(event.product_id)
        if book is None or whole:
            book = found[event.product_id] = Book(symbol=event.product_id, time=time, bids=[], asks=[], snapshot=whole)
        for change in event.updates:
            side = book.bids if change.side == "bid" else book.asks
            side.append((change.price_level, change.new_quantity))
        if not book.snapshot:
            book.time = later(_times(event)) or time
    return list(found.values())


def _times(event: BookEvent) -> list[str]:
    return [time for change in event.updates if (time := known_time(change.event_time)) is not None]


def _trade(events: Raw, time: str | None) -> list[Fact]:
    """By their numbers: a message has the newest first."""
    found: list[Trade] = []
    for event in _trades.decode(events):
        for trade in event.trades:
            if not (trade.trade_id.isdecimal() and len(trade.trade_id) < 19):
                raise Unreadable(f"expected the number of a trade, found {trade.trade_id!r:.80}")
            found.append(
                Trade(
                    symbol=trade.product_id,
                    time=trade.time,
                    price=trade.price,
                    size=trade.size,
                    side=SELL if trade.side == "BUY" else BUY,
                    number=int(trade.trade_id),
                    again=event.type == "snapshot",
                )
            )
    return [*sorted(found, key=lambda trade: trade.number or 0)]


def _ticker(events: Raw, time: str | None) -> list[Fact]:
    return [
        Quote(
            symbol=ticker.product_id,
            time=time,
            bid=(ticker.best_bid or "0", ticker.best_bid_quantity or "0"),
            ask=(ticker.best_ask or "0", ticker.best_ask_quantity or "0"),
        )
        for event in _tickers.decode(events)
        for ticker in event.tickers
        if ticker.best_bid or ticker.best_ask
    ]


def _candle(events: Raw, time: str | None) -> list[Fact]:
    return [
        Candle(
            symbol=candle.product_id,
            time=time,
            start=int(candle.start) * 10**9,
            end=int(candle.start) * 10**9 + _CANDLE_NS,
            open=candle.open,
            high=candle.high,
            low=candle.low,
            close=candle.close,
            volume=candle.volume,
        )
        for event in _candles.decode(events)
        for candle in event.candles
    ]


def _status(events: Raw, time: str | None) -> list[Fact]:
    return [fact for event in _statuses.decode(events) for fact in facts(event.products, time)]


_READS: dict[str, Callable[[Raw, str | None], list[Fact]]] = {
    "l2_data": _book,
    "market_trades": _trade,
    "ticker": _ticker,
    "candles": _candle,
    "status": _status,
}


class AdvancedFeed(Venue, frozen=True, kw_only=True):
    """Coinbase Advanced Trade. Books have connections of their own, so that what is missing there is missing in books;
    heartbeats keep each connection."""

    def decoder(self) -> Decoder:
        return AdvancedDecoder(self.suffix)

    def book_rule(self, instrument_id: str) -> BookRule:
        return BookRule(chain="previous", join="stream", snapshots="stream")

    def connections(
        self, symbols: Sequence[str], channels: Sequence[str], base_url: str | None = None
    ) -> list[ConnectionPlan]:
        found = words(channels, _USUAL, _CHANNELS.__contains__)
        books = [word for word in found if word == "level2"]
        others = [word for word in found if word not in ("level2", "heartbeats")]
        kept = [msgspec.json.encode(_subscribe("heartbeats", ()))]
        return [
            plan
            for part in (others, books)
            for plan in plans(
                symbols, part, base_url or self.websocket_url, self.limits, _subscribe, whole=("status",), first=kept
            )
        ]

    def record_of(self, channel: str) -> str | None:
        return _RECORDS.get(channel)

    def recognises(self, url: str, payload: bytes) -> bool:
        known = comes_from(url, ("advanced-trade-ws.coinbase.com", "api.coinbase.com"))
        return _WRITES.match(payload) is not None if known is None else known


def _subscribe(word: str, symbols: Sequence[str]) -> dict[str, Any]:
    named = {"product_ids": list(symbols)} if symbols else {}
    return {"type": "subscribe", **named, "channel": word}


COINBASE_ADVANCED = AdvancedFeed(
    name="coinbase_advanced",
    suffix="COINBASE",
    websocket_url="wss://advanced-trade-ws.coinbase.com",
    http_url="https://api.coinbase.com",
    limits=Limits(
        streams_per_connection=50,
        streams_per_request=50,
        messages_per_second=8,
        connections_per_minute=480,
        weight_per_minute=600,
    ),
    trade_sequence="next",
)
"""Eight connections a second and eight messages a second are the venue's limits; how many streams a connection may
bring, it does not tell. Few, since what one of them lacks stops all books of a connection."""
