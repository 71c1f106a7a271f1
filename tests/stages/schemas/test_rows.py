"""Rows and columns of every kind of record are the same values, whichever were made first."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import Batch, Row
from pipeline.frames import as_item
from stages.schemas import KINDS, WORDS, Column, Scales, schema_of, struct_of
from stages.schemas.types import resolved

SCALES = Scales(price=2, size=8)
EXACTLY = Context(prec=60)


def values_of(kind: pa.DataType, column: Column) -> st.SearchStrategy[Any]:
    if column.type == pa.dictionary(pa.int8(), pa.utf8()):
        return st.sampled_from(WORDS[column.name])
    if pa.types.is_decimal(kind):
        largest = 10**kind.precision - 1
        return st.integers(-largest, largest).map(lambda units: Decimal(units).scaleb(-kind.scale, EXACTLY))
    if pa.types.is_timestamp(kind):
        return st.integers(-(2**62), 2**62)
    if pa.types.is_integer(kind):
        bits = kind.bit_width
        return (
            st.integers(0, 2**bits - 1)
            if str(kind).startswith("u")
            else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        )
    if pa.types.is_list(kind):
        level = {field.name: nullable(values_of(field.type, column), field.nullable) for field in kind.value_type}
        return st.lists(st.fixed_dictionaries(level), max_size=3)
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        return st.text(max_size=6)
    return {pa.bool_(): st.booleans(), pa.float64(): st.floats(allow_nan=False), pa.binary(): st.binary(max_size=6)}[
        kind
    ]


def nullable(values: st.SearchStrategy[Any], may_be_null: bool) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values) if may_be_null else values


def rows_of(kind: str) -> st.SearchStrategy[list[Row]]:
    schema = schema_of(kind, SCALES)
    fields = {
        column.name: nullable(values_of(schema.field(column.name).type, column), column.nullable)
        for column in KINDS[kind].columns
    }
    return st.lists(st.builds(struct_of(kind, SCALES), **fields), min_size=1, max_size=3)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_rows_become_columns_and_come_back(kind: str, data: st.DataObject) -> None:
    rows = data.draw(rows_of(kind))
    batch = Batch.from_rows(rows)
    assert batch.columns.schema.equals(schema_of(kind, SCALES), check_metadata=True)
    batch.columns.validate(full=True)
    struct = struct_of(kind, SCALES)
    back = [
        struct(**{name: getattr(row, name) for name in struct.__struct_fields__}) for row in Batch(batch.columns).rows
    ]
    assert back == rows
    assert as_item(rows).columns.equals(batch.columns)


def test_what_may_be_null_and_what_has_a_default_may_be_left_out() -> None:
    trade = struct_of("trade")(
        ts_recv=5,
        ingest_seq=0,
        instrument_id="BTCUSDT.BINANCE",
        source_id="file",
        price=Decimal("1.5"),
        size=Decimal(2),
    )
    (found,) = Batch.from_rows([trade]).columns.to_pylist()
    assert (found["ts_event"], found["trade_id"], found["flags"], found["aggressor_side"]) == (None, None, 0, 0)
    with pytest.raises(TypeError, match="price"):
        struct_of("trade")(ts_recv=5, ingest_seq=0, instrument_id="A.B", source_id="file", size=Decimal(2))


def test_a_value_finer_than_its_scale_is_refused() -> None:
    trade = struct_of("trade", Scales(price=2, size=2))(
        ts_recv=5, ingest_seq=0, instrument_id="A.B", source_id="file", price=Decimal("1.505"), size=Decimal(2)
    )
    with pytest.raises(pa.ArrowInvalid, match="data loss"):
        _ = Batch.from_rows([trade]).columns


def test_structs_are_named_and_explained() -> None:
    delta = struct_of("book_delta")
    assert delta.__name__ == "BookDelta" and delta is struct_of("book_delta")
    assert (delta.__doc__ or "").startswith("A change of one price level")
    assert delta.__annotations__["price"] is Decimal and delta.__annotations__["sequence"] == int | None


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_of_records_says_its_unit_or_meaning(kind: str) -> None:
    schema = schema_of(kind, SCALES)
    assert schema.metadata[b"record"] == kind.encode() and schema.metadata[b"meaning"]
    for column, field in zip(KINDS[kind].columns, schema, strict=True):
        assert (field.name, field.nullable) == (column.name, column.nullable)
        assert field.type == resolved(column.type, pa.decimal64(18, 2), pa.decimal64(18, 8))
        assert field.metadata[b"unit"] or field.metadata[b"meaning"]
