"""One bar per interval, and prices that can have been: what is left out, what is told and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.stage import Context
from stages.feeds import text
from stages.feeds.replay import Replay

HEADER = "time,open,high,low,close,volume\n"
GOOD = [f"2024-01-01 00:{minute:02d},10,12,9,{10 + minute % 3},{minute}" for minute in range(10)]


def write(file: Path, lines: list[str], header: str = HEADER) -> Path:
    file.write_text(header + "".join(f"{line}\n" for line in lines))
    return file


def read(path: Path, **declared: Any) -> tuple[pa.Table, dict[str, Any]]:
    feed = Replay(path=str(path), instrument="A.B", interval="1m", **declared).build(Context(name="data"))
    table = pa.Table.from_batches([batch.columns for batch in feed.batches()])
    return table.drop_columns(["source_id"]), dict(feed.metrics())


def twice(lines: list[str]) -> list[str]:
    return [line for line in lines for _ in range(2)]


@pytest.mark.parametrize("batch_rows", [1, 3, 65_536])
@pytest.mark.parametrize("block_bytes", [40, 1 << 20])
def test_bars_written_twice_come_once_however_the_stream_is_cut(
    tmp_path: Path, batch_rows: int, block_bytes: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected, metrics = read(write(tmp_path / "once.csv", GOOD))
    assert "left_out: duplicate bars" not in metrics
    monkeypatch.setattr(text.blocks, "__defaults__", (block_bytes,))
    with caplog.at_level(logging.WARNING, "penstock.data"):
        found, metrics = read(write(tmp_path / "twice.csv", twice(GOOD)), batch_rows=batch_rows)
    assert found.equals(expected)
    assert metrics["rows_read"] == 10
    assert metrics["left_out: duplicate bars"] == 10
    assert metrics["time_steps_back"] == 0
    assert "twice.csv: line 3: the first of duplicate bars" in caplog.messages[0]
    assert caplog.messages[-1] == "10 in all: duplicate bars, which are left out"


def test_files_that_overlap_by_a_bar_are_read_as_one(tmp_path: Path) -> None:
    expected, _ = read(write(tmp_path / "whole.csv", GOOD))
    folder = tmp_path / "parts"
    folder.mkdir()
    write(folder / "1.csv", GOOD[:6])
    write(folder / "2.csv", GOOD[5:])
    found, metrics = read(folder)
    assert found.equals(expected)
    assert metrics["left_out: duplicate bars"] == 1


def test_bars_of_several_instruments_may_share_their_times(tmp_path: Path) -> None:
    header = HEADER.replace("time,", "time,symbol,")
    lines = [line.replace(",", f",{symbol},", 1) for line in GOOD for symbol in ("x", "y", "z")]
    found, metrics = read(write(tmp_path / "three.csv", lines, header))
    assert (found.num_rows, "left_out: duplicate bars" in metrics) == (30, False)
    # The same bar of x again, after those of y and z.
    found, metrics = read(write(tmp_path / "three.csv", [*lines[:3], lines[0], *lines[3:]], header))
    assert (found.num_rows, metrics["left_out: duplicate bars"]) == (30, 1)


@pytest.mark.parametrize("block_bytes", [40, 1 << 20])
def test_another_bar_over_the_same_interval_is_refused(
    tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text.blocks, "__defaults__", (block_bytes,))
    other = GOOD[4].rsplit(",", 1)[0] + ",99"
    message = (
        r"line 7: expected one bar of A.B at 2024-01-01 00:04:00, found another one with volume 99\S*, "
        r"where volume 4\S* came before; remove one of the two"
    )
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "my.csv", [*GOOD[:5], other, *GOOD[5:]]))


def test_trades_may_share_their_times(tmp_path: Path) -> None:
    lines = twice([f"{second},5,1" for second in range(5)])
    assert read(write(tmp_path / "trades.csv", lines, "time,price,qty\n"))[0].num_rows == 10


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "10,8,9,10,1",
            r"expected a high that is not below the low in the bar of A.B at .* 00:10:00, found open 10\S*",
        ),
        ("10,12,9,12.00000001,1", "expected a close between low and high"),
        ("10,12,9,-37.63,1", "expected a close between low and high"),
    ],
)
def test_bars_that_cannot_have_been_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"my.csv: line 12: {message}.*; correct or remove it"):
        read(write(tmp_path / "my.csv", [*GOOD, f"2024-01-01 00:10,{line}"]))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("13,12,9,10,1", "bars whose open is outside of low to high"),
        ("0,12,0,10,1", "bars with a price of zero or below"),
        ("-30,-29,-41,-37.63,1", "bars with a price of zero or below"),
    ],
)
def test_odd_bars_are_passed_on_counted_and_told(
    tmp_path: Path, line: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "penstock.data"):
        found, metrics = read(write(tmp_path / "my.csv", [*GOOD, f"2024-01-01 00:10,{line}"]))
    assert (found.num_rows, metrics[f"doubtful: {reason}"]) == (11, 1)
    assert caplog.messages == [
        f"{tmp_path / 'my.csv'}: line 12: the first of {reason}, which are passed on",
        f"1 in all: {reason}, which are passed on",
    ]


def test_the_first_step_back_in_time_is_told_with_its_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "penstock.data"):
        _, metrics = read(write(tmp_path / "my.csv", [*GOOD[:4], GOOD[2], GOOD[4]]), batch_rows=2)
    assert metrics["time_steps_back"] == 1
    told = "line 6: time steps back from 2024-01-01 00:04:00 to 2024-01-01 00:03:00; sort the rows by time"
    assert [message for message in caplog.messages if told in message] == caplog.messages


def parquet(file: Path, **changed: float) -> Path:
    prices = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0} | changed
    rows: dict[str, Any] = {name: [10.0, price] for name, price in prices.items()}
    pq.write_table(pa.table({"time": pa.array([0, 60], pa.timestamp("s", "UTC")), **rows}), file)
    return file


def test_prices_that_went_through_a_float_may_be_off_by_a_hair(tmp_path: Path) -> None:
    assert read(parquet(tmp_path / "my.parquet", close=12.0000000001))[0].num_rows == 2
    for wrong in (12.0001, float("inf"), float("nan")):
        with pytest.raises(InputError, match=r"row 2: expected .* in the bar of A.B at 1970-01-01 00:01:00"):
            read(parquet(tmp_path / "my.parquet", close=wrong))
