"""Who goes on into the next phase: the best by the ranking's own rules, never what failed or lacks the objective."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages import Execution
from stages.execution.choosing import chosen
from stages.execution.ranking import ranked
from stages.execution.stitching import Piece, figures, stitched
from stages.portfolio.records import PORTFOLIOS

HOUR = 3_600_000_000_000


def ranking(*rows: dict[str, Any]) -> pa.Table:
    base = {"strategy": "S", "parameters": "{}", "total_return": 0.0, "baseline": False}
    portfolios = pa.RecordBatch.from_pylist([base | row for row in rows], schema=PORTFOLIOS)
    return pa.Table.from_batches([ranked([portfolios], "sharpe")])


TABLE = ranking(
    {"container": "a", "sharpe": 1.0, "calmar": 5.0},
    {"container": "b", "sharpe": 2.0, "max_drawdown": 0.5},
    {"container": "d", "sharpe": 2.0, "max_drawdown": 0.1},
    {"container": "c", "sharpe": 2.0, "total_return": 0.1},
    {"container": "failed", "sharpe": 9.0, "error": "it failed"},
    {"container": "undefined"},
    {"container": "hold", "sharpe": 8.0, "baseline": True},
)


def test_the_best_come_first_and_ties_go_as_in_the_ranking() -> None:
    assert chosen(TABLE, "sharpe", 10) == ["c", "b", "d", "a"]
    assert chosen(TABLE, "sharpe", 2) == ["c", "b"]


def test_another_objective_than_the_rankings_has_its_own_order_and_direction() -> None:
    assert chosen(TABLE, "calmar", 10) == ["a"]
    assert chosen(TABLE, "max_drawdown", 10) == ["d", "b"]
    assert Execution(objective="sharpe").choose(TABLE, 1, "max_drawdown") == ["d"]
    assert Execution(objective="max_drawdown").choose(TABLE, 1) == ["d"]


def test_nobody_may_be_left() -> None:
    assert chosen(TABLE, "sortino", 3) == []
    assert chosen(ranking(), "sharpe", 3) == []


def test_what_ranks_says_by_what() -> None:
    assert Execution().ranks_by() == "sharpe"
    assert Execution().ranks_by("calmar") == "calmar"
    with pytest.raises(ValueError, match="did you mean 'calmar'"):
        Execution().ranks_by("calmer")


def piece(*equity: float, begin: int = 0, every: str = "1h") -> Piece:
    return Piece(begin + HOUR * np.arange(1, len(equity) + 1), np.array(equity), every, "crypto")


def test_each_piece_begins_with_what_the_one_before_it_left() -> None:
    times, equity = stitched([piece(1.1, 1.2), piece(), piece(0.5, 1.5, begin=100 * HOUR)])
    assert times.tolist() == [HOUR, 2 * HOUR, 101 * HOUR, 102 * HOUR]
    np.testing.assert_allclose(equity, [1.1, 1.2, 0.6, 1.8])


def test_figures_of_a_joined_history_are_those_of_its_returns() -> None:
    pieces = [piece(1.1, 1.2), piece(0.5, 1.5, begin=100 * HOUR)]
    found = figures(*stitched(pieces), pieces)
    returns = np.diff([1.0, 1.1, 1.2, 0.6, 1.8]) / np.array([1.0, 1.1, 1.2, 0.6])
    assert found["total_return"] == pytest.approx(0.8)
    assert found["max_drawdown"] == pytest.approx(0.5)
    assert found["n_periods"] == 4
    assert found["volatility_ann"] == pytest.approx(returns.std(ddof=1) * np.sqrt(365 * 24))
    assert found["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * np.sqrt(365 * 24))


def test_returns_are_daily_once_there_are_enough_days() -> None:
    days = [piece(*(1.0 + 0.001 * np.arange(24 * 40) % 0.013))]
    assert figures(*stitched(days), days)["n_periods"] == 40


def test_what_is_undefined_of_a_joined_history_is_none() -> None:
    assert set(figures(*stitched([]), []).values()) == {None}
    flat = [piece(1.0, 1.0, 1.0)]
    found = figures(*stitched(flat), flat)
    assert (found["total_return"], found["max_drawdown"], found["volatility_ann"]) == (0.0, 0.0, 0.0)
    assert found["sharpe"] is None
    ruined = [piece(0.5, 0.0, -0.1)]
    assert figures(*stitched(ruined), ruined)["sharpe"] is None
