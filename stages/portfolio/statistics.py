"""How a portfolio did: the statistics of its kept equity and its running totals, undefined ones as None."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np

from .bars import Floats, Times
from .equity import DAY, HOUR, LADDER

Value: TypeAlias = float | int | str | None
Column: TypeAlias = np.ndarray[Any, Any] | str
TOGETHER = 128
"""Members whose returns are looked at in one call: enough to share its work, few enough to weigh little."""
MIN_DAYS = 30
"""Daily returns from which `every: auto` takes days."""
SAME = 4 * np.finfo(np.float64).eps
"""Returns that differ by no more than this are equal up to rounding: their deviation is none."""
TAIL = 0.05
"""The share of returns `var_95`, `cvar_95` and `tail_ratio` look at."""


class Calendar(NamedTuple):
    """What a year of trading is."""

    days: int
    session_ns: int

    def periods(self, interval_ns: float) -> float:
        """Periods of this length in a year: short ones fill the sessions, one longer than a session is a day."""
        return self.days * max(self.session_ns / interval_ns, min(1.0, DAY / interval_ns))


CALENDARS = {"crypto": Calendar(365, DAY), "xnys": Calendar(252, 13 * HOUR // 2)}


class StatisticsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What returns are taken over, and how many make a year.

    statistics: {every: auto, calendar: crypto}
    """

    every: Literal["auto", "bar", "1h", "1d"] = "auto"
    """`auto`: UTC days where there are at least MIN_DAYS of them, else the kept grid. `bar`: the kept grid, which is
    every bar up to 2,000 of them. `1h`, `1d`: that, or the kept grid where it is coarser. The output says which."""
    calendar: Literal["crypto", "xnys"] = "crypto"
    """`crypto`: 365 days of 24 hours a year; `xnys`: 252 days of 6.5 hours."""


class Statistic(NamedTuple):
    """One statistic: `kind` int, float or text; `better` says which end of it is good, if any."""

    kind: Literal["int", "float", "text"]
    better: Literal["higher", "lower", ""]
    meaning: str


STATISTICS: dict[str, Statistic] = {
    "n_orders": Statistic("int", "", "orders made, the one waiting at the end included"),
    "n_fills": Statistic("int", "", "orders filled"),
    "n_trades": Statistic("int", "", "round trips from flat to flat, or to the other side"),
    "start_equity": Statistic("float", "", "quote currency"),
    "end_equity": Statistic("float", "higher", "cash + position * last close"),
    "total_return": Statistic("float", "higher", "end_equity / start_equity - 1"),
    "cagr": Statistic("float", "higher", "(1 + total_return) ^ (periods_per_year / n_periods) - 1"),
    "volatility_ann": Statistic("float", "lower", "standard deviation of returns (ddof 1) * sqrt(periods_per_year)"),
    "sharpe": Statistic(
        "float", "higher", "mean / standard deviation of returns * sqrt(periods_per_year), no riskless rate"
    ),
    "sortino": Statistic("float", "higher", "mean / sqrt(mean(min(return, 0)^2)) * sqrt(periods_per_year)"),
    "calmar": Statistic("float", "higher", "cagr / max_drawdown"),
    "max_drawdown": Statistic(
        "float", "lower", "largest fall from the highest equity, as a share of it, over every bar"
    ),
    "max_drawdown_duration": Statistic("float", "lower", "seconds from a peak to the last bar below it, at most"),
    "time_under_water": Statistic("float", "lower", "share of the time below the highest equity"),
    "profit_factor": Statistic("float", "higher", "sum of winning trades / -sum of losing trades, after fees"),
    "win_rate": Statistic("float", "higher", "winning trades / n_trades"),
    "expectancy": Statistic("float", "higher", "mean result of a trade, quote currency"),
    "avg_win": Statistic("float", "higher", "mean result of the winning trades"),
    "avg_loss": Statistic("float", "higher", "mean result of the losing trades, below 0"),
    "payoff_ratio": Statistic("float", "higher", "avg_win / -avg_loss"),
    "turnover": Statistic("float", "", "notional of all fills / mean equity over bars"),
    "turnover_ann": Statistic("float", "", "turnover * periods_per_year / n_periods"),
    "exposure_time": Statistic("float", "", "share of the time with a position"),
    "gross_exposure_mean": Statistic("float", "", "mean over bars of |position value| / equity"),
    "net_exposure_mean": Statistic("float", "", "mean over bars of position value / equity"),
    "max_leverage": Statistic("float", "lower", "largest |position value| / equity at a bar's end"),
    "fees": Statistic("float", "lower", "quote currency"),
    "slippage": Statistic("float", "lower", "quote currency, part of the prices paid"),
    "funding_paid": Statistic("float", "", "always null: bars carry no funding rates"),
    "skew": Statistic("float", "higher", "third central moment / second^1.5 (population)"),
    "kurtosis": Statistic("float", "lower", "fourth central moment / second^2 - 3 (population)"),
    "var_95": Statistic("float", "lower", "loss not exceeded by 95 % of returns: -5 % quantile (linear)"),
    "cvar_95": Statistic(
        "float", "lower", "mean loss of the worst 5 % of returns: the first floor(0.05 * (n_periods - 1)) + 1"
    ),
    "tail_ratio": Statistic("float", "higher", "|95 % quantile| / |5 % quantile| of returns"),
    "n_periods": Statistic("int", "", "returns taken"),
    "periods_per_year": Statistic("float", "", "of the calendar, for returns_every"),
    "returns_every": Statistic("text", "", "what a return spans: bar, 1m, 5m, 15m, 1h, 4h or 1d"),
    "equity_every": Statistic("text", "", "interval of the kept equity"),
    "calendar": Statistic("text", "", "what a year is: crypto 365 days, xnys 252"),
}
"""Every statistic in the order it is written. Durations are seconds; ratios and returns are shares, not percent."""


def statistics(
    state: np.ndarray[Any, Any],
    times: Times,
    equity: Floats,
    grid: str,
    bar_ns: float,
    start_equity: float,
    settings: StatisticsSettings,
) -> list[dict[str, Value]]:
    """`figures` as one dict per member, keys and order of STATISTICS; undefined is None, never 0, NaN or infinite."""
    columns = figures(state, times, equity, grid, bar_ns, np.full(len(state), start_equity), settings)
    lists = {name: column if isinstance(column, str) else column.tolist() for name, column in columns.items()}
    return [
        {name: _defined(column if isinstance(column, str) else column[place]) for name, column in lists.items()}
        for place in range(len(state))
    ]


def figures(
    state: np.ndarray[Any, Any],
    times: Times,
    equity: Floats,
    grid: str,
    bar_ns: float,
    start_equity: Floats,
    settings: StatisticsSettings,
) -> dict[str, Column]:
    """Every statistic of many members: in the order of STATISTICS int64 or float64 (members,), or one text for all.

    What is not finite is undefined. `state` as left by the ledger, `times` (points,) int64 ns and `equity` (members,
    points) of the kept grid called `grid`, `bar_ns` the mean length of a bar, `start_equity` (members,). Without any
    bar everything but counts and equity is undefined. A member whose equity was ever 0 or below has no returns, and
    no exposures. Rows are summed one by one in one order, so a member's figures do not depend on its neighbours.
    """
    every = _returns_every(times, grid, settings.every)
    chosen = _last_of(times, every, grid)
    interval = LADDER[every] or bar_ns
    per_year = CALENDARS[settings.calendar].periods(interval) if interval else math.nan
    with np.errstate(all="ignore"):  # what overflows is undefined
        columns: dict[str, Any] = _totals(state, start_equity)
        parts = []
        for begin in range(0, len(state), TOGETHER):
            own = slice(begin, begin + TOGETHER)
            levels = np.empty((len(state[own]), len(chosen) + 1))
            levels[:, 0] = start_equity[own]
            levels[:, 1:] = equity[own][:, chosen]
            parts.append(_of_returns(levels[:, 1:] / levels[:, :-1] - 1.0, state["ruined"][own] != 0, per_year))
        for name in parts[0] if parts else ():
            columns[name] = np.concatenate([part[name] for part in parts])
        columns |= _together(columns, per_year)
    columns |= {"returns_every": every, "equity_every": grid, "calendar": settings.calendar}
    columns["periods_per_year"] = np.full(len(state), per_year)
    undefined = np.full(len(state), math.nan)
    return {name: columns.get(name, undefined) for name in STATISTICS}


def _totals(own: np.ndarray[Any, Any], start_equity: Floats) -> dict[str, Any]:
    """What the ledger counted bar by bar."""
    span, bars, trades = own["ended"] - own["begun"], own["bars"], own["trades"]
    some, sound = bars > 0, (bars > 0) & (own["ruined"] == 0)
    avg_win, avg_loss = _ratio(own["won"], own["wins"]), _ratio(own["lost"], own["losses"])
    return {
        "n_orders": own["orders"],
        "n_fills": own["fills"],
        "n_trades": trades,
        "start_equity": start_equity,
        "end_equity": own["equity"],
        "total_return": np.where(some, own["equity"] / start_equity - 1.0, math.nan),
        "max_drawdown": np.where(some, own["max_drawdown"], math.nan),
        "max_drawdown_duration": np.where(some, own["longest_under_water"] / 1e9, math.nan),
        "time_under_water": _ratio(own["under_water"], span),
        "profit_factor": _ratio(own["won"], -own["lost"]),
        "win_rate": _ratio(own["wins"], trades),
        "expectancy": _ratio(own["won"] + own["lost"], trades),
        "avg_win": avg_win,
        "avg_loss": avg_loss,
        "payoff_ratio": _ratio(avg_win, -avg_loss),
        "turnover": np.where(sound, _ratio(own["traded"], _ratio(own["equity_sum"], bars)), math.nan),
        "exposure_time": _ratio(own["exposed"], span),
        "gross_exposure_mean": np.where(sound, _ratio(own["gross_sum"], bars), math.nan),
        "net_exposure_mean": np.where(sound, _ratio(own["net_sum"], bars), math.nan),
        "max_leverage": np.where(sound, own["max_leverage"], math.nan),
        "fees": own["fees"],
        "slippage": own["slippage"],
    }


def _of_returns(returns: Floats, ruined: np.ndarray[Any, Any], per_year: float) -> dict[str, Any]:
    """What the shape of the returns says, as empyrical and (skew, kurtosis) scipy define it, but for three things.

    Losses are positive in `var_95` and `cvar_95`; what empyrical calls infinite or NaN is undefined; and returns that
    differ by no more than rounding (SAME) are constant, of which empyrical makes a ratio of about 1e15.
    """
    n = returns.shape[1]
    values: dict[str, Any] = {"n_periods": np.where(ruined, 0, n)}
    if n == 0:
        return values
    good = ~ruined & np.isfinite(returns).all(axis=1)
    ordered = np.sort(returns, axis=1)
    low, high = _quantile(ordered, TAIL), _quantile(ordered, 1.0 - TAIL)
    tail = int((n - 1) * TAIL) + 1
    mean, year = _sum(returns) / n, math.sqrt(per_year)
    downside = np.sqrt(_sum(np.minimum(returns, 0.0) ** 2) / n)
    values |= {
        "var_95": -low,
        "cvar_95": -_sum(ordered[:, :tail]) / tail,
        "tail_ratio": _ratio(abs(high), abs(low)),
        "sortino": _ratio(mean * year, downside),
    }
    if n > 1:
        away = returns - mean[:, None]
        constant = ordered[:, -1] - ordered[:, 0] <= SAME
        second = _sum(away * away)
        deviation = np.where(constant, 0.0, np.sqrt(second / (n - 1)))
        variance = np.where(constant, 0.0, second / n)
        values |= {
            "volatility_ann": deviation * year,
            "sharpe": _ratio(mean * year, deviation),
            "skew": _ratio(_sum(away * away * away) / n, variance * np.sqrt(variance)),
            "kurtosis": _ratio(_sum((away * away) ** 2) / n, variance * variance, -3.0),
        }
    return {name: value if name == "n_periods" else np.where(good, value, math.nan) for name, value in values.items()}


def _together(values: Mapping[str, Any], per_year: float) -> dict[str, Any]:
    """What needs both the totals and the number of returns."""
    total = values["total_return"]
    n = np.where(total > -1.0, values.get("n_periods", np.zeros(len(total))), 0)
    periods = np.where(n > 0, n, math.nan)
    cagr = np.array([_grown(1.0 + share, count) for share, count in zip(total, per_year / periods, strict=True)])
    return {
        "cagr": cagr,
        "calmar": _ratio(cagr, values["max_drawdown"]),
        "turnover_ann": values["turnover"] * per_year / periods,
    }


def _grown(factor: float, times: float) -> float:
    """One power after the other: numpy's of many at once may depend in its last bit on where in the array it is."""
    if not (times == times and factor > 0):
        return math.nan
    try:
        return math.pow(factor, times) - 1.0
    except OverflowError:
        return math.nan


def _returns_every(times: Times, grid: str, wanted: str) -> str:
    if wanted == "auto":
        return "1d" if len(_last_of(times, "1d", grid)) >= MIN_DAYS else grid
    return wanted if LADDER[wanted] >= LADDER[grid] else grid


def _last_of(times: Times, every: str, grid: str) -> Times:
    """Places of the last point in each bucket; all of them on the grid itself."""
    if every == grid or not LADDER[every] or not len(times):
        return np.arange(len(times))
    buckets = (times - 1) // LADDER[every]
    return np.flatnonzero(np.append(np.diff(buckets) != 0, True))


def _sum(values: Floats) -> Floats:
    """The sum of each row, in an order that depends on its length alone."""
    return np.asarray(np.add.reduce(np.ascontiguousarray(values), axis=1))


def _quantile(ordered: Floats, share: float) -> Floats:
    """Linear interpolation between the two nearest of each row's ascending values (Hyndman and Fan's type 7)."""
    place = (ordered.shape[1] - 1) * share
    below = int(place)
    above = min(below + 1, ordered.shape[1] - 1)
    return np.asarray(ordered[:, below] + (ordered[:, above] - ordered[:, below]) * (place - below))


def _ratio(above: Any, below: Any, plus: float = 0.0) -> Any:
    """`above / below + plus`, NaN where that is not a number."""
    return np.where(below == 0, math.nan, above / below + plus)


def _defined(value: Any) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value
