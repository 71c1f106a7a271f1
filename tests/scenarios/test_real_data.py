"""Real recordings through the whole program: backtests with figures, and bars equal to those their vendor published."""

from __future__ import annotations

import json
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from whole_runs import ROOT, Left, assert_books_balance, await_program, finish, left_in, start_program

MINUTES = 1419 + 1440 + 1440 + 1440
"""Minutes of trades in the four days of Coinbase BTCUSD."""
DAY_NS = 86_400 * 10**9
BARS = ("open", "high", "low", "close")


def assert_a_backtest_with_figures(summary: dict[str, Any], ranking: pa.Table) -> None:
    """Somebody traded, it cost fees, the equity moved, and every row is accounted for."""
    assert summary["status"] == "complete"
    assert_books_balance(summary)
    assert summary["aggregate_metrics"]["execution"]["portfolios"]["failed"] == 0
    assert summary["aggregate_metrics"]["portfolio"]["fills"] > 20
    for row in ranking.to_pylist():
        assert row["error"] is None
        if row["baseline"]:
            assert (row["rank"], row["n_fills"]) == (None, 1)
            continue
        assert row["n_trades"] > 5 and row["fees"] > 0 and row["exposure_time"] > 0
        assert row["total_return"] != 0 and row["max_drawdown"] != 0 and row["sharpe"] not in (None, 0)
        assert row["end_equity"] != 100_000


def assert_the_money_adds_up(left: Left) -> None:
    """Cash after each fill follows from the one before; the fees of the fills are those of the statistics."""
    ranking = {row["container"]: row for row in left.files["containers/execution/ranking.parquet"].to_pylist()}
    rows = left.files["containers/portfolio/fills.parquet"].to_pylist()
    for name, told in ranking.items():
        cash, position, fees = 100_000.0, 0.0, 0.0
        for fill in (row for row in rows if row["container"] == name):
            signed = fill["quantity"] if fill["side"] == 1 else -fill["quantity"]
            position += signed
            cash -= signed * fill["price"] + fill["fee"]
            fees += fill["fee"]
            assert fill["position_after"] == pytest.approx(position, abs=1e-9)
            assert fill["cash_after"] == pytest.approx(cash, rel=1e-12)
        assert told["fees"] == pytest.approx(fees, rel=1e-12)
        equity = left.files["containers/portfolio/equity.parquet"]
        last = equity.filter(pc.equal(equity["container"], name)).column("equity").to_pylist()[-1]
        assert told["end_equity"] == pytest.approx(last, rel=1e-12)


def test_the_backtest_of_coinbase_minutes_has_figures(lean: Path, tmp_path: Path) -> None:
    left = finish(
        ROOT / "configs" / "backtest.yaml", tmp_path,
        data=lean / "crypto" / "coinbase" / "minute" / "btcusd", overrides=["containers.data.price=last"],
    )  # fmt: skip
    assert left.summary["ledger"]["containers"]["data"]["sent"] == MINUTES
    assert left.summary["ledger"]["containers"]["portfolio"]["received"] == MINUTES
    assert_a_backtest_with_figures(left.summary, left.files["containers/execution/ranking.parquet"])
    assert_the_money_adds_up(left)


def test_the_program_runs_the_same_backtest_to_the_same_bytes(lean: Path, tmp_path: Path) -> None:
    data, price = lean / "crypto" / "coinbase" / "minute" / "btcusd", "containers.data.price=last"
    config = ROOT / "configs" / "backtest.yaml"
    words = ("run", config, "--data", data, "--set", price, "--output", tmp_path / "program", "--json")
    code, out, err = await_program(start_program(tmp_path, *words))
    assert code == 0, err
    embedded = finish(config, tmp_path / "embedded", data=data, overrides=[price])
    program = left_in(tmp_path / "program")
    assert program.summary_bytes == embedded.summary_bytes
    assert json.loads(out)["hashes"] == embedded.summary["hashes"]


def test_the_backtest_of_euro_ticks_in_minutes_has_figures(lean: Path, tmp_path: Path) -> None:
    ticks = lean / "forex" / "oanda" / "tick" / "eurusd"
    sizes = {"containers.portfolio_*.strategy.quantity=100000", "containers.portfolio_*.fills.slippage_bps=0.1"}
    left = finish(ROOT / "configs" / "backtest.yaml", tmp_path, data=ticks, overrides=sorted(sizes))
    books = left.summary["ledger"]["containers"]
    assert books["data"]["sent"] == 24_179 + 49_341 + 25_177 + 44_864
    assert books["features"]["sent"] == 1363 + 1222 + 1350 + 1389, "as many minutes as the vendor published"
    assert_a_backtest_with_figures(left.summary, left.files["containers/execution/ranking.parquet"])
    assert_the_money_adds_up(left)


def published(path: Path, first: int) -> list[tuple[int, ...]]:
    """Start in nanoseconds and four exact prices of each bar in a LEAN file, read without the project's own reader."""
    day = path.name.split("_")[0]
    midnight = int(pc.strptime(pa.scalar(day), "%Y%m%d", "s").cast(pa.int64()).as_py()) * 10**9
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        rows = [line.split(",") for line in archive.read(name).decode().splitlines()]
    return [(midnight + int(row[0]) * 10**6, *map(Decimal, row[first : first + 4])) for row in rows]


def built(table: pa.Table) -> list[tuple[int, ...]]:
    starts = table.column("bar_start").cast(pa.int64()).to_pylist()
    return list(zip(starts, *(table.column(name).to_pylist() for name in BARS), strict=True))


@pytest.fixture(scope="module")
def euro_bars(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """Seconds and minutes of bid and ask, and minutes of the seconds, over one pass of all four days of ticks."""
    ticks = ROOT.parent / "shared" / "data" / "lean" / "Data" / "forex" / "oanda" / "tick" / "eurusd"
    if not ticks.is_dir():
        pytest.skip(f"the recordings are not there: {ticks}")
    keep = {"data_flow": {"mode": "hybrid", "memory_limit_mb": 1, "keep_output": "all"}}
    containers: dict[str, Any] = {"data": {"type": "replay", "path": str(ticks), "batch_rows": 10_000}}
    for price in ("bid", "ask"):
        for resolution, every in (("second", "1s"), ("minute", "1m")):
            containers[f"{resolution}_{price}"] = {
                "type": "bars", "inputs": ["data"], "every": every, "price": price, **keep,
            }  # fmt: skip
        containers[f"coarser_{price}"] = {"type": "bars", "inputs": [f"second_{price}"], "every": "1m", **keep}
    return finish({"name": "euro", "containers": containers}, tmp_path_factory.mktemp("euro"))


@pytest.mark.parametrize("price", ["bid", "ask"])
@pytest.mark.parametrize("resolution", ["second", "minute"])
def test_bars_of_euro_ticks_are_the_published_ones_every_one_of_every_day(
    resolution: str, price: str, euro_bars: Left, lean: Path
) -> None:
    made = built(euro_bars.files[f"containers/{resolution}_{price}/output.parquet"])
    files = sorted((lean / "forex" / "oanda" / resolution / "eurusd").glob("*_quote.zip"))
    assert len(files) == {"second": 2, "minute": 4}[resolution]
    compared = 0
    for file in files:
        wanted = published(file, {"bid": 1, "ask": 6}[price])
        day = wanted[0][0] // DAY_NS
        assert [bar for bar in made if bar[0] // DAY_NS == day] == wanted
        compared += len(wanted)
    assert compared == {"second": 12_564 + 17_361, "minute": 1363 + 1222 + 1350 + 1389}[resolution]
    assert_books_balance(euro_bars.summary)


@pytest.mark.parametrize("price", ["bid", "ask"])
def test_minutes_of_seconds_are_minutes_of_ticks(price: str, euro_bars: Left) -> None:
    tables = euro_bars.files
    coarser = built(tables[f"containers/coarser_{price}/output.parquet"])
    assert coarser == built(tables[f"containers/minute_{price}/output.parquet"])
    assert len(coarser) == 1363 + 1222 + 1350 + 1389


def test_minutes_of_coinbase_seconds_are_the_published_ones(lean: Path, tmp_path: Path) -> None:
    coinbase = lean / "crypto" / "coinbase"
    containers = {
        "data": {"type": "replay", "path": str(coinbase / "second" / "btcusd"), "batch_rows": 500},
        "minutes": {
            "type": "bars", "inputs": ["data"], "every": "1m", "data_flow": {"mode": "file", "keep_output": "all"},
        },
    }  # fmt: skip
    left = finish({"containers": containers}, tmp_path)
    file = coinbase / "minute" / "btcusd" / "20161007_trade.zip"
    table = left.files["containers/minutes/output.parquet"]
    assert built(table) == published(file, 1)
    with zipfile.ZipFile(file) as archive:
        volumes = [float(line.split(b",")[5]) for line in archive.read(archive.namelist()[0]).splitlines()]
    assert [float(volume) for volume in table.column("volume").to_pylist()] == pytest.approx(volumes, rel=1e-12)
    assert table.num_rows == 1419
    assert_books_balance(left.summary)


def test_a_market_that_was_filtered_does_not_come_out_equal(lean: Path, tmp_path: Path) -> None:
    """A control: the vendor leaves sale conditions out of these minutes, so equality above is no accident."""
    containers = {
        "data": {"type": "replay", "path": str(lean / "equity" / "usa" / "tick" / "spy")},
        "minutes": {
            "type": "bars", "inputs": ["data"], "every": "1m", "data_flow": {"mode": "file", "keep_output": "all"},
        },
    }  # fmt: skip
    left = finish({"containers": containers}, tmp_path)
    made = {bar[0]: bar[1:] for bar in built(left.files["containers/minutes/output.parquet"])}
    new_york_ns = 4 * 3600 * 10**9
    deci_cents = 10_000
    wanted = [
        (start + new_york_ns, tuple(price / deci_cents for price in prices))
        for start, *prices in published(lean / "equity" / "usa" / "minute" / "spy" / "20131007_trade.zip", 1)
    ]
    equal = sum(made.get(start) == prices for start, prices in wanted)
    assert (equal, len(wanted)) == (697, 828)
    assert left.summary["ledger"]["containers"]["minutes"]["received"] == 250_601
