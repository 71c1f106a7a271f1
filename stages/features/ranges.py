"""Average true ranges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import range_kernels as k
from .exact import Floats, Values
from .feature import Feature
from .remembered import Remembered


class Ranges:
    """Average true ranges of bars whose high, low and close are known.

    Memory per instrument: 16 bytes, and 8 per feature. Work per bar and feature: a few steps.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.columns = ["high", "low", "close"]
        self._lengths = np.array([feature.n for feature in features], np.int64)
        self.state = Remembered(
            averages=((len(features),), np.float64, 0), counts=((), np.int64, 0), closes=((), np.float64, 0)
        )

    def over(self, values: Sequence[Floats], owners: Values, out: Floats) -> int:
        """Fill `out`, NaN beforehand; how many values are NaN still."""
        kernel: Callable[..., int] = k.follow_ranges
        return kernel(np.stack(values), owners, self._lengths, *self.state.arrays, out)
