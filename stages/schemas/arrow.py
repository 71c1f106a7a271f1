"""Arrow schemas of records at a scale, and the kind of record a schema holds."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Literal, TypeAlias

import pyarrow as pa

from .kinds import CHECKSUM, KINDS, Column, Kind
from .types import DEFAULT_SCALE, Scales, decimal_type, resolved

RecordKind: TypeAlias = Literal["trade", "quote", "bar"]
RECORD_KINDS: tuple[RecordKind, ...] = ("trade", "quote", "bar")
"""The kinds that tables of others may hold, known by their columns; KINDS has all."""

_TELLING: dict[RecordKind, set[str]] = {
    "bar": {"open", "high", "low", "close", "bar_start", "bar_end"},
    "quote": {"bid_price", "ask_price"},
    "trade": {"price", "size", "aggressor_side"},
}


@lru_cache(maxsize=256)
def schema_of(
    kind: str,
    scale: int | Scales = DEFAULT_SCALE,
    *,
    price: pa.DataType | None = None,
    size: pa.DataType | None = None,
) -> pa.Schema:
    """The schema of one kind of record, exact at `scale`, or of the given types (float64 where a source is float)."""
    return _schema(kind_named(kind).name, *_types(scale, price, size))


@lru_cache(maxsize=64)
def received_schema(scale: int | Scales = DEFAULT_SCALE) -> pa.Schema:
    """Book deltas as they came: the published columns and the venue's checksum."""
    return schema_of("book_delta", scale).append(_field(CHECKSUM, *_types(scale, None, None)))


def trade_schema(
    scale: int | Scales = DEFAULT_SCALE, *, price: pa.DataType | None = None, size: pa.DataType | None = None
) -> pa.Schema:
    """Trades: one row per execution.

    `trade_id` is null where the venue gives none, and `trade_type` where it makes no difference.
    """
    return schema_of("trade", scale, price=price, size=size)


def quote_schema(
    scale: int | Scales = DEFAULT_SCALE, *, price: pa.DataType | None = None, size: pa.DataType | None = None
) -> pa.Schema:
    """Best bid and offer: one row per change; null prices mean that side is empty, null sizes that none is given."""
    return schema_of("quote", scale, price=price, size=size)


def bar_schema(
    scale: int | Scales = DEFAULT_SCALE, *, price: pa.DataType | None = None, size: pa.DataType | None = None
) -> pa.Schema:
    """Bars over `[bar_start, bar_end)`, stamped at `bar_end`.

    `volume` is null where the source knows no trades (bars of quotes), never 0 by default.
    """
    return schema_of("bar", scale, price=price, size=size)


def record_kind(schema: pa.Schema) -> RecordKind | None:
    """Which kind of record a schema holds, judged by its columns; None for another."""
    names = set(schema.names)
    for kind, telling in _TELLING.items():
        if telling <= names:
            return kind
    return None


def kind_named(name: str) -> Kind:
    """The kind of record called `name`. Raises LookupError, with the nearest name."""
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(KINDS)}"
        raise LookupError(f"no kind of record is called '{name}'; {hint}")
    return KINDS[name]


def _types(scale: int | Scales, price: pa.DataType | None, size: pa.DataType | None) -> tuple[pa.DataType, pa.DataType]:
    """Of prices and sizes; sizes are like prices where only those are given."""
    scales = Scales(scale, scale) if isinstance(scale, int) else scale
    return price or decimal_type(scales.price), size or price or decimal_type(scales.size)


@lru_cache(maxsize=256)
def column_types(kind: str, scales: Scales) -> dict[str, pa.DataType]:
    """The types of a kind's columns by name, those of book deltas with their checksum."""
    schema = received_schema(scales) if kind == "book_delta" else schema_of(kind, scales)
    return {field.name: field.type for field in schema}


@lru_cache(maxsize=256)
def _schema(kind: str, price: pa.DataType, size: pa.DataType) -> pa.Schema:
    told = KINDS[kind]
    fields = [_field(column, price, size) for column in told.columns]
    return pa.schema(fields, metadata={"record": kind, "meaning": told.meaning})


def _field(column: Column, price: pa.DataType, size: pa.DataType) -> pa.Field:
    told = {"unit": column.unit, "meaning": column.meaning, "known_at": column.known_at}
    kept = {key: text for key, text in told.items() if text or key == "unit"}
    return pa.field(column.name, resolved(column.type, price, size), nullable=column.nullable, metadata=kept)
