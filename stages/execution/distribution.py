"""How a statistic is spread over the portfolios of a phase."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from stages.portfolio.statistics import STATISTICS

SHARES = {"min": 0.0, "q1": 0.25, "median": 0.5, "q3": 0.75, "max": 1.0}


def distributions(portfolios: pa.RecordBatch) -> dict[str, dict[str, float | int | None]]:
    """Each statistic that is a number -> its `distribution` over these rows, in the order of STATISTICS."""
    return {
        name: distribution(portfolios.column(name).to_pylist())
        for name, statistic in STATISTICS.items()
        if statistic.kind != "text"
    }


def distribution(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Smallest, quartiles (linear interpolation) and largest of what is defined, None where nothing is.

    `null` counts what is undefined, `null_share` is that over all of them; None of none.
    """
    ordered = sorted(value for value in values if value is not None)
    missing = len(values) - len(ordered)
    spread: dict[str, float | int | None] = {name: quantile(ordered, share) for name, share in SHARES.items()}
    return spread | {"null": missing, "null_share": missing / len(values) if values else None}


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Linear interpolation between the two nearest of ascending values; None without any."""
    if not ordered:
        return None
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (place - below))
