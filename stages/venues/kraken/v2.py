"""Version 2 of Kraken's protocol: objects with a channel; their numbers are JSON's, read as the texts they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from stages.schemas import BUY, SELL
from stages.venues.facts import Book, Candle, Fact, Level, Listing, Quote, Trade, Unreadable
from stages.venues.factual import About, Found, checked
from stages.venues.subscribing import plans, words
from stages.venues.venue import ConnectionPlan, Decoder

from .market import CHANNEL, DEPTHS, LIMITS, KrakenDecoder, KrakenMarket, asset_pairs, depth_that_holds, status

_USUAL = {
    "trade": "trade",
    "quote": "ticker",
    "book_delta": "book-1000",
    "bar": "ohlc-1",
    "instrument": "instrument",
    "instrument_status": "instrument",
}
_CONTROL = frozenset(("heartbeat", "status", "level3"))
"""Orders one by one (`level3`) are told by ids that are words; books here are of levels."""
_RENAMED = {"XBT": "BTC", "XDG": "DOGE"}
"""Currencies that this version calls otherwise than HTTP and version 1 do."""
_BEGINS = re.compile(rb'\s*\{\s*"channel":\s*"(\w+)"')
_SYMBOL = re.compile(rb'"symbol":\s*"([^"\\\s]{1,64})"')
_WRITES = re.compile(
    rb'\s*\{\s*"channel":\s*"(book|trade|ticker|ohlc|instrument|status|level3)",\s*"type":\s*"(snapshot|update)",'
    rb'\s*"data"'
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class LevelData(Struct, gc=False):
    price: Raw
    qty: Raw


class BookData(Struct, gc=False):
    symbol: str
    bids: list[LevelData]
    asks: list[LevelData]
    checksum: Annotated[int, Meta(ge=0, lt=2**32)] | None = None
    timestamp: str | None = None


class TradeData(Struct, gc=False):
    """`side` is the taker's."""

    symbol: str
    side: Literal["buy", "sell"]
    price: Raw
    qty: Raw
    trade_id: _Id
    timestamp: str


class TickerData(Struct, gc=False):
    symbol: str
    bid: Raw
    bid_qty: Raw
    ask: Raw
    ask_qty: Raw
    timestamp: str | None = None


class CandleData(Struct, gc=False):
    """`interval` is in minutes."""

    symbol: str
    interval: Annotated[int, Meta(gt=0, le=10**6)]
    interval_begin: Annotated[datetime, Meta(tz=True)]
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    volume: Raw
    vwap: float | None = None
    trades: _Id | None = None


class PairData(Struct, gc=False):
    symbol: str
    base: str
    quote: str
    price_increment: Raw
    qty_increment: Raw
    status: str


class Pairs(Struct, gc=False):
    """An update may be of assets alone."""

    pairs: list[PairData] = []


class Subscribed(Struct, gc=False):
    channel: str = ""
    symbol: str = ""
    depth: int | None = None


class Outline(Struct, gc=False):
    """A message of a channel, a reply (`method`), or a response of HTTP (whose `error` is a list)."""

    channel: str = ""
    type: str = ""
    data: Raw = Raw(b"[]")
    method: str = ""
    success: bool = True
    result: Raw | UnsetType = UNSET


_outline = msgspec.json.Decoder(Outline)
_books = msgspec.json.Decoder(list[BookData])
_trades = msgspec.json.Decoder(list[TradeData])
_tickers = msgspec.json.Decoder(list[TickerData])
_candles = msgspec.json.Decoder(list[CandleData])
_pairs = msgspec.json.Decoder(Pairs)
_subscribed = msgspec.json.Decoder(Subscribed)


class SecondDecoder(KrakenDecoder):
    """How deep a book is, a reply to its subscription tells; where none is there, its first snapshot."""

    def read(self, payload: bytes, url: str, source: str) -> Found:
        told = _outline.decode(payload)
        if told.channel in _CONTROL:
            return told.channel
        if told.channel:
            reads = _READS.get(told.channel)
            if reads is None or told.type not in ("snapshot", "update"):
                raise Unreadable(
                    f"expected a snapshot or update of a channel out of {', '.join((*_READS, *_CONTROL))}, "
                    f"found {told.type!r:.40} of {told.channel!r:.80}"
                )
            found = checked(reads(told.data, told.type == "snapshot"))
            for fact in found:
                if isinstance(fact, Book) and fact.snapshot:
                    self._depths.setdefault(fact.symbol, depth_that_holds(max(len(fact.bids), len(fact.asks))))
            return found
        if told.method and told.success:
            return self._reply(told)
        if told.result is not UNSET and not told.method:
            return checked([_renamed(fact) for fact in asset_pairs(payload)])
        raise Unreadable(
            f"expected a channel, or a reply that is no refusal, found {payload[:200].decode(errors='replace')}"
        )

    def about(self, payload: bytes, source: str) -> About:
        begin = _BEGINS.match(payload)
        if begin is None:
            return About()
        symbols = {symbol.decode(errors="replace") for symbol in _SYMBOL.findall(payload)}
        return About(begin[1].decode(errors="replace"), symbols.pop() if len(symbols) == 1 else None)

    def _reply(self, told: Outline) -> str:
        if told.method == "subscribe" and told.result is not UNSET:
            result = _subscribed.decode(told.result)
            if result.channel == "book" and result.symbol:
                self._depths.setdefault(result.symbol, result.depth or DEPTHS[0])
        return "pong" if told.method == "pong" else "reply"


def _book(data: Raw, whole: bool) -> list[Fact]:
    return [
        Book(
            symbol=book.symbol,
            time=book.timestamp,
            bids=[_level(level) for level in book.bids],
            asks=[_level(level) for level in book.asks],
            snapshot=whole,
            checksum=book.checksum,
        )
        for book in _books.decode(data)
    ]


def _trade(data: Raw, whole: bool) -> list[Fact]:
    """A snapshot is of the last trades before the subscription."""
    return [
        Trade(
            symbol=trade.symbol,
            time=trade.timestamp,
            price=_number(trade.price),
            size=_number(trade.qty),
            side=BUY if trade.side == "buy" else SELL,
            number=trade.trade_id,
            again=whole,
        )
        for trade in sorted(_trades.decode(data), key=lambda trade: trade.trade_id)
    ]


def _ticker(data: Raw, whole: bool) -> list[Fact]:
    return [
        Quote(
            symbol=ticker.symbol,
            time=ticker.timestamp,
            bid=(_number(ticker.bid), _number(ticker.bid_qty)),
            ask=(_number(ticker.ask), _number(ticker.ask_qty)),
        )
        for ticker in _tickers.decode(data)
    ]


def _candle(data: Raw, whole: bool) -> list[Fact]:
    found: list[Fact] = []
    for candle in _candles.decode(data):
        start = (candle.interval_begin - _EPOCH) // timedelta(microseconds=1) * 1000
        found.append(
            Candle(
                symbol=candle.symbol,
                time=None,
                start=start,
                end=start + candle.interval * 60 * 10**9,
                open=_number(candle.open),
                high=_number(candle.high),
                low=_number(candle.low),
                close=_number(candle.close),
                volume=_number(candle.volume),
                vwap=candle.vwap,
                trades=candle.trades,
            )
        )
    return found


def _instrument(data: Raw, whole: bool) -> list[Fact]:
    found: list[Fact] = []
    for pair in _pairs.decode(data).pairs:
        found.append(
            Listing(
                symbol=pair.symbol,
                time=None,
                base=pair.base,
                quote=pair.quote,
                price_increment=_number(pair.price_increment),
                size_increment=_number(pair.qty_increment),
            )
        )
        found.append(status(pair.symbol, None, pair.status))
    return found


_READS: dict[str, Callable[[Raw, bool], list[Fact]]] = {
    "book": _book,
    "trade": _trade,
    "ticker": _ticker,
    "ohlc": _candle,
    "instrument": _instrument,
}


def _level(level: LevelData) -> Level:
    return _number(level.price), _number(level.qty)


def _number(raw: Raw) -> str:
    """The text of a JSON number, as it was written."""
    text = bytes(raw).decode()
    if text[:1] not in "-0123456789" or not text:
        raise Unreadable(f"expected a number, found {text!r:.80}")
    return text


def _renamed(fact: Any) -> Fact:
    """A pair that HTTP lists, by this version's name."""
    base, _, quote = fact.symbol.partition("/")
    base, quote = _RENAMED.get(base, base), _RENAMED.get(quote, quote)
    fact.symbol = f"{base}/{quote}"
    if isinstance(fact, Listing):
        fact.base, fact.quote = base, quote
    found: Fact = fact
    return found


class SecondVersion(KrakenMarket, frozen=True, kw_only=True):
    """Trades are numbered one after another by pair; each book message has a checksum."""

    def decoder(self) -> Decoder:
        return SecondDecoder(self.suffix)

    def connections(
        self, symbols: Sequence[str], channels: Sequence[str], base_url: str | None = None
    ) -> list[ConnectionPlan]:
        found = words(channels, _USUAL, lambda word: word != "spread" and CHANNEL.fullmatch(word) is not None)
        url = base_url or self.websocket_url
        return plans(symbols, found, url, self.limits, _subscribe, whole=("instrument",))

    def writes(self, payload: bytes) -> bool:
        return _WRITES.match(payload) is not None


def _subscribe(word: str, symbols: Sequence[str]) -> dict[str, Any]:
    """Trades with the last ones before, so that what a lost connection missed may come again; best quotes at each
    change of them, not at trades alone."""
    name, _, detail = word.partition("-")
    asked: dict[str, Any] = {"channel": name}
    if symbols:
        asked["symbol"] = list(symbols)
    if detail:
        asked["depth" if name == "book" else "interval"] = int(detail)
    if name == "trade":
        asked["snapshot"] = True
    if name == "ticker":
        asked["event_trigger"] = "bbo"
    return {"method": "subscribe", "params": asked}


KRAKEN = SecondVersion(
    name="kraken",
    suffix="KRAKEN",
    websocket_url="wss://ws.kraken.com/v2",
    http_url="https://api.kraken.com",
    limits=LIMITS,
    trade_sequence="next",
    path="/v2",
)
