"""The compiled average true range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, int64, njit

from .kernels import readable


@njit(
    [
        int64(
            readable(float64, 2), readable(int64, 1), readable(int64, 1),
            float64[:, ::1], int64[::1], float64[::1], float64[:, ::1],
        )
    ],
    nogil=True,
    cache=True,
    error_model="numpy",
)  # fmt: skip
def follow_ranges(columns: Any, owners: Any, lengths: Any, averages: Any, counts: Any, closes: Any, out: Any) -> int:
    """Wilder's average true range (New Concepts in Technical Trading Systems, 1978) of every length; how many are NaN.

    `columns` high, low, close; `lengths` (features,) n. A range is max(high, close before) - min(low, close before).
    State: averages (instruments x features), sums while fewer than n were seen; counts of bars; closes, the last ones.
    """
    unformed = 0
    high, low, close = columns[0], columns[1], columns[2]
    for row in range(len(owners)):
        top, bottom, c = high[row], low[row], close[row]
        if not (np.isfinite(top) and np.isfinite(bottom) and np.isfinite(c)):
            unformed += len(lengths)
            continue
        owner = owners[row]
        before = counts[owner]
        reach = top - bottom
        if before > 0:
            reach = max(top, closes[owner]) - min(bottom, closes[owner])
        counts[owner] = before + 1
        closes[owner] = c
        for f in range(len(lengths)):
            n = lengths[f]
            average = averages[owner, f]
            if before + 1 < n:
                averages[owner, f] = average + reach
                unformed += 1
                continue
            average = (average + reach) / n if before < n else (average * (n - 1) + reach) / n
            averages[owner, f] = average
            out[f, row] = average
    return unformed
