"""Compiled features over several instruments: all bars of one moment are seen before any of them is given a value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, int64, njit, types

from .kernels import readable

RATIO, CORRELATION, BETA, SPREAD, RANK = range(5)
_TWO: Any = types.UniTuple(float64, 2)  # type: ignore[no-untyped-call]


@njit([_TWO(float64[::1], int64)], nogil=True, cache=True, error_model="numpy")
def mean_and_square(values: Any, oldest: int) -> tuple[float, float]:
    """Mean and mean squared deviation of a ring, both of what exceeds its oldest value: equal values give exactly 0."""
    first, n = values[oldest], len(values)
    mean = 0.0
    for i in range(oldest, n):
        mean += values[i] - first
    for i in range(oldest):
        mean += values[i] - first
    mean /= n
    square = 0.0
    for i in range(oldest, n):
        distance = (values[i] - first) - mean
        square += distance * distance
    for i in range(oldest):
        distance = (values[i] - first) - mean
        square += distance * distance
    return mean, square / n


@njit([float64(float64[::1], float64[::1], int64, int64)], nogil=True, cache=True, error_model="numpy")
def related(mine: Any, theirs: Any, oldest: int, made_by: int) -> Any:
    """Correlation or beta of two rings of returns, in two passes; NaN where a variance it needs is 0."""
    my_mean, my_square = mean_and_square(mine, oldest)
    their_mean, their_square = mean_and_square(theirs, oldest)
    n = len(mine)
    product = 0.0
    my_first, their_first = mine[oldest], theirs[oldest]
    for i in range(oldest, n):
        product += ((mine[i] - my_first) - my_mean) * ((theirs[i] - their_first) - their_mean)
    for i in range(oldest):
        product += ((mine[i] - my_first) - my_mean) * ((theirs[i] - their_first) - their_mean)
    product /= n
    if made_by == BETA:
        return product / their_square if their_square > 0.0 else np.nan
    if my_square > 0.0 and their_square > 0.0:
        return max(-1.0, min(1.0, product / (np.sqrt(my_square) * np.sqrt(their_square))))
    return np.nan


@njit(
    [float64(float64, float64, int64, int64, float64[::1], float64[::1], int64[::1])],
    nogil=True,
    cache=True,
    error_model="numpy",
)
def follow_pair(x: float, y: float, made_by: int, n: int, ring: Any, before: Any, seen: Any) -> Any:
    """Take one bar's value and the other's latest; the feature, NaN until formed.

    State: ring (2 n), returns of both, or n logarithms of the ratio; before (2,) the values of the last bar; seen (1,)
    entries of the ring so far.
    """
    place = seen[0] % n
    if made_by == SPREAD:
        share = x / y
        if not (share > 0.0 and np.isfinite(share)):
            return np.nan
        ring[place] = np.log(share)
        seen[0] += 1
        if seen[0] < n:
            return np.nan
        oldest = seen[0] % n
        mean, square = mean_and_square(ring[:n], oldest)
        return ((ring[place] - ring[oldest]) - mean) / np.sqrt(square) if square > 0.0 else np.nan
    mine, theirs = x / before[0] - 1.0, y / before[1] - 1.0
    before[0], before[1] = x, y
    if not (np.isfinite(mine) and np.isfinite(theirs)):
        return np.nan
    ring[place], ring[n + place] = mine, theirs
    seen[0] += 1
    if seen[0] < n:
        return np.nan
    return related(ring[:n], ring[n : 2 * n], seen[0] % n, made_by)


@njit([types.void(float64[::1])], nogil=True, cache=True, error_model="numpy")
def rank_in_place(returns: Any) -> None:
    """Each finite number becomes the share of the other finite ones below it, equal ones counted half; the rest NaN."""
    ordered = np.sort(returns[np.isfinite(returns)])
    most = len(ordered) - 1
    for i in range(len(returns)):
        x = returns[i]
        if not np.isfinite(x):
            returns[i] = np.nan
            continue
        below = np.searchsorted(ordered, x)
        equal = np.searchsorted(ordered, x, side="right") - below - 1
        returns[i] = (below + 0.5 * equal) / most if most > 0 else np.nan


@njit(
    [
        int64(
            readable(float64, 2), readable(int64, 1), readable(int64, 1), readable(int64, 2), readable(int64, 1),
            float64[:, ::1], float64[:, ::1], float64[:, :, ::1], int64[:, :, ::1], float64[:, ::1],
        )
    ],
    nogil=True,
    cache=True,
    error_model="numpy",
)  # fmt: skip
def follow_moments(
    columns: Any, owners: Any, times: Any, plan: Any, others: Any,
    latest: Any, rings: Any, before: Any, seen: Any, out: Any,
) -> int:  # fmt: skip
    """Fill `out` (features x bars, NaN beforehand), moment by moment; how many are NaN still.

    Bars:   columns float64 (columns x bars), NaN where unknown; owners (bars,) instrument of each bar; times (bars,)
            never falling, all bars of the last moment among them.
    Plan:   plan (features x 4): made by, column, n, where its values begin in `rings`; others (features,) the other
            instrument, -1 where it has not appeared.
    State:  latest (instruments x columns), NaN before the first; rings (instruments x length); before (instruments x
            features x 2), NaN before the first; seen (instruments x features x 1).
    """
    bars = len(owners)
    unformed = 0
    start = 0
    while start < bars:
        stop = start + 1
        while stop < bars and times[stop] == times[start]:
            stop += 1
        for c in range(columns.shape[0]):
            for row in range(start, stop):
                if np.isfinite(columns[c, row]):
                    latest[owners[row], c] = columns[c, row]
        for f in range(len(plan)):
            made_by, c, n, at = plan[f, 0], plan[f, 1], plan[f, 2], plan[f, 3]
            line = out[f]
            for row in range(start, stop):
                owner, x = owners[row], columns[c, row]
                if not np.isfinite(x):
                    continue
                if made_by == RANK:
                    place = at + seen[owner, f, 0] % n
                    if seen[owner, f, 0] >= n:
                        line[row] = x / rings[owner, place] - 1.0
                    rings[owner, place] = x
                    seen[owner, f, 0] += 1
                elif others[f] >= 0 and others[f] != owner and np.isfinite(latest[others[f], c]):
                    result = x / latest[others[f], c] if made_by == RATIO else follow_pair(
                        x, latest[others[f], c], made_by, n,
                        rings[owner][at : at + 2 * n], before[owner, f], seen[owner, f],
                    )  # fmt: skip
                    if np.isfinite(result):
                        line[row] = result
            if made_by == RANK:
                rank_in_place(line[start:stop])
            for row in range(start, stop):
                unformed += line[row] != line[row]
        start = stop
    return unformed
