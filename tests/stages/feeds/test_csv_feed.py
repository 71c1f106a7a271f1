"""Ordinary text tables just work, and those that do not say what to declare."""

from __future__ import annotations

import gzip
import itertools
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.stage import Context
from stages.feeds import text
from stages.feeds.replay import Replay

OHLCV = "Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-01,1.5,2,1,1.75,1.7,100\n2024-01-02,1.75,2,1,1.8,1.7,90\n"


def read(path: Path, **declared: Any) -> pa.Table:
    recipe = Replay(path=str(path), **declared)
    table = pa.Table.from_batches(
        [batch.columns for batch in recipe.build(Context()).batches()], schema=recipe.output_schema({})
    )
    table.validate(full=True)
    return table


def put(folder: Path, content: str | bytes, name: str = "my.csv") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_an_ordinary_table_of_bars_needs_no_declaration(tmp_path: Path) -> None:
    row = read(put(tmp_path, OHLCV)).to_pylist()[0]
    assert (row["open"], row["close"], row["volume"]) == (Decimal("1.5"), Decimal("1.75"), 100)
    assert row["bar_start"].isoformat() == "2024-01-01T00:00:00+00:00"
    assert row["ts_event"] == row["bar_end"]
    assert row["interval_ns"] == 86_400 * 10**9
    assert row["instrument_id"] == "MY.FILE"


@pytest.mark.parametrize(
    "stamp", ["2024-01-01 00:0{}:00+00:00", '"2024-01-01 00:0{}:00"', "170406720000{}", "2024010{}"]
)
def test_a_first_column_without_a_name_that_holds_times_is_their_time(tmp_path: Path, stamp: str) -> None:
    lines = "".join(f"{stamp.format(number)},1,2,0.5,1.5,9\n" for number in (1, 2))
    table = read(put(tmp_path, f",open,high,low,close,volume\n{lines}"))
    assert table["close"].to_pylist() == [1.5, 1.5]
    assert str(table["bar_start"][0].as_py()).startswith("2024-01-01")


def test_a_first_column_without_a_name_that_counts_rows_is_no_time(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found #1, open, high, low, close .bar lacks ts_event"):
        read(put(tmp_path, ",open,high,low,close\n0,1,2,0.5,1.5\n1,1,2,0.5,1.5\n"))
    counted = read(put(tmp_path, ",time,price,qty\n0,2024-01-01,1,2\n1,2024-01-02,1,2\n"))
    assert str(counted["ts_event"][1].as_py()).startswith("2024-01-02")


def test_columns_that_are_not_read_are_known(tmp_path: Path) -> None:
    assert Replay(path=str(put(tmp_path, OHLCV))).recording().unused == ("Adj Close",)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + OHLCV.encode(),
        OHLCV.replace("\n", "\r\n").encode(),
        OHLCV.replace(",", ";").encode(),
        OHLCV.replace(",", "\t").encode(),
        b"\n\n" + OHLCV.encode() + b"\n\n",
        OHLCV.rstrip("\n").encode(),
        OHLCV.replace("1.5", " 1.5 ").encode(),
        OHLCV.replace("1.5", '"1.5"').encode(),
    ],
    ids=["mark", "crlf", "semicolon", "tab", "blank lines", "no last line end", "blanks", "quotes"],
)
def test_the_same_table_written_otherwise_reads_the_same(tmp_path: Path, content: bytes) -> None:
    expected = read(put(tmp_path, OHLCV))
    assert read(put(tmp_path, content)).equals(expected)


def test_packed_tables_read_the_same(tmp_path: Path) -> None:
    expected = read(put(tmp_path, OHLCV)).drop_columns(["source_id"])
    packed = put(tmp_path, gzip.compress(OHLCV.encode()), "my.csv.gz")
    with zipfile.ZipFile(tmp_path / "my.csv.zip", "w") as archive:
        archive.writestr("inside.csv", OHLCV)
    for file in (packed, tmp_path / "my.csv.zip"):
        assert read(file).drop_columns(["source_id"]).equals(expected)


def archive(file: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return file


@pytest.mark.parametrize(
    "beside",
    [{}, {"README.txt": "hello"}, {"__MACOSX/._inside.csv": "x", ".DS_Store": "x"}, {"licence.pdf": "x"}],
    ids=["alone", "with a text", "from a mac", "with a document"],
)
def test_an_archive_called_otherwise_is_looked_into(tmp_path: Path, beside: dict[str, str]) -> None:
    expected = read(put(tmp_path, OHLCV)).drop_columns(["source_id"])
    packed = archive(tmp_path / "my.zip", beside | {"2024/inside.csv": OHLCV})
    assert read(packed).drop_columns(["source_id"]).equals(expected)


def test_a_folder_of_archives_is_read_in_order_of_their_names(tmp_path: Path) -> None:
    archive(tmp_path / "2024-02.zip", {"b.csv": "time,price,qty\n2,2,2\n"})
    archive(tmp_path / "2024-01.zip", {"a.csv": "time,price,qty\n1,1,1\n"})
    put(tmp_path, "time,price,qty\n3,3,3\n", "2024-03.csv")
    assert read(tmp_path)["price"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"a.csv": OHLCV, "b.csv": OHLCV},
            r"expected one table in the archive, found 2 files \(a.csv, b.csv\); unpack",
        ),
        ({}, r"expected one table in the archive, found 0 files \(none\)$"),
        ({"a.parquet": "x"}, r"expected a table \(.csv .tsv .txt\) in the archive, found a.parquet; unpack it"),
        ({"a.dat": "x"}, "found a.dat; declare `format: csv` if it is a table"),
    ],
)
def test_an_archive_without_one_table_says_what_is_in_it(tmp_path: Path, members: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=f"my.zip: .*{message}"):
        read(archive(tmp_path / "my.zip", members))


@pytest.mark.parametrize(
    ("stamp", "declared"),
    [
        ("1704067200", {}),
        ("1704067200.000", {}),
        ("1704067200000", {}),
        ("1704067200000000", {}),
        ("1704067200000000000", {}),
        ("1704067200000", {"time_format": "ms"}),
        ("2024-01-01T00:00:00Z", {}),
        ("2024-01-01T01:00:00+01:00", {}),
        ("2023-12-31 19:00:00", {"time_zone": "America/New_York"}),
        ("20240101", {}),
        ("20240101 00:00:00", {}),
        ("01.01.2024 00:00", {"time_format": "%d.%m.%Y %H:%M"}),
        ("01/01/2024 00:00:00.000000", {"time_format": "%d/%m/%Y %H:%M:%S.%f"}),
    ],
)
def test_times_of_many_formats_are_one_instant(tmp_path: Path, stamp: str, declared: dict[str, str]) -> None:
    table = read(put(tmp_path, f"time,price,qty\n{stamp},1,2\n"), **declared)
    assert table["ts_event"].cast(pa.int64()).to_pylist() == [1_704_067_200 * 10**9]


def test_fractions_of_seconds_are_exact_to_the_nanosecond(tmp_path: Path) -> None:
    table = read(put(tmp_path, "time,price,qty\n1704067200.123456789,1,2\n"))
    assert table["ts_event"].cast(pa.int64()).to_pylist() == [1_704_067_200_123_456_789]


def test_trades_with_sides_and_ids(tmp_path: Path) -> None:
    content = (
        "timestamp,symbol,exchange,side,price,amount,id\n1,btcusd,kraken,Buy,0.1,3,a\n2,btcusd,kraken,SELL,0.2,4,b\n"
    )
    table = read(put(tmp_path, content))
    assert table["aggressor_side"].to_pylist() == [1, 2]
    assert table["trade_id"].to_pylist() == ["a", "b"]
    assert table["instrument_id"].to_pylist() == ["BTCUSD.KRAKEN"] * 2
    assert table["price"].to_pylist() == [Decimal("0.1"), Decimal("0.2")]


def test_declared_columns_and_floats(tmp_path: Path) -> None:
    file = put(tmp_path, "t,px,sz,m\n1,0.1,3,true\n")
    table = read(
        file,
        columns={"px": "price", "sz": "size", "t": "ts_event"},
        time_format="s",
        numbers="float64",
        instrument="A.B",
    )
    assert table["price"].type == pa.float64()
    assert table["aggressor_side"].to_pylist() == [2]
    assert table["instrument_id"].to_pylist() == ["A.B"]


def test_a_table_without_header_is_named_in_order(tmp_path: Path) -> None:
    file = put(tmp_path, "1704067200,x,1,2,0.5,1.5,9\n1704067260,x,1,2,0.5,1.5,9\n")
    table = read(file, columns=["ts_event", "note", "open", "high", "low", "close", "volume"])
    assert table["interval_ns"].to_pylist() == [60 * 10**9] * 2
    with pytest.raises(InputError, match=r"expected a header, found '1704067200,x.*columns: \[ts_event, open"):
        read(file)


def test_files_of_a_folder_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, "time,price,qty\n2,2,2\n", "b.csv")
    put(tmp_path, "time,price,qty\n1,1,1\n", "a.csv")
    for path in (tmp_path, tmp_path / "*.csv"):
        assert read(path)["price"].to_pylist() == [1, 2]
    put(tmp_path, "time,price,amount\n1,1,1\n", "c.csv")
    with pytest.raises(InputError, match=r"c.csv: expected the columns of a.csv \(time, price, qty\), found"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a table, found an empty file"),
        (b"time,price,qty\n1,1,1\n2,x,1\n", "line 3, column 'price': expected a number that fits .*, found 'x'"),
        (
            b"time,price,qty\n1,1,1\n\n2,nan,1\n",
            "line 4, column 'price': expected a value, found 'nan', which means none",
        ),
        (b"\ntime,price,qty\n\n1,1,1\n\n\n2,x,1\n", "line 7, column 'price': .* found 'x'"),
        (b"time,open,high,low,close\n2,1,1,1,1\n1,1,1,1,1\n", "found the newest first; sort its rows by time"),
        (b"date,price,qty\n03/25/2024,1,1\n", r"--set 'containers.data.time_format=%m/%d/%Y'"),
        (b"date,price,qty\n25.03.2024 10:30,1,1\n", r"--set 'containers.data.time_format=%d.%m.%Y %H:%M'"),
        (b"date,price,qty\n01/02/2024,1,1\n01/13/2024,1,1\n", r"time_format=%m/%d/%Y'"),
        (b"date,price,qty\n01/02/2024,1,1\n", r"time_format=%d/%m/%Y'`, or %m/%d/%Y where the month comes first"),
        (b"time,price,qty\n1,1,1\n2,,1\n", "line 3, column 'price': expected a value, found none"),
        (b"time,price,qty\n1,1,1\nlater,1,1\n", "line 3, column 'time': expected a time in s, found 'later'"),
        (b"time,price,qty\nyesterday,1,1\n", "found 'yesterday'; declare `time_format`"),
        (b"time,price,qty\n1,1,1,1\n", "line 2: expected 3 columns .*, found 4 in '1,1,1,1'"),
        (b"time,price,qty,side\n1,1,1,up\n", "column 'side': expected one of buy, .*, found 'up'"),
        (b"time,cost\n1,1\n", "expected columns of trades, quotes or bars, found time, cost .*declare the others"),
        ("time,price,qty\n1,1,1\n".encode("utf-16"), "expected UTF-8 text, found UTF-16"),
        (b"time,price,qty\n1,12345678901,1\n", "too large for the stream's scale: declare a smaller `scale`"),
        (b"time,price,qty\n1,99999999999,1\n", "too large for the stream's scale: declare a smaller `scale`"),
        (b"time,open,high,low,close\n1,1,1,1,1\n", "expected bars at rising times, found none; declare `interval`"),
    ],
)
def test_the_error_says_where_and_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"my.csv: .*{message}"):
        read(put(tmp_path, content))


def test_a_truncated_gzip_is_named_with_the_place(tmp_path: Path) -> None:
    packed = gzip.compress(b"time,price,qty\n" + b"".join(b"%d,1,%d\n" % (n, n * n) for n in range(200_000)))
    file = put(tmp_path, packed[: len(packed) // 2], "my.csv.gz")
    with pytest.raises(InputError, match=r"expected a complete file, found damage after [\d,]+ bytes of text"):
        read(file)


def test_a_header_alone_is_an_empty_table(tmp_path: Path) -> None:
    assert read(put(tmp_path, "time,price,qty\n")).num_rows == 0


@settings(max_examples=25, deadline=None)
@given(
    times=st.lists(st.integers(0, 10**9), min_size=1, max_size=200),
    batch_rows=st.sampled_from([1, 7, 65_536]),
    block_bytes=st.sampled_from([16, 100, 1 << 20]),
)
def test_neither_batches_nor_blocks_change_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], batch_rows: int, block_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("table")
    file = put(folder, "time,symbol,price,qty\n" + "".join(f"{time},s{time % 5},{time}.5,1\n" for time in times))
    whole = Replay(path=str(file), time_format="ns").build(Context())
    expected = pa.Table.from_batches([batch.columns for batch in whole.batches()])
    cut = Replay(path=str(file), time_format="ns", batch_rows=batch_rows).build(Context())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text.blocks, "__defaults__", (block_bytes,))
        batches = [batch.columns for batch in cut.batches()]
    assert pa.Table.from_batches(batches).to_pylist() == expected.to_pylist()
    assert all(batch.num_rows == batch_rows for batch in batches[:-1])
    assert cut.metrics() == whole.metrics()
    assert whole.metrics()["time_steps_back"] == sum(b < a for a, b in itertools.pairwise(times))


def test_real_tables_read_without_declaration(recordings: Path) -> None:
    samples = recordings / "nautilus_trader" / "tests" / "test_data"
    quotes = read(samples / "truefx" / "usdjpy-ticks.csv")
    assert (quotes.num_rows, quotes["ask_price"][0].as_py()) == (1000, Decimal("86.728"))
    trades = read(samples / "tardis" / "bitmex_trades_XBTUSD.csv")
    assert trades["instrument_id"].unique().to_pylist() == ["XBTUSD.BITMEX"]
    assert trades["ts_recv"][0].as_py().microsecond == 307160
    with pytest.raises(InputError, match="looks like order book updates"):
        read(samples / "binance" / "btcusdt-depth-snap.csv")
