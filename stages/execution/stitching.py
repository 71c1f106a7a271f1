"""Joins pieces of equity into one history, and says how it did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.portfolio.bars import Floats, Times
from stages.portfolio.equity import DAY, LADDER
from stages.portfolio.statistics import CALENDARS, MIN_DAYS


class Piece(NamedTuple):
    """Kept equity of one phase, as a multiple of what it began with."""

    times: Times
    equity: Floats
    every: str
    """The grid it was kept on, a key of LADDER."""
    calendar: str | None


def stitched(pieces: Sequence[Piece]) -> tuple[Times, Floats]:
    """The pieces one after the other, each begun with what the one before it left; from 1.0."""
    times: list[Times] = []
    equity: list[Floats] = []
    level = 1.0
    for piece in pieces:
        if len(piece.times):
            times.append(piece.times)
            equity.append(level * piece.equity)
            level = float(equity[-1][-1])
    if not times:
        return np.empty(0, np.int64), np.empty(0)
    return np.concatenate(times), np.concatenate(equity)


def figures(times: Times, equity: Floats, pieces: Sequence[Piece]) -> dict[str, Any]:
    """Statistics of a joined history; undefined is None.

    Returns are over UTC days where there are MIN_DAYS of them, else over the coarsest grid that a piece was kept on;
    stretches between the pieces are no periods. `sharpe` is the mean over the standard deviation (ddof 1) of returns,
    `volatility_ann` that deviation, both for a year of the calendar. `max_drawdown` is of the kept points.
    """
    words: dict[str, Any] = dict.fromkeys(("total_return", "sharpe", "volatility_ann", "max_drawdown", "n_periods"))
    if not len(times):
        return words
    levels = np.concatenate(([1.0], equity))
    words["total_return"] = float(equity[-1]) - 1.0
    words["max_drawdown"] = float(np.max(1.0 - levels / np.maximum.accumulate(levels)))
    every = max((piece.every for piece in pieces if len(piece.times)), key=LADDER.__getitem__)
    days = _last_of(times, DAY)
    chosen = days if len(days) >= MIN_DAYS else _last_of(times, LADDER[every])
    interval = float(DAY if len(days) >= MIN_DAYS else LADDER[every] or _bar(times))
    words["n_periods"] = len(chosen)
    sampled = np.concatenate(([1.0], equity[chosen]))
    if len(chosen) < 2 or not interval or np.min(sampled) <= 0.0:
        return words
    returns = sampled[1:] / sampled[:-1] - 1.0
    calendar = next((piece.calendar for piece in pieces if piece.calendar is not None), "crypto")
    year = math.sqrt(CALENDARS[calendar].periods(interval))
    mean = math.fsum(returns) / len(returns)
    deviation = math.sqrt(math.fsum((returns - mean) ** 2) / (len(returns) - 1))
    words["volatility_ann"] = deviation * year
    words["sharpe"] = mean / deviation * year if deviation > 0.0 else None
    return words


def _last_of(times: Times, step: int) -> Times:
    """Places of the last point of each bucket `(begin, begin + step]`; all of them where `step` is 0."""
    if not step:
        return np.arange(len(times))
    return np.flatnonzero(np.append(np.diff((times - 1) // step) != 0, True))


def _bar(times: Times) -> float:
    """The usual distance between two points."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0
