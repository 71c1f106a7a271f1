"""The decoder of the messages Bybit sent of derivatives before v5."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw

from stages.schemas import ASK, BID, BUY, SELL
from stages.venues.facts import Book, Candle, Fact, Funding, Interest, Liquidation, Listing, Trade, Unreadable
from stages.venues.factual import About, FactualDecoder, Found, checked
from stages.venues.keyed import Change, KeyedBooks, Message
from stages.venues.numbers import iso_ns, number, number_or_none, whole, whole_or_none

from . import wire_v2 as wire
from .topics import Topic, category_of, topic_begun

BOOKS = ("orderBookL2_25", "orderBook_200.100ms")
"""Topics of a book, of 25 and of 200 levels a side."""
NOT_FOLLOWED = "book update without its snapshot"
_WHATS: tuple[Literal["delete", "update", "insert"], ...] = ("delete", "update", "insert")
_DATED = re.compile(r".*USD[FGHJKMNQUVXZ]\d{2}")
_INFO = (
    ("rate", "funding_rate_e6", 6),
    ("mark", "mark_price", 0),
    ("mark", "mark_price_e4", 4),
    ("index", "index_price", 0),
    ("index", "index_price_e4", 4),
    ("interest", "open_interest", 0),
    ("interest", "open_interest_e8", 8),
    ("hours", "funding_rate_interval", 0),
)
"""What is read of an instrument, in which field it is, and how many places that is shifted by."""


class BybitV2Decoder(FactualDecoder):
    """Reads what Bybit sent before v5.

    It remembers which levels there are in each book, since their updates say what they do to one, and of instruments
    what only changes are told of.
    """

    def __init__(self, suffix: str) -> None:
        super().__init__(suffix)
        self._books = KeyedBooks()
        self._instruments: dict[str, dict[str, str]] = {}

    def read(self, payload: bytes, url: str, source: str) -> Found:
        if topic_begun(payload) is None:
            told = wire.outline.decode(payload)
            if told.topic is UNSET:
                return _control(told, payload)
        message = wire.message.decode(payload)
        topic = _topic(message.topic)
        if topic.channel in BOOKS:
            return self._book(message, topic, payload, source)
        if topic.channel == "trade":
            return checked(_trades(message))
        if topic.channel == "instrument_info.100ms":
            return self._info(message)
        if topic.channel.startswith(("klineV2.", "candle.")):
            return checked(_candles(message, topic))
        if topic.channel == "liquidation":
            return checked(_liquidations(message))
        if topic.channel == "insurance":
            return "insurance"
        raise Unreadable(f"expected a topic that Bybit had before v5, found {message.topic!r:.80}")

    def about(self, payload: bytes, source: str) -> About:
        begun = topic_begun(payload)
        return About() if begun is None else About(*_topic(begun))

    def unread(self, about: About, source: str) -> None:
        if about.channel in BOOKS and about.symbol is not None:
            self._books.forget(about.symbol)

    def begun(self, source: str) -> None:
        self._books.forget_all(source)

    def snapshot(self) -> dict[str, Any]:
        known = {symbol: dict(told) for symbol, told in self._instruments.items()}
        return {**super().snapshot(), "books": self._books.snapshot(), "instruments": known}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._books.restore(state["books"])
        self._instruments = {symbol: dict(told) for symbol, told in state["instruments"].items()}

    def _book(self, message: wire.Message, topic: Topic, payload: bytes, source: str) -> Found:
        sequence, time = whole_or_none(message.cross_seq), whole_or_none(message.timestamp_e6)
        if sequence is None or time is None:
            raise Unreadable("expected `cross_seq` and `timestamp_e6` of a book, found one missing")
        is_whole = message.type == "snapshot"
        rows = _rows(message.data) if is_whole else _changed(message.data)
        changes = [_change(what, row, topic.symbol) for what, row in rows]
        about = Message(topic.symbol, topic.channel, source, payload, sequence)
        found = (self._books.begin if is_whole else self._books.change)(about, changes)
        if found is None:
            return NOT_FOLLOWED
        bids, asks = found
        return [Book(symbol=topic.symbol, time=1000 * time, bids=bids, asks=asks, snapshot=is_whole, number=sequence)]

    def _info(self, message: wire.Message) -> Found:
        is_whole = message.type == "snapshot"
        rows = [wire.info.decode(message.data)] if is_whole else wire.info_changes.decode(message.data).update
        sequence, micros = whole_or_none(message.cross_seq), whole_or_none(message.timestamp_e6)
        time = None if micros is None else 1000 * micros
        facts: list[Fact] = []
        known_of: dict[str, dict[str, str]] = {}
        for row in rows:
            told = _told(row)
            known = known_of.get(row.symbol) or self._instruments.get(row.symbol, {})
            known_of[row.symbol] = known = {**({} if is_whole else known), **told}
            if told.keys() & {"rate", "mark", "index", "next"}:
                facts.append(_funding(row.symbol, time, known, sequence))
            if "interest" in told:
                facts.append(Interest(symbol=row.symbol, time=time, size=told["interest"], number=sequence))
        checked(facts)
        self._instruments.update(known_of)
        return facts or "instrument"


def _topic(name: str) -> Topic:
    channel, _, symbol = name.rpartition(".")
    return Topic(channel, symbol)


def _control(told: wire.Outline, payload: bytes) -> Found:
    if told.success is False or (told.ret_code is not UNSET and told.ret_code != 0):
        raise Unreadable(f"the venue refused a request: {payload[:200].decode(errors='replace')}")
    if told.ret_code is not UNSET and isinstance(told.result, Raw):
        return _listings(told.result, told.time_now)
    if told.success is not UNSET and isinstance(told.request, Raw):
        return "pong" if b'"ping"' in bytes(told.request) else "reply"
    raise Unreadable("expected a message of a topic, a reply or a response, found none of their fields")


def _rows(data: Raw) -> list[tuple[Any, wire.Level]]:
    is_list = bytes(data).lstrip()[:1] == b"["
    return [
        ("insert", level)
        for level in (wire.levels.decode(data) if is_list else wire.whole_book.decode(data).order_book)
    ]


def _changed(data: Raw) -> list[tuple[Any, wire.Level]]:
    told = wire.changes.decode(data)
    return [(what, level) for what in _WHATS for level in getattr(told, what)]


def _change(what: Any, row: wire.Level, symbol: str) -> Change:
    if row.symbol != symbol:
        raise Unreadable(f"expected a level of {symbol}, as the topic says, found one of {row.symbol!r:.80}")
    price, size = number(row.price), number_or_none(row.size)
    if what == "delete":
        size = None
    elif size is None:
        raise Unreadable(f"expected a size of level {price}, found none")
    if price.startswith("-") or (size or "").startswith("-"):
        raise Unreadable(f"expected a price and a size of at least 0, found {price!r} and {size!r}")
    return Change(what, str(whole(row.id)), BID if row.side == "Buy" else ASK, price, size)


def _trades(message: wire.Message) -> list[Fact]:
    return [
        Trade(
            symbol=trade.symbol,
            time=_time_of(trade),
            price=number(trade.price),
            size=number(trade.size),
            side=BUY if trade.side == "Buy" else SELL,
            number=whole_or_none(trade.cross_seq),
            id=trade.trade_id,
        )
        for trade in wire.trades.decode(message.data)
    ]


def _time_of(trade: wire.Trade) -> int:
    millis = whole_or_none(trade.trade_time_ms)
    if millis is not None:
        return 10**6 * millis
    if trade.timestamp is UNSET:
        raise Unreadable("expected `trade_time_ms` or `timestamp` of a trade, found neither")
    return iso_ns(msgspec.json.decode(trade.timestamp, type=str))


def _candles(message: wire.Message, topic: Topic) -> list[Fact]:
    facts: list[Fact] = []
    for candle in wire.candles.decode(message.data):
        end = 10**9 * whole(candle.end)
        facts.append(
            Candle(
                symbol=topic.symbol,
                time=end if candle.confirm else 1000 * whole(candle.timestamp),
                start=10**9 * whole(candle.start),
                end=end,
                open=number(candle.open),
                high=number(candle.high),
                low=number(candle.low),
                close=number(candle.close),
                volume=number(candle.volume),
                complete=candle.confirm,
            )
        )
    return facts


def _liquidations(message: wire.Message) -> list[Fact]:
    """Bybit told the side of the position; the order that closes a long one sells. Tardis, which asked, wrote lists."""
    is_list = bytes(message.data).lstrip()[:1] == b"["
    return [
        Liquidation(
            symbol=told.symbol,
            time=10**6 * whole(told.time),
            side=SELL if told.side == "Buy" else BUY,
            price=number(told.price),
            size=number(told.qty),
        )
        for told in (wire.liquidations.decode(message.data) if is_list else [wire.liquidation.decode(message.data)])
    ]


def _told(row: wire.Info) -> dict[str, str]:
    """What a row says, shifted to where the point belongs; texts of prices are taken before whole numbers."""
    told: dict[str, str] = {}
    for name, field, places in _INFO:
        text = number_or_none(getattr(row, field))
        if text is not None and name not in told:
            told[name] = f"{Decimal(text).scaleb(-places):f}" if places else text
    if isinstance(row.next_funding_time, str) and row.next_funding_time:
        told["next"] = str(iso_ns(row.next_funding_time))
    return told


def _funding(symbol: str, time: int | None, known: Mapping[str, str], sequence: int | None) -> Funding:
    hours = known.get("hours")
    return Funding(
        symbol=symbol,
        time=time,
        rate=known.get("rate"),
        minutes=None if hours is None else 60 * whole(hours.encode()),
        next=int(known["next"]) if "next" in known else None,
        mark=known.get("mark"),
        index=known.get("index"),
        number=sequence,
    )


def _listings(result: Raw, time: Any) -> Found:
    try:
        rows = wire.listed.decode(result)
    except msgspec.ValidationError:
        return "response"
    facts: list[Fact] = [
        Listing(
            symbol=row.name,
            time=time if isinstance(time, str) else None,
            base=row.base_currency,
            quote=row.quote_currency,
            price_increment=number(row.price_filter.tick_size),
            size_increment=number(row.lot_size_filter.qty_step),
            kind="future" if _DATED.fullmatch(row.name) else "perpetual",
            settlement=row.base_currency if category_of(row.name) == "inverse" else None,
            size_unit="quote" if category_of(row.name) == "inverse" else "base",
        )
        for row in rows
    ]
    return checked(facts) or "response"
