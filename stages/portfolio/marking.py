"""What a bar's close does to equity, drawdown and the other running totals: bar by bar, or a stretch of bars at once.

A dip below 1e-12 of the peak is rounding and no drawdown: time under water would otherwise hang on the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .accounting import ROUNDING
from .rules import rule


@rule
def mark(own: Any, equity: float, gross: float, net: float, end: int) -> None:
    """Equity at a step's end, into all running totals; `gross` and `net` are values of positions."""
    if own["held"] == 0 and equity == own["equity"]:
        own["flat_bars"] += 1
    else:
        own["equity_sum"] += own["flat_bars"] * own["equity"]
        own["flat_bars"] = 0
        if own["held"] == 0:
            own["flat_bars"] = 1
        else:
            own["equity_sum"] += equity
        own["equity"] = equity
    if equity <= 0.0:
        own["ruined"] = 1
    elif own["held"] != 0:
        own["net_sum"] += net / equity
        leverage = gross / equity
        own["gross_sum"] += leverage
        own["max_leverage"] = max(own["max_leverage"], leverage)
    if own["peak"] - equity <= ROUNDING * own["peak"]:
        own["peak"] = max(own["peak"], equity)
        own["peak_at"] = end
    else:
        own["max_drawdown"] = max(own["max_drawdown"], (own["peak"] - equity) / own["peak"])
        own["under_water"] += end - own["ended"]
        own["longest_under_water"] = max(own["longest_under_water"], end - own["peak_at"])
    own["ended"] = end


@rule
def surface(own: Any, since: int, until: int, peak_at: int) -> None:
    """A stretch below the peak that ends at `until`, or is interrupted there."""
    own["under_water"] += until - since
    own["longest_under_water"] = max(own["longest_under_water"], until - peak_at)


@rule
def mark_run(
    own: Any, position: float, sized: bool, targets: Any, closes: Any, ends: Any, first: int, last: int
) -> int:
    """`mark` for bars `first` to `last` with one position and nothing to do; gives the bar it stopped before.

    `sized` by equity stops before a decision on equity of 0 or below, which wants another position.
    """
    cash, ended, peak_at = own["cash"], own["ended"], own["peak_at"]
    peak = own["peak"]
    if position == 0.0:
        if cash != own["equity"]:
            mark(own, cash, 0.0, 0.0, ends[first])
            return first + 1
        own["flat_bars"] += last - first
        if cash <= 0.0:
            own["ruined"] = 1
        end = ends[last - 1]
        if peak - cash <= ROUNDING * peak:
            own["peak"] = max(peak, cash)
            own["peak_at"] = end
        else:
            own["max_drawdown"] = max(own["max_drawdown"], (peak - cash) / peak)
            surface(own, ended, end, peak_at)
        own["ended"] = end
        return last
    equity_sum = own["equity_sum"] + own["flat_bars"] * own["equity"]
    own["flat_bars"] = 0
    gross_sum, net_sum, max_leverage = own["gross_sum"], own["net_sum"], own["max_leverage"]
    rounding = ROUNDING * peak
    equity, trough, since, below = own["equity"], np.inf, ended, False
    b = first
    while b < last:
        value = position * closes[b]
        now = cash + value
        if now > 0.0:
            net = value / now
            net_sum += net
            leverage = abs(net)
            gross_sum += leverage
            max_leverage = max(max_leverage, leverage)
        else:
            if sized and targets[b] == targets[b]:
                break
            own["ruined"] = 1
        equity = now
        equity_sum += equity
        if peak - equity > rounding:
            if not below:
                below, trough = True, equity
                if b > first:
                    since = peak_at = ends[b - 1]
            trough = min(trough, equity)
        else:
            if below:
                own["max_drawdown"] = max(own["max_drawdown"], (peak - trough) / peak)
                surface(own, since, ends[b - 1], peak_at)
                below = False
            peak = max(peak, equity)
            rounding = ROUNDING * peak
        b += 1
    if b > first:
        end = ends[b - 1]
        if below:
            own["max_drawdown"] = max(own["max_drawdown"], (peak - trough) / peak)
            surface(own, since, end, peak_at)
        else:
            peak_at = end
        own["exposed"] += end - ended
        own["ended"] = end
    own["equity"], own["equity_sum"], own["peak"], own["peak_at"] = equity, equity_sum, peak, peak_at
    own["gross_sum"], own["net_sum"], own["max_leverage"] = gross_sum, net_sum, max_leverage
    return b
