"""Statistics of returns against empyrical and scipy, to 1e-12, and where we differ from them on purpose."""

from __future__ import annotations

import itertools
import math
from typing import Any

import empyrical
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stages.portfolio.accounting import opening_state
from stages.portfolio.equity import DAY
from stages.portfolio.statistics import StatisticsSettings, statistics

MIDNIGHT = 1_704_067_200_000_000_000
START = 100.0
CLOSE = 1e-12

RETURNS = st.lists(st.floats(-0.2, 0.25).map(lambda value: round(value, 6)), min_size=2, max_size=250)


def figures(equity: list[float], calendar: str = "crypto") -> dict[str, Any]:
    """Statistics of one member, a bar and a return a day; drawdown as the ledger keeps it from every bar."""
    state = opening_state([START])
    own = state[0]
    own["bars"] = len(equity)
    if equity:
        own["equity"] = equity[-1]
        peaks = np.maximum.accumulate(np.array([START, *equity]))[1:]
        own["max_drawdown"] = max(0.0, float((1 - np.array(equity) / peaks).max()))
    times = MIDNIGHT + DAY * np.arange(1, len(equity) + 1)
    chosen = StatisticsSettings(every="1d", calendar=calendar)  # type: ignore[arg-type]
    (found,) = statistics(state, times, np.array([equity]), "1d", float(DAY), START, chosen)
    return found


def levels_of(returns: list[float]) -> list[float]:
    return list(itertools.accumulate(returns, lambda level, gain: level * (1 + gain), initial=START))[1:]


def simple_returns(equity: list[float]) -> np.ndarray[Any, Any]:
    levels = np.array([START, *equity])
    return levels[1:] / levels[:-1] - 1.0


def oracle(returns: np.ndarray[Any, Any], year: float) -> dict[str, float]:
    """Names of ours -> what empyrical (scipy for the moments) makes of it; losses positive as ours are."""
    with np.errstate(all="ignore"):
        return {
            "sharpe": empyrical.sharpe_ratio(returns, annualization=year),
            "sortino": empyrical.sortino_ratio(returns, annualization=year),
            "calmar": empyrical.calmar_ratio(returns, annualization=year),
            "max_drawdown": -empyrical.max_drawdown(returns),
            "volatility_ann": empyrical.annual_volatility(returns, annualization=year),
            "cagr": empyrical.cagr(returns, annualization=year),
            "total_return": empyrical.cum_returns_final(returns),
            "tail_ratio": empyrical.tail_ratio(returns),
            "var_95": -empyrical.value_at_risk(returns),
            "cvar_95": -empyrical.conditional_value_at_risk(returns),
            "skew": stats.skew(returns),
            "kurtosis": stats.kurtosis(returns),
        }


def assert_equal(found: dict[str, Any], expected: dict[str, float], returns: np.ndarray[Any, Any]) -> None:
    """To 1e-12, relative; absolute where a ratio's numerator is what is left of larger numbers that cancel out."""
    year = found["periods_per_year"]
    deviation = float(np.std(returns, ddof=1))
    size = float(np.mean(np.abs(returns)))
    cancelling = {
        "sharpe": size / deviation * math.sqrt(year),
        "sortino": size * year / expected_downside if (expected_downside := _downside(returns, year)) else 0.0,
        "skew": (size / deviation) ** 3,
        "kurtosis": (size / deviation) ** 4,
    }
    for name, value in expected.items():
        if not math.isfinite(value):
            assert found[name] is None, (name, found[name], value)
            continue
        tolerance = CLOSE * max(1.0, cancelling.get(name, 1.0))
        assert found[name] == pytest.approx(value, rel=CLOSE, abs=tolerance), name


def _downside(returns: np.ndarray[Any, Any], year: float) -> float:
    return float(empyrical.downside_risk(returns, annualization=year))


@settings(max_examples=150, deadline=None)
@given(returns=RETURNS, calendar=st.sampled_from(["crypto", "xnys"]))
def test_random_returns_give_what_empyrical_gives(returns: list[float], calendar: str) -> None:
    equity = levels_of(returns)
    taken = simple_returns(equity)
    if np.ptp(taken) < 1e-6:
        return  # up to rounding constant: below
    found = figures(equity, calendar)
    expected = oracle(taken, found["periods_per_year"])
    assert_equal(found, expected, taken)


@pytest.mark.parametrize("seed", range(5))
def test_long_series_agree_as_well(seed: int) -> None:
    random = np.random.default_rng(seed)
    equity = levels_of((random.standard_t(3, 1500).clip(-8, 8) * 0.01).tolist())
    taken = simple_returns(equity)
    found = figures(equity)
    assert_equal(found, oracle(taken, 365), taken)


def test_a_loss_in_the_first_return_counts_for_both() -> None:
    equity = [80.0, 84.0, 82.0, 90.0]
    taken = simple_returns(equity)
    found = figures(equity)
    assert found["max_drawdown"] == pytest.approx(0.2, abs=CLOSE)
    assert_equal(found, oracle(taken, 365), taken)


def test_flat_equity_has_no_ratios_where_empyrical_says_nan() -> None:
    expected = oracle(np.zeros(50), 365)
    assert all(math.isnan(expected[name]) for name in ("sharpe", "sortino", "calmar", "tail_ratio"))
    found = figures([START] * 50)
    assert all(found[name] is None for name in ("sharpe", "sortino", "calmar", "tail_ratio", "skew", "kurtosis"))
    assert found["volatility_ann"] == expected["volatility_ann"] == 0.0
    assert found["max_drawdown"] == found["var_95"] == found["cvar_95"] == 0.0


def test_constant_returns_have_no_sharpe_where_empyrical_says_infinite() -> None:
    returns = np.full(64, 0.5)
    assert math.isinf(empyrical.sharpe_ratio(returns)) and math.isinf(empyrical.sortino_ratio(returns))
    found = figures(levels_of(returns.tolist()))
    assert found["sharpe"] is found["sortino"] is None
    uneven = simple_returns(levels_of([0.001] * 300))
    assert abs(empyrical.sharpe_ratio(uneven)) > 1e12, "equal up to rounding, and a ratio of rounding"
    assert figures(levels_of([0.001] * 300))["sharpe"] is None


def test_losing_every_day_alike_has_a_sortino_and_no_sharpe() -> None:
    found = figures(levels_of([-0.01] * 40))
    assert found["sharpe"] is None
    assert found["sortino"] == pytest.approx(empyrical.sortino_ratio(np.full(40, -0.01), annualization=365), rel=CLOSE)


def test_an_empty_series_is_undefined_where_empyrical_says_nan() -> None:
    found = figures([])
    for name in ("sharpe", "sortino", "calmar", "max_drawdown", "volatility_ann", "cagr", "var_95", "cvar_95", "skew"):
        assert found[name] is None, name
    assert math.isnan(empyrical.sharpe_ratio(np.empty(0))) and math.isnan(empyrical.max_drawdown(np.empty(0)))
    assert math.isnan(empyrical.value_at_risk(np.empty(0)))


def test_a_single_return_has_no_deviation_in_either() -> None:
    found, taken = figures([110.0]), np.array([0.1])
    assert found["sharpe"] is found["volatility_ann"] is None
    assert math.isnan(empyrical.sharpe_ratio(taken)) and math.isnan(empyrical.annual_volatility(taken))
    assert found["cagr"] == pytest.approx(empyrical.cagr(taken, annualization=365), rel=CLOSE)
    assert found["var_95"] == pytest.approx(-empyrical.value_at_risk(taken), rel=CLOSE)


def test_the_tail_of_a_mostly_flat_series_is_its_worst_returns_and_not_its_many_zeros() -> None:
    returns = [-0.1] + [0.0] * 99
    equity = levels_of(returns)
    assert figures(equity)["cvar_95"] == pytest.approx(0.1 / 5, rel=1e-12)
    assert figures(equity)["cvar_95"] == pytest.approx(-empyrical.conditional_value_at_risk(np.array(returns)))
