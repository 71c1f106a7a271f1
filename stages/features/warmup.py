"""How many bars a feature must have seen to be as if it had seen them all."""

from __future__ import annotations

import math

from .feature import Feature

REST = 1e-9
"""Weight that what lies before the warm-up may still have in an average that never quite forgets."""
_SMOOTHED = {"ema": lambda n: 2.0 / (n + 1.0), "rsi": lambda n: 1.0 / n, "atr": lambda n: 1.0 / n}
"""Kinds that carry a value on, and the weight of the newest: 2 / (n + 1) of an EMA, 1 / n of Wilder's averages."""


def bars_to_form(feature: Feature) -> int:
    """Bars before a window that make its value in the window the one that all of the data would give.

    A window of n values needs these and the one before them, for those that look at changes: n + 1, exactly. What is
    smoothed has (1 - alpha)^k of its weight from before k bars; k is the least for which that is at most REST: some
    10.4 (n + 1) bars of an EMA, some 20.7 n of Wilder's averages.
    """
    alpha_of = _SMOOTHED.get(feature.kind)
    bars = feature.n + 1
    if alpha_of is not None:
        alpha = alpha_of(feature.n)
        bars += math.ceil(math.log(REST) / math.log1p(-alpha)) if alpha < 1.0 else 0
    return bars + feature.lag
