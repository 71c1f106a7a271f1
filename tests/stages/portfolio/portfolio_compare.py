"""Holds what a portfolio gave against what the oracle found: every fill, every bar's equity, every counter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from portfolio_bars import NS_UTC, Given, Scripted
from portfolio_oracle import OracleBar, OracleBooks, Rules, drawdown, exposed_ns, round_trips

from pipeline.frames import Batch
from stages.portfolio.exits import Exits
from stages.portfolio.fills import Fills
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.sizing import Sizing
from stages.portfolio.statistics import StatisticsSettings
from stages.portfolio.strategy import Strategy

MONEY = ("price", "fee", "slippage", "cash_after")
UNITS = ("quantity", "position_after")
CLOSE = 1e-9
"""How far apart money may be, as a share of the largest sum in the books: the rounding of some hundred bars."""


class Follows(Strategy, frozen=True):
    """Wants what a column of the bars says."""

    column: str = "wanted"

    def build(self) -> Any:
        return _Column(self.column)


class FollowsBars(Follows, frozen=True):
    """The same bar by bar."""

    def build(self) -> Any:
        return _BarColumn(self.column)


class _Column:
    def __init__(self, column: str) -> None:
        self._column = column

    def on_bars(self, bars: Any) -> Any:
        return bars[self._column].copy()


class _BarColumn:
    def __init__(self, column: str) -> None:
        self._column = column

    def on_bar(self, bar: Any) -> Any:
        return bar[self._column]


def recipe_of(rules: Rules, targets: Sequence[float | None], **fields: Any) -> Portfolio:
    """The portfolio that plays these targets back under these rules."""
    strategy: Strategy = Scripted(quantity=rules.quantity, targets=tuple(targets))
    return portfolio_of(rules, strategy, **fields)


def portfolio_of(rules: Rules, strategy: Strategy, **fields: Any) -> Portfolio:
    words = {name: float(word) if isinstance(word, Fraction) else word for name, word in asdict(rules).items()}
    parts: dict[str, Any] = {
        name: kind(**{key: words[key] for key in kind.__struct_fields__})
        for name, kind in {"fills": Fills, "sizing": Sizing, "exits": Exits}.items()
    }
    every_bar = StatisticsSettings(every="bar")
    return Portfolio(
        strategy=strategy, start_equity=words["start_equity"], statistics=every_bar, baseline=False, **parts, **fields
    )


def bars_batch(
    rows: Sequence[tuple[OracleBar, str]], wanted: Mapping[str, Sequence[float | None]] | None = None
) -> Batch:
    """Bars as a features stage sends them, each with the name of its instrument; `wanted` are further columns."""
    bars = [bar for bar, _ in rows]
    ends = pa.array([bar.end for bar in bars], pa.int64()).cast(NS_UTC)
    names = pa.array([name for _, name in rows], pa.utf8()).cast(pa.dictionary(pa.int32(), pa.utf8()))
    columns: dict[str, Any] = {
        "ts_event": ends,
        "instrument_id": names,
        "bar_start": pa.array([bar.start for bar in bars], pa.int64()).cast(NS_UTC),
        "bar_end": ends,
    }
    for price in ("open", "high", "low", "close"):
        columns[price] = pa.array([float(getattr(bar, price)) for bar in bars], pa.float64())
    columns["volume"] = pa.array([bar.volume for bar in bars], pa.float64())
    columns["is_empty"] = pa.array([bar.empty for bar in bars], pa.bool_())
    for length in (2, 20):
        columns[f"volatility_{length}"] = pa.array([bar.volatility for bar in bars], pa.float64())
    for name, targets in (wanted or {}).items():
        columns[name] = pa.array(targets, pa.float64())
    return Batch.from_pydict(columns)


def cut(batch: Batch, places: Sequence[int]) -> list[Batch]:
    """The same rows in several batches."""
    edges = sorted({0, *(place for place in places if place < batch.num_rows), batch.num_rows})
    return [batch.slice(a, b - a) for a, b in pairwise(edges)]


def assert_agrees(found: Given, member: str, books: OracleBooks, rules: Rules) -> None:
    """Fills one by one, equity bar by bar, and the counters of the statistics."""
    largest = max([1.0, float(rules.start_equity), *(abs(float(fill.cash_after)) for fill in books.fills)])
    most = max([0.0, *(abs(float(fill.position_after)) for fill in books.fills)])
    rows = found.rows(member)
    told = [(row["ts_event"].value, row["side"]) for row in rows]
    assert told == [(fill.ts, fill.side) for fill in books.fills]
    for row, fill in zip(rows, books.fills, strict=True):
        assert row["price"] == pytest.approx(float(fill.price), rel=1e-12)
        for name in UNITS:
            assert row[name] == pytest.approx(float(getattr(fill, name)), rel=CLOSE, abs=1e-11 * most)
        for name in ("fee", "slippage", "cash_after"):
            assert row[name] == pytest.approx(float(getattr(fill, name)), rel=CLOSE, abs=CLOSE * largest)

    kept = found.values[member, "equity"]
    assert kept.column("ts_event").cast(pa.int64()).to_pylist() == [mark.end for mark in books.marks]
    equity = [float(mark.equity) for mark in books.marks]
    np.testing.assert_allclose(kept.column("equity").to_numpy(), equity, rtol=CLOSE, atol=CLOSE * largest)
    _assert_statistics(found.statistics(member), books, rules, largest)


def _assert_statistics(told: Mapping[str, Any], books: OracleBooks, rules: Rules, largest: float) -> None:
    assert (told["n_orders"], told["n_fills"]) == (books.orders, len(books.fills))
    results = round_trips(books.fills)
    assert told["n_trades"] == len(results)
    assert told["fees"] == _near(sum(fill.fee for fill in books.fills), largest)
    assert told["slippage"] == _near(sum(fill.slippage for fill in books.fills), largest)
    if not books.marks:
        return
    assert told["end_equity"] == _near(books.marks[-1].equity, largest)
    begun, ended = books.marks[0].start, books.marks[-1].end
    assert told["exposure_time"] == pytest.approx(exposed_ns(books.fills, begun, ended) / (ended - begun), abs=1e-12)
    if results:
        assert told["expectancy"] == _near(sum(results) / len(results), largest)
        small = 1e-9 * largest  # what floats may take for a win or a loss where there was neither
        wins = sum(result > small for result in results)
        doubtful = sum(abs(result) <= small for result in results)
        assert wins <= round(told["win_rate"] * len(results)) <= wins + doubtful
        if not doubtful:
            won = [result for result in results if result > 0]
            lost = [result for result in results if result < 0]
            assert told["avg_win"] == (_near(sum(won) / len(won), largest) if won else None)
            assert told["avg_loss"] == (_near(sum(lost) / len(lost), largest) if lost else None)
    else:
        assert (told["win_rate"], told["expectancy"]) == (None, None)
    deepest, longest, below = drawdown(books.marks, books.equity, rules.start_equity)
    assert told["max_drawdown"] == pytest.approx(float(deepest), rel=CLOSE, abs=CLOSE)
    if deepest > CLOSE:
        assert told["max_drawdown_duration"] == pytest.approx(longest / 1e9)
        assert told["time_under_water"] == pytest.approx(below / (ended - begun))
    count = len(books.marks)
    if min(books.equity) > 0:
        tolerance = CLOSE * largest / float(min(books.equity))
        gross = sum(float(mark.gross / mark.equity) for mark in books.marks) / count
        net = sum(float(mark.net / mark.equity) for mark in books.marks) / count
        top = max(float(mark.gross / mark.equity) for mark in books.marks)
        assert told["gross_exposure_mean"] == pytest.approx(gross, rel=CLOSE, abs=tolerance)
        assert told["net_exposure_mean"] == pytest.approx(net, rel=CLOSE, abs=tolerance)
        assert told["max_leverage"] == pytest.approx(top, rel=CLOSE, abs=tolerance)
        traded = float(sum(fill.quantity * abs(fill.price) for fill in books.fills))
        mean = float(sum(books.equity)) / count
        assert told["turnover"] == pytest.approx(traded / mean, rel=1e-9, abs=tolerance)
    elif min(books.equity) < -CLOSE * largest:
        assert told["turnover"] is told["max_leverage"] is told["sharpe"] is None


def _near(value: Any, largest: float) -> Any:
    return pytest.approx(float(value), rel=CLOSE, abs=CLOSE * largest)
