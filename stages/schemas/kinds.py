"""Every kind of record, column by column: the one definition that Arrow schemas and row structs are made from.

Words for time, sequence and flags follow Databento, words for prices NautilusTrader.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from .types import EXACT, INSTRUMENT, NAME, NS_UTC, SOURCE, TRADE_TYPE, WORD, ColumnType, Scaled

PRICE, SIZE, LEVELS = Scaled.PRICE, Scaled.SIZE, Scaled.LEVELS
NS, QUOTED, UNITS = "ns since 1970, UTC", "quote currency per unit", "base units or contracts"


class Column(msgspec.Struct, frozen=True):
    """One column of a kind of record.

    `default` stands in rows that do not give a column which is never null. `known_at` names the time column that
    says when the value is known, where that is before the row's own time.
    """

    name: str
    type: ColumnType
    unit: str = ""
    meaning: str = ""
    nullable: bool = True
    default: Any = None
    known_at: str = ""


class Kind(msgspec.Struct, frozen=True):
    """A kind of record: what a row is, and its columns, the common ones first."""

    name: str
    meaning: str
    columns: tuple[Column, ...]


def _needed(name: str, kind: ColumnType, unit: str = "", meaning: str = "", **rest: Any) -> Column:
    return Column(name, kind, unit, meaning, nullable=False, **rest)


COMMON = (
    Column("ts_event", NS_UTC, NS, "when it happened, by the venue"),
    _needed("ts_recv", NS_UTC, NS, "when its first byte reached us"),
    _needed("ingest_seq", pa.uint64(), "ordinal in the recording", "which message it came in"),
    _needed("instrument_id", INSTRUMENT, "SYMBOL.VENUE", "what it is about"),
    _needed("source_id", SOURCE, "connection or file", "where it came from"),
    Column("sequence", pa.uint64(), "venue's sequence", "sequence number or last update id"),
    _needed(
        "flags",
        pa.uint8(),
        "bits: LAST 128, TOB 64, SNAPSHOT 32, MBP 16, BAD_TS_RECV 8",
        "LAST ends an event group; MAYBE_BAD_BOOK is 4",
        default=0,
    ),
)


def _kind(name: str, meaning: str, *columns: Column) -> Kind:
    return Kind(name, meaning, (*COMMON, *columns))


TRADES = _kind(
    "trade",
    "an execution",
    _needed("price", PRICE, QUOTED),
    _needed("size", SIZE, UNITS),
    _needed("aggressor_side", pa.int8(), "1 buy, 2 sell, 0 none", "the side that took liquidity", default=0),
    Column("trade_id", pa.utf8(), "venue's id", "null where the venue gives none"),
    Column(
        "trade_type",
        TRADE_TYPE,
        "regular, aggregate, liquidation, adl, block or the venue's condition code",
        "null where it makes no difference",
    ),
)
QUOTES = _kind(
    "quote",
    "a change of the best bid or offer",
    Column("bid_price", PRICE, QUOTED, "null: no bid"),
    Column("bid_size", SIZE, UNITS),
    Column("ask_price", PRICE, QUOTED, "null: no offer"),
    Column("ask_size", SIZE, UNITS),
    Column("bid_count", pa.uint32(), "orders"),
    Column("ask_count", pa.uint32(), "orders"),
)
BARS = _kind(
    "bar",
    "what happened in [bar_start, bar_end), stamped at bar_end",
    _needed("open", PRICE, QUOTED, known_at="bar_start"),
    _needed("high", PRICE, QUOTED),
    _needed("low", PRICE, QUOTED),
    _needed("close", PRICE, QUOTED),
    Column("volume", SIZE, UNITS, "null where the source knows no trades"),
    Column("vwap", pa.float64(), QUOTED, "volume-weighted average price"),
    Column("trade_count", pa.uint64(), "trades"),
    Column("buy_volume", SIZE, UNITS, "volume whose aggressor bought"),
    _needed("bar_start", NS_UTC, NS),
    _needed("bar_end", NS_UTC, NS),
    _needed("interval_ns", pa.int64(), "ns"),
    _needed("bar_kind", NAME, "time, tick, volume, value", "what closes a bar"),
    _needed("price_type", NAME, "last, bid, ask, mid", "what it is made of"),
    _needed("source", NAME, "venue, internal", "who made it"),
    _needed("is_complete", pa.bool_(), "", "false for one whose beginning or end was not seen"),
    _needed("is_empty", pa.bool_(), "", "true where nothing happened"),
)
BOOK_DELTAS = _kind(
    "book_delta",
    "a change of one price level; a group ends with LAST, a snapshot is a clear and adds with SNAPSHOT",
    _needed("action", pa.int8(), "1 add, 2 update, 3 delete, 4 clear", "0 only moves the sequence, as received"),
    _needed("side", pa.int8(), "1 bid, 2 ask, 0 both", default=0),
    _needed("price", PRICE, QUOTED, "0 where the action has none", default=0),
    _needed("size", SIZE, UNITS, "all that is there now; 0 where the action has none", default=0),
    _needed("order_id", pa.uint64(), "venue's id", "0 where levels, not orders, are told", default=0),
    Column("first_sequence", pa.uint64(), "venue's sequence", "first update in the group"),
    Column("prev_sequence", pa.uint64(), "venue's sequence", "last update of the group before"),
)
BOOK_SNAPSHOTS = _kind(
    "book_snapshot",
    "the best levels of both sides",
    _needed("depth", pa.uint16(), "levels a side", "how many were asked for; a side may have fewer"),
    _needed("bids", LEVELS, f"{QUOTED}; {UNITS}; orders", "best first"),
    _needed("asks", LEVELS, f"{QUOTED}; {UNITS}; orders", "best first"),
)
FUNDING_RATES = _kind(
    "funding_rate",
    "the rate that holders of a perpetual contract pay each other, and the prices it rests on",
    Column("rate", EXACT, "fraction of the position's value per interval", "null where only prices are told"),
    Column("interval_minutes", pa.uint16(), "minutes"),
    Column("next_funding_ts", NS_UTC, NS, "when it is paid next"),
    Column("mark_price", PRICE, QUOTED),
    Column("index_price", PRICE, QUOTED),
)
OPEN_INTERESTS = _kind(
    "open_interest",
    "what all holders of a contract hold together",
    _needed("open_interest", SIZE, UNITS),
    Column("open_interest_value", EXACT, "quote currency"),
)
LIQUIDATIONS = _kind(
    "liquidation",
    "a position closed by the venue",
    _needed("side", pa.int8(), "1 buy, 2 sell", "of the order as matched: a buy closes a short"),
    _needed("price", PRICE, QUOTED),
    _needed("size", SIZE, UNITS),
    Column("average_price", PRICE, QUOTED, "of what was filled"),
    Column("filled_size", SIZE, UNITS),
    Column("order_id", pa.utf8(), "venue's id"),
    Column("order_status", WORD, "venue's word"),
)
INSTRUMENT_STATUSES = _kind(
    "instrument_status",
    "a change of what may be done with an instrument",
    _needed("action", WORD, "trading, halted, closed, settling, delisted or the venue's word"),
    Column("reason", pa.utf8(), "venue's words"),
)
INSTRUMENTS = _kind(
    "instrument",
    "what an instrument is, from one time until another",
    _needed("raw_symbol", pa.utf8(), "venue's symbol"),
    Column("asset_class", WORD, "spot, perpetual, future, option, equity, fx or the venue's word"),
    Column("base", WORD, "currency"),
    Column("quote", WORD, "currency"),
    Column("settlement", WORD, "currency"),
    Column("price_increment", EXACT, QUOTED, "prices are multiples of it"),
    Column("size_increment", EXACT, UNITS, "sizes are multiples of it"),
    Column("multiplier", EXACT, "units per contract"),
    Column("size_unit", WORD, "base, quote, contract", "what sizes count"),
    Column("calendar", WORD, "name of a trading calendar"),
    Column("ts_valid_from", NS_UTC, NS),
    Column("ts_valid_to", NS_UTC, NS),
)
QUALITY_EVENTS = Kind(
    "quality_event",
    "something that is wrong with the data, or was",
    (
        *(msgspec.structs.replace(column, nullable=True) if column.type is INSTRUMENT else column for column in COMMON),
        _needed("kind", NAME, "disconnect, gap, resync, parse_error ...", "stages.schemas.QUALITY_KINDS"),
        Column("channel", WORD, "venue's word"),
        Column("seq_expected", pa.uint64(), "venue's sequence"),
        Column("seq_got", pa.uint64(), "venue's sequence"),
        Column("missing", pa.uint64(), "updates or rows", "how many never came"),
        Column("gap_start", NS_UTC, NS),
        Column("gap_end", NS_UTC, NS),
        Column("action_taken", pa.utf8(), "", "what was done about it"),
        Column("detail", pa.utf8(), "", "where, what was expected, what was found"),
        Column("raw", pa.binary(), "bytes", "the message, where it was kept"),
    ),
)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        TRADES,
        QUOTES,
        BARS,
        BOOK_DELTAS,
        BOOK_SNAPSHOTS,
        FUNDING_RATES,
        OPEN_INTERESTS,
        LIQUIDATIONS,
        INSTRUMENT_STATUSES,
        INSTRUMENTS,
        QUALITY_EVENTS,
    )
}
"""All kinds of record by name; the order is the one in which they are told."""

CHECKSUM = Column("checksum", pa.uint32(), "", "the venue's, of the book after the group; on its last row")
"""Book deltas as received have it beside the published columns."""
