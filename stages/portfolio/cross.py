"""Two averages crossing, for a thousand pairs at once: the targets of all crossing strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from stages.features.feature import Feature

from .bars import Bars, Floats


class Cross(NamedTuple):
    """One crossing: long (1) while `fast` is above `slow`, else `otherwise`."""

    fast: Feature
    slow: Feature
    otherwise: float
    """Target below: 0 flat, -1 short."""
    tie_is_long: bool = False
    skip_single_price: bool = False
    """Keep the target on bars with one price only."""
    same: float = 0.0
    """Averages that differ by no more than this share are equal."""


ROUNDING = 2.0**-50
"""How far two simple averages of decimal prices may differ, as a share, though the averages of the decimals are equal.

A price such as 167.73 has no exact double: the nearest is off by up to 2^-53 of it. An average of many is off by as
much, and by that again for its own rounding; two of them differ by up to 4 * 2^-53. (Of all pairs of averages of real
prices in the tests one in a hundred is a tie in decimals, and one of 125 of those was none in doubles.)
"""


class CrossGroup:
    """Targets of many crossings; every distinct feature column is read once per block of bars."""

    def __init__(self, crosses: Sequence[Cross]) -> None:
        features = sorted({side for cross in crosses for side in cross[:2]}, key=lambda feature: feature.sort_key)
        place = {feature: index for index, feature in enumerate(features)}
        self._features = features
        self._pairs = np.array([[place[cross.fast], place[cross.slow]] for cross in crosses], np.int64)
        self._otherwise = np.array([cross.otherwise for cross in crosses], np.float64)
        self._ties = np.array([cross.tie_is_long for cross in crosses], np.bool_)
        self._skips = np.array([cross.skip_single_price for cross in crosses], np.bool_)
        self._same = np.array([cross.same for cross in crosses], np.float64)
        self.skipped_decisions = 0
        self._kept: Floats = np.empty(0)
        self._matrix: Floats = np.empty((0, 0))
        self._single = np.empty(0, np.bool_)

    @property
    def num_skipping(self) -> int:
        """Members that decide nothing on bars with one price only."""
        return int(np.count_nonzero(self._skips))

    def warm(self) -> None:
        """Compile the kernel."""
        cross_kernel()

    def snapshot(self) -> int:
        """The count of decisions passed over; blocks of bars leave nothing else behind."""
        return self.skipped_decisions

    def restore(self, state: int) -> None:
        """Continue from a snapshot."""
        self.skipped_decisions = state

    def look(self, bars: Bars, first_bar: int, length: int) -> None:
        """Gather this block's features, and which of its bars have one price only."""
        block = slice(first_bar, first_bar + length)
        self._matrix = self._room(length)
        for row, feature in zip(self._matrix, self._features, strict=True):
            row[:] = bars[feature][block]
        if self._skips.any():
            self._single = single_price(bars)[block]
            self.skipped_decisions += self.num_skipping * int(np.count_nonzero(self._single))
        else:
            self._single = np.zeros(length, np.bool_)

    def _room(self, length: int) -> Floats:
        """A line per feature, where the block before was: fresh memory for each costs more than filling it."""
        cells = len(self._features) * length
        if len(self._kept) < cells:
            self._kept = np.empty(cells)
        return self._kept[:cells].reshape(-1, length)

    def on_bars(self, first: int, targets: Floats) -> None:
        """Fill `targets` (members, bars) for members from `first`."""
        own = slice(first, first + len(targets))
        cross_kernel()(
            self._matrix,
            self._pairs[own],
            self._otherwise[own],
            self._ties[own],
            self._skips[own],
            self._same[own],
            self._single,
            targets,
        )


class OneCross:
    """The same for one strategy, in numpy."""

    stateless = True

    def __init__(self, cross: Cross) -> None:
        self._cross = cross

    def on_bars(self, bars: Bars) -> Floats:
        """Targets of this batch, NaN where either average is not formed or the bar is skipped."""
        fast, slow = bars[self._cross.fast], bars[self._cross.slow]
        above = fast - slow > self._cross.same * np.abs(slow)
        if self._cross.tie_is_long:
            above |= fast == slow
        targets = np.where(above, 1.0, self._cross.otherwise)
        targets[np.isnan(fast) | np.isnan(slow)] = np.nan
        if self._cross.skip_single_price:
            targets[single_price(bars)] = np.nan
        return targets


def single_price(bars: Bars) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """True for bars whose open, high, low and close are one price."""
    first = bars["open"]
    return np.asarray((first == bars["high"]) & (first == bars["low"]) & (first == bars["close"]))


@cache
def cross_kernel() -> Callable[..., None]:
    """`cross_targets`, compiled: releases the GIL, cached on disk. The first call imports numba."""
    import numba

    signature = "void(f8[:,::1], i8[:,::1], f8[::1], b1[::1], b1[::1], f8[::1], b1[::1], f8[:,::1])"
    compiled: Callable[..., None] = numba.njit(signature, nogil=True, cache=True, error_model="numpy")(cross_targets)
    return compiled


def cross_targets(
    matrix: np.ndarray[Any, Any],
    pairs: np.ndarray[Any, Any],
    otherwise: np.ndarray[Any, Any],
    ties: np.ndarray[Any, Any],
    skips: np.ndarray[Any, Any],
    same: np.ndarray[Any, Any],
    single: np.ndarray[Any, Any],
    targets: np.ndarray[Any, Any],
) -> None:
    """`matrix` (features, bars), `pairs` (members, 2) rows of it, `targets` (members, bars) is written."""
    for m in range(targets.shape[0]):
        fast, slow = matrix[pairs[m, 0]], matrix[pairs[m, 1]]
        below, tie, skip, share = otherwise[m], ties[m], skips[m], same[m]
        for b in range(targets.shape[1]):
            if fast[b] != fast[b] or slow[b] != slow[b] or (skip and single[b]):
                targets[m, b] = np.nan
            elif fast[b] - slow[b] > share * abs(slow[b]) or (tie and fast[b] == slow[b]):
                targets[m, b] = 1.0
            else:
                targets[m, b] = below
