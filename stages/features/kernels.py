"""Compiled indicators: every feature of a batch of bars in one call, each value the same however bars are batched.

A *series* is one column's finite values, or their simple returns, per instrument. Rolling windows of one series share
its running sums. The sums are kept as unevaluated pairs of doubles (double-double: Dekker 1971, Knuth's two-sum), so
the sum of a window is the difference of two of them without rounding, while the largest value in `history` is less
than 2^53 / length times the smallest's last digit; they are begun anew whenever `history` is full, which is counted per
instrument. Means are the correctly rounded quotient of that sum. Deviations take two passes: sum((x - mean)^2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, int64, njit, types

EMA, RSI, SMA, UPPER, LOWER, DEVIATION, SCORE = range(7)
"""What a feature is made by. SMA is also the middle Bollinger band; DEVIATION of returns is their volatility."""
SPLITTER = 134217729.0
"""2^27 + 1: splits a double into two halves whose products are exact (Veltkamp)."""


def readable(kind: Any, dimensions: int) -> Any:
    """A contiguous array that is only read."""
    return types.Array(kind, dimensions, "C", readonly=True)


_VALUES, _PLACES = float64[::1], int64[::1]


@njit([types.void(_VALUES, _VALUES, _VALUES, int64, int64)], nogil=True, cache=True)
def extend_sums(values: Any, high: Any, low: Any, first: int, last: int) -> None:
    """Running sums of `values`: high[i] + low[i] is the sum of the first i; fills first+1 ... last."""
    h, rest = high[first], low[first]
    for i in range(first, last):
        x = values[i]
        total = h + x
        part = total - h
        error = ((h - (total - part)) + (x - part)) + rest
        h = total + error
        rest = error - (h - total)
        high[i + 1] = h
        low[i + 1] = rest


@njit([types.void(_VALUES, _VALUES, _VALUES, _VALUES, int64, _VALUES)], nogil=True, cache=True)
def window_means(high: Any, low: Any, old_high: Any, old_low: Any, n: int, means: Any) -> None:
    """means[i] = ((high[i] + low[i]) - (old_high[i] + old_low[i])) / n, correctly rounded."""
    divisor = float(n)
    for i in range(len(means)):
        a, b = high[i], old_high[i]
        total = a - b
        part = total - a
        rest = ((a - (total - part)) - (b + part)) + (low[i] - old_low[i])
        h = total + rest
        rest -= h - total
        quotient = h / divisor
        product = quotient * divisor
        scaled = SPLITTER * quotient
        upper = scaled - (scaled - quotient)
        error = (upper * divisor - product) + (quotient - upper) * divisor
        means[i] = quotient + (((h - product) - error) + rest) / divisor


@njit([types.void(_VALUES, _VALUES, int64, int64, _VALUES)], nogil=True, cache=True)
def window_deviations(values: Any, means: Any, n: int, freedom: int, deviations: Any) -> None:
    """deviations[i] = sqrt(sum((x - means[i])^2) / (n - freedom)) over the `n` values that end at values[n - 1 + i]."""
    count = len(means)
    for i in range(count):
        deviations[i] = 0.0
    for back in range(n):
        shifted = values[n - 1 - back : n - 1 - back + count]
        for i in range(count):
            distance = shifted[i] - means[i]
            deviations[i] += distance * distance
    divisor = float(n - freedom)
    for i in range(count):
        deviations[i] = np.sqrt(deviations[i] / divisor)


@njit([float64(_VALUES, _PLACES, int64, int64, int64, float64, _VALUES)], nogil=True, cache=True)
def follow_ema(values: Any, rows: Any, count: int, seen: int, n: int, value: float, out: Any) -> float:
    """Exponential moving average: alpha x + (1 - alpha) value, alpha = 2 / (n + 1), value at first the first x.

    Formed after `n` values; `seen` of them came before. The arithmetic is that of NautilusTrader's
    `ExponentialMovingAverage.update_raw`, operation by operation (the first value goes through it, too).
    """
    alpha = 2.0 / (n + 1.0)
    for i in range(count):
        x = values[i]
        if seen == 0:
            value = x
        value = alpha * x + (1.0 - alpha) * value
        seen += 1
        if seen >= n:
            out[rows[i]] = value
    return value


@njit([types.void(_VALUES, _PLACES, int64, int64, int64, _VALUES, _VALUES)], nogil=True, cache=True)
def follow_rsi(values: Any, rows: Any, count: int, seen: int, n: int, state: Any, out: Any) -> None:
    """Wilder's relative strength index (New Concepts in Technical Trading Systems, 1978).

    100 gain / (gain + loss), with gain and loss first the mean of n changes, then (mean (n - 1) + change) / n.
    Formed after n changes; undefined (NaN) while both are 0. `state`: last value, gain, loss.
    """
    last, gain, loss = state[0], state[1], state[2]
    for i in range(count):
        x = values[i]
        if seen > 0:
            change = x - last
            up = change if change > 0.0 else 0.0
            down = -change if change < 0.0 else 0.0
            if seen < n:
                gain += up
                loss += down
            elif seen == n:
                gain = (gain + up) / n
                loss = (loss + down) / n
            else:
                gain = (gain * (n - 1) + up) / n
                loss = (loss * (n - 1) + down) / n
            if seen >= n and gain + loss > 0.0:
                out[rows[i]] = 100.0 * gain / (gain + loss)
        last = x
        seen += 1
    state[0], state[1], state[2] = last, gain, loss


@njit([int64[::1](readable(int64, 1), int64)], nogil=True, cache=True)
def grouped(owners: Any, instruments: int) -> Any:
    """Places of rows grouped by owner, in order within each: a counting sort."""
    places = np.zeros(instruments + 1, np.int64)
    for owner in owners:
        places[owner + 1] += 1
    for instrument in range(instruments):
        places[instrument + 1] += places[instrument]
    order = np.empty(len(owners), np.int64)
    for row in range(len(owners)):
        order[places[owners[row]]] = row
        places[owners[row]] += 1
    return order


@njit(
    [
        int64(
            readable(float64, 2), readable(int64, 1),
            readable(int64, 2), readable(int64, 2), readable(float64, 1), readable(int64, 2),
            float64[:, :, ::1], float64[:, :, ::1], float64[:, :, ::1], int64[:, :, ::1], float64[:, ::1],
            float64[:, :, ::1], float64[:, ::1],
        )
    ],
    nogil=True,
    cache=True,
    error_model="numpy",
)  # fmt: skip
def compute(
    columns: Any, owners: Any,
    series: Any, features: Any, widths: Any, windows: Any,
    history: Any, high: Any, low: Any, counts: Any, last: Any,
    memory: Any, out: Any,
) -> int:  # fmt: skip
    """Fill `out` (features x bars, NaN beforehand) and carry the state of each instrument on; how many are NaN still.

    Bars:   columns float64 (columns x bars), NaN where unknown, in time order per instrument; owners (bars,)
            instrument of each bar.
    Plan:   series (series x 5): column, 1 for returns, values kept, first and last + 1 of its features;
            features (features x 4): EMA ..., n, row of `out`, and 1 where it begins a group of one n;
            widths (features,) k of Bollinger bands; windows (series x 2) first and last + 1 windowed feature.
    State:  history, high, low (instruments x series x length): values and their running sums; counts
            (instruments x series x 2): values in `history`, values in all; last (instruments x series): last
            value of a column whose returns are wanted; memory (instruments x features x 3) of EMA and RSI.
    """
    bars = len(owners)
    order = grouped(owners, len(counts))
    values = np.empty(bars)
    rows = np.empty(bars, np.int64)
    length = history.shape[2]
    means = np.empty(length)
    deviations = np.empty(length)
    start = 0
    while start < bars:
        owner = owners[order[start]]
        stop = start + 1
        while stop < bars and owners[order[stop]] == owner:
            stop += 1
        for s in range(len(series)):
            column = columns[series[s, 0]]
            count = 0
            for place in range(start, stop):
                row = order[place]
                x = column[row]
                if not np.isfinite(x):
                    continue
                if series[s, 1]:
                    before = last[owner, s]
                    last[owner, s] = x
                    x = x / before - 1.0
                    if not np.isfinite(x):
                        continue
                values[count] = x
                rows[count] = row
                count += 1
            seen = counts[owner, s, 1]
            for f in range(series[s, 3], windows[s, 0]):
                if features[f, 0] == EMA:
                    memory[owner, f, 0] = follow_ema(
                        values, rows, count, seen, features[f, 1], memory[owner, f, 0], out[features[f, 2]]
                    )
                else:
                    follow_rsi(values, rows, count, seen, features[f, 1], memory[owner, f], out[features[f, 2]])
            counts[owner, s, 1] = seen + count
            if windows[s, 0] == windows[s, 1]:
                continue
            kept, h, hi, lo = series[s, 2], history[owner, s], high[owner, s], low[owner, s]
            room = 2 * kept
            done = 0
            while done < count:
                used = counts[owner, s, 0]
                if used == room:
                    for i in range(kept):
                        h[i] = h[room - kept + i]
                    used = kept
                    extend_sums(h, hi, lo, 0, used)
                piece = min(count - done, room - used)
                h[used : used + piece] = values[done : done + piece]
                extend_sums(h, hi, lo, used, used + piece)
                end = used + piece
                counts[owner, s, 0] = end
                formed = 0
                have_deviations = False
                for f in range(windows[s, 0], windows[s, 1]):
                    n = features[f, 1]
                    if features[f, 3]:
                        formed = min(piece, max(0, end - n + 1))
                        have_deviations = False
                        if formed > 0:
                            a = end - formed + 1
                            window_means(
                                hi[a : end + 1], lo[a : end + 1], hi[a - n : end + 1 - n], lo[a - n : end + 1 - n],
                                n, means[:formed],
                            )  # fmt: skip
                    if formed <= 0:
                        continue
                    if features[f, 0] != SMA and not have_deviations:
                        window_deviations(
                            h[end - formed + 1 - n : end], means[:formed], n, series[s, 1], deviations[:formed]
                        )
                        have_deviations = True
                    target = out[features[f, 2]]
                    skip = done + piece - formed
                    if features[f, 0] == SMA:
                        for i in range(formed):
                            target[rows[skip + i]] = means[i]
                    elif features[f, 0] == UPPER:
                        for i in range(formed):
                            target[rows[skip + i]] = means[i] + widths[f] * deviations[i]
                    elif features[f, 0] == LOWER:
                        for i in range(formed):
                            target[rows[skip + i]] = means[i] - widths[f] * deviations[i]
                    elif features[f, 0] == DEVIATION:
                        for i in range(formed):
                            target[rows[skip + i]] = deviations[i]
                    else:
                        for i in range(formed):
                            if deviations[i] > 0.0:
                                target[rows[skip + i]] = (h[end - formed + i] - means[i]) / deviations[i]
                done += piece
        start = stop
    unformed = 0
    for f in range(out.shape[0]):
        for row in range(bars):
            unformed += out[f, row] != out[f, row]
    return unformed
