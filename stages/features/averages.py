"""Averages, deviations and what is made of them: one plan, one state per instrument, one kernel call per batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import kernels as k
from .exact import Floats, Values
from .feature import Feature
from .remembered import Remembered

LEAST_KEPT = 64
"""Values a window's history keeps at least when it is full and begins anew."""

_MADE_BY = {
    "ema": k.EMA,
    "rsi": k.RSI,
    "sma": k.SMA,
    "bollinger_middle": k.SMA,
    "bollinger_upper": k.UPPER,
    "bollinger_lower": k.LOWER,
    "volatility": k.DEVIATION,
    "stddev": k.DEVIATION,
    "zscore": k.SCORE,
}
_RECURSIVE = (k.EMA, k.RSI)


class Averages:
    """Features that follow a series value by value, or stand on the mean of a window of it.

    Memory per instrument: 48 bytes times the longest window (at least 64) for each column with windows, and 24
    bytes per feature. Work per bar: a deviation takes n steps, the rest a few.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.columns = sorted({feature.column for feature in features})
        ordered = sorted(range(len(features)), key=lambda place: self._plan_key(features[place]))
        planned = [features[place] for place in ordered]
        keys = [self._plan_key(feature) for feature in planned]
        self._features = np.array(
            [
                (_MADE_BY[feature.kind], feature.n, place, int(i == 0 or keys[i][:4] != keys[i - 1][:4]))
                for i, (feature, place) in enumerate(zip(planned, ordered, strict=True))
            ],
            np.int64,
        ).reshape(-1, 4)
        self._widths = np.array([feature.k or 0.0 for feature in planned])
        self._series, self._windows = self._series_of(planned)
        series, length = len(self._series), 2 * int(self._series[:, 2].max(initial=0))
        self.state = Remembered(
            history=((series, length), np.float64, 0),
            high=((series, length + 1), np.float64, 0),
            low=((series, length + 1), np.float64, 0),
            counts=((series, 2), np.int64, 0),
            last=((series,), np.float64, np.nan),
            memory=((len(self.features), 3), np.float64, 0),
        )

    def over(self, values: Sequence[Floats], owners: Values, out: Floats) -> int:
        """Fill `out`, NaN beforehand; how many values are NaN still."""
        kernel: Callable[..., int] = k.compute
        rows = len(owners)
        return kernel(
            values[0].reshape(1, rows) if len(values) == 1 else np.stack(values), owners,
            self._series, self._features, self._widths, self._windows,
            *self.state.arrays, out,
        )  # fmt: skip

    @staticmethod
    def _plan_key(feature: Feature) -> tuple[str, bool, bool, int, int, float]:
        """Order of work: by series, those that follow value by value first, then windows of one length together."""
        made_by = _MADE_BY[feature.kind]
        windowed = made_by not in _RECURSIVE
        return (feature.column, feature.kind == "volatility", windowed, feature.n, made_by, feature.k or 0.0)

    def _series_of(self, planned: Sequence[Feature]) -> tuple[Values, Values]:
        series: list[Any] = []
        windows: list[Any] = []
        first = 0
        while first < len(planned):
            key = self._plan_key(planned[first])[:2]
            members = [i for i, feature in enumerate(planned) if self._plan_key(feature)[:2] == key]
            windowed = [i for i in members if self._plan_key(planned[i])[2]]
            last = members[-1] + 1
            kept = max([LEAST_KEPT, *(planned[i].n for i in windowed)]) if windowed else 0
            series.append((self.columns.index(key[0]), int(key[1]), kept, first, last))
            windows.append((windowed[0] if windowed else last, last))
            first = last
        return np.array(series, np.int64).reshape(-1, 5), np.array(windows, np.int64).reshape(-1, 2)
