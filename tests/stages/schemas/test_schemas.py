"""The schemas say what they hold, and exact values share memory with kernels."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from stages.schemas import (
    BAR,
    BAR_KINDS,
    QUOTE,
    TRADE,
    bar_schema,
    decimal_array,
    decimal_type,
    name_array,
    record_kind,
    trade_schema,
)

COMMON = ["ts_event", "ts_recv", "ingest_seq", "instrument_id", "source_id", "sequence", "flags"]


@pytest.mark.parametrize("schema", [TRADE, QUOTE, BAR])
def test_every_record_opens_with_the_common_columns(schema: pa.Schema) -> None:
    assert schema.names[: len(COMMON)] == COMMON
    assert schema.field("ts_event").type == pa.timestamp("ns", "UTC")
    assert schema.field("instrument_id").type == pa.dictionary(pa.int32(), pa.utf8())
    assert schema.field("source_id").type == pa.dictionary(pa.int16(), pa.utf8())


@pytest.mark.parametrize(("schema", "kind"), [(TRADE, "trade"), (QUOTE, "quote"), (BAR, "bar")])
def test_a_record_is_known_by_its_columns(schema: pa.Schema, kind: str) -> None:
    assert record_kind(schema) == kind
    assert record_kind(pa.schema([("a", pa.int64())])) is None


def test_scales_choose_the_smallest_exact_type() -> None:
    assert TRADE.field("price").type == pa.decimal64(18, 8)
    assert trade_schema(2).field("size").type == pa.decimal64(18, 2)
    assert decimal_type(24) == pa.decimal128(38, 24)
    assert bar_schema(price=pa.float64()).field("close").type == pa.float64()
    with pytest.raises(ValueError, match="expected a scale of 0 to 30 decimal places, found 31"):
        decimal_type(31)


def test_columns_with_units_name_them() -> None:
    assert TRADE.field("price").metadata[b"unit"] == b"quote currency per unit"


def test_decimals_share_the_memory_of_their_units() -> None:
    units = np.array([150_000_000, -1], np.int64)
    array = decimal_array(units, 8)
    assert array.to_pylist() == [Decimal("1.5"), Decimal("-0.00000001")]
    assert array.buffers()[1].address == units.ctypes.data


def test_words_have_the_same_code_whatever_occurs() -> None:
    array = name_array("volume", BAR_KINDS, 2)
    assert array.to_pylist() == ["volume", "volume"]
    assert array.indices.to_pylist() == [2, 2]
