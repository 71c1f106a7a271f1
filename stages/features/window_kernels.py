"""Compiled windows that know the order of what is in them: extremes, quantiles, and the value n bars ago."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, int64, njit, types

from .kernels import readable

BACK, LARGEST, SMALLEST, SORTED = range(4)
"""What a window keeps: just its values; those that may still become the largest or smallest; all of them in order."""
_TWO: Any = types.UniTuple(int64, 2)  # type: ignore[no-untyped-call]


@njit(
    [_TWO(float64[::1], int64[::1], int64, int64, int64, int64, float64)], nogil=True, cache=True, error_model="numpy"
)
def queue(values: Any, places: Any, n: int, head: int, size: int, seen: int, x: float) -> tuple[int, int]:
    """Take `x`, value number `seen`, into the queue of those that may become the largest of the last `n`.

    A ring of decreasing values and their numbers; its head is the largest (Lemire, "Streaming maximum-minimum filter",
    2006). Returns the new head and size.
    """
    if size > 0 and places[head] <= seen - n:
        head = head + 1 if head + 1 < n else 0
        size -= 1
    end = head + size if head + size < n else head + size - n
    while size > 0:
        before = end - 1 if end > 0 else n - 1
        if values[before] > x:
            break
        end = before
        size -= 1
    values[end] = x
    places[end] = seen
    return head, size + 1


@njit([types.void(float64[::1], int64, int64, float64, float64)], nogil=True, cache=True, error_model="numpy")
def sort_in(values: Any, size: int, full: int, old: float, x: float) -> None:
    """Put `x` where it belongs among the first `size` sorted values; where the window is `full`, `old` leaves."""
    place = np.searchsorted(values[:size], x)
    if not full:
        for i in range(size, place, -1):
            values[i] = values[i - 1]
        values[place] = x
        return
    gone = np.searchsorted(values[:size], old)
    if gone < place:
        place -= 1
        for i in range(gone, place):
            values[i] = values[i + 1]
    else:
        for i in range(gone, place, -1):
            values[i] = values[i - 1]
    values[place] = x


@njit([float64(float64[::1], float64)], nogil=True, cache=True, error_model="numpy")
def quantile(values: Any, q: float) -> Any:
    """Of sorted values, linear between the neighbours of place q (n - 1), in the arithmetic of `numpy.quantile`."""
    where = q * (len(values) - 1)
    below = int(np.floor(where))
    above = min(below + 1, len(values) - 1)
    share = where - below
    low, high = values[below], values[above]
    distance = high - low
    if share >= 0.5:
        return high - distance * (1.0 - share)
    return low + distance * share


@njit(
    [
        int64(
            readable(float64, 2), readable(int64, 1), readable(int64, 2), readable(float64, 1),
            float64[:, ::1], int64[:, ::1], int64[:, :, ::1], float64[:, ::1],
        )
    ],
    nogil=True,
    cache=True,
    error_model="numpy",
)  # fmt: skip
def follow_windows(
    columns: Any, owners: Any, windows: Any, quantiles: Any, values: Any, places: Any, marks: Any, out: Any
) -> int:
    """Fill `out` (features x bars, NaN beforehand) value by value; how many are NaN still.

    Bars:   columns float64 (columns x bars), NaN where unknown; owners (bars,) instrument of each bar.
    Plan:   windows (windows x 7): what it keeps, column, n, where its `values` and its `places` begin, its first
            line of `out` and the one after its last; quantiles (features,) q of each line.
    State:  values, places (instruments x length): of all windows, one after the other; marks (instruments x
            windows x 3): values seen, then head and size of a queue, or the place of the oldest value.
    """
    unformed = 0
    for w in range(len(windows)):
        keeps, column, n = windows[w, 0], columns[windows[w, 1]], windows[w, 2]
        at, place, first, last = windows[w, 3], windows[w, 4], windows[w, 5], windows[w, 6]
        behind = at + n if keeps == SORTED else at
        current = 0
        mark, queued = marks[0, w], places[0][place : place + n]
        held, ordered = values[0][at : at + n], values[0][behind : behind + n]
        for row in range(len(owners)):
            x = column[row]
            if not np.isfinite(x):
                unformed += last - first
                continue
            if owners[row] != current:  # views cost more than what is done with them
                current = owners[row]
                mark, queued = marks[current, w], places[current][place : place + n]
                held, ordered = values[current][at : at + n], values[current][behind : behind + n]
            seen = mark[0]
            mark[0] = seen + 1
            if keeps in (LARGEST, SMALLEST):
                sign = 1.0 if keeps == LARGEST else -1.0
                mark[1], mark[2] = queue(held, queued, n, mark[1], mark[2], seen, sign * x)
                if seen + 1 < n:
                    unformed += 1
                else:
                    out[first, row] = sign * held[mark[1]]
                continue
            ring = mark[1]
            mark[1] = ring + 1 if ring + 1 < n else 0
            old, held[ring] = held[ring], x
            if keeps == BACK:
                result = x / old - 1.0 if seen >= n else np.nan
                if np.isfinite(result):
                    out[first, row] = result
                else:
                    unformed += 1
                continue
            sort_in(ordered, min(seen, n), seen >= n, old, x)
            if seen + 1 < n:
                unformed += last - first
                continue
            for line in range(first, last):
                out[line, row] = quantile(ordered, quantiles[line])
    return unformed
