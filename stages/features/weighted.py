"""Prices weighted by the volume traded at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import weighted_kernels as k
from .exact import Floats, Values
from .feature import Feature
from .remembered import Remembered


class Weighted:
    """Prices weighted by volume over the last n bars with a known price and volume.

    Memory per instrument and feature: 24 n + 48 bytes. Work per bar and feature: a few steps.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.columns = sorted({column for feature in features for column in feature.inputs})
        plan = []
        kept = 0
        for feature in features:
            plan.append((self.columns.index(feature.column), self.columns.index("volume"), feature.n, kept))
            kept += 3 * feature.n
        self._plan = np.array(plan, np.int64).reshape(-1, 4)
        self.state = Remembered(
            kept=((kept,), np.float64, 0),
            sums=((len(plan), 4), np.float64, 0),
            marks=((len(plan), 2), np.int64, 0),
        )

    def over(self, values: Sequence[Floats], owners: Values, out: Floats) -> int:
        """Fill `out`, NaN beforehand; how many values are NaN still."""
        kernel: Callable[..., int] = k.follow_weighted
        return kernel(np.stack(values), owners, self._plan, *self.state.arrays, out)
