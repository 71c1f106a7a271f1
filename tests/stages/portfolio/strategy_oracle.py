"""Strategies as people tell them: plain Python over raw bars, with the position held in hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any

from portfolio_oracle import OracleBar

from stages.portfolio.strategies.bollinger_reversion import BollingerReversion
from stages.portfolio.strategies.breakout import Breakout
from stages.portfolio.strategies.buy_and_hold import BuyAndHold
from stages.portfolio.strategies.momentum import Momentum
from stages.portfolio.strategies.rsi import Rsi
from stages.portfolio.strategies.zscore_reversion import ZscoreReversion


def positions(strategy: Any, bars: Sequence[OracleBar]) -> list[float]:
    """The position wanted after each bar, flat at first."""
    return _TOLD[type(strategy)](strategy, bars)


def _breakout(strategy: Breakout, bars: Sequence[OracleBar]) -> list[float]:
    out = strategy.exit_n or strategy.n
    held, found = 0.0, []
    for place, bar in enumerate(bars):
        before = bars[:place]
        if place >= max(strategy.n, out):
            above = [
                float(bar.close) > max(float(one.high) for one in before[-length:]) for length in (strategy.n, out)
            ]
            below = [float(bar.close) < min(float(one.low) for one in before[-length:]) for length in (strategy.n, out)]
            if strategy.side != "short":
                if above[0]:
                    held = 1.0
                elif held > 0 and below[1]:
                    held = -1.0 if strategy.side == "both" else 0.0
            if strategy.side != "long":
                if below[0]:
                    held = -1.0
                elif held < 0 and above[1]:
                    held = 1.0 if strategy.side == "both" else 0.0
        found.append(held)
    return found


def _rsi(strategy: Rsi, bars: Sequence[OracleBar]) -> list[float]:
    held, found, gain, loss, n = 0.0, [], 0.0, 0.0, strategy.n
    for place, bar in enumerate(bars):
        change = float(bar.close) - float(bars[place - 1].close) if place else 0.0
        share = 1 / max(1, min(place, n)) if place <= n else 1 / n
        gain += (max(change, 0.0) - gain) * share if place else 0.0
        loss += (max(-change, 0.0) - loss) * share if place else 0.0
        if place >= n and gain + loss > 0:
            index = 100 - 100 / (1 + gain / loss) if loss else 100.0
            if index < strategy.low:
                held = 0.0 if strategy.side == "short" else 1.0
            elif index > strategy.high:
                held = 0.0 if strategy.side == "long" else -1.0
        found.append(held)
    return found


def _momentum(strategy: Momentum, bars: Sequence[OracleBar]) -> list[float]:
    values, threshold, found = _whole(bars), Fraction(repr(strategy.threshold)), []
    for place, value in enumerate(values):
        held = 0.0
        if place >= strategy.n:
            before = values[place - strategy.n]
            if value > before * (1 + threshold) and strategy.side != "short":
                held = 1.0
            if value < before * (1 - threshold) and strategy.side != "long":
                held = -1.0
        found.append(held)
    return found


def _reversion(
    values: Sequence[int], n: int, side: str, entry: float, leave: float | None, at_rest: bool = False
) -> list[float]:
    """Positions entered beyond `entry` deviations, and left on the way back at `leave` (None: beyond the other side).

    In whole numbers: what is exactly at a level is not beyond it. Where all of a window is one price there is no score:
    `at_rest` says whether that is the mean all the same.
    """
    held, found = 0.0, []
    sums, squares = [0, *accumulate(values)], [0, *accumulate(value * value for value in values)]
    for place, value in enumerate(values, 1):
        if place >= n:
            total = sums[place] - sums[place - n]
            distance, square = n * value - total, n * (squares[place] - squares[place - n]) - total * total
            if square:
                below, above = _is_beyond(-distance, square, entry), _is_beyond(distance, square, entry)
                low, high = not above, not below
                if leave is not None:
                    low, high = _is_beyond(-distance, square, leave), _is_beyond(distance, square, leave)
                if (held > 0 and not low) or (held < 0 and not high):
                    held = 0.0
                if below and side != "short":
                    held = 1.0
                if above and side != "long":
                    held = -1.0
            elif at_rest:
                held = 0.0
        found.append(held)
    return found


def _is_beyond(distance: int, square: int, level: float) -> bool:
    """Whether distance / sqrt(square) is above a level given in decimals."""
    return distance > 0 and distance * distance > Fraction(repr(level)) ** 2 * square


def _whole(bars: Sequence[OracleBar]) -> list[int]:
    """Closes as whole numbers of their ninth decimal."""
    return [round(float(bar.close) * 10**9) for bar in bars]


def _zscore(strategy: ZscoreReversion, bars: Sequence[OracleBar]) -> list[float]:
    return _reversion(_whole(bars), strategy.n, strategy.side, strategy.entry, strategy.exit)


def _bollinger(strategy: BollingerReversion, bars: Sequence[OracleBar]) -> list[float]:
    at_middle = strategy.exit == "middle"
    return _reversion(_whole(bars), strategy.n, strategy.side, strategy.k, 0.0 if at_middle else None, at_middle)


def spread_positions(
    rows: Sequence[tuple[str, float]], first: str, second: str, n: int, entry: float, leave: float
) -> list[float]:
    """The position wanted in the instrument of each row (instrument, close), two instruments by turns."""
    latest: dict[str, float] = {}
    logs: dict[str, list[int]] = {first: [], second: []}
    places: dict[str, list[int]] = {first: [], second: []}
    for place, (name, close) in enumerate(rows):
        latest[name] = close
        other = second if name == first else first
        if other in latest:
            logs[name].append(round(math.log(close / latest[other]) * 10**12))
            places[name].append(place)
    found = [0.0] * len(rows)
    for name in logs:
        for place, held in zip(places[name], _reversion(logs[name], n, "both", entry, leave), strict=True):
            found[place] = held
    return found


_TOLD: dict[type, Any] = {
    Breakout: _breakout,
    Rsi: _rsi,
    Momentum: _momentum,
    ZscoreReversion: _zscore,
    BollingerReversion: _bollinger,
    BuyAndHold: lambda strategy, bars: [1.0] * len(bars),
}
