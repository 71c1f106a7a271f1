"""Files of a NautilusTrader catalog, number for number."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.stage import Context
from stages.feeds.replay import Replay
from stages.schemas import schema_of

FILES = {
    "128-bit/trades": ("trade", 100, "EUR/USD.SIM"),
    "64-bit/bars": ("bar", 10, "ADABTC.BINANCE"),
    "64-bit/deltas": ("book_delta", 1077, "1.166564490-60424-0.0.BETFAIR"),
    "64-bit/quotes": ("quote", 9500, "EUR/USD.SIM"),
    "64-bit/trades": ("trade", 100, "EUR/USD.SIM"),
}


def read(path: Path, **declared: Any) -> pa.Table:
    recipe = Replay(path=str(path), **declared)
    batches = [batch.columns for batch in recipe.build(Context()).batches()]
    table = pa.Table.from_batches(batches, schema=recipe.output_schema({}))
    table.validate(full=True)
    return table


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_read_number_for_number(recordings: Path, name: str) -> None:
    kind, rows, instrument = FILES[name]
    file = recordings / "nautilus_trader" / "tests" / "test_data" / "nautilus" / f"{name}.parquet"

    table = read(file)

    assert table.schema == schema_of(kind) and table.num_rows == rows
    assert table["instrument_id"].unique().to_pylist() == [instrument]
    raw = pq.read_table(file)
    for column in raw.schema:
        found, told = (
            table["ts_recv" if column.name == "ts_init" else column.name].to_pylist(),
            raw[column.name].to_pylist(),
        )
        if pa.types.is_fixed_size_binary(column.type):
            places = 9 if column.type.byte_width == 8 else 16
            assert found == [Decimal(int.from_bytes(value, "little", signed=True)).scaleb(-places) for value in told]
        elif column.name.startswith("ts_"):
            assert [stamp.value for stamp in found] == told
        else:
            assert found == told


def test_bars_of_a_catalog_say_their_length(recordings: Path) -> None:
    table = read(recordings / "nautilus_trader" / "tests" / "test_data" / "nautilus" / "64-bit" / "bars.parquet")

    assert table["interval_ns"].unique().to_pylist() == [60 * 10**9]
    assert table["bar_end"] == table["ts_event"]
    assert table["price_type"].unique().to_pylist() == ["last"]
