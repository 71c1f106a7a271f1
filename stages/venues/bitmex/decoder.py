"""The decoder of BitMEX's messages: rows of tables become facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import UNSET, Raw

from stages.schemas import ASK, BID, BUY, SELL
from stages.venues.facts import (
    Book,
    Candle,
    Fact,
    Funding,
    Level,
    Liquidation,
    Missed,
    Quote,
    Top,
    Trade,
    Unreadable,
)
from stages.venues.factual import About, FactualDecoder, Found, checked
from stages.venues.keyed import Change, KeyedBooks, Message
from stages.venues.numbers import iso_ns, number, number_or_none, whole

from . import wire
from .instruments import Instruments

_TABLE = re.compile(rb'\s*\{\s*"table"\s*:\s*"([A-Za-z0-9_]{1,32})"')
_SYMBOL = re.compile(rb'"symbol"\s*:\s*"([^"\\]{1,64})"')
_MIDNIGHT = iso_ns("2000-01-01T00:00:00Z")
NO_ID = "00000000-0000-0000-0000-000000000000"
"""Of what is told as a trade and was none."""
NOT_FOLLOWED = "book update without its snapshot"


class BitmexDecoder(FactualDecoder):
    """Reads what BitMEX sends.

    It remembers of each book which ids there are and where they lie, since updates name levels by id; of each
    instrument what only changes are told of; liquidations under way; and each instrument's last trade, since a
    subscription begins with it.
    """

    def __init__(self, suffix: str) -> None:
        super().__init__(suffix)
        self._books = KeyedBooks()
        self._instruments = Instruments()
        self._last_trade: dict[str, str] = {}
        self._liquidations: dict[str, dict[str, Any]] = {}
        self._tables: dict[str, Callable[[wire.Table], Found]] = {
            "trade": self._trades,
            "quote": _quotes,
            "orderBook10": _tops,
            "funding": _fundings,
            "liquidation": self._liquidated,
            "instrument": lambda told: self._instruments.read(told.data),
            **dict.fromkeys(wire.BINS, _candles),
        }

    def read(self, payload: bytes, url: str, source: str) -> Found:
        if payload == b"pong":
            return "pong"
        if payload.lstrip()[:1] == b"[":
            return self._checked(self._instruments.read(payload))
        if _TABLE.match(payload) is None:
            told = wire.outline.decode(payload)
            if told.table is UNSET:
                return _control(told, payload)
        table = wire.table.decode(payload)
        if table.table in wire.BOOKS:
            return self._book(table, payload, source)
        if table.table in wire.OTHERS:
            return table.table
        read = self._tables.get(table.table)
        if read is None:
            raise Unreadable(f"expected a table that BitMEX has, found {table.table!r:.80}")
        return self._checked(read(table))

    def about(self, payload: bytes, source: str) -> About:
        table = _TABLE.match(payload)
        if table is None:
            return About()
        symbol = _SYMBOL.search(payload)
        return About(table[1].decode(), None if symbol is None else symbol[1].decode(errors="replace"))

    def unread(self, about: About, source: str) -> None:
        if about.channel in wire.BOOKS and about.symbol is not None:
            self._books.forget(about.symbol)
        elif about.channel in wire.BOOKS:
            self._books.forget_all(source)

    def begun(self, source: str) -> None:
        self._books.forget_all(source)

    def snapshot(self) -> dict[str, Any]:
        return {
            **super().snapshot(),
            "books": self._books.snapshot(),
            "instruments": self._instruments.snapshot(),
            "last_trade": dict(self._last_trade),
            "liquidations": {order: dict(told) for order, told in self._liquidations.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._books.restore(state["books"])
        self._instruments.restore(state["instruments"])
        self._last_trade = dict(state["last_trade"])
        self._liquidations = {order: dict(told) for order, told in state["liquidations"].items()}

    def _checked(self, found: Found) -> Found:
        return found if isinstance(found, str) else checked(found)

    def _book(self, table: wire.Table, payload: bytes, source: str) -> Found:
        """Rows are of one symbol; where they are of several, each has its group."""
        times: dict[str, int | None] = {}
        changes: dict[str, list[Change]] = {}
        if table.action == "partial" and table.filter.symbol is not None:
            changes[table.filter.symbol] = []
        for row in wire.level_rows.decode(table.data):
            changes.setdefault(row.symbol, []).append(_change(row, table.action))
            if row.timestamp is not UNSET:
                times[row.symbol] = max(times.get(row.symbol) or 0, iso_ns(row.timestamp))
        for symbol, levels in changes.items():
            _check_sizes(symbol, levels)
        facts: list[Fact] = []
        for symbol, levels in changes.items():
            message = Message(symbol, table.table, source, payload)
            try:
                found = (self._books.begin if table.action == "partial" else self._books.change)(message, levels)
            except Missed as error:
                if len(changes) > 1:  # the others' changes are not told either
                    self._books.forget_all(source)
                    error.symbol = None
                raise
            if found is not None:
                bids, asks = found
                is_whole = table.action == "partial"
                facts.append(Book(symbol=symbol, time=times.get(symbol), bids=bids, asks=asks, snapshot=is_whole))
        return facts or (NOT_FOLLOWED if changes else [])

    def _trades(self, table: wire.Table) -> Found:
        """The first message after subscribing has trades from before: those not known are told with SNAPSHOT."""
        rows = wire.trade_rows.decode(table.data)
        again = table.action == "partial"
        facts: list[Fact] = [
            Trade(
                symbol=row.symbol,
                time=iso_ns(row.timestamp),
                price=number(row.price),
                size=number(row.size),
                side=BUY if row.side == "Buy" else SELL,
                id=None if row.trdMatchID == NO_ID else row.trdMatchID,
                kind=None if row.trdType is None else row.trdType.lower(),
                again=again,
            )
            for row in rows
        ]
        checked(facts)
        if again:
            known = [at for at, row in enumerate(rows) if self._last_trade.get(row.symbol) == row.trdMatchID]
            skipped = {rows[at].symbol: at for at in known}
            facts = [fact for at, fact in enumerate(facts) if at > skipped.get(fact.symbol, -1)]
            if rows and not facts:
                return "trades known already"
        self._last_trade.update((row.symbol, row.trdMatchID) for row in rows if row.trdMatchID != NO_ID)
        return facts

    def _liquidated(self, table: wire.Table) -> Found:
        """One row when an order begins and at each change of it."""
        rows = wire.liquidation_rows.decode(table.data)
        if table.action == "delete":
            for row in rows:
                self._liquidations.pop(row.orderID, None)
            return "liquidation ended"
        facts: list[Fact] = []
        told: dict[str, dict[str, Any]] = {}
        for row in rows:
            fields = dict(told.get(row.orderID) or self._liquidations.get(row.orderID) or {})
            if row.side is not UNSET:
                fields["side"] = BUY if row.side == "Buy" else SELL
            for name, raw in (("price", row.price), ("size", row.leavesQty)):
                if (text := number_or_none(raw)) is not None:
                    fields[name] = text
            if len(fields) < 3:
                continue  # it began before the subscription
            told[row.orderID] = fields
            facts.append(Liquidation(symbol=row.symbol, time=None, id=row.orderID, status=table.action, **fields))
        checked(facts)
        self._liquidations.update(told)
        return facts or ("liquidation that began before" if rows else [])


def _control(told: wire.Outline, payload: bytes) -> str:
    if told.error is not UNSET or (told.success is not UNSET and told.success == Raw(b"false")):
        raise Unreadable(f"the venue refused a request: {payload[:200].decode(errors='replace')}")
    if told.info is not UNSET:
        return "info"
    if told.success is not UNSET and (told.subscribe is not UNSET or told.unsubscribe is not UNSET):
        return "reply"
    raise Unreadable("expected a message of a table, a reply or an info, found none of their fields")


def _change(row: wire.LevelRow, action: str) -> Change:
    what: Any = "insert" if action == "partial" else action
    return Change(
        what, str(whole(row.id)), BID if row.side == "Buy" else ASK, number_or_none(row.price), number_or_none(row.size)
    )


def _check_sizes(symbol: str, levels: list[Change]) -> None:
    for level in levels:
        if level.what == "insert" and (level.price is None or level.size is None):
            raise Unreadable(f"expected a price and a size of level {level.id} of {symbol}, found one missing")
        if (level.price or "").startswith("-") or (level.size or "").startswith("-"):
            raise Unreadable(f"expected a price and a size of at least 0, found {level.price!r} and {level.size!r}")


def _quotes(table: wire.Table) -> Found:
    return [
        Quote(
            symbol=row.symbol,
            time=iso_ns(row.timestamp),
            bid=_level(row.bidPrice, row.bidSize),
            ask=_level(row.askPrice, row.askSize),
        )
        for row in wire.quote_rows.decode(table.data)
    ]


def _level(price: Any, size: Any) -> Level:
    return number_or_none(price) or "0", number_or_none(size) or "0"


def _tops(table: wire.Table) -> Found:
    return [
        Top(
            symbol=row.symbol,
            time=iso_ns(row.timestamp),
            depth=10,
            bids=[(number(price), number(size)) for price, size in row.bids],
            asks=[(number(price), number(size)) for price, size in row.asks],
        )
        for row in wire.top_rows.decode(table.data)
    ]


def _candles(table: wire.Table) -> Found:
    seconds = wire.BINS[table.table]
    facts: list[Fact] = []
    for row in wire.bin_rows.decode(table.data):
        if number_or_none(row.open) is None:
            continue
        end, vwap = iso_ns(row.timestamp), number_or_none(row.vwap)
        facts.append(
            Candle(
                symbol=row.symbol,
                time=end,
                start=end - seconds * 10**9,
                end=end,
                open=number(row.open),
                high=number(row.high),
                low=number(row.low),
                close=number(row.close),
                volume=number(row.volume),
                vwap=None if vwap is None else float(vwap),
                trades=whole(row.trades),
                complete=True,
            )
        )
    return facts


def _fundings(table: wire.Table) -> Found:
    return [
        Funding(
            symbol=row.symbol,
            time=iso_ns(row.timestamp),
            rate=number(row.fundingRate),
            minutes=(iso_ns(row.fundingInterval) - _MIDNIGHT) // (60 * 10**9),
        )
        for row in wire.funding_rows.decode(table.data)
    ]
