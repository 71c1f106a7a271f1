"""LEAN's layout is found, its clocks are understood, and damage is named."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.stage import Context
from stages.feeds.replay import Replay


def put(root: Path, name: str, text: str) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(file.stem + ".csv", text)
    return file


def read(path: Path, **declared: Any) -> pa.Table:
    return pa.Table.from_batches(
        [batch.columns for batch in Replay(path=str(path), **declared).build(Context()).batches()]
    )


def starts(table: pa.Table) -> list[str]:
    return [start.strftime("%d %H:%M") for start in table["bar_start"].to_pylist()]


BAR = "{},1000000,1000000,1000000,1000000,5\n"
HOUR = 3_600_000


def test_clocks_set_forward_shorten_the_day(tmp_path: Path) -> None:
    times = [int(1.5 * HOUR), 3 * HOUR]
    put(tmp_path, "equity/usa/minute/spy/20240310_trade.zip", "".join(BAR.format(time) for time in times))
    assert starts(read(tmp_path)) == ["10 06:30", "10 07:00"]


def test_clocks_set_back_make_the_second_pass_an_hour_later(tmp_path: Path) -> None:
    times = [0, HOUR, int(1.5 * HOUR), HOUR, int(1.5 * HOUR), 2 * HOUR]
    put(tmp_path, "equity/usa/minute/spy/20241103_trade.zip", "".join(BAR.format(time) for time in times))
    assert starts(read(tmp_path)) == ["03 04:00", "03 05:00", "03 05:30", "03 06:00", "03 06:30", "03 07:00"]


def test_the_daily_bar_of_the_day_clocks_change_lasts_23_or_25_hours(tmp_path: Path) -> None:
    days = ["20240309", "20240310", "20240311", "20241103"]
    put(tmp_path, "equity/usa/daily/spy.zip", "".join(BAR.format(f"{day} 00:00") for day in days))
    table = read(tmp_path)
    lengths = [
        (end - start).total_seconds() / 3600
        for start, end in zip(table["bar_start"].to_pylist(), table["bar_end"].to_pylist(), strict=True)
    ]
    assert lengths == [24, 23, 24, 25]


def test_the_zone_comes_from_the_market_hours_database_and_counts_as_input(tmp_path: Path) -> None:
    put(tmp_path, "forex/fxcm/minute/eurusd/20240102_quote.zip", "0,1,1,1,1,0,2,2,2,2,0\n")
    assert starts(read(tmp_path)) == ["02 05:00"]
    database = tmp_path / "market-hours" / "market-hours-database.json"
    database.parent.mkdir()
    database.write_text(json.dumps({"entries": {"Forex-fxcm-[*]": {"dataTimeZone": "Asia/Tokyo"}}}))
    assert starts(read(tmp_path)) == ["01 15:00"]
    assert database in Replay(path=str(tmp_path)).input_files()


def test_trades_win_where_quotes_lie_beside_them_unless_quotes_are_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "crypto/x/minute/btcusd/20240102_trade.zip", "0,1,1,1,1,7\n")
    put(tmp_path, "crypto/x/minute/btcusd/20240102_quote.zip", "0,2,2,2,2,0,4,4,4,4,0\n")
    assert read(tmp_path)["close"].to_pylist() == [1]
    assert read(tmp_path, price="mid")["close"].to_pylist() == [3]
    assert read(tmp_path, schema="quote")["ask_price"].to_pylist() == [4]


def test_bars_lacking_a_side_are_left_out_and_counted(tmp_path: Path) -> None:
    put(tmp_path, "crypto/x/minute/btcusd/20240102_quote.zip", "0,2,2,2,2,0,,,,,\n60000,2,2,2,2,0,4,4,4,4,0\n")
    feed = Replay(path=str(tmp_path)).build(Context())
    assert sum(batch.num_rows for batch in feed.batches()) == 1
    assert feed.metrics()["left_out: bars without a mid price"] == 1
    assert read(tmp_path, price="bid").num_rows == 2


def test_a_quote_tick_of_one_side_has_no_other(tmp_path: Path) -> None:
    put(tmp_path, "equity/usa/tick/spy/20240102_quote.zip", "34200000.5,1000000,3,0,0,P,0,0\n")
    row = read(tmp_path).to_pylist()[0]
    assert (row["bid_price"], row["ask_price"], row["ask_size"]) == (100, None, None)
    assert row["ts_event"].isoformat() == "2024-01-02T14:30:00.000500+00:00"


def test_time_stepping_back_is_counted_and_kept(tmp_path: Path) -> None:
    put(tmp_path, "crypto/x/minute/btcusd/20240102_trade.zip", "60000,1,1,1,1,7\n0,1,1,1,1,7\n120000,1,1,1,1,7\n")
    feed = Replay(path=str(tmp_path), batch_rows=1).build(Context())
    assert [batch.columns["ingest_seq"][0].as_py() for batch in feed.batches()] == [0, 1, 2]
    assert feed.metrics()["time_steps_back"] == 1
    assert "1 steps back" in feed.progress()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1,1,1,1,7\n60000,1,1,oops,1,7\n", "row 2, column 'low': expected a number that fits .*, found 'oops'"),
        ("0,1,1,1,1,7\n60000,1,1\n", r"row 2: expected 6 columns \(time,open.*found 3 in '60000,1,1'"),
        ("0,1,1\n", "expected columns time,open,high,low,close,volume or .*, found 3 columns"),
        ("noon,1,1,1,1,7\n", "row 1, column 'time': expected a time in ms, found 'noon'"),
        ("0,1,1,,1,7\n", "row 1, column 'low': expected a value, found none"),
        ("0,1.123456789,2,1,1,7\n", "column 'open'.*declare `scale` or `size_scale`"),
    ],
)
def test_the_first_bad_row_is_named(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path, "crypto/x/minute/btcusd/20240102_trade.zip", text)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    file = put(tmp_path, "crypto/x/minute/btcusd/20240102_trade.zip", "0,1,1,1,1,7\n" * 10_000)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"20240102_trade.zip: expected a complete zip archive, found damage"):
        read(tmp_path)


def test_a_damaged_archive_is_named_with_the_place(tmp_path: Path) -> None:
    file = put(
        tmp_path,
        "crypto/x/minute/btcusd/20240102_trade.zip",
        "".join(f"{n},1,1,1,1,{n * n % 977}\n" for n in range(9999)),
    )
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(
        InputError, match=r"20240102_trade.zip: expected a complete file, found damage after [\d,]+ bytes"
    ):
        read(tmp_path)


def test_an_empty_day_has_no_rows(tmp_path: Path) -> None:
    put(tmp_path, "crypto/x/minute/btcusd/20240102_trade.zip", "")
    put(tmp_path, "crypto/x/minute/btcusd/20240103_trade.zip", "0,1,1,1,1,7\r\n")
    assert starts(read(tmp_path)) == ["03 00:00"]


def test_a_wrong_instrument_lists_the_choices(tmp_path: Path) -> None:
    put(tmp_path, "crypto/x/minute/btcusd/20240102_trade.zip", "0,1,1,1,1,7\n")
    with pytest.raises(InputError, match=r"instrument BTCUSD\.X"):
        read(tmp_path, instrument="ETHUSD.X")
    assert read(tmp_path, instrument="btcusd")["instrument_id"].to_pylist() == ["BTCUSD.X"]
