"""Tardis' files: books and their changes, liquidations and tickers, exact and in whole groups."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.stage import Context
from stages.feeds import text
from stages.feeds.replay import Replay
from stages.schemas import schema_of

LAST, SNAPSHOT = 128, 32
BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"


def read(path: Path, **declared: Any) -> pa.Table:
    recipe = Replay(path=str(path), **declared)
    batches = [batch.columns for batch in recipe.build(Context()).batches()]
    table = pa.Table.from_batches(batches, schema=recipe.output_schema({}))
    table.validate(full=True)
    return table


def book(rows: Sequence[tuple[int, bool, str, str, str]], symbol: str = "BTC") -> str:
    return BOOK + "".join(
        f"x,{symbol},{ts},{ts},{str(snapshot).lower()},{side},{price},{amount}\n"
        for ts, snapshot, side, price, amount in rows
    )


@pytest.fixture
def tardis(recordings: Path) -> Path:
    return recordings / "nautilus_trader" / "tests" / "test_data" / "tardis"


def test_a_real_incremental_book_is_a_clear_and_its_snapshot(tardis: Path) -> None:
    file = tardis / "deribit_incremental_book_L2_BTC-PERPETUAL.csv"

    table = read(file)

    lines = list(csv.DictReader(file.read_text().splitlines()))
    assert table.schema == schema_of("book_delta") and len(lines) == 15
    assert table["action"].to_pylist() == [4, *[1 if line["is_snapshot"] == "true" else 2 for line in lines]]
    assert table["side"].to_pylist() == [0, *[{"bid": 1, "ask": 2}[line["side"]] for line in lines]]
    assert table["price"].to_pylist() == [0, *[Decimal(line["price"]) for line in lines]]
    assert table["size"].to_pylist() == [0, *[Decimal(line["amount"]) for line in lines]]
    assert table["ts_recv"].cast(pa.int64()).to_pylist()[1:] == [int(line["local_timestamp"]) * 1000 for line in lines]
    assert table["ts_event"].cast(pa.int64()).to_pylist()[1:] == [int(line["timestamp"]) * 1000 for line in lines]
    assert table["instrument_id"].unique().to_pylist() == ["BTC-PERPETUAL.DERIBIT"]


@pytest.mark.parametrize("depth", [5, 25])
def test_real_book_snapshots_have_every_level(tardis: Path, depth: int) -> None:
    file = tardis / f"binance-futures_book_snapshot_{depth}_BTCUSDT.csv"

    table = read(file)

    lines = list(csv.DictReader(file.read_text().splitlines()))
    assert table.num_rows == len(lines) == 10
    assert table["depth"].unique().to_pylist() == [depth]
    for side in ("bids", "asks"):
        assert [[(level["price"], level["size"]) for level in row] for row in table[side].to_pylist()] == [
            [(Decimal(line[f"{side}[{at}].price"]), Decimal(line[f"{side}[{at}].amount"])) for at in range(depth)]
            for line in lines
        ]


def test_real_trades_and_quotes_are_read_with_the_format_declared_or_not(tardis: Path) -> None:
    for name, kind in (("bitmex_trades_XBTUSD.csv", "trade"), ("huobi-dm-swap_quotes_BTC-USD.csv", "quote")):
        assert read(tardis / name, format="tardis") == read(tardis / name)
        assert read(tardis / name).schema.metadata[b"record"].decode() == kind
        assert read(tardis / name).num_rows == 10


def test_packed_files_are_read_alike(tardis: Path, tmp_path: Path) -> None:
    plain = tardis / "deribit_incremental_book_L2_BTC-PERPETUAL.csv"
    packed = tmp_path / "deribit_incremental_book_L2_BTC-PERPETUAL.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))

    assert read(packed).drop_columns("source_id") == read(plain).drop_columns("source_id")


GROUPS = [
    (1, True, "bid", "9", "1"),
    (1, True, "ask", "11", "1"),
    (2, True, "ask", "12", "5"),  # a snapshot in two messages is one
    (3, False, "bid", "9", "0"),
    (3, False, "bid", "8", "2"),
    (4, False, "ask", "11", "0.5"),
    (5, True, "bid", "7", "3"),
    (5, True, "ask", "12", "3"),
    (6, False, "bid", "7", "4"),
]
EXPECTED = [
    (4, 0, SNAPSHOT),
    (1, 1, SNAPSHOT),
    (1, 2, SNAPSHOT | LAST),
    (1, 2, SNAPSHOT | LAST),
    (3, 1, 0),
    (2, 1, LAST),
    (2, 2, LAST),
    (4, 0, SNAPSHOT),
    (1, 1, SNAPSHOT),
    (1, 2, SNAPSHOT | LAST),
    (2, 1, LAST),
]


@pytest.mark.parametrize("block_bytes", [40, 100, 1 << 20])
def test_groups_end_where_the_receive_time_changes_wherever_blocks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    (tmp_path / "x_incremental_book_L2.csv").write_text(book(GROUPS))
    defaults = (block_bytes,)
    monkeypatch.setattr(text.blocks, "__defaults__", defaults)

    table = read(tmp_path / "x_incremental_book_L2.csv")

    assert list(zip(*(table[name].to_pylist() for name in ("action", "side", "flags")), strict=True)) == EXPECTED
    assert table["ingest_seq"].to_pylist() == list(range(len(EXPECTED)))


def test_each_symbol_has_its_own_snapshot(tmp_path: Path) -> None:
    both = book([(1, True, "bid", "9", "1")], "A") + book([(1, True, "bid", "8", "1")], "B").removeprefix(BOOK)
    (tmp_path / "x.csv").write_text(both + book([(2, True, "ask", "10", "1")], "A").removeprefix(BOOK))

    table = read(tmp_path / "x.csv")

    assert list(zip(table["instrument_id"].to_pylist(), table["action"].to_pylist(), strict=True)) == [
        ("A.X", 4),
        ("A.X", 1),
        ("B.X", 4),
        ("B.X", 1),
        ("A.X", 1),
    ]


def test_a_side_with_fewer_levels_has_fewer(tmp_path: Path) -> None:
    names = ",".join(
        f"{side}[{at}].{word}" for at in (0, 1) for side in ("asks", "bids") for word in ("price", "amount")
    )
    (tmp_path / "x.csv").write_text(f"exchange,symbol,timestamp,local_timestamp,{names}\nx,a,1,1,11,1,,,12,2,,\n")

    (row,) = read(tmp_path / "x.csv").to_pylist()

    assert row["bids"] == []
    assert [(level["price"], level["size"]) for level in row["asks"]] == [(11, 1), (12, 2)]


def test_liquidations_are_told_by_their_file(tmp_path: Path) -> None:
    lines = (
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\nbitmex,xbtusd,1000,2000,k-1,buy,8531.5,100\n"
    )
    (tmp_path / "bitmex_liquidations_2020.csv").write_text(lines)
    (tmp_path / "other.csv").write_text(lines)

    (row,) = read(tmp_path / "bitmex_liquidations_2020.csv").to_pylist()

    assert (row["side"], row["price"], row["size"], row["order_id"]) == (1, Decimal("8531.5"), 100, "k-1")
    assert read(tmp_path / "other.csv").schema == schema_of("trade")
    assert read(tmp_path / "other.csv", schema="liquidation").num_rows == 1


TICKER = (
    "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,open_interest,"
    "last_price,index_price,mark_price\n"
    "bitmex,XBTUSD,1000,2000,1583049600000000,0.0001,,42,8500.5,8501,8502\n"
    "bitmex,XBTUSD,1001,2001,,,,,8500.5,,\n"
    "bitmex,XBTUSD,1002,2002,,,,43,,8503,\n"
)


def test_a_ticker_gives_funding_rates_or_open_interest(tmp_path: Path) -> None:
    (tmp_path / "ticker.csv").write_text(TICKER)

    funding = read(tmp_path / "ticker.csv")
    interest = read(tmp_path / "ticker.csv", schema="open_interest")

    assert funding["rate"].to_pylist() == [Decimal("0.0001"), None]
    assert funding["next_funding_ts"].cast(pa.int64()).to_pylist() == [1583049600000000000, None]
    assert funding["index_price"].to_pylist() == [8501, 8503]
    assert interest["open_interest"].to_pylist() == [42, 43]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            BOOK + "x,a,1,1,true,bid,9,1\nx,a,1,1,maybe,bid,9,1\n",
            "line 3, column 'is_snapshot': expected one of true, false",
        ),
        (BOOK + "x,a,1,1,true,buy,9,1\n", "line 2, column 'side': expected one of bid, ask, found 'buy'"),
        (BOOK + "x,a,1,1,true,bid,,1\n", "line 2, column 'price': expected a value"),
        (BOOK + "x,a,1,1,true,bid,0.000000001,1\n", "line 2, column 'price': expected a number that fits"),
        (BOOK + "x,a,,1,true,bid,9,1\n", "line 2, column 'timestamp': expected a value"),
        ("a,b\n1,2\n", "expected Tardis' columns"),
        ("", "found an empty file"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path: Path, lines: str, told: str) -> None:
    (tmp_path / "x.csv").write_text(lines)

    with pytest.raises(InputError) as error:
        read(tmp_path / "x.csv", format="tardis")

    assert told in str(error.value)
