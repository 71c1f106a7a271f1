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
    """One dict per member, keys and order of STATISTICS; undefined is None, never 0, NaN or infinite.

    `state` as left by the ledger, `times` (points,) int64 ns and `equity` (members, points) of the kept grid called
    `grid`, `bar_ns` the mean length of a bar. Without any bar everything but counts and equity is None. A member
    whose equity was ever 0 or below has no returns, and exposures of None.

    Rows are summed one by one in one order, so a member's figures do not depend on its neighbours.
    """
    every = _returns_every(times, grid, settings.every)
    chosen = _last_of(times, every, grid)
    levels = np.empty((len(equity), len(chosen) + 1))
    levels[:, 0] = start_equity
    levels[:, 1:] = equity[:, chosen]
    interval = LADDER[every] or bar_ns
    per_year = CALENDARS[settings.calendar].periods(interval) if interval else math.nan
    words: dict[str, Value] = {"returns_every": every, "equity_every": grid, "calendar": settings.calendar}
    found = []
    for own, row in zip(state, levels, strict=True):
        values = _totals(own, start_equity)
        with np.errstate(all="ignore"):  # what overflows is undefined
            returns = np.empty(0) if own["ruined"] else row[1:] / row[:-1] - 1.0
            values |= _of_returns(returns, per_year)
        values |= _together(values, per_year)
        found.append({name: _defined((values | words).get(name)) for name in STATISTICS})
    return found


def _totals(own: Mapping[str, Any] | Any, start_equity: float) -> dict[str, Value]:
    """What the ledger counted bar by bar."""
    span, bars, trades = own["ended"] - own["begun"], own["bars"], own["trades"]
    mean_equity = _ratio(own["equity_sum"], bars)
    avg_win, avg_loss = _ratio(own["won"], own["wins"]), _ratio(own["lost"], own["losses"])
    sound = bars > 0 and not own["ruined"]
    return {
        "n_orders": own["orders"],
        "n_fills": own["fills"],
        "n_trades": trades,
        "start_equity": start_equity,
        "end_equity": own["equity"],
        "total_return": own["equity"] / start_equity - 1.0 if bars else None,
        "max_drawdown": own["max_drawdown"] if bars else None,
        "max_drawdown_duration": own["longest_under_water"] / 1e9 if bars else None,
        "time_under_water": _ratio(own["under_water"], span),
        "profit_factor": _ratio(own["won"], -own["lost"]),
        "win_rate": _ratio(own["wins"], trades),
        "expectancy": _ratio(own["won"] + own["lost"], trades),
        "avg_win": avg_win,
        "avg_loss": avg_loss,
        "payoff_ratio": None if avg_win is None or avg_loss is None else _ratio(avg_win, -avg_loss),
        "turnover": _ratio(own["traded"], mean_equity) if sound else None,
        "exposure_time": _ratio(own["exposed"], span),
        "gross_exposure_mean": _ratio(own["gross_sum"], bars) if sound else None,
        "net_exposure_mean": _ratio(own["net_sum"], bars) if sound else None,
        "max_leverage": own["max_leverage"] if sound else None,
        "fees": own["fees"],
        "slippage": own["slippage"],
    }


def _of_returns(returns: Floats, per_year: float) -> dict[str, Value]:
    """What the shape of the returns says, as empyrical and (skew, kurtosis) scipy define it, but for three things.

    Losses are positive in `var_95` and `cvar_95`; what empyrical calls infinite or NaN is None; and returns that differ
    by no more than rounding (SAME) are constant, of which empyrical makes a ratio of about 1e15.
    """
    n = len(returns)
    values: dict[str, Value] = {"n_periods": n, "periods_per_year": per_year}
    if n == 0 or not np.isfinite(returns).all():
        return values
    ordered = np.sort(returns)
    low, high = _quantile(ordered, TAIL), _quantile(ordered, 1.0 - TAIL)
    tail = ordered[: int((n - 1) * TAIL) + 1]
    values |= {"var_95": -low, "cvar_95": _ratio(-_sum(tail), len(tail)), "tail_ratio": _ratio(abs(high), abs(low))}
    mean, year = _sum(returns) / n, math.sqrt(per_year)
    downside = math.sqrt(_sum(np.minimum(returns, 0.0) ** 2) / n)
    values["sortino"] = _ratio(mean * year, downside)
    if n < 2:
        return values
    away = returns - mean
    if ordered[-1] - ordered[0] <= SAME:
        return values | {"volatility_ann": 0.0}
    second = _sum(away * away)
    deviation = math.sqrt(second / (n - 1))
    variance = second / n
    return values | {
        "volatility_ann": deviation * year,
        "sharpe": _ratio(mean * year, deviation),
        "skew": _ratio(_sum(away * away * away) / n, variance * math.sqrt(variance)),
        "kurtosis": _ratio(_sum((away * away) ** 2) / n, variance * variance, -3.0),
    }


def _together(values: Mapping[str, Any], per_year: float) -> dict[str, Value]:
    """What needs both the totals and the number of returns."""
    n, total = values["n_periods"], values["total_return"]
    if not n or total is None or total <= -1.0:
        return {}
    try:
        cagr = math.pow(1.0 + total, per_year / n) - 1.0
    except OverflowError:
        cagr = math.nan
    turnover = values["turnover"]
    return {
        "cagr": cagr,
        "calmar": _ratio(cagr, values["max_drawdown"]),
        "turnover_ann": None if turnover is None else turnover * per_year / n,
    }


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


def _sum(values: Floats) -> float:
    """Sum in an order that depends on the length alone."""
    return float(np.add.reduce(values))


def _quantile(ordered: Floats, share: float) -> float:
    """Linear interpolation between the two nearest of the ascending values (Hyndman and Fan's type 7)."""
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (place - below))


def _ratio(above: Any, below: Any, plus: float = 0.0) -> float | None:
    """`above / below + plus`, None where that is not a number."""
    if below is None or above is None or below == 0:
        return None
    return float(above) / float(below) + plus


def _defined(value: Any) -> Value:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None
