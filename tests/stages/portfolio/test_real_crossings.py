"""Crossings on every recorded bar, fill by fill, against whole numbers; and with every rule, against the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from crossing_oracle import FEE_BPS, SLIPPAGE_BPS, Series, crossing_fills, ema_wants, sma_wants
from portfolio_bars import Given, run_group
from portfolio_compare import assert_agrees, cut, portfolio_of
from portfolio_oracle import OracleBar, Rules, keep_books

from pipeline.frames import Batch
from pipeline.stage import Context
from stages.features.features import Features
from stages.feeds.replay import Replay
from stages.portfolio.fills import Fills
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.records import FILLS
from stages.portfolio.strategies.ema_cross import EmaCross
from stages.portfolio.strategies.sma_cross import SmaCross
from stages.portfolio.strategy import Strategy

PRICES = ("open", "high", "low", "close")
START = 10_000_000
COUNT = 1_900
"""Bars of which the equity of each is kept."""

RECORDED = [
    ("crypto/coinbase/minute/btcusd", "last", 5739),
    ("crypto/coinbase/minute/btcusd", "bid", 1437 + 1436),
    ("crypto/coinbase/minute/btcusd", "mid", 1437 + 1436),
    ("crypto/coinbase/second/btcusd", "last", 4063),
    ("equity/usa/daily/spy.zip", "last", 5849),
    ("equity/usa/minute/spy", "last", 828),
    ("equity/usa/minute/spy", "ask", 908),
    ("equity/usa/second/spy", "last", 16_675),
    ("forex/oanda/minute/eurusd", "mid", 5324),
    ("forex/oanda/minute/eurusd", "bid", 5324),
    ("forex/oanda/second/eurusd", "ask", 29_925),
]
STRATEGIES: list[Strategy] = [
    SmaCross(fast=1, slow=2),
    SmaCross(fast=3, slow=7, short=True, quantity=100),
    SmaCross(fast=10, slow=50),
    SmaCross(fast=50, slow=200, short=True),
    EmaCross(fast=1, slow=2),
    EmaCross(fast=5, slow=13, quantity=100),
    EmaCross(fast=10, slow=20),
    EmaCross(fast=50, slow=200),
    SmaCross(fast=100, slow=6000),
]
"""The last one is formed on the longest recordings alone."""

GRID = [(fast, slow) for fast in (2, 5, 10, 15, 20, 30, 40, 50) for slow in (5, 10, 20, 50, 100, 200) if fast < slow]
GRID = [*GRID, (3, 8), (8, 21), (12, 26), (25, 75), (45, 180), (49, 199), (1, 2), (4, 9), (6, 35), (7, 8), (33, 34)]


def recorded(path: Path, price: str) -> tuple[Series, list[Batch]]:
    """A recording as the oracle's whole numbers, and the feed's batches."""
    batches = list(Replay(path=str(path), schema="bar", price=price, batch_rows=5000).build(Context()).batches())  # type: ignore[arg-type]
    table = pa.Table.from_batches([batch.columns for batch in batches])
    scale = table.schema.field("close").type.scale
    whole = {name: [int(value.scaleb(scale)) for value in table.column(name).to_pylist()] for name in PRICES}
    times = (table.column(name).cast(pa.int64()).to_pylist() for name in ("bar_start", "bar_end"))
    return Series(*(whole[name] for name in PRICES), *times, parts=10**scale), batches


def with_features(batches: Sequence[Batch], members: dict[str, Portfolio]) -> list[Batch]:
    needs = frozenset().union(*(recipe.needs() for recipe in members.values()))
    logic = Features().providing(needs).build(Context())
    return [output for batch in batches if (output := logic.on_batch(batch)) is not None]


def portfolios(strategies: Sequence[Strategy], at: Any) -> dict[str, Portfolio]:
    terms = Fills(at=at, fee_bps=FEE_BPS, slippage_bps=SLIPPAGE_BPS)
    return {
        f"portfolio_{number:04d}": Portfolio(strategy=strategy, fills=terms, start_equity=START)
        for number, strategy in enumerate(strategies)
    }


def assert_fills(found: Given, name: str, series: Series, strategy: Strategy, at: str) -> int:
    if isinstance(strategy, SmaCross):
        wants = sma_wants(series, strategy.fast, strategy.slow, -1 if strategy.short else 0)
    else:
        assert isinstance(strategy, EmaCross)
        wants = ema_wants(series, strategy.fast, strategy.slow)
    wanted = crossing_fills(series, wants, at, int(strategy.quantity), START)
    table = pa.Table.from_batches(found.fills.get(name, []), FILLS)
    given = {column: table.column(column).to_numpy() for column in FILLS.names if column != "ts_event"}
    np.testing.assert_array_equal(table.column("ts_event").cast(pa.int64()).to_numpy(), wanted.ts)
    np.testing.assert_array_equal(given["side"], wanted.side)
    np.testing.assert_array_equal(given["quantity"], strategy.quantity)
    np.testing.assert_allclose(given["price"], wanted.price, rtol=1e-14)
    np.testing.assert_allclose(given["cash_after"], wanted.cash_after, rtol=1e-11)
    assert found.statistics(name)["end_equity"] == pytest.approx(wanted.end_equity, rel=1e-11)
    return len(wanted.ts)


@pytest.mark.parametrize(("path", "price", "count"), RECORDED, ids=[f"{path}-{price}" for path, price, _ in RECORDED])
def test_every_recorded_bar_fills_as_whole_numbers_say(recordings: Path, path: str, price: str, count: int) -> None:
    series, batches = recorded(recordings / "lean" / "Data" / path, price)
    assert len(series.close) == count
    members = portfolios(STRATEGIES, "next_open")
    complete = with_features(batches, members)
    for at in ("next_open", "close"):
        members = portfolios(STRATEGIES, at)
        found = run_group(members, complete)
        counts = [assert_fills(found, name, series, recipe.strategy, at) for name, recipe in members.items()]
        assert min(counts[:-1]) > 0 and max(counts) > count // 8
        assert (counts[-1] > 0) == (count > 6000)


@pytest.mark.parametrize("at", ["next_open", "close"])
def test_a_grid_of_pairs_fills_as_whole_numbers_say(recordings: Path, at: str) -> None:
    assert len(GRID) == len(set(GRID)) == 41
    series, batches = recorded(recordings / "lean" / "Data" / "crypto/coinbase/minute/btcusd", "last")
    strategies = [kind(fast=fast, slow=slow) for kind in (SmaCross, EmaCross) for fast, slow in GRID]
    members = portfolios(strategies, at)
    found = run_group(members, with_features(batches, members))
    for name, recipe in members.items():
        assert assert_fills(found, name, series, recipe.strategy, at) > 5


PERCENT = Fraction(1, 100)
RULES = {
    "limit": {"order": "limit", "offset_bps": 0.5, "expires_bars": 10, "touch": "fill", "fee_bps": 10},
    "stop": {"order": "stop", "offset_bps": 1, "slippage_bps": 1, "fee_minimum": 1},
    "exits": {"stop_loss": PERCENT / 20, "take_profit": PERCENT / 10, "reenter": "at_once", "slippage_bps": 1},
    "trailing": {"at": "close", "trailing_stop": PERCENT / 10, "intrabar": "best", "fee_per_unit": PERCENT},
    "weight": {"by": "weight", "share": PERCENT * 60, "band": PERCENT / 2, "lot": PERCENT, "stop_loss": PERCENT / 10},
    "volatility": {"by": "volatility", "max_leverage": 2, "band": PERCENT * 5, "lot": PERCENT, "order": "limit"},
}


@pytest.mark.parametrize("place", [0, 4, 8], ids=lambda place: RECORDED[place][0])
def test_recorded_bars_with_every_rule_fill_as_the_oracle_says(recordings: Path, place: int) -> None:
    path, price, _ = RECORDED[place]
    series, batches = recorded(recordings / "lean" / "Data" / path, price)
    strategy = SmaCross(fast=3, slow=8, short=True)
    wants = [None if want is None else float(want) for want in sma_wants(series, 3, 8, -1)]
    rules = {name: Rules(start_equity=START, **words) for name, words in RULES.items()}  # type: ignore[arg-type]
    members = {name: portfolio_of(own, strategy) for name, own in rules.items()}
    complete = [batch.slice(0, COUNT) for batch in with_features(batches, members)[:1]]
    columns = complete[0].columns
    volatilities = columns.column("volatility_20").to_pylist()
    volumes = [None if volume is None else float(volume) for volume in columns.column("volume").to_pylist()]
    prices = ([Fraction(count, series.parts) for count in found] for found in series[:4])
    every = zip(*prices, series.start, series.end, volumes, [False] * COUNT, volatilities, strict=False)
    bars = [OracleBar(*bar) for bar in every]
    found = run_group(members, cut(complete[0], [1, 77, 1000]))
    for name, own in rules.items():
        books = keep_books(bars, wants[:COUNT], own)
        assert len(books.fills) > 50, name
        assert_agrees(found, name, books, own)
