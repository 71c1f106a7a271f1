"""Rows of records made of facts, a function for each kind of fact."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.schemas import (
    ADD,
    ASK,
    BID,
    CLEAR,
    DELETE,
    FLAG_LAST,
    FLAG_SNAPSHOT,
    FLAG_TOB,
    NO_CHANGE,
    NO_SIDE,
    UPDATE,
    Records,
)

from .facts import (
    Book,
    Candle,
    Funding,
    Interest,
    Level,
    Liquidation,
    Listing,
    Quote,
    Status,
    Top,
    Trade,
    is_zero,
)


class Facts(NamedTuple):
    """Facts of one kind: the message of each, the code of its instrument, and the fact."""

    at: list[int]
    codes: list[int]
    facts: list[Any]

    @property
    def instruments(self) -> Any:
        return np.array(self.codes, np.int32)

    def of(self, name: str) -> list[Any]:
        """One field of all."""
        return [getattr(fact, name) for fact in self.facts]


def _trades(found: Facts, records: Records) -> None:
    records.add(
        "trade",
        found.at,
        ts_event=found.of("time"),
        instrument_id=found.instruments,
        sequence=found.of("number"),
        flags=np.array([FLAG_LAST | FLAG_SNAPSHOT * fact.again for fact in found.facts], np.uint8),
        price=found.of("price"),
        size=found.of("size"),
        aggressor_side=found.of("side"),
        trade_id=[_name(fact) for fact in found.facts],
        trade_type=found.of("kind"),
    )


def _quotes(found: Facts, records: Records) -> None:
    """A side without a price, or with size 0, is not there; one of unknown size is."""
    bids = [_side(fact.bid, fact.bid_size_told) for fact in found.facts]
    asks = [_side(fact.ask, fact.ask_size_told) for fact in found.facts]
    records.add(
        "quote",
        found.at,
        ts_event=found.of("time"),
        instrument_id=found.instruments,
        sequence=found.of("number"),
        flags=FLAG_LAST | FLAG_TOB,
        bid_price=[price for price, _ in bids],
        bid_size=[size for _, size in bids],
        ask_price=[price for price, _ in asks],
        ask_size=[size for _, size in asks],
    )


def _books(found: Facts, records: Records) -> None:
    counts: list[int] = []
    flags: list[int] = []
    actions: list[int] = []
    sides: list[int] = []
    prices: list[str] = []
    sizes: list[str] = []
    for book in found.facts:
        levels = [*book.bids, *book.asks]
        its_sides = [BID] * len(book.bids) + [ASK] * len(book.asks)
        sets = ADD if book.snapshot else UPDATE
        its_actions = [DELETE if is_zero(size) else sets for _, size in levels]
        if book.snapshot or not levels:
            levels.insert(0, ("0", "0"))
            its_sides.insert(0, NO_SIDE)
            its_actions.insert(0, CLEAR if book.snapshot else NO_CHANGE)
        counts.append(len(levels))
        flags += [FLAG_SNAPSHOT * book.snapshot] * len(levels)
        flags[-1] |= FLAG_LAST
        actions += its_actions
        sides += its_sides
        prices += [price for price, _ in levels]
        sizes += [size for _, size in levels]
    checksums = np.full(len(prices), -1, np.int64)
    checksums[np.cumsum(counts) - 1] = [-1 if each is None else each for each in found.of("checksum")]
    records.add(
        "book_delta",
        np.repeat(found.at, counts),
        ts_event=_each(found.of("time"), counts),
        instrument_id=np.repeat(found.instruments, counts),
        sequence=_repeated(found.of("number"), counts),
        flags=np.array(flags, np.uint8),
        action=np.array(actions, np.int8),
        side=np.array(sides, np.int8),
        price=prices,
        size=sizes,
        prev_sequence=_repeated(found.of("previous"), counts),
        checksum=pa.array(checksums, mask=checksums < 0),
    )


def _tops(found: Facts, records: Records) -> None:
    records.add(
        "book_snapshot",
        found.at,
        ts_event=found.of("time"),
        instrument_id=found.instruments,
        sequence=found.of("number"),
        flags=FLAG_LAST | FLAG_SNAPSHOT,
        depth=found.of("depth"),
        bids=[_levels(fact.bids) for fact in found.facts],
        asks=[_levels(fact.asks) for fact in found.facts],
    )


def _candles(found: Facts, records: Records) -> None:
    records.add(
        "bar",
        found.at,
        ts_event=found.of("time"),
        instrument_id=found.instruments,
        flags=FLAG_LAST,
        open=found.of("open"),
        high=found.of("high"),
        low=found.of("low"),
        close=found.of("close"),
        volume=found.of("volume"),
        vwap=found.of("vwap"),
        trade_count=found.of("trades"),
        bar_start=found.of("start"),
        bar_end=found.of("end"),
        interval_ns=[fact.end - fact.start for fact in found.facts],
        bar_kind="time",
        price_type="last",
        source="venue",
        is_complete=found.of("complete"),
        is_empty=[is_zero(fact.volume) for fact in found.facts],
    )


def _fundings(found: Facts, records: Records) -> None:
    records.add(
        "funding_rate",
        found.at,
        ts_event=found.of("time"),
        instrument_id=found.instruments,
        sequence=found.of("number"),
        flags=FLAG_LAST,
        rate=found.of("rate"),
        interval_minutes=found.of("minutes"),
        next_funding_ts=found.of("next"),
        mark_price=found.of("mark"),
        index_price=found.of("index"),
    )


def _interests(found: Facts, records: Records) -> None:
    records.add(
        "open_interest",
        found.at,
        ts_event=found.of("time"),
        instrument_id=found.instruments,
        sequence=found.of("number"),
        flags=FLAG_LAST,
        open_interest=found.of("size"),
        open_interest_value=found.of("value"),
    )


def _liquidations(found: Facts, records: Records) -> None:
    records.add(
        "liquidation",
        found.at,
        ts_event=found.of("time"),
        instrument_id=found.instruments,
        flags=FLAG_LAST,
        side=found.of("side"),
        price=found.of("price"),
        size=found.of("size"),
        order_id=found.of("id"),
        order_status=found.of("status"),
    )


def _listings(found: Facts, records: Records) -> None:
    records.add(
        "instrument",
        found.at,
        ts_event=found.of("time"),
        instrument_id=found.instruments,
        flags=FLAG_LAST,
        raw_symbol=found.of("symbol"),
        asset_class=found.of("kind"),
        base=found.of("base"),
        quote=found.of("quote"),
        settlement=[fact.settlement or fact.quote for fact in found.facts],
        price_increment=found.of("price_increment"),
        size_increment=found.of("size_increment"),
        size_unit=found.of("size_unit"),
        calendar="24/7",
        ts_valid_from=found.of("begins"),
        ts_valid_to=found.of("ends"),
    )


def _statuses(found: Facts, records: Records) -> None:
    records.add(
        "instrument_status",
        found.at,
        ts_event=found.of("time"),
        instrument_id=found.instruments,
        flags=FLAG_LAST,
        action=found.of("action"),
        reason=found.of("reason"),
    )


ROWS: dict[type, Callable[[Facts, Records], None]] = {
    Trade: _trades,
    Quote: _quotes,
    Book: _books,
    Top: _tops,
    Candle: _candles,
    Funding: _fundings,
    Interest: _interests,
    Liquidation: _liquidations,
    Listing: _listings,
    Status: _statuses,
}
"""What adds rows of facts of a kind."""


def _side(level: Level, size_told: bool) -> tuple[str | None, str | None]:
    price, size = level
    if not size_told:
        return (None if is_zero(price) else price), None
    return (None, None) if is_zero(price) or is_zero(size) else level


def _name(trade: Trade) -> str | None:
    if trade.id is not None or trade.number is None:
        return trade.id
    return str(trade.number)


def _levels(levels: list[Level]) -> list[dict[str, Any]]:
    return [{"price": Decimal(price), "size": Decimal(size), "count": None} for price, size in levels]


def _each(values: list[Any], counts: list[int]) -> list[Any]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def _repeated(values: list[int | None], counts: list[int]) -> pa.Array:
    return pa.array(_each(values, counts), pa.uint64())
