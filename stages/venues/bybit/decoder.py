"""The decoder of Bybit's messages of v5: the data of topics become facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from stages.schemas import BUY, SELL
from stages.venues.facts import (
    Book,
    Candle,
    Fact,
    Funding,
    Interest,
    Liquidation,
    Listing,
    Quote,
    Trade,
    Unreadable,
)
from stages.venues.factual import About, FactualDecoder, Found, checked
from stages.venues.numbers import number, whole_or_none

from . import wire
from .best import NOT_KNOWN, SAME, BestPrices
from .topics import Topic, category_of, topic_begun, topic_named

BEST = "orderbook.1"
_MS = 10**6
_OTHERS = ("orderbook.rpi", "orderbook.full", "insurance", "priceLimit", "adlAlert", "system", "rfq",
           "kline_lt", "tickers_lt", "lt.")  # fmt: skip
"""What topics begin with that are known and counted, but become no records."""
_FUNDING = ("fundingRate", "nextFundingTime", "markPrice", "indexPrice", "fundingIntervalHour")
_INTEREST = ("openInterest", "openInterestValue")
_KINDS = {"spot": "spot", "option": "option"}


class BybitDecoder(FactualDecoder):
    """Reads what Bybit sends.

    It remembers which topic is an instrument's book, since each counts for itself: the first of it that a connection
    brings, until that connection is lost or opened anew; best prices, and of tickers what only changes are told of.
    """

    def __init__(self, suffix: str, *, has_funding: bool) -> None:
        super().__init__(suffix)
        self._has_funding = has_funding
        self._best = BestPrices()
        self._tickers: dict[str, dict[str, str]] = {}
        self._depths: dict[str, tuple[str, str]] = {}

    def read(self, payload: bytes, url: str, source: str) -> Found:
        if topic_begun(payload) is None:
            told = wire.outline.decode(payload)
            if told.topic is UNSET:
                return _control(told, payload)
        message = wire.message.decode(payload)
        topic = topic_named(message.topic)
        if message.topic.startswith(_OTHERS):
            return message.topic.split(".")[0]
        word = topic.channel.partition(".")[0]
        if word == "orderbook":
            return self._book(message, topic, source)
        if word in ("publicTrade", "trade"):
            return checked(_trades(message))
        if word == "tickers":
            return self._ticker(message, topic)
        if word == "kline":
            return checked(_candles(message, topic))
        if word in ("allLiquidation", "liquidation"):
            return checked(_liquidations(message))
        raise Unreadable(f"expected a topic that Bybit has, found {message.topic!r:.80}")

    def about(self, payload: bytes, source: str) -> About:
        begun = topic_begun(payload)
        return About() if begun is None else About(*topic_named(begun))

    def unread(self, about: About, source: str) -> None:
        if about.channel == BEST and about.symbol is not None:
            self._best.forget(about.symbol)

    def begun(self, source: str) -> None:
        self._depths = {symbol: known for symbol, known in self._depths.items() if known[1] != source}

    def snapshot(self) -> dict[str, Any]:
        return {
            **super().snapshot(),
            "best": self._best.snapshot(),
            "tickers": {symbol: dict(known) for symbol, known in self._tickers.items()},
            "depths": {symbol: list(known) for symbol, known in self._depths.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._best.restore(state["best"])
        self._tickers = {symbol: dict(known) for symbol, known in state["tickers"].items()}
        self._depths = {symbol: (channel, source) for symbol, (channel, source) in state["depths"].items()}

    def _book(self, message: wire.Message, topic: Topic, source: str) -> Found:
        data = wire.book.decode(message.data)
        if data.s != topic.symbol:
            raise Unreadable(f"expected a book of {topic.symbol}, as the topic says, found one of {data.s!r:.80}")
        time = _MS * (message.ts if message.cts is None else message.cts)
        is_whole = message.type == "snapshot" or data.u == 1
        book = Book(symbol=data.s, time=time, bids=data.b, asks=data.a, snapshot=is_whole, number=data.u)
        checked([book])
        for level in (*data.b, *data.a):
            _check_numbers(*level)
        if topic.channel == BEST:
            return self._best_of(book, time, topic)
        if self._depths.setdefault(data.s, (topic.channel, source))[0] != topic.channel:
            return "book of a second depth"
        return [book]

    def _best_of(self, book: Book, time: int, topic: Topic) -> Found:
        assert book.number is not None
        if book.snapshot:
            sides = self._best.begin(book.symbol, book.number, book.bids, book.asks)
            if sides is None:
                return SAME
        else:
            sides = self._best.change(book.symbol, topic.channel, book.number, book.bids, book.asks)
        quote = sides.quote(book.symbol, time)
        return NOT_KNOWN if quote is None else [quote]

    def _ticker(self, message: wire.Message, topic: Topic) -> Found:
        data = wire.ticker.decode(message.data)
        told = {
            name: value
            for name in (*_FUNDING, *_INTEREST)
            if isinstance(value := getattr(data, name), str) and self._has_funding
        }
        _check_numbers(*filter(None, told.values()))
        known = {**({} if message.type == "snapshot" else self._tickers.get(data.symbol, {})), **told}
        time = _MS * message.ts
        facts: list[Fact] = []
        if any(told.get(name) for name in _FUNDING):
            facts.append(_funding(data.symbol, time, known, message.cs))
        if known.get("openInterest") and any(name in told for name in _INTEREST):
            facts.append(
                Interest(
                    symbol=data.symbol,
                    time=time,
                    size=known["openInterest"],
                    value=known.get("openInterestValue") or None,
                    number=message.cs,
                )
            )
        if isinstance(data.bidPrice, str) and isinstance(data.askPrice, str):
            bid, ask = (data.bidPrice, data.bidSize or "0"), (data.askPrice, data.askSize or "0")
            facts.append(Quote(symbol=data.symbol, time=time, bid=bid, ask=ask))
        checked(facts)
        self._tickers[data.symbol] = known
        return facts or "ticker"


def _control(told: wire.Outline, payload: bytes) -> Found:
    if told.success is False or (told.retCode is not UNSET and told.retCode != 0):
        raise Unreadable(f"the venue refused a request: {payload[:200].decode(errors='replace')}")
    if told.retCode is not UNSET and told.result is not UNSET:
        return _listings(told)
    if told.op in ("ping", "pong"):
        return "pong"
    if told.success is not UNSET and (told.op is not UNSET or told.type == "COMMAND_RESP"):
        return "reply"
    raise Unreadable("expected a message of a topic, a reply or a response, found none of their fields")


def _trades(message: wire.Message) -> list[Fact]:
    return [
        Trade(
            symbol=trade.s,
            time=_MS * trade.T,
            price=trade.p,
            size=trade.v,
            side=BUY if trade.S == "Buy" else SELL,
            number=trade.seq,
            id=trade.i,
            kind="block" if trade.BT else "regular",
        )
        for trade in wire.trades.decode(message.data)
    ]


def _candles(message: wire.Message, topic: Topic) -> list[Fact]:
    """The average price is told of what is counted in units of its base: of inverse contracts it would be another."""
    facts: list[Fact] = []
    for candle in wire.candles.decode(message.data):
        end = _MS * (candle.end + 1)
        volume = float(number(candle.volume.encode()))
        paid = float(number(candle.turnover.encode()))
        facts.append(
            Candle(
                symbol=topic.symbol,
                time=end if candle.confirm else _MS * candle.timestamp,
                start=_MS * candle.start,
                end=end,
                open=candle.open,
                high=candle.high,
                low=candle.low,
                close=candle.close,
                volume=candle.volume,
                vwap=paid / volume if volume > 0 and category_of(topic.symbol) == "linear" else None,
                complete=candle.confirm,
            )
        )
    return facts


def _liquidations(message: wire.Message) -> list[Fact]:
    """Bybit tells the side of the position; the order that closes a long one sells."""
    if bytes(message.data).lstrip()[:1] == b"[":
        rows = [(row.s, row.T, row.S, row.p, row.v) for row in wire.liquidations.decode(message.data)]
    else:
        old = wire.old_liquidation.decode(message.data)
        rows = [(old.symbol, old.updatedTime, old.side, old.price, old.size)]
    return [
        Liquidation(symbol=symbol, time=_MS * time, side=SELL if side == "Buy" else BUY, price=price, size=size)
        for symbol, time, side, price, size in rows
    ]


def _funding(symbol: str, time: int, known: Mapping[str, str], sequence: int | None) -> Funding:
    hours = _whole(known.get("fundingIntervalHour"))
    due = _whole(known.get("nextFundingTime"))
    return Funding(
        symbol=symbol,
        time=time,
        rate=known.get("fundingRate") or None,
        minutes=None if hours is None else 60 * hours,
        next=None if not due else _MS * due,
        mark=known.get("markPrice") or None,
        index=known.get("indexPrice") or None,
        number=sequence,
    )


def _listings(told: wire.Outline) -> Found:
    try:
        found = wire.listing.decode(told.result) if isinstance(told.result, Raw) else None
    except msgspec.ValidationError:
        return "response"
    if found is None:
        return "response"
    time = None if told.time is UNSET else _MS * told.time
    facts: list[Fact] = []
    for each in found.listed:
        kind = "perpetual" if "Perpetual" in (each.contractType or "") else _KINDS.get(found.category, "future")
        ends = whole_or_none(each.deliveryTime)
        begins = whole_or_none(each.launchTime)
        facts.append(
            Listing(
                symbol=each.symbol,
                time=time,
                base=each.baseCoin,
                quote=each.quoteCoin,
                settlement=each.settleCoin or None,
                price_increment=each.priceFilter.tickSize,
                size_increment=each.lotSizeFilter.qtyStep or each.lotSizeFilter.basePrecision,
                kind=kind,
                size_unit="quote" if found.category == "inverse" else "base",
                begins=_MS * begins if begins else None,
                ends=_MS * ends if ends else None,
            )
        )
    return checked(facts) or "response"


def _whole(text: str | None) -> int | None:
    return None if not text else whole_or_none(Raw(text.encode()))


def _check_numbers(*texts: str) -> None:
    for text in texts:
        number(text.encode())
