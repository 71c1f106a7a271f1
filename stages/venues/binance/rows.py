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
    AGGREGATED,
    ASK,
    BID,
    BLOCK,
    BUY,
    CLEAR,
    DELETE,
    FLAG_LAST,
    FLAG_SNAPSHOT,
    FLAG_TOB,
    NO_CHANGE,
    NO_SIDE,
    NO_TRADE,
    SELL,
    UPDATE,
    Records,
)

from . import contracts, wire
from .group import Group, Market, nanoseconds
from .reading import Instrument, TopLevels, Unreadable, WholeBook

TRADE_TYPES = {"MARKET": "regular", "INSURANCE_FUND": "liquidation", "LIQUIDATION": "liquidation", "ADL": "adl",
               "BLOCK": BLOCK}  # fmt: skip
"""What futures say a trade was; another word stays as it is. `NA` is also said of nothing, sold at 0."""


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
        trade_type=[_trade_type(event) for event in events],
    )


def _trade_type(event: wire.Trade | wire.AggTrade) -> str:
    if isinstance(event, wire.AggTrade) and event.X == "MARKET":
        return AGGREGATED
    if event.X == "NA" and _is_zero(event.q):
        return NO_TRADE
    return TRADE_TYPES.get(event.X, event.X)


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
    wire.BlockTrade: Handling(_S, _check_trade, _trades),
    wire.AggTrade: Handling(_S, _check_trade, _trades),
    wire.BookTicker: Handling(_S, _check_quote, _quotes),
    wire.SpotTicker: Handling(_S, _check_quote, _quotes),
    wire.DepthUpdate: Handling(_S, _check_depth, _depth),
    wire.Kline: Handling(_S, _check_candle, _bars),
    wire.MarkPriceUpdate: Handling(_S, _nothing, contracts.funding),
    wire.ForceOrder: Handling(attrgetter("o.s"), contracts.check_side, contracts.liquidations),
    wire.OpenInterest: Handling(_SYMBOL, _nothing, contracts.open_interest),
    wire.ContractInfo: Handling(_S, _nothing, contracts.statuses),
    TopLevels: Handling(_SYMBOL, _check_top, _top_levels),
    WholeBook: Handling(_SYMBOL, _check_book, _whole_books),
    Instrument: Handling(_SYMBOL, contracts.check_increments, contracts.instruments),
}


def _time(event: Any) -> int | None:
    """When it was matched, else when it was sent, else nothing."""
    time = event.T if event.T is not UNSET else event.E
    return None if time is UNSET else nanoseconds(time)


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
