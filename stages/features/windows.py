"""Extremes, quantiles and returns: windows that know the order of what is in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from . import window_kernels as k
from .exact import Floats, Values
from .feature import Feature
from .remembered import Remembered

_KEEPS = {"returns": k.BACK, "max": k.LARGEST, "min": k.SMALLEST, "median": k.SORTED, "quantile": k.SORTED}


class Windows:
    """Features over the order of the last n finite values of a column; quantiles of one window share it.

    Memory per instrument and window: 8 n bytes for returns, 16 n for the others. Work per bar: a quantile moves up to n
    values in memory, the rest take a few steps on average.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(sorted(features, key=_plan_key))
        self.columns = sorted({feature.column for feature in features})
        windows = []
        values = places = first = 0
        for (keeps, column, n), members in groupby(self.features, key=_plan_key):
            last = first + len(list(members))
            windows.append((keeps, self.columns.index(column), n, values, places, first, last))
            values += 2 * n if keeps == k.SORTED else n
            places += n if keeps in (k.LARGEST, k.SMALLEST) else 0
            first = last
        self._windows = np.array(windows, np.int64).reshape(-1, 7)
        self._quantiles = np.array([0.5 if feature.q is None else feature.q for feature in self.features])
        self.state = Remembered(
            values=((values,), np.float64, 0), places=((places,), np.int64, 0), marks=((len(windows), 3), np.int64, 0)
        )

    def over(self, values: Sequence[Floats], owners: Values, out: Floats) -> int:
        """Fill `out`, NaN beforehand; how many values are NaN still."""
        kernel: Callable[..., int] = k.follow_windows
        return kernel(np.stack(values), owners, self._windows, self._quantiles, *self.state.arrays, out)


def _plan_key(feature: Feature) -> tuple[int, str, int]:
    return (_KEEPS[feature.kind], feature.column, feature.n)
