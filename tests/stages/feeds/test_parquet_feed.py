"""Parquet files of our own schemas come back as they were, others by the names of their columns."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.stage import Context
from stages.feeds.replay import Replay
from stages.feeds.synthetic import Synthetic


def read(path: Path, **declared: Any) -> pa.Table:
    recipe = Replay(path=str(path), **declared)
    table = pa.Table.from_batches(
        [batch.columns for batch in recipe.build(Context()).batches()], schema=recipe.output_schema({})
    )
    table.validate(full=True)
    return table


def market(kind: Any, rows: int = 5000) -> pa.Table:
    recipe = Synthetic(schema=kind, instruments=("A.X", "B.X"), rows=rows, seed=3)
    return pa.Table.from_batches([batch.columns for batch in recipe.build(Context()).batches()])


@pytest.mark.parametrize("kind", ["bar", "trade", "quote"])
def test_standard_files_come_back_as_they_were(tmp_path: Path, kind: str) -> None:
    table = market(kind)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=999)
    again = read(tmp_path / "a.parquet", batch_rows=777)
    assert again.schema == table.schema
    assert again.to_pylist() == table.to_pylist()


def test_files_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    table = market("trade", 3000)
    for place in range(3):
        pq.write_table(table.slice(place * 1000, 1000), tmp_path / f"part-{place}.parquet")
    assert read(tmp_path)["price"].to_pylist() == table["price"].to_pylist()
    assert read(tmp_path)["ingest_seq"].to_pylist() == list(range(3000))


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("name", [None, "timestamp", "when"])
def test_the_index_of_times_of_a_data_frame_is_the_time_whatever_its_name(
    tmp_path: Path, name: str | None, zone: str | None
) -> None:
    pandas = pytest.importorskip("pandas")
    times = pandas.date_range("2024-01-01", periods=3, freq="1min", tz=zone, name=name)
    frame = pandas.DataFrame({"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 9.0}, index=times)
    frame.to_parquet(tmp_path / "a.parquet")
    table = read(tmp_path / "a.parquet")
    begins = times.tz_localize("UTC") if zone is None else times.tz_convert("UTC")
    assert table["bar_start"].to_pylist() == list(begins)
    if name != "when":  # a text table has nothing else to know its index by
        frame.to_csv(tmp_path / "a.csv")
        assert read(tmp_path / "a.csv")["bar_start"].to_pylist() == list(begins)


def test_an_index_that_is_no_time_is_not_taken_for_one(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"open": [1.0], "high": [2.0], "low": [0.5], "close": [1.5]}, index=[7])
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="bar lacks ts_event"):
        read(tmp_path / "a.parquet")


def test_foreign_types_are_understood(tmp_path: Path) -> None:
    foreign = pa.table(
        {
            "Time": pa.array([1_704_067_200_000, 1_704_067_260_000]),
            "Open": [1.5, 1.25],
            "High": [2.0, 2.0],
            "Low": [1.0, 1.0],
            "Close": [1.25, 1.75],
            "Volume": [10, 20],
        }
    )
    pq.write_table(foreign, tmp_path / "a.parquet")
    bars = read(tmp_path / "a.parquet", instrument="A.B")
    assert bars["close"].type == pa.float64()
    assert bars["volume"].to_pylist() == [Decimal(10), Decimal(20)]
    assert bars["bar_end"].cast(pa.int64()).to_pylist() == [1_704_067_260 * 10**9, 1_704_067_320 * 10**9]
    exact = read(tmp_path / "a.parquet", scale=2)
    assert exact["close"].to_pylist() == [Decimal("1.25"), Decimal("1.75")]


def test_the_sample_of_binance_trades_reads_by_its_names(recordings: Path) -> None:
    folder = recordings / "nautilus_trader" / "tests" / "test_data" / "binance"
    trades = read(folder / "btcusdt-trades.parquet", instrument="BTCUSDT.BINANCE")
    assert trades.num_rows == 2001
    first = trades.slice(0, 1).to_pylist()[0]
    assert (first["price"], first["size"], first["trade_id"]) == (39432.48, 0.000263, "553287559")
    assert first["aggressor_side"] == 2
    assert first["instrument_id"] == "BTCUSDT.BINANCE"
    declared = {"timestamp": "ts_event", "trade_id": "trade_id", "price": "price", "quantity": "size"}
    mapped = read(folder / "btcusdt-trades.parquet", columns=declared, scale=2, size_scale=6)
    assert mapped["size"][0].as_py() == Decimal("0.000263")
    assert read(folder / "btcusdt-quotes.parquet").num_rows == 451


def test_prices_packed_in_bytes_are_refused(recordings: Path, tmp_path: Path) -> None:
    folder = recordings / "nautilus_trader" / "tests" / "test_data" / "nautilus" / "64-bit"
    nameless = pq.read_table(folder / "trades.parquet").replace_schema_metadata(None)
    pq.write_table(nameless, tmp_path / "trades.parquet")
    with pytest.raises(InputError, match=r"column 'price': expected a .*found a value of type fixed_size_binary"):
        read(tmp_path / "trades.parquet")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
def test_a_cut_file_is_named(tmp_path: Path, keep: float) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(market("trade"), file)
    data = file.read_bytes()
    file.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(InputError, match=r"a.parquet: expected a complete parquet file, found damage"):
        read(file)


def test_damage_inside_a_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(market("trade"), file, write_page_checksum=True)
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"a.parquet: expected row group 1 to be complete, found damage"):
        read(file)


def test_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    pq.write_table(market("trade", 10), tmp_path / "a.parquet")
    pq.write_table(market("quote", 10), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet: expected the columns of a\.parquet"):
        read(tmp_path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"c\.parquet: expected columns of trades, quotes or bars, found a"):
        read(tmp_path / "c.parquet")
