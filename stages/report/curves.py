"""Equity over time as the report draws it: of one portfolio, its drawdown, and of several windows in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from pipeline import PhaseResults

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Times: TypeAlias = np.ndarray[Any, np.dtype[np.datetime64]]
MOST_POINTS = 2_000
"""Points of a curve that are drawn; of more, as many evenly spaced ones."""


@dataclass(frozen=True)
class Curve:
    """Equity of a portfolio at the ends of its kept buckets, with what it began with."""

    times: Times
    """(points,) datetime64[ns], UTC, ascending."""
    equity: Floats
    """(points,) quote currency."""
    start: float

    def drawdown(self) -> Floats:
        """Equity over the highest so far less 1, the start counted as one: 0 or below."""
        peaks = np.maximum.accumulate(np.append(self.start, self.equity))[1:]
        return self.equity / peaks - 1.0

    @property
    def total_return(self) -> float:
        return float(self.equity[-1] / self.start - 1.0)

    def thinned(self) -> Sequence[int]:
        """Places of the points to draw, the last one always among them."""
        count = len(self.times)
        if count <= MOST_POINTS:
            return range(count)
        return np.unique(np.linspace(0, count - 1, MOST_POINTS).round().astype(int)).tolist()  # type: ignore[no-any-return]


def curve_of(left: PhaseResults, row: Mapping[str, Any] | None) -> Curve | None:
    """The kept equity of a portfolio by its row of the ranking; None where none was kept."""
    if row is None or not row["start_equity"]:
        return None
    try:
        table = left[row["container"]]["equity"]
    except KeyError:
        return None
    if not table.num_rows:
        return None
    times = table.column("ts_event").to_numpy().astype("datetime64[ns]")
    return Curve(times, table.column("equity").to_numpy().astype(float), float(row["start_equity"]))


def stitched(curves: Sequence[Curve]) -> Curve | None:
    """Windows one after the other, each begun with what the one before it ended with.

    None of less than two, and where a window begins before another has ended: then they are no single story.
    """
    ordered = sorted(curves, key=lambda curve: curve.times[0])
    if len(ordered) < 2 or any(after.times[0] <= before.times[-1] for before, after in pairwise(ordered)):
        return None
    level, parts = ordered[0].start, []
    for curve in ordered:
        parts.append(level * curve.equity / curve.start)
        level = float(parts[-1][-1])
    return Curve(np.concatenate([curve.times for curve in ordered]), np.concatenate(parts), ordered[0].start)
