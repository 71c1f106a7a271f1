"""A table in hand runs like a recording on disk, whatever made it."""

from __future__ import annotations

import datetime
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import ConfigError, Context, HandedTable, InputError, PhaseFailed, PhaseSummary, Pipeline
from stages import Replay, SmaCross
from tests.conftest import ROOT

DAYS = 120
CLOSE = 100 + np.random.default_rng(3).normal(size=DAYS).cumsum()
TIMES = pd.date_range("2020-01-01", periods=DAYS, freq="D")
STRATEGY = {"type": "sma_cross", "fast": 2, "slow": 5}


def frame(**columns: Any) -> pd.DataFrame:
    """Daily bars as people download them."""
    prices = {"Open": CLOSE - 0.25, "High": CLOSE + 1, "Low": CLOSE - 1, "Close": CLOSE, "Adj Close": CLOSE / 2}
    volume = {"Volume": np.arange(1, DAYS + 1)}
    return pd.DataFrame({**prices, **volume, **columns}, index=pd.DatetimeIndex(TIMES, name="Date"))


def plain() -> dict[str, Any]:
    return {"date": TIMES.to_numpy(), **{name.lower(): column.to_numpy() for name, column in frame().items()}}


FORMS: dict[str, Callable[[], Any]] = {
    "pandas with an index of times": frame,
    "pandas with an index without a name": lambda: frame().rename_axis(None),
    "pandas with a column of times": lambda: frame().reset_index(),
    "pandas of one ticker, as yfinance gives it": lambda: pd.concat({"ABC": frame()}, axis=1).swaplevel(axis=1),
    "pandas in UTC": lambda: frame().tz_localize("UTC"),
    "polars": lambda: pl.from_pandas(frame().reset_index()),
    "polars with dates": lambda: pl.from_pandas(frame().reset_index()).with_columns(pl.col("Date").cast(pl.Date)),
    "an Arrow table": lambda: pa.Table.from_pandas(frame()),
    "an Arrow table in pieces": lambda: pa.Table.from_batches(pa.table(plain()).to_batches(max_chunksize=7)),
    "a record batch": lambda: pa.RecordBatch.from_pydict(plain()),
    "a dict of arrays": plain,
    "a dict of lists": lambda: {name: list(column) for name, column in plain().items()},
    "times as text": lambda: {**plain(), "date": [str(day.date()) for day in TIMES]},
    "times in seconds": lambda: {**plain(), "date": TIMES.to_numpy().astype("datetime64[s]").astype(np.int64)},
}


async def finish(table: Any, output: Path, config: Any = None, **words: Any) -> PhaseSummary:
    return await Pipeline.from_table(table, config, output=output, **words).run()


def planned(summary: PhaseSummary) -> int:
    return int(summary.aggregate_metrics["execution"]["portfolios"]["planned"])


def result(summary: PhaseSummary) -> dict[str, str]:
    return {key: kept.hash for key, kept in summary.container_results["portfolio"].keys.items()}


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_the_same_bars_gives_the_same_fills(form: str, tmp_path: Path) -> None:
    summary = await finish(FORMS[form](), tmp_path, strategy=STRATEGY)
    assert summary.ledger.containers["data"].sent == DAYS
    assert summary.container_results["portfolio"].keys["fills"].rows > 5
    path = tmp_path / "bars.parquet"
    pq.write_table(pa.Table.from_pandas(frame()), path)
    words = ["containers.portfolio_*.strategy={type: sma_cross, fast: 2, slow: 5}"]
    replayed = await Pipeline.from_yaml(
        {"containers": {"data": {"instrument": "DATA.TABLE"}}}, data=path, overrides=words, output=tmp_path
    ).run()
    assert result(summary) == result(replayed)


async def test_a_configuration_a_mapping_and_a_parameter_space_go_with_a_table(tmp_path: Path) -> None:
    words: dict[str, Any] = {"bars": "1d", "objective": "calmar"}
    summary = await finish(frame(), tmp_path, ROOT / "configs" / "backtest.yaml", **words)
    assert summary.name == "backtest" and summary.aggregate_metrics["execution"]["objective"] == "calmar"
    mapping = {
        "containers": {"portfolio_*": {"strategy": "sma_cross"}},
        "parameter_space": {"fast": [2, 3], "slow": [5, 9]},
    }
    assert planned(await finish(frame(), tmp_path, mapping)) == 4
    space = {"fast": [2], "slow": {"start": 5, "stop": 9, "step": 2}}
    assert planned(await finish(frame(), tmp_path, mapping, parameter_space=space)) == 3
    one = await finish(frame(), tmp_path, strategy=SmaCross(fast=2, slow=5), fills={"fee_bps": 3}, limit=60)
    assert one.ledger.containers["data"].sent == 60 and one.name == "table"


async def test_trades_and_quotes_are_declared_by_the_same_words_as_a_recording(tmp_path: Path) -> None:
    rows = 3000
    when = np.datetime64("2024-01-01", "ns") + np.arange(rows) * np.timedelta64(5, "s")
    price = 100 + np.random.default_rng(1).normal(size=rows).cumsum() / 10
    trades = pl.DataFrame({"when": when, "px": price, "n": np.ones(rows), "side": ["buy", "sell"] * (rows // 2)})
    columns = {"when": "ts_event", "px": "price", "n": "size"}
    summary = await finish(trades, tmp_path, strategy=STRATEGY, bars="1m", columns=columns, instrument="A.B")
    assert summary.ledger.containers["features"].sent == rows / 12
    quotes = {"ts": when, "bid": price, "ask": price + 0.1}
    summary = await finish(quotes, tmp_path, strategy=STRATEGY, bars="1m", price="mid")
    assert summary.ledger.containers["features"].sent == rows / 12


async def test_a_synthetic_feed_and_a_path_make_way_for_the_table(tmp_path: Path) -> None:
    for data in ({"type": "synthetic", "rows": 10}, {"type": "replay", "path": "nowhere"}):
        summary = await finish(frame(), tmp_path, {"containers": {"data": data}}, strategy=STRATEGY)
        assert summary.ledger.containers["data"].sent == DAYS


async def test_the_content_counts_in_the_data_hash_and_the_fingerprint(tmp_path: Path) -> None:
    async def identity(table: Any) -> tuple[str, str, str]:
        async with Pipeline.from_table(table, strategy=STRATEGY, output=tmp_path).start(force=False) as run:
            hashes = (await run.finished()).hashes
        assert run.folder is not None
        return run.folder.name, hashes["data"], hashes["configuration"]

    table = pa.Table.from_pandas(frame())
    first = await identity(table)
    assert await identity(frame()) == first
    assert await identity(pa.Table.from_batches(table.to_batches(max_chunksize=11))) == first
    changed = frame()
    changed.iloc[70, changed.columns.get_loc("Close")] += 0.01
    other = await identity(changed)
    assert other[0] != first[0] and other[1] != first[1] and other[2] == first[2]


def test_columns_that_need_no_conversion_share_their_memory() -> None:
    table = pa.Table.from_pandas(frame())
    handed = HandedTable.of(table)
    assert handed.table is table
    feed = Replay(table=handed).build(Context())
    (batch,) = feed.batches()  # type: ignore[misc]
    for name, standard in (("Open", "open"), ("Close", "close")):
        given = table.column(name).chunk(0).buffers()[1]
        assert batch.columns.column(standard).buffers()[1].address == given.address
    polars = pl.from_pandas(frame().reset_index())
    made = HandedTable.of(polars).table.column("Close").chunk(0)
    assert made.buffers()[1].address == polars.to_arrow().column("Close").chunk(0).buffers()[1].address


def test_times_without_a_zone_are_utc_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        feed = Replay(table=HandedTable.of(frame())).build(Context(name="data"))
    assert "times in 'Date' say no zone and are read as UTC" in caplog.text
    (batch,) = feed.batches()  # type: ignore[misc]
    assert batch.columns.column("bar_start")[0].as_py() == datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    caplog.clear()
    feed = Replay(table=HandedTable.of(frame()), time_zone="America/New_York").build(Context(name="data"))
    (batch,) = feed.batches()  # type: ignore[misc]
    assert batch.columns.column("bar_start")[0].as_py() == datetime.datetime(2020, 1, 1, 5, tzinfo=datetime.UTC)


def test_days_of_a_place_that_sets_its_clocks_forward_are_days() -> None:
    feed = Replay(table=HandedTable.of(frame().tz_localize("America/New_York"))).build(Context())
    (batch,) = feed.batches()  # type: ignore[misc]
    assert set(batch.columns.column("interval_ns").to_pylist()) == {86_400_000_000_000}


async def test_what_cannot_be_read_is_told_with_what_was_found_and_what_to_try(tmp_path: Path) -> None:
    for wrong, expected in (
        (5, "a polars or pandas DataFrame, or a dict of columns, found int"),
        ("bars.parquet", "found str"),
        (pl.LazyFrame(plain()), r"found polars.LazyFrame; it is lazy; call .collect\(\) first"),
        (frame()["Close"], "found pandas.Series"),
        (pd.concat({"A": frame(), "B": frame()}, axis=1), "its columns are of several tables"),
        ({"a": [1, 2], "b": [1]}, "found dict"),
    ):
        with pytest.raises(InputError, match=f"the table: expected .*{expected}"):
            Pipeline.from_table(wrong)
    with pytest.raises(
        ConfigError, match=r"the table: expected columns .* found Open, High, .*bar lacks ts_event.*declare"
    ):
        Pipeline.from_table(frame().reset_index(drop=True))
    with pytest.raises(ConfigError, match="colums: no container has this setting; did you mean 'columns'"):
        Pipeline.from_table(frame(), colums={"a": "price"})
    with pytest.raises(ConfigError, match=r"^name: a setting of the whole, .*; write `overrides=\[\"name=...\"\]`"):
        Pipeline.from_table(frame(), name="mine")
    with pytest.raises(ConfigError, match=r"^strategy: expected an object, found the class SmaCross; write SmaCross\("):
        Pipeline.from_table(frame(), strategy=SmaCross)
    with pytest.raises(ConfigError, match=r"containers.portfolio_\*.strategy: .*did you mean 'sma_cross'"):
        Pipeline.from_table(frame(), strategy="sma_crss")
    with pytest.raises(PhaseFailed, match=r"the table: row 41, column 'Close': expected a value, found none"):
        await finish(frame(Close=np.where(np.arange(DAYS) == 40, np.nan, CLOSE)), tmp_path)
    with pytest.raises(PhaseFailed, match="found the newest first"):
        await finish(frame()[::-1], tmp_path)


def test_a_table_is_nothing_to_be_written_in_yaml() -> None:
    with pytest.raises(ConfigError, match=r"containers\.data\.table"):
        Pipeline.from_yaml({"containers": {"data": {"type": "replay", "table": "bars"}}})


def test_no_library_of_frames_is_imported_for_it() -> None:
    code = (
        "import sys; from pipeline import Pipeline; "
        "Pipeline.from_table({'time': [1, 61], **dict.fromkeys(('open', 'high', 'low', 'close'), [1., 2.])}); "
        "assert not {'polars', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)
