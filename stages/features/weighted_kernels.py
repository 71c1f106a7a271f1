"""Compiled prices weighted by volume."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, int64, njit, types

from .kernels import SPLITTER, readable

PRODUCT, PRODUCT_REST, VOLUME = range(3)
"""What a vwap keeps of each bar; of the sums, each is a pair of doubles: product, its rest, volume, its rest."""
_TWO: Any = types.UniTuple(float64, 2)  # type: ignore[no-untyped-call]


@njit([_TWO(float64, float64, float64, float64)], nogil=True, cache=True, error_model="numpy")
def added(high: float, low: float, x: float, rest: float) -> tuple[float, float]:
    """The pair of doubles (high + low) + (x + rest), rounded at twice the precision."""
    total = high + x
    part = total - high
    error = ((high - (total - part)) + (x - part)) + (low + rest)
    new = total + error
    return new, error - (new - total)


@njit([_TWO(float64, float64)], nogil=True, cache=True, error_model="numpy")
def product(a: float, b: float) -> tuple[float, float]:
    """a b as a rounded product and its error (Dekker 1971); the error of what is too large to split is 0."""
    rounded = a * b
    scaled = SPLITTER * a
    a_high = scaled - (scaled - a)
    a_low = a - a_high
    scaled = SPLITTER * b
    b_high = scaled - (scaled - b)
    b_low = b - b_high
    error = ((a_high * b_high - rounded) + a_high * b_low + a_low * b_high) + a_low * b_low
    return rounded, error if np.isfinite(error) else 0.0


@njit(
    [
        int64(
            readable(float64, 2), readable(int64, 1), readable(int64, 2),
            float64[:, ::1], float64[:, :, ::1], int64[:, :, ::1], float64[:, ::1],
        )
    ],
    nogil=True,
    cache=True,
    error_model="numpy",
)  # fmt: skip
def follow_weighted(columns: Any, owners: Any, plan: Any, kept: Any, sums: Any, marks: Any, out: Any) -> int:
    """Sum(price x volume) / sum(volume) over the last n bars; how many are NaN.

    `plan` (features x 4): column of the price, column of the volume, n, where its bars begin in `kept`. The sums are
    pairs of doubles and made anew from the n bars every n bars, so that they remember nothing else; the quotient of a
    constant price is that price. A volume that is not known, or below 0, makes a bar unknown.
    State: kept (instruments x 3 n, of all features), sums (instruments x features x 4), marks (instruments x features
    x 2): bars seen, bars in the window with a volume.
    """
    unformed = 0
    for f in range(len(plan)):
        prices, volumes, n, at = columns[plan[f, 0]], columns[plan[f, 1]], plan[f, 2], plan[f, 3]
        current = 0
        window, mark, total = kept[0][at : at + 3 * n], marks[0, f], sums[0, f]
        for row in range(len(owners)):
            price, volume = prices[row], volumes[row]
            worth, rest = product(price, volume)
            if not (np.isfinite(worth) and volume >= 0.0 and np.isfinite(price)):
                unformed += 1
                continue
            if owners[row] != current:  # views cost more than what is done with them
                current = owners[row]
                window = kept[current][at : at + 3 * n]
                mark, total = marks[current, f], sums[current, f]
            place = 3 * (mark[0] % n)
            if mark[0] >= n:
                mark[1] -= window[place + VOLUME] > 0.0
            mark[1] += volume > 0.0
            if mark[0] >= n and place:
                total[0], total[1] = added(total[0], total[1], -window[place], -window[place + PRODUCT_REST])
                total[2], total[3] = added(total[2], total[3], -window[place + VOLUME], 0.0)
            window[place], window[place + PRODUCT_REST], window[place + VOLUME] = worth, rest, volume
            if mark[0] >= n and not place:
                total[:] = 0.0
                for i in range(0, 3 * n, 3):
                    total[0], total[1] = added(total[0], total[1], window[i], window[i + PRODUCT_REST])
                    total[2], total[3] = added(total[2], total[3], window[i + VOLUME], 0.0)
            else:
                total[0], total[1] = added(total[0], total[1], worth, rest)
                total[2], total[3] = added(total[2], total[3], volume, 0.0)
            mark[0] += 1
            if mark[0] < n or mark[1] == 0:
                unformed += 1
                continue
            quotient = total[0] / total[2]
            whole, error = product(quotient, total[2])
            mean = quotient + (((total[0] - whole) - error) + (total[1] - quotient * total[3])) / total[2]
            out[f, row] = mean
            if mean != mean:
                unformed += 1
    return unformed
