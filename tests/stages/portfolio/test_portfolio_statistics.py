"""Statistics against formulas written out by hand."""

from __future__ import annotations

import itertools
import math
import statistics as hand
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.portfolio.accounting import opening_state
from stages.portfolio.equity import DAY, HOUR, MINUTE
from stages.portfolio.statistics import CALENDARS, STATISTICS, StatisticsSettings, statistics

MIDNIGHT = 1_704_067_200_000_000_000


def figures(equity: list[float], *, step: int = DAY, grid: str = "1d", start: float = 100.0, **settings: Any) -> Any:
    """Statistics of one member from its equity alone, one point per `step`."""
    state = opening_state([start])
    own = state[0]
    own["bars"] = own["equity_sum"] = len(equity)
    own["begun"], own["ended"] = MIDNIGHT, MIDNIGHT + step * len(equity)
    if equity:
        own["equity"] = equity[-1]
        peaks = np.maximum.accumulate(np.array([start, *equity]))[1:]
        own["max_drawdown"] = max(0.0, float(((peaks - equity) / peaks).max()))
    times = MIDNIGHT + step * np.arange(1, len(equity) + 1)
    (found,) = statistics(state, times, np.array([equity]), grid, float(step), start, StatisticsSettings(**settings))
    return found


EQUITIES = st.lists(st.floats(50, 200), min_size=3, max_size=60)


@settings(max_examples=100, deadline=None)
@given(equity=EQUITIES)
def test_ratios_are_what_their_formulas_say(equity: list[float]) -> None:
    found = figures(equity)
    levels = [100.0, *equity]
    returns = [after / before - 1 for before, after in itertools.pairwise(levels)]
    n, mean = len(returns), hand.fmean(returns)
    if max(returns) - min(returns) < 1e-9:
        return
    deviation, population = hand.stdev(returns), hand.pstdev(returns)
    downside = math.sqrt(sum(min(value, 0.0) ** 2 for value in returns) / n)
    cuts = np.percentile(returns, [5, 95])
    expected = {
        "total_return": equity[-1] / 100 - 1,
        "cagr": (equity[-1] / 100) ** (365 / n) - 1,
        "volatility_ann": deviation * math.sqrt(365),
        "sharpe": mean / deviation * math.sqrt(365),
        "sortino": mean / downside * math.sqrt(365) if downside else None,
        "skew": sum((value - mean) ** 3 for value in returns) / n / population**3,
        "kurtosis": sum((value - mean) ** 4 for value in returns) / n / population**4 - 3,
        "var_95": -cuts[0],
        "cvar_95": -hand.fmean([value for value in returns if value <= cuts[0] + 4 * 2.0**-52]),
        "n_periods": n,
    }
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value, rel=1e-7, abs=1e-9)), name
    assert list(found) == list(STATISTICS)


def test_a_loss_in_the_first_return_is_a_drawdown_and_a_return() -> None:
    found = figures([90.0, 99.0])
    assert found["max_drawdown"] == pytest.approx(0.1)
    assert found["n_periods"] == 2
    assert found["sortino"] == pytest.approx(0.0, abs=1e-12)


def test_constant_equity_has_no_ratios_rather_than_infinite_ones() -> None:
    found = figures([100.0] * 40)
    assert found["volatility_ann"] == 0.0
    for name in ("sharpe", "sortino", "calmar", "skew", "kurtosis", "tail_ratio"):
        assert found[name] is None, name
    assert found["total_return"] == found["cagr"] == 0.0


def test_constant_returns_have_no_sharpe_although_rounding_differs() -> None:
    found = figures([100.0 * 1.001**n for n in range(1, 300)])
    assert found["sharpe"] is None
    assert found["sortino"] is None
    assert found["cagr"] == pytest.approx(1.001**365 - 1)


def test_no_bars_leave_everything_undefined_but_counts_and_equity() -> None:
    found = figures([])
    defined = {name for name, value in found.items() if value is not None}
    assert defined == {
        *("n_orders", "n_fills", "n_trades", "n_periods", "start_equity", "end_equity", "fees", "slippage"),
        *("returns_every", "equity_every", "calendar"),
    } | ({"periods_per_year"} if found["periods_per_year"] else set())


def test_one_return_has_no_deviation() -> None:
    found = figures([110.0])
    assert found["sharpe"] is None
    assert found["volatility_ann"] is None
    assert found["n_periods"] == 1


def test_nothing_is_ever_nan_or_infinite() -> None:
    for equity in ([1e-300, 1e300], [1e300] * 3, [100.0, 1e-12], []):
        for value in figures(equity, step=MINUTE, grid="1m").values():
            assert value is None or isinstance(value, str) or math.isfinite(value)


@pytest.mark.parametrize(
    ("points", "wanted", "taken", "returns", "per_year"),
    [
        (24 * 40, "auto", "1d", 40, 365),
        (24 * 29, "auto", "1h", 24 * 29, 365 * 24),
        (24 * 29, "1d", "1d", 29, 365),
        (24 * 40, "1h", "1h", 960, 365 * 24),
        (24 * 40, "bar", "1h", 960, 365 * 24),
    ],
)
def test_returns_are_taken_over_days_where_there_are_enough(
    points: int, wanted: str, taken: str, returns: int, per_year: float
) -> None:
    equity = [100 + math.sin(n) for n in range(points)]
    found = figures(equity, step=HOUR, grid="1h", every=wanted)
    assert found["returns_every"] == taken
    assert found["n_periods"] == returns
    assert found["periods_per_year"] == per_year
    assert found["equity_every"] == "1h"


def test_a_day_ends_with_the_bar_that_ends_at_midnight() -> None:
    equity = [100.0] * 23 + [110.0] + [110.0] * 23 + [121.0]
    found = figures(equity, step=HOUR, grid="1h", every="1d")
    assert found["n_periods"] == 2
    assert found["tail_ratio"] == pytest.approx(1.0)


def test_calendars_count_days_and_sessions() -> None:
    crypto, xnys = CALENDARS["crypto"], CALENDARS["xnys"]
    assert crypto.periods(DAY) == 365
    assert crypto.periods(MINUTE) == 365 * 1440
    assert crypto.periods(7 * DAY) == pytest.approx(365 / 7)
    assert xnys.periods(DAY) == xnys.periods(23.9 * HOUR) == 252
    assert xnys.periods(MINUTE) == 252 * 390
    found = figures([101.0, 100.0, 103.0] * 12, calendar="xnys")
    assert (found["periods_per_year"], found["calendar"]) == (252, "xnys")


def test_returns_do_not_depend_on_neighbours() -> None:
    random = np.random.default_rng(3)
    equity = 100 * np.exp(np.cumsum(random.normal(0, 0.01, (7, 333)), axis=1))
    state = opening_state([100.0] * 7)
    state["bars"] = 333
    times = MIDNIGHT + DAY * np.arange(1, 334)
    together = statistics(state, times, equity, "1d", float(DAY), 100.0, StatisticsSettings())
    for place in range(7):
        own = slice(place, place + 1)
        assert statistics(state[own], times, equity[own], "1d", float(DAY), 100.0, StatisticsSettings()) == [
            together[place]
        ]


@settings(max_examples=50, deadline=None)
@given(results=st.lists(st.floats(-500, 500).map(lambda value: round(value, 2)), min_size=1, max_size=50))
def test_what_trades_brought_is_told_as_nautilus_defines_it(results: list[float]) -> None:
    """Expectancy is win rate x mean win + loss rate x mean loss; a trade of exactly nothing is neither."""
    state = opening_state([100.0])
    won, lost = [x for x in results if x > 0], [x for x in results if x < 0]
    own = state[0]
    own["trades"], own["wins"], own["losses"] = len(results), len(won), len(lost)
    own["won"], own["lost"] = sum(won), sum(lost)
    (found,) = statistics(state, np.empty(0, np.int64), np.empty((1, 0)), "1d", 0.0, 100.0, StatisticsSettings())
    win_rate, loss_rate = len(won) / len(results), len(lost) / len(results)
    average_win, average_loss = (hand.fmean(x) if x else None for x in (won, lost))
    assert found["win_rate"] == win_rate
    assert found["avg_win"] == (average_win and pytest.approx(average_win))
    assert found["avg_loss"] == (average_loss and pytest.approx(average_loss))
    expectancy = win_rate * (average_win or 0.0) + loss_rate * (average_loss or 0.0)
    assert found["expectancy"] == pytest.approx(expectancy, abs=1e-9)
    assert found["profit_factor"] == (pytest.approx(sum(won) / -sum(lost)) if lost else None)
    both = average_win is not None and average_loss is not None
    assert found["payoff_ratio"] == (pytest.approx(average_win / -average_loss) if both else None)  # type: ignore[operator]


def test_every_statistic_of_the_design_is_there() -> None:
    wanted = """n_orders n_fills n_trades start_equity end_equity total_return cagr volatility_ann sharpe sortino calmar
    max_drawdown max_drawdown_duration time_under_water profit_factor win_rate expectancy avg_win avg_loss payoff_ratio
    turnover exposure_time gross_exposure_mean net_exposure_mean max_leverage fees slippage funding_paid skew kurtosis
    var_95 cvar_95 tail_ratio n_periods"""
    assert set(wanted.split()) <= set(STATISTICS)
