"""What a message can tell, in no venue's words, and the rows of records that are made of it.

For venues whose messages are read one at a time: they say what they found as facts, and rows come of these in bulk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from msgspec import Struct

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

Time: TypeAlias = str | int | None
"""ISO 8601 or seconds as texts, ns since 1970, or not told; one venue's facts of one kind have one form."""
Level: TypeAlias = tuple[str, str]
"""Price and size, as the texts they came as."""


class Unreadable(Exception):
    """A message that is none of the venue's, or one that says something is wrong."""


class Trade(Struct, gc=False, kw_only=True):
    """`number` is the venue's, where its trades have one; `again`: sent for those who may not have had it."""

    symbol: str
    time: Time
    price: str
    size: str
    side: int
    number: int | None = None
    again: bool = False


class Quote(Struct, gc=False, kw_only=True):
    symbol: str
    time: Time
    bid: Level
    ask: Level
    bid_size_told: bool = True
    ask_size_told: bool = True
    number: int | None = None


class Book(Struct, kw_only=True):
    """A snapshot, or changed levels of which size 0 takes one away, in the order to apply them."""

    symbol: str
    time: Time
    bids: list[Level]
    asks: list[Level]
    snapshot: bool = False
    number: int | None = None
    previous: int | None = None
    checksum: int | None = None


class Candle(Struct, gc=False, kw_only=True):
    """`start` and `end` in ns. Venues that send a candle at each change of it never say that it is complete."""

    symbol: str
    time: Time
    start: int
    end: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    vwap: float | None = None
    trades: int | None = None


class Listing(Struct, gc=False, kw_only=True):
    symbol: str
    time: Time
    base: str
    quote: str
    price_increment: str
    size_increment: str
    kind: str = "spot"


class Status(Struct, gc=False, kw_only=True):
    symbol: str
    time: Time
    action: str
    reason: str | None = None


Fact: TypeAlias = Trade | Quote | Book | Candle | Listing | Status


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


def check(fact: Fact) -> None:
    """Raises `Unreadable` for a price or size below 0."""
    if isinstance(fact, Trade):
        _no_minus(((fact.price, fact.size),))
    elif isinstance(fact, Quote):
        _no_minus((fact.bid, fact.ask))
    elif isinstance(fact, Book):
        _no_minus(fact.bids)
        _no_minus(fact.asks)
    elif isinstance(fact, Candle):
        _no_minus(((fact.open, fact.high), (fact.low, fact.close), (fact.volume, "")))


def later(times: Sequence[str]) -> str | None:
    """The latest of some texts of one form."""
    return max(times, key=lambda text: (len(text.partition(".")[0]), text), default=None)


def is_zero(text: str) -> bool:
    """Whether it is a decimal text of 0, such as `0.000` or `0e-8`."""
    return not text.lower().partition("e")[0].strip("+0.")


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
        trade_id=[None if number is None else str(number) for number in found.of("number")],
        trade_type="regular",
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
        is_complete=False,
        is_empty=[is_zero(fact.volume) for fact in found.facts],
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
        settlement=found.of("quote"),
        price_increment=found.of("price_increment"),
        size_increment=found.of("size_increment"),
        size_unit="base",
        calendar="24/7",
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
    Candle: _candles,
    Listing: _listings,
    Status: _statuses,
}
"""What adds rows of facts of a kind."""


def _side(level: Level, size_told: bool) -> tuple[str | None, str | None]:
    price, size = level
    if not size_told:
        return (None if is_zero(price) else price), None
    return (None, None) if is_zero(price) or is_zero(size) else level


def _each(values: list[Any], counts: list[int]) -> list[Any]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def _repeated(values: list[int | None], counts: list[int]) -> pa.Array:
    return pa.array(_each(values, counts), pa.uint64())


def _no_minus(pairs: Sequence[Level]) -> None:
    for price, size in pairs:
        if price.startswith("-") or size.startswith("-"):
            raise Unreadable(f"expected a price and a size of at least 0, found {price!r:.40} and {size!r:.40}")
