"""The deflated Sharpe ratio against the example its authors published, and where it is undefined."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stages.execution.deflated import expected_best, probability_above, selection


def row(sharpe: float | None, n: int = 1250, skew: float = -3.0, kurtosis: float = 7.0) -> dict[str, Any]:
    return {"sharpe": sharpe, "periods_per_year": 250.0, "n_periods": n, "skew": skew, "kurtosis": kurtosis}


def test_the_published_example_is_met() -> None:
    """Annual ratio 2.5 over 1,250 days, skew -3, kurtosis 10, 100 trials of annual variance 1/2: about 0.90."""
    scatter = math.sqrt(0.5 / 250)
    half = [scatter * math.sqrt(99 / 100)] * 50
    luck = expected_best([*half, *(-ratio for ratio in half)])
    assert luck == pytest.approx(0.1132, abs=2e-4)
    assert luck is not None
    assert probability_above(luck, row(2.5)) == pytest.approx(0.9004, abs=2e-3)


def test_a_ratio_of_nothing_is_as_likely_above_as_below() -> None:
    assert probability_above(0.0, row(0.0)) == 0.5


def test_more_trials_take_more_away() -> None:
    best = row(2.0)
    few = selection(best, [best, row(0.0), row(1.0)])
    many = selection(best, [best, row(0.0), row(1.0)] * 50)
    assert (few["trials"], many["trials"]) == (3, 150)
    assert few["probabilistic_sharpe"] == many["probabilistic_sharpe"]
    assert few["deflated_sharpe"] > many["deflated_sharpe"]  # type: ignore[operator]


def test_what_is_undefined_is_none() -> None:
    assert selection(None, []) == {
        "trials": 0,
        "probabilistic_sharpe": None,
        "sharpe_of_luck": None,
        "deflated_sharpe": None,
    }
    alone = selection(row(1.0), [row(1.0), row(None)])
    assert alone["trials"] == 1
    assert alone["probabilistic_sharpe"] is not None
    assert alone["deflated_sharpe"] is None
    assert probability_above(0.0, row(1.0, n=1)) is None
