"""The Arrow schemas of market records: what each column is called, what it holds and in which unit.

Words for time, sequence and flags follow Databento, words for prices NautilusTrader. Every record opens with
the common columns (`ts_event` to `flags`); TRADE, QUOTE and BAR are the schemas at the default scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

RecordKind: TypeAlias = Literal["trade", "quote", "bar"]
RECORD_KINDS: tuple[RecordKind, ...] = ("trade", "quote", "bar")

DEFAULT_SCALE = 8
"""Decimal places of prices and sizes where a stream declares nothing."""
WIDE_SCALE = 24
"""Decimal places that hold every float64 of at least 1e-8 as printed, for sizes that went through a float."""

NS_UTC = pa.timestamp("ns", tz="UTC")
INSTRUMENT = pa.dictionary(pa.int32(), pa.utf8())
SOURCE = pa.dictionary(pa.int16(), pa.utf8())
TRADE_TYPE = pa.dictionary(pa.int16(), pa.utf8())
NAME = pa.dictionary(pa.int8(), pa.utf8())
"""A word out of a short list, such as BAR_KINDS."""

FLAG_LAST, FLAG_TOB, FLAG_SNAPSHOT, FLAG_MBP = 128, 64, 32, 16
FLAG_BAD_TS_RECV, FLAG_MAYBE_BAD_BOOK = 8, 4
BUY, SELL, NO_SIDE = 1, 2, 0
"""Values of `aggressor_side`."""

BAR_KINDS = ("time", "tick", "volume", "value")
PRICE_TYPES = ("last", "bid", "ask", "mid")
BAR_SOURCES = ("venue", "internal")
WORDS = {"bar_kind": BAR_KINDS, "price_type": PRICE_TYPES, "source": BAR_SOURCES}
"""The words of columns of type NAME, in the order of their codes."""

SHARD_KEY = b"penstock.shard"
"""Metadata of a parquet file that is one of several written in turns, row group by row group: `b"0/2"`, `b"1/2"`."""


def decimal_type(scale: int) -> pa.DataType:
    """Exact decimals with `scale` places: decimal64(18, scale) to scale 10, above it decimal128(38, scale).

    decimal64 reaches 10^(18 - scale) units and hands kernels its int64 buffer without a copy.
    """
    if not 0 <= scale <= 30:
        raise ValueError(f"expected a scale of 0 to 30 decimal places, found {scale}")
    return pa.decimal64(18, scale) if scale <= 10 else pa.decimal128(38, scale)


def trade_schema(
    scale: int = DEFAULT_SCALE, *, price: pa.DataType | None = None, size: pa.DataType | None = None
) -> pa.Schema:
    """Trades: one row per execution, exact at `scale`, or of the given types (float64 where a source is float).

    `trade_id` is null where the venue gives none, and `trade_type` where it makes no difference.
    """
    price = price or decimal_type(scale)
    return pa.schema(
        [
            *_common(),
            _field("price", price, "quote currency per unit", nullable=False),
            _field("size", size or price, "base units or contracts", nullable=False),
            _field("aggressor_side", pa.int8(), "1 buy, 2 sell, 0 none", nullable=False),
            _field("trade_id", pa.utf8(), "venue's id"),
            _field("trade_type", TRADE_TYPE, "regular, liquidation, adl, block or the venue's condition code"),
        ],
        metadata={"record": "trade"},
    )


def quote_schema(
    scale: int = DEFAULT_SCALE, *, price: pa.DataType | None = None, size: pa.DataType | None = None
) -> pa.Schema:
    """Best bid and offer: one row per change; null prices mean that side is empty, null sizes that none is given."""
    price = price or decimal_type(scale)
    size = size or price
    return pa.schema(
        [
            *_common(),
            _field("bid_price", price, "quote currency per unit"),
            _field("bid_size", size, "base units or contracts"),
            _field("ask_price", price, "quote currency per unit"),
            _field("ask_size", size, "base units or contracts"),
            _field("bid_count", pa.uint32(), "orders"),
            _field("ask_count", pa.uint32(), "orders"),
        ],
        metadata={"record": "quote"},
    )


def bar_schema(
    scale: int = DEFAULT_SCALE, *, price: pa.DataType | None = None, size: pa.DataType | None = None
) -> pa.Schema:
    """Bars over `[bar_start, bar_end)`, stamped at `bar_end`.

    `volume` is null where the source knows no trades (bars of quotes), never 0 by default.
    """
    price = price or decimal_type(scale)
    size = size or price
    return pa.schema(
        [
            *_common(),
            _field("open", price, "quote currency per unit", nullable=False, known_at="bar_start"),
            _field("high", price, "quote currency per unit", nullable=False),
            _field("low", price, "quote currency per unit", nullable=False),
            _field("close", price, "quote currency per unit", nullable=False),
            _field("volume", size, "base units or contracts"),
            _field("vwap", pa.float64(), "quote currency per unit"),
            _field("trade_count", pa.uint64(), "trades"),
            _field("buy_volume", size, "base units or contracts"),
            _field("bar_start", NS_UTC, "ns since 1970, UTC", nullable=False),
            _field("bar_end", NS_UTC, "ns since 1970, UTC", nullable=False),
            _field("interval_ns", pa.int64(), "ns", nullable=False),
            _field("bar_kind", NAME, "time, tick, volume, value", nullable=False),
            _field("price_type", NAME, "last, bid, ask, mid", nullable=False),
            _field("source", NAME, "venue, internal", nullable=False),
            _field("is_complete", pa.bool_(), "", nullable=False),
            _field("is_empty", pa.bool_(), "", nullable=False),
        ],
        metadata={"record": "bar"},
    )


def schema_of(
    kind: RecordKind,
    scale: int = DEFAULT_SCALE,
    *,
    price: pa.DataType | None = None,
    size: pa.DataType | None = None,
) -> pa.Schema:
    """The schema of one kind of record."""
    make = {"trade": trade_schema, "quote": quote_schema, "bar": bar_schema}[kind]
    return make(scale, price=price, size=size)


def record_kind(schema: pa.Schema) -> RecordKind | None:
    """Which kind of record a schema holds, judged by its columns; None for another."""
    names = set(schema.names)
    for kind, telling in _TELLING.items():
        if telling <= names:
            return kind
    return None


def decimal_array(units: np.ndarray[Any, np.dtype[np.int64]], scale: int) -> pa.Array:
    """decimal64 values from int64 counts of 10^-scale, sharing their memory; `units` must be contiguous."""
    units = np.ascontiguousarray(units, dtype=np.int64)
    return pa.Array.from_buffers(pa.decimal64(18, scale), len(units), [None, pa.py_buffer(units)])


def name_array(word: str, words: Sequence[str], rows: int) -> pa.DictionaryArray:
    """`rows` times one word of a list such as BAR_KINDS; codes are places in the list, whatever occurs."""
    codes = np.full(rows, words.index(word), np.int8)
    return pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.utf8()))


def _common() -> list[pa.Field]:
    return [
        _field("ts_event", NS_UTC, "ns since 1970, UTC"),
        _field("ts_recv", NS_UTC, "ns since 1970, UTC", nullable=False),
        _field("ingest_seq", pa.uint64(), "ordinal in the recording", nullable=False),
        _field("instrument_id", INSTRUMENT, "SYMBOL.VENUE", nullable=False),
        _field("source_id", SOURCE, "connection or file", nullable=False),
        _field("sequence", pa.uint64(), "venue's sequence"),
        _field("flags", pa.uint8(), "bits: LAST 128, TOB 64, SNAPSHOT 32, MBP 16, BAD_TS_RECV 8", nullable=False),
    ]


def _field(name: str, kind: pa.DataType, unit: str, *, nullable: bool = True, known_at: str = "") -> pa.Field:
    """`known_at` names the time column that says when the value is known, where that is before the row's own time."""
    told = {"unit": unit, "known_at": known_at}
    return pa.field(name, kind, nullable=nullable, metadata={key: word for key, word in told.items() if word} or None)


_TELLING: dict[RecordKind, set[str]] = {
    "bar": {"open", "high", "low", "close", "bar_start", "bar_end"},
    "quote": {"bid_price", "ask_price"},
    "trade": {"price", "size", "aggressor_side"},
}

TRADE = trade_schema()
QUOTE = quote_schema()
BAR = bar_schema()
