"""Features as they were some values ago."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .exact import Floats, Values
from .lag_kernels import follow_lags
from .remembered import Remembered


class Lags:
    """Delays lines of features by a number of their own values; what is NaN stays NaN and counts for nothing.

    Memory per instrument and feature: 8 bytes times the lag, and 8.
    """

    def __init__(self, sources: Sequence[int], lags: Sequence[int]) -> None:
        begins = np.cumsum([0, *lags])
        self._plan = np.array(list(zip(sources, lags, begins, strict=False)), np.int64).reshape(-1, 3)
        self.state = Remembered(values=((int(begins[-1]),), np.float64, 0), counts=((len(lags),), np.int64, 0))

    def over(self, lines: Floats, owners: Values, out: Floats) -> int:
        """Fill `out`, NaN beforehand, from the lines delayed; how many values are NaN still."""
        kernel: Callable[..., int] = follow_lags
        return kernel(lines, owners, self._plan, *self.state.arrays, out)
