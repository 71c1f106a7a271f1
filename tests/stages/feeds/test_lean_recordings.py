"""Every LEAN file among the real recordings reads completely, exactly and at the right moment."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.stage import Context
from stages.feeds.replay import Replay
from stages.schemas import bar_schema, quote_schema, trade_schema

ROWS = {
    "crypto/coinbase/minute/btcusd/20161007_trade.zip": 1419,
    "crypto/coinbase/minute/btcusd/20170903_trade.zip": 1440,
    "crypto/coinbase/minute/btcusd/20170904_trade.zip": 1440,
    "crypto/coinbase/minute/btcusd/20180404_quote.zip": 1437,
    "crypto/coinbase/minute/btcusd/20180405_quote.zip": 1436,
    "crypto/coinbase/minute/btcusd/20180405_trade.zip": 1440,
    "crypto/coinbase/second/btcusd/20161007_trade.zip": 4063,
    "equity/usa/daily/spy.zip": 5849,
    "equity/usa/minute/spy/20131007_quote.zip": 908,
    "equity/usa/minute/spy/20131007_trade.zip": 828,
    "equity/usa/second/spy/20131007_trade.zip": 16675,
    "equity/usa/tick/spy/20131007_trade.zip": 250601,
    "forex/oanda/minute/eurusd/20140501_quote.zip": 1363,
    "forex/oanda/minute/eurusd/20140502_quote.zip": 1222,
    "forex/oanda/minute/eurusd/20140505_quote.zip": 1350,
    "forex/oanda/minute/eurusd/20140506_quote.zip": 1389,
    "forex/oanda/second/eurusd/20140501_quote.zip": 12564,
    "forex/oanda/second/eurusd/20140502_quote.zip": 17361,
    "forex/oanda/tick/eurusd/20140501_quote.zip": 24179,
    "forex/oanda/tick/eurusd/20140502_quote.zip": 49341,
    "forex/oanda/tick/eurusd/20140505_quote.zip": 25177,
    "forex/oanda/tick/eurusd/20140506_quote.zip": 44864,
}


def read(path: Path, **declared: Any) -> pa.Table:
    recipe = Replay(path=str(path), **declared)
    columns = [batch.columns for batch in recipe.build(Context()).batches()]
    table = pa.Table.from_batches(columns)
    assert table.schema == recipe.output_schema({})
    table.validate(full=True)
    return table


def test_the_list_of_files_is_complete(recordings: Path) -> None:
    root = recordings / "lean" / "Data"
    assert {str(file.relative_to(root)) for file in root.rglob("*.zip")} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_a_file_is_read_in_order(recordings: Path, name: str) -> None:
    table = read(recordings / "lean" / "Data" / name)
    assert table.num_rows == ROWS[name]
    assert table["ingest_seq"].to_pylist() == list(range(ROWS[name]))
    times = table["ts_event"].cast(pa.int64()).to_numpy()
    assert (times[1:] >= times[:-1]).all()


@pytest.mark.parametrize("name", [name for name in ROWS if "_quote" in name])
def test_bars_of_quotes_can_be_read_as_quotes(recordings: Path, name: str) -> None:
    table = read(recordings / "lean" / "Data" / name, schema="quote")
    assert table.num_rows == ROWS[name]


def test_days_of_a_folder_are_read_in_order(recordings: Path) -> None:
    folder = recordings / "lean" / "Data" / "crypto" / "coinbase" / "minute" / "btcusd"
    table = read(folder)
    assert table.num_rows == 1419 + 1440 + 1440 + 1440
    assert table.schema == bar_schema()
    assert table["source_id"].unique().to_pylist() == [
        "20161007_trade.zip",
        "20170903_trade.zip",
        "20170904_trade.zip",
        "20180405_trade.zip",
    ]
    assert read(folder, price="bid").num_rows == 1437 + 1436


def test_new_york_wall_clocks_become_utc_in_summer_time(recordings: Path) -> None:
    bar = read(recordings / "lean" / "Data" / "equity/usa/minute/spy/20131007_trade.zip").slice(0, 1).to_pylist()[0]
    assert bar["bar_start"] == datetime(2013, 10, 7, 8, 0, tzinfo=UTC)
    assert bar["ts_event"] == bar["bar_end"] == datetime(2013, 10, 7, 8, 1, tzinfo=UTC)
    assert bar["open"] == Decimal("167.41")
    assert bar["volume"] == 3197


def test_daily_bars_last_from_midnight_to_midnight_in_new_york(recordings: Path) -> None:
    table = read(recordings / "lean" / "Data" / "equity/usa/daily/spy.zip")
    lengths = {
        (end - start).total_seconds() / 3600
        for start, end in zip(table["bar_start"].to_pylist(), table["bar_end"].to_pylist(), strict=True)
    }
    # Clocks change on Sundays, when no bar is recorded.
    assert lengths == {24.0}
    assert {start.hour for start in table["bar_start"].to_pylist()} == {4, 5}
    assert set(table["interval_ns"].to_pylist()) == {86_400 * 10**9}


def test_sizes_that_went_through_a_float_at_the_vendor_are_kept_as_printed(recordings: Path) -> None:
    path = recordings / "lean" / "Data" / "crypto/coinbase/minute/btcusd/20180404_quote.zip"
    table = read(path, schema="quote")
    assert table.schema == quote_schema(size=pa.decimal128(38, 24))
    assert table["ask_size"][0].as_py() == Decimal("33.35399601000002")
    assert table["ask_price"][0].as_py() == Decimal("7424.91")


def test_the_middle_of_bid_and_ask_is_exact(recordings: Path) -> None:
    path = recordings / "lean" / "Data" / "forex/oanda/minute/eurusd/20140501_quote.zip"
    mid, bid, ask = (read(path, price=price) for price in ("mid", "bid", "ask"))
    assert mid.schema == bar_schema(price=pa.decimal64(18, 9), size=pa.decimal64(18, 8))
    for name in ("open", "high", "low", "close"):
        expected = [(low + high) / 2 for low, high in zip(bid[name].to_pylist(), ask[name].to_pylist(), strict=True)]
        assert mid[name].to_pylist() == expected
    assert mid["volume"].null_count == mid.num_rows
    assert set(mid["price_type"].to_pylist()) == {"mid"}


def test_ticks_of_an_equity_carry_their_sale_condition(recordings: Path) -> None:
    table = read(recordings / "lean" / "Data" / "equity/usa/tick/spy/20131007_trade.zip")
    assert table.schema == trade_schema()
    first = table.slice(0, 1).to_pylist()[0]
    assert first["ts_event"].isoformat() == "2013-10-07T08:00:00.464000+00:00"
    assert (first["price"], first["size"], first["trade_type"]) == (Decimal("167.41"), 100, "20002000")


def test_quotes_without_sizes_have_null_sizes(recordings: Path) -> None:
    table = read(recordings / "lean" / "Data" / "forex/oanda/tick/eurusd/20140505_quote.zip")
    assert table["bid_size"].null_count == table.num_rows
    assert table["bid_price"][0].as_py() == Decimal("1.38710")


@pytest.mark.parametrize("batch_rows", [1, 7, 65_536])
def test_batch_size_changes_nothing(recordings: Path, batch_rows: int) -> None:
    folder = recordings / "lean" / "Data" / "forex" / "oanda" / "minute"
    cut = read(folder, batch_rows=batch_rows).combine_chunks()
    assert cut.equals(read(folder, batch_rows=1000).combine_chunks())


def test_a_folder_of_many_series_is_refused_with_the_choices(recordings: Path) -> None:
    with pytest.raises(Exception, match=r"one series(.|\n)*equity/usa/daily/spy \(trade\), instrument SPY.USA"):
        Replay(path=str(recordings / "lean" / "Data")).output_schema({})


@pytest.mark.parametrize(("resolution", "step"), [("second", 10**9), ("minute", 60 * 10**9)])
@pytest.mark.parametrize("day", ["20140501", "20140502"])
@pytest.mark.parametrize("price", ["bid", "ask"])
def test_published_bars_are_the_ticks_of_their_interval(
    recordings: Path, resolution: str, step: int, day: str, price: str
) -> None:
    folder = recordings / "lean" / "Data" / "forex" / "oanda"
    ticks = read(folder / "tick" / "eurusd" / f"{day}_quote.zip")
    bars = read(folder / resolution / "eurusd" / f"{day}_quote.zip", price=price)
    made: dict[int, list[Decimal]] = {}
    times = ticks["ts_event"].cast(pa.int64()).to_pylist()
    for time, value in zip(times, ticks[f"{price}_price"].to_pylist(), strict=True):
        bar = made.setdefault(time // step * step, [value, value, value, value])
        bar[1], bar[2], bar[3] = max(bar[1], value), min(bar[2], value), value
    published = zip(
        bars["bar_start"].cast(pa.int64()).to_pylist(),
        *[bars[name].to_pylist() for name in ("open", "high", "low", "close")],
        strict=True,
    )
    compared = [(made[start], prices) for start, *prices in published if start in made]
    assert all(built == prices for built, prices in compared)
    assert len(compared) == len(made)
