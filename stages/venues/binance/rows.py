"""Events as rows of records, a function for each kind of event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from msgspec import UNSET

from stages.schemas import (
    ADD,
    ASK,
    BID,
    BUY,
    CLEAR,
    DELETE,
    FLAG_LAST,
    FLAG_SNAPSHOT,
    FLAG_TOB,
    NO_CHANGE,
    NO_SIDE,
    SELL,
    UPDATE,
    Records,
)

from . import wire
from .reading import Instrument, TopLevels, Unreadable, WholeBook

TRADE_TYPES = {"MARKET": "regular", "INSURANCE_FUND": "liquidation", "LIQUIDATION": "liquidation", "ADL": "adl"}
"""What futures say a trade was; another word stays as it is."""
_SIDES = {"BUY": BUY, "SELL": SELL}
_MS = 1_000_000


class Market(NamedTuple):
    """What differs between Binance's markets in the meaning of the same fields."""

    size_unit: str
    """What sizes count: `base` units or `contract`s."""

    @property
    def counts_contracts(self) -> bool:
        return self.size_unit == "contract"


class Group(NamedTuple):
    """Events of one type: the message of each, the code of its instrument, and the event."""

    at: list[int]
    codes: list[int]
    events: list[Any]

    @property
    def instruments(self) -> Any:
        return np.array(self.codes, np.int32)


def nanoseconds(time: int) -> int:
    """Since 1970, of a time as Binance sends it."""
    return time * (1000 if time >= wire.MICROSECONDS_FROM else _MS)


def _trades(group: Group, records: Records, market: Market) -> None:
    events = group.events
    ids = [event.t if isinstance(event, wire.Trade) else event.a for event in events]
    records.add(
        "trade",
        group.at,
        ts_event=[nanoseconds(event.T) for event in events],
        instrument_id=group.instruments,
        sequence=ids,
        flags=FLAG_LAST,
        price=[event.p for event in events],
        size=[event.q for event in events],
        aggressor_side=[SELL if event.m else BUY for event in events],
        trade_id=[str(id) for id in ids],
        trade_type=[TRADE_TYPES.get(event.X, event.X) for event in events],
    )


def _quotes(group: Group, records: Records, market: Market) -> None:
    events = group.events
    no_bid = [_is_zero(event.B) for event in events]
    no_ask = [_is_zero(event.A) for event in events]
    records.add(
        "quote",
        group.at,
        ts_event=[_time(event) for event in events],
        instrument_id=group.instruments,
        sequence=[event.u for event in events],
        flags=FLAG_LAST | FLAG_TOB,
        bid_price=[None if none else event.b for event, none in zip(events, no_bid, strict=True)],
        bid_size=[None if none else event.B for event, none in zip(events, no_bid, strict=True)],
        ask_price=[None if none else event.a for event, none in zip(events, no_ask, strict=True)],
        ask_size=[None if none else event.A for event, none in zip(events, no_ask, strict=True)],
    )


def _depth(group: Group, records: Records, market: Market) -> None:
    events = group.events
    levels = [[*event.b, *event.a] or [("0", "0")] for event in events]
    counts = [len(each) for each in levels]
    sides = [side for event in events for side in ([BID] * len(event.b) + [ASK] * len(event.a) or [NO_SIDE])]
    sizes = [size for each in levels for _, size in each]
    last = np.zeros(len(sizes), np.uint8)
    last[np.cumsum(counts) - 1] = FLAG_LAST
    actions = [
        NO_CHANGE if side == NO_SIDE else DELETE if _is_zero(size) else UPDATE
        for side, size in zip(sides, sizes, strict=True)
    ]
    previous = [None if event.pu is UNSET else event.pu for event in events]
    records.add(
        "book_delta",
        np.repeat(group.at, counts),
        ts_event=np.repeat([_time(event) for event in events], counts),
        instrument_id=np.repeat(group.instruments, counts),
        sequence=np.repeat(np.array([event.u for event in events], np.int64), counts),
        flags=last,
        action=np.array(actions, np.int8),
        side=np.array(sides, np.int8),
        price=[price for each in levels for price, _ in each],
        size=sizes,
        first_sequence=np.repeat(np.array([event.U for event in events], np.int64), counts),
        prev_sequence=_repeated(previous, counts),
    )


def _whole_books(group: Group, records: Records, market: Market) -> None:
    for at, code, book in zip(group.at, group.codes, group.events, strict=True):
        levels = [*book.bids, *book.asks]
        rows = len(levels) + 1
        flags = np.full(rows, FLAG_SNAPSHOT, np.uint8)
        flags[-1] |= FLAG_LAST
        records.add(
            "book_delta",
            [at] * rows,
            ts_event=[None if book.time is None else nanoseconds(book.time)] * rows,
            instrument_id=np.full(rows, code, np.int32),
            sequence=book.sequence,
            flags=flags,
            action=np.array([CLEAR] + [ADD] * len(levels), np.int8),
            side=np.array([NO_SIDE] + [BID] * len(book.bids) + [ASK] * len(book.asks), np.int8),
            price=["0", *(price for price, _ in levels)],
            size=["0", *(size for _, size in levels)],
        )


def _top_levels(group: Group, records: Records, market: Market) -> None:
    events = group.events
    decimals = [_decimals(event) for event in events]
    records.add(
        "book_snapshot",
        group.at,
        ts_event=[None if event.time is None else nanoseconds(event.time) for event in events],
        instrument_id=group.instruments,
        sequence=[event.sequence for event in events],
        flags=FLAG_LAST | FLAG_SNAPSHOT,
        depth=[event.depth for event in events],
        bids=[bids for bids, _ in decimals],
        asks=[asks for _, asks in decimals],
    )


def _bars(group: Group, records: Records, market: Market) -> None:
    """Stamped at `bar_end` once complete; one that goes on is stamped when it was so."""
    candles = [event.k for event in group.events]
    ends = [nanoseconds(candle.T + 1) for candle in candles]
    starts = [nanoseconds(candle.t) for candle in candles]
    now = [nanoseconds(event.E) for event in group.events]
    records.add(
        "bar",
        group.at,
        ts_event=[end if candle.x else time for candle, end, time in zip(candles, ends, now, strict=True)],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        open=[candle.o for candle in candles],
        high=[candle.h for candle in candles],
        low=[candle.l for candle in candles],
        close=[candle.c for candle in candles],
        volume=[candle.v for candle in candles],
        vwap=[None if market.counts_contracts else _vwap(candle) for candle in candles],
        trade_count=[candle.n for candle in candles],
        buy_volume=[candle.V for candle in candles],
        bar_start=starts,
        bar_end=ends,
        interval_ns=[end - start for end, start in zip(ends, starts, strict=True)],
        bar_kind="time",
        price_type="last",
        source="venue",
        is_complete=[candle.x for candle in candles],
        is_empty=[candle.n == 0 for candle in candles],
    )


def _funding(group: Group, records: Records, market: Market) -> None:
    events = group.events
    records.add(
        "funding_rate",
        group.at,
        ts_event=[nanoseconds(event.E) for event in events],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        rate=[event.r or None for event in events],
        next_funding_ts=[nanoseconds(event.T) or None for event in events],
        mark_price=[event.p for event in events],
        index_price=[event.i for event in events],
    )


def _liquidations(group: Group, records: Records, market: Market) -> None:
    orders = [event.o for event in group.events]
    records.add(
        "liquidation",
        group.at,
        ts_event=[nanoseconds(order.T) for order in orders],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        side=[_SIDES[order.S] for order in orders],
        price=[order.p for order in orders],
        size=[order.q for order in orders],
        average_price=[order.ap for order in orders],
        filled_size=[order.z for order in orders],
        order_status=[order.X for order in orders],
    )


def _open_interest(group: Group, records: Records, market: Market) -> None:
    records.add(
        "open_interest",
        group.at,
        ts_event=[nanoseconds(event.time) for event in group.events],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        open_interest=[event.openInterest for event in group.events],
    )


def _statuses(group: Group, records: Records, market: Market) -> None:
    records.add(
        "instrument_status",
        group.at,
        ts_event=[nanoseconds(event.E) for event in group.events],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        action=[event.cs.lower() for event in group.events],
    )


def _instruments(group: Group, records: Records, market: Market) -> None:
    listed = [event.listed for event in group.events]
    kinds = [_asset_class(each) for each in listed]
    records.add(
        "instrument",
        group.at,
        ts_event=[None if event.time is None else nanoseconds(event.time) for event in group.events],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        raw_symbol=[each.symbol for each in listed],
        asset_class=kinds,
        base=[each.baseAsset for each in listed],
        quote=[each.quoteAsset for each in listed],
        settlement=[each.marginAsset or each.quoteAsset for each in listed],
        price_increment=[_increment(event, "PRICE_FILTER", "tickSize") for event in group.events],
        size_increment=[_increment(event, "LOT_SIZE", "stepSize") for event in group.events],
        multiplier=[None if each.contractSize is None else str(each.contractSize) for each in listed],
        size_unit=market.size_unit,
        calendar="24/7",
        ts_valid_from=[None if each.onboardDate is None else nanoseconds(each.onboardDate) for each in listed],
        ts_valid_to=[
            nanoseconds(each.deliveryDate) if kind == "future" and each.deliveryDate else None
            for each, kind in zip(listed, kinds, strict=True)
        ],
    )


def _check_trade(trade: Any) -> None:
    _no_minus(((trade.p, trade.q),))


def _check_quote(quote: Any) -> None:
    _no_minus(((quote.b, quote.B), (quote.a, quote.A)))


def _check_depth(depth: Any) -> None:
    _no_minus(depth.b)
    _no_minus(depth.a)


def _check_book(book: Any) -> None:
    _no_minus(book.bids)
    _no_minus(book.asks)


def _check_top(book: Any) -> None:
    _check_book(book)
    _decimals(book)


def _check_candle(event: Any) -> None:
    if event.k.t > event.k.T:
        raise Unreadable(f"expected a candle's end `T` after its start `t` {event.k.t}, found {event.k.T}")
    _vwap(event.k)


def _check_side(event: Any) -> None:
    if event.o.S not in _SIDES:
        raise Unreadable(f"expected the side BUY or SELL, found {event.o.S!r:.80}")


def _check_increments(event: Any) -> None:
    _increment(event, "PRICE_FILTER", "tickSize")
    _increment(event, "LOT_SIZE", "stepSize")


def _nothing(event: Any) -> None:
    """A structure refuses all there is to refuse."""


class Handling(NamedTuple):
    """What is done with events of one type."""

    symbol: Callable[[Any], Any]
    check: Callable[[Any], None]
    """Raises `Unreadable` for what a structure cannot refuse: numbers below 0, unknown words, times out of order."""
    add: Callable[[Group, Records, Market], None]


_S, _SYMBOL = attrgetter("s"), attrgetter("symbol")
HANDLING: dict[type, Handling] = {
    wire.Trade: Handling(_S, _check_trade, _trades),
    wire.AggTrade: Handling(_S, _check_trade, _trades),
    wire.BookTicker: Handling(_S, _check_quote, _quotes),
    wire.SpotTicker: Handling(_S, _check_quote, _quotes),
    wire.DepthUpdate: Handling(_S, _check_depth, _depth),
    wire.Kline: Handling(_S, _check_candle, _bars),
    wire.MarkPriceUpdate: Handling(_S, _nothing, _funding),
    wire.ForceOrder: Handling(attrgetter("o.s"), _check_side, _liquidations),
    wire.OpenInterest: Handling(_SYMBOL, _nothing, _open_interest),
    wire.ContractInfo: Handling(_S, _nothing, _statuses),
    TopLevels: Handling(_SYMBOL, _check_top, _top_levels),
    WholeBook: Handling(_SYMBOL, _check_book, _whole_books),
    Instrument: Handling(_SYMBOL, _check_increments, _instruments),
}


def _time(event: Any) -> int | None:
    """When it was matched, else when it was sent, else nothing."""
    time = event.T if event.T is not UNSET else event.E
    return None if time is UNSET else nanoseconds(time)


def _asset_class(listed: wire.Listed) -> str:
    if not listed.contractType:
        return "spot" if listed.marginAsset is None else "future"
    return "perpetual" if "PERPETUAL" in listed.contractType else "future"


def _increment(event: Instrument, kind: str, field: str) -> str | None:
    for rule in event.listed.filters:
        if rule.get("filterType") == kind:
            if isinstance(found := rule.get(field), str):
                return found
            raise Unreadable(f"expected text in `{field}` of {event.symbol}'s {kind}, found {found!r:.40}")
    return None


def _repeated(values: Sequence[int | None], counts: list[int]) -> pa.Array:
    found = np.array([-1 if value is None else value for value in values], np.int64)
    repeated = np.repeat(found, counts)
    return pa.array(repeated, mask=repeated < 0)


def _is_zero(text: str) -> bool:
    """Whether it is a decimal text of 0, such as `0.000` or `0e-8`."""
    return not text.lower().partition("e")[0].strip("+0.")


def _no_minus(pairs: Any) -> None:
    for price, size in pairs:
        if price.startswith("-") or size.startswith("-"):
            raise Unreadable(f"expected a price and a size of at least 0, found {price!r:.40} and {size!r:.40}")


def _vwap(candle: wire.Candle) -> float | None:
    """What was paid by what was traded."""
    try:
        volume, paid = float(candle.v), float(candle.q)
    except ValueError:
        raise Unreadable(f"expected numbers in `v` and `q`, found {candle.v!r:.40} and {candle.q!r:.40}") from None
    return paid / volume if volume > 0 else None


def _decimals(event: TopLevels) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    try:
        bids, asks = (
            [{"price": Decimal(price), "size": Decimal(size), "count": None} for price, size in levels]
            for levels in (event.bids, event.asks)
        )
    except InvalidOperation:
        raise Unreadable("expected decimal numbers in the levels of a book, found other text") from None
    return bids, asks
