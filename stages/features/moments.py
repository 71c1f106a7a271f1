"""Features over several instruments: pairs, and ranks among all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import moment_kernels as k
from .exact import Floats, Values
from .feature import Feature
from .remembered import Remembered

_MADE_BY = {
    "ratio": k.RATIO,
    "correlation": k.CORRELATION,
    "beta": k.BETA,
    "spread_zscore": k.SPREAD,
    "rank": k.RANK,
}


class Moments:
    """Features that hold an instrument's bar against what others' bars said by then.

    A pair takes the other's value from its bar of the same moment, or else from the last one before, however old. A bar
    counts for a pair once the other has a value; an instrument has no pair with itself. Ranks compare the bars of one
    moment. Bars come in the order of time, all of one moment in one call, in any order among themselves.

    Memory per instrument and feature: 16 n bytes. Work per bar and feature: n steps for pairs, a few for a ratio and,
    times the logarithm of the instruments, for a rank.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.columns = sorted({feature.column for feature in features})
        plan = []
        length = 0
        for feature in features:
            plan.append((_MADE_BY[feature.kind], self.columns.index(feature.column), feature.n, length))
            length += 2 * feature.n
        self._plan = np.array(plan, np.int64).reshape(-1, 4)
        self.state = Remembered(
            latest=((len(self.columns),), np.float64, np.nan),
            rings=((length,), np.float64, 0),
            before=((len(plan), 2), np.float64, np.nan),
            seen=((len(plan), 1), np.int64, 0),
        )

    def over(self, values: Sequence[Floats], owners: Values, times: Values, others: Values, out: Floats) -> int:
        """Fill `out`, NaN beforehand; how many are NaN still. `others` has a number per feature, -1 for nobody."""
        kernel: Callable[..., int] = k.follow_moments
        return kernel(np.stack(values), owners, times, self._plan, others, *self.state.arrays, out)
