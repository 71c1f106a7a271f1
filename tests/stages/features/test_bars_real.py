"""Bars made of real ticks against the bars their vendor published; needs the recordings beside the checkout."""

from __future__ import annotations

import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from bar_oracle import plain, run

from pipeline.frames import NS_UTC, Batch, Watermark
from pipeline.stage import Context
from stages.features.bars import Bars

LEAN = Path(__file__).parents[4] / "shared/data/lean/Data"
MS = 1_000_000
INTERVALS = {"second": ("1s", 1000), "minute": ("1m", 60_000)}
PRICE = pa.decimal64(18, 5)

pytestmark = pytest.mark.skipif(not LEAN.is_dir(), reason="the recordings are not beside the checkout")


def lines(path):
    with zipfile.ZipFile(LEAN / path) as archive:
        (name,) = archive.namelist()
        return [line.split(",") for line in archive.read(name).decode().splitlines()]


def times(rows):
    return pa.array([int(row[0]) * MS for row in rows], pa.int64()).cast(NS_UTC)


def decimals(rows, column, kind):
    return pa.array([Decimal(row[column]) for row in rows], kind)


def in_pieces(batch, rows=5000):
    """The batch cut, with the watermark a feed of sorted files would send after each piece."""
    for place in range(0, batch.num_rows, rows):
        piece = batch.slice(place, rows)
        yield piece
        yield Watermark(piece.max_ts)


def ohlc(table):
    return {
        row["bar_start"] // MS: tuple(row[name] for name in ("open", "high", "low", "close")) for row in plain(table)
    }


def published(path, first):
    return {int(row[0]): tuple(map(Decimal, row[first : first + 4])) for row in lines(path)}


def eurusd(day):
    rows = lines(f"forex/oanda/tick/eurusd/{day}_quote.zip")
    return Batch.from_pydict(
        {"ts_event": times(rows), "bid_price": decimals(rows, 1, PRICE), "ask_price": decimals(rows, 2, PRICE)}
    )


@pytest.mark.parametrize(
    ("resolution", "day"),
    [("second", "20140501"), ("second", "20140502")]
    + [("minute", day) for day in ("20140501", "20140502", "20140505", "20140506")],
)
def test_every_published_bid_and_ask_bar_of_eurusd_comes_out_of_the_ticks(resolution, day):
    every, _ = INTERVALS[resolution]
    ticks = eurusd(day)
    for price, first in (("bid", 1), ("ask", 6)):
        made = ohlc(run(Bars(every=every, price=price).build(Context()), in_pieces(ticks)))
        assert made == published(f"forex/oanda/{resolution}/eurusd/{day}_quote.zip", first)


@pytest.mark.parametrize("day", ["20140501", "20140502"])
def test_minutes_made_of_seconds_equal_minutes_made_of_ticks(day):
    ticks = eurusd(day)
    seconds = run(Bars(every="1s", price="bid").build(Context()), in_pieces(ticks))
    finer = [frame for batch in seconds.to_batches() for frame in in_pieces(Batch(batch), 777)]
    minutes = run(Bars(every="1m").build(Context()), finer)
    direct = run(Bars(every="1m", price="bid").build(Context()), in_pieces(ticks))
    assert plain(minutes) == plain(direct)


def test_every_published_minute_of_coinbase_comes_out_of_its_seconds():
    size = pa.decimal128(38, 20)
    rows = lines("crypto/coinbase/second/btcusd/20161007_trade.zip")
    names = ("open", "high", "low", "close")
    start = np.array([int(row[0]) * MS for row in rows])
    seconds = Batch.from_pydict(
        {
            "ts_event": pa.array(start + 1000 * MS).cast(NS_UTC),
            "bar_start": pa.array(start).cast(NS_UTC),
            **{name: decimals(rows, place, PRICE) for place, name in enumerate(names, 1)},
            "volume": decimals(rows, 5, size),
        }
    )
    table = run(Bars(every="1m").build(Context()), in_pieces(seconds, 500))
    wanted = lines("crypto/coinbase/minute/btcusd/20161007_trade.zip")
    assert ohlc(table) == published("crypto/coinbase/minute/btcusd/20161007_trade.zip", 1)
    volumes = [float(volume) for volume in table["volume"].to_pylist()]
    assert volumes == pytest.approx([float(row[5]) for row in wanted], rel=1e-12)


def test_spy_minutes_differ_from_its_ticks_where_the_vendor_leaves_sale_conditions_out():
    """A negative control: equality above is no accident of a test that cannot fail."""
    kind = pa.decimal64(18, 0)
    rows = lines("equity/usa/tick/spy/20131007_trade.zip")
    ticks = Batch.from_pydict(
        {"ts_event": times(rows), "price": decimals(rows, 1, kind), "size": decimals(rows, 2, kind)}
    )
    made = ohlc(run(Bars(every="1m").build(Context()), in_pieces(ticks)))
    wanted = published("equity/usa/minute/spy/20131007_trade.zip", 1)
    equal = sum(made.get(start) == bar for start, bar in wanted.items())
    assert (equal, len(wanted)) == (697, 828)
