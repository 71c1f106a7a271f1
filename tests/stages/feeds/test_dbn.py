"""Databento's files become standard records, field for field what Databento's library says of them."""

from __future__ import annotations

import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.stage import Context
from stages.feeds import dbn
from stages.feeds.counts import Counts
from stages.feeds.replay import Replay
from stages.schemas import Scales, schema_of

library = pytest.importorskip("databento_dbn", reason="the extra `dbn` is not installed")

ROWS = {
    "bbo-1m.v3": ("quote", 4),
    "bbo-1s.v3": ("quote", 4),
    "cbbo-1s.v3": ("quote", 2),
    "cmbp-1.v3": ("quote", 2),
    "definition.v1": ("instrument", 2),
    "definition.v3": ("instrument", 2),
    "mbo.v3": ("book_delta", 2),
    "mbp-1.v3": ("quote", 2),
    "mbp-10.v3": ("book_snapshot", 2),
    "ohlcv-1d.v3": ("bar", 0),
    "ohlcv-1h.v3": ("bar", 2),
    "ohlcv-1m.v3": ("bar", 2),
    "ohlcv-1s.v3": ("bar", 2),
    "status.v3": ("instrument_status", 4),
    "tbbo.v3": ("trade", 2),
    "trades.v1": ("trade", 2),
    "trades.v3": ("trade", 2),
}
LAST = 128
START = 1_609_160_400_000_000_000
FIRST_DAY, LAST_DAY = date(2020, 12, 28), date(2020, 12, 30)


def read(path: Path, **declared: Any) -> pa.Table:
    return feed(path, **declared)[0]


def feed(path: Path, **declared: Any) -> tuple[pa.Table, Any]:
    recipe = Replay(path=str(path), **declared)
    made = recipe.build(Context())
    table = pa.Table.from_batches([batch.columns for batch in made.batches()], schema=recipe.output_schema({}))
    table.validate(full=True)
    return table, made.metrics()


def write(file: Path, records: list[Any], schema: Any = library.Schema.MBO) -> Path:
    header = library.Metadata(
        dataset="GLBX.MDP3",
        start=START,
        stype_in=library.SType.RAW_SYMBOL,
        stype_out=library.SType.INSTRUMENT_ID,
        schema=schema,
        symbols=["ESH1", "NQH1"],
        mappings=[
            SimpleNamespace(
                raw_symbol=symbol,
                intervals=[SimpleNamespace(start_date=FIRST_DAY, end_date=LAST_DAY, symbol=number)],
            )
            for symbol, number in (("ESH1", "5"), ("NQH1", "6"))
        ],
    )
    file.write_bytes(b"".join([bytes(header), *(bytes(record) for record in records)]))
    return file


def order(at: int, action: str, flags: int, size: int = 1, number: int = 5) -> Any:
    return library.MBOMsg(
        publisher_id=1,
        instrument_id=number,
        ts_event=START + at,
        order_id=100 + at,
        price=3_700 * 10**9 + at,
        size=size,
        action=library.Action(action),
        side=library.Side.BID,
        ts_recv=START + at + 10,
        flags=flags,
        sequence=at,
    )


@pytest.fixture
def samples(recordings: Path) -> Path:
    return recordings / "dbn" / "tests" / "data"


@pytest.mark.parametrize("name", ROWS)
def test_real_files_have_as_many_records_of_their_kind(samples: Path, name: str) -> None:
    kind, rows = ROWS[name]

    table = read(samples / f"test_data.{name}.dbn.zst")

    assert table.num_rows == rows
    assert table.schema == schema_of(kind, Scales(9, 0))
    assert table["ingest_seq"].to_pylist() == list(range(rows))


def test_trades_are_what_the_library_says(samples: Path) -> None:
    rows = read(samples / "test_data.trades.v3.dbn.zst").to_pylist()

    decoder = library.DBNDecoder(compression=library.Compression.ZSTD)
    decoder.write((samples / "test_data.trades.v3.dbn.zst").read_bytes())
    _, *told = decoder.decode()
    for row, record in zip(rows, told, strict=True):
        assert row["price"] == Decimal(record.price).scaleb(-9)
        assert row["size"] == record.size
        assert (row["ts_event"].value, row["ts_recv"].value) == (record.ts_event, record.ts_recv)
        assert row["sequence"] == record.sequence and row["flags"] == int(record.flags)
        assert row["aggressor_side"] == {"A": 2, "B": 1}[str(record.side.value)]
        assert row["instrument_id"] == "ESH1.GLBX"


def test_figures_of_real_files(samples: Path) -> None:
    (quote, _) = read(samples / "test_data.mbp-1.v3.dbn.zst").to_pylist()
    assert (quote["bid_price"], quote["bid_size"], quote["bid_count"]) == (Decimal("3720.25"), 24, 15)
    assert (quote["ask_price"], quote["ask_size"], quote["ask_count"]) == (Decimal("3720.5"), 11, 9)
    (delta, _) = read(samples / "test_data.mbo.v3.dbn.zst").to_pylist()
    assert (delta["action"], delta["side"], delta["order_id"], delta["flags"]) == (3, 2, 647784973705, LAST)
    (bar, _) = read(samples / "test_data.ohlcv-1h.v3.dbn.zst").to_pylist()
    assert (bar["open"], bar["high"], bar["volume"]) == (372025, 372350, 9385)
    assert (bar["bar_start"].value, bar["bar_end"].value) == (START, START + 3600 * 10**9)
    (snapshot, _) = read(samples / "test_data.mbp-10.v3.dbn.zst").to_pylist()
    assert (len(snapshot["bids"]), snapshot["bids"][0]["price"], snapshot["asks"][0]["count"]) == (
        10,
        Decimal("3720.25"),
        8,
    )
    for version in ("v1", "v3"):
        (stock, _) = read(samples / f"test_data.definition.{version}.dbn.zst").to_pylist()
        assert (stock["instrument_id"], stock["asset_class"], stock["size_increment"]) == ("MSFT.XNAS", "equity", 100)
        assert stock["price_increment"] is None and stock["ts_valid_to"] is None
    statuses = read(samples / "test_data.status.v3.dbn.zst")
    assert statuses["action"].to_pylist() == ["trading", "pre_open", "pre_open", "new_price_indication"]


def test_a_quote_file_gives_its_trades_where_they_are_asked_for(samples: Path) -> None:
    assert read(samples / "test_data.tbbo.v3.dbn.zst", schema="quote").schema == schema_of("quote", Scales(9, 0))
    table, metrics = feed(samples / "test_data.mbp-1.v3.dbn.zst", schema="trade")
    assert table.schema == schema_of("trade", Scales(9, 0))
    assert table.num_rows + metrics["left_out: a change of the book, which is no trade"] == 2


@pytest.mark.parametrize("piece", [1, 57, 1 << 20])
def test_trades_and_fills_leave_groups_of_orders_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(dbn, "READ_BYTES", piece)
    groups = [("R", LAST), ("A", 0), ("A", LAST), ("T", 0), ("F", 0), ("C", 0), ("T", LAST), ("T", LAST), ("M", LAST)]
    file = write(tmp_path / "a.dbn", [order(at, action, flags) for at, (action, flags) in enumerate(groups)])

    table, metrics = feed(file)

    assert table["action"].to_pylist() == [4, 1, 1, 3, 2]
    assert table["flags"].to_pylist() == [LAST, 0, LAST, LAST, LAST]
    assert table["order_id"].to_pylist() == [100, 101, 102, 105, 108]
    assert table["price"].to_pylist()[:2] == [0, Decimal("3700.000000001")]
    assert metrics["left_out: a trade or fill, which changes no book"] == 4


def test_a_file_whose_groups_never_end_is_read_in_bounded_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbn, "READ_BYTES", 560)
    monkeypatch.setattr(dbn, "MOST_HELD", 25)
    file = write(tmp_path / "a.dbn", [order(at, "A", 0) for at in range(200)])

    recording = Replay(path=str(file)).recording()
    pieces = [batch.num_rows for batch in recording.read(Counts())]

    assert sum(pieces) == 200
    assert max(pieces) <= 25 + 10 + 10


def test_numbers_without_a_symbol_stay_numbers_and_others_get_theirs(tmp_path: Path) -> None:
    records = [order(at, "A", LAST, number=number) for at, number in enumerate([5, 6, 77, 5])]

    table = read(write(tmp_path / "a.dbn", records))

    assert table["instrument_id"].to_pylist() == ["ESH1.GLBX", "NQH1.GLBX", "77.GLBX", "ESH1.GLBX"]


def test_a_price_with_more_places_than_declared_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dbn", [order(at, "A", LAST) for at in (0, 1)])

    with pytest.raises(InputError, match=r"row 2, column 'price': expected a number that fits decimal64\(18, 8\)"):
        read(file, scale=8)
    assert read(write(tmp_path / "b.dbn", [order(0, "A", LAST)]), scale=2)["price"][0].as_py() == 3700


@pytest.mark.parametrize(("kept", "told"), [(20, "its header"), (-10, "record 2"), (0, "its header")])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, kept: int, told: str) -> None:
    file = write(tmp_path / "a.dbn", [order(at, "A", LAST) for at in (0, 1)])
    file.write_bytes(file.read_bytes()[:kept])

    with pytest.raises(InputError, match=f"expected a complete DBN file, found its end within {told}"):
        read(file)


def test_files_of_other_content_are_refused(tmp_path: Path, samples: Path) -> None:
    (tmp_path / "a.dbn").write_bytes(b"time,price\n1,2\n" * 100)
    with pytest.raises(InputError, match="expected a complete DBN file, found damage after 0 records"):
        read(tmp_path / "a.dbn")
    packed = (samples / "test_data.mbo.v3.dbn.zst").read_bytes()
    (tmp_path / "a.dbn.zst").write_bytes(packed[:60])
    with pytest.raises(InputError, match="expected a complete DBN file"):
        read(tmp_path / "a.dbn.zst")
    for name in ("statistics", "imbalance"):
        with pytest.raises(InputError, match="these are read: TradeMsg as trade"):
            read(samples / f"test_data.{name}.v3.dbn.zst")
    with pytest.raises(InputError, match="expected records that can be of kind bar, found TradeMsg"):
        read(samples / "test_data.trades.v3.dbn.zst", schema="bar")


def test_without_the_library_the_command_that_installs_it_is_told(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "databento_dbn", None)

    with pytest.raises(InputError, match=r"not installed; pip install 'penstock\[dbn\]'"):
        read(samples / "test_data.trades.v3.dbn.zst")
