"""The deflated Sharpe ratio against the example its authors published, and where it is undefined."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stages.execution.deflated import expected_best, probability_above, selection


def row(sharpe: float | None, n: int = 1250, skew: float = -3.0, kurtosis: float = 7.0) -> dict[str, Any]:
    return {"sharpe": sharpe, "periods_per_year": 250.0, "n_periods": n, "skew": skew, "kurtosis": kurtosis}


@pytest.mark.parametrize(
    ("trials", "skew", "kurtosis", "expected"),
    [(100, -3.0, 7.0, 0.9004), (46, -3.0, 7.0, 0.9505), (88, 0.0, 0.0, 0.9505)],
)
def test_the_published_examples_are_met(trials: int, skew: float, kurtosis: float, expected: float) -> None:
    """Annual ratio 2.5 over 1,250 days, trials of annual variance 1/2: the three cases of the paper."""
    scatter = math.sqrt(0.5 / 250)
    half = [scatter * math.sqrt((trials - 1) / trials)] * (trials // 2)
    luck = expected_best([*half, *(-ratio for ratio in half)], trials)
    assert luck is not None
    if trials == 100:
        assert luck == pytest.approx(0.1132, abs=5e-5)
    assert probability_above(luck, row(2.5, skew=skew, kurtosis=kurtosis)) == pytest.approx(expected, abs=5e-5)


def test_a_ratio_of_nothing_is_as_likely_above_as_below() -> None:
    assert probability_above(0.0, row(0.0)) == 0.5


def test_more_trials_take_more_away() -> None:
    best = row(2.0)
    few = selection(best, [best, row(0.0), row(1.0)])
    many = selection(best, [best, row(0.0), row(1.0)] * 50)
    assert (few["trials"], many["trials"]) == (3, 150)
    assert few["probabilistic_sharpe"] == many["probabilistic_sharpe"]
    assert few["deflated_sharpe"] > many["deflated_sharpe"]  # type: ignore[operator]


def test_trials_without_a_ratio_were_tried_all_the_same() -> None:
    rows = [row(2.0), row(0.0), row(1.0)]
    without, beside = selection(rows[0], rows), selection(rows[0], [*rows, *[row(None)] * 97])
    assert (beside["trials"], beside["trials_with_ratio"]) == (100, 3)
    assert beside["deflated_sharpe"] < without["deflated_sharpe"]  # type: ignore[operator]


def test_what_is_undefined_is_none() -> None:
    assert selection(None, []) == {
        "trials": 0,
        "trials_with_ratio": 0,
        "probabilistic_sharpe": None,
        "sharpe_of_luck": None,
        "deflated_sharpe": None,
    }
    alone = selection(row(1.0), [row(1.0), row(None)])
    assert (alone["trials"], alone["trials_with_ratio"]) == (2, 1)
    assert alone["probabilistic_sharpe"] is not None
    assert alone["deflated_sharpe"] is None
    assert probability_above(0.0, row(1.0, n=1)) is None
