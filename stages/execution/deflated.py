"""How much of the best Sharpe ratio is luck: the best of many trials looks good by chance alone.

Formulas of Bailey and López de Prado, "The Deflated Sharpe Ratio" (2014); Sharpe ratios in them are per period.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean
from typing import Any

EULER = 0.5772156649015329
_NORMAL = NormalDist()


def selection(best: Mapping[str, Any] | None, portfolios: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    """What choosing `best` out of `portfolios` (rows of their statistics) says about its Sharpe ratio.

    `trials`: all portfolios that were tried, the size of the space; those that failed or have no ratio were tried too.
    `trials_with_ratio`: those whose ratios tell how far ratios scatter. `probabilistic_sharpe`: probability that the
    true ratio is above 0. `sharpe_of_luck`: annual ratio that the best of as many worthless trials would be expected to
    show. `deflated_sharpe`: probability that the true ratio is above that. None where undefined.

    Trials are taken as independent; parameters beside each other are not, so that luck is given rather too much.
    """
    ratios = [ratio for row in portfolios if (ratio := _per_period(row)) is not None]
    found: dict[str, float | int | None] = {
        "trials": len(portfolios),
        "trials_with_ratio": len(ratios),
        "probabilistic_sharpe": None,
        "sharpe_of_luck": None,
        "deflated_sharpe": None,
    }
    if best is None or _per_period(best) is None:
        return found
    found["probabilistic_sharpe"] = probability_above(0.0, best)
    luck = expected_best(ratios, len(portfolios))
    if luck is not None:
        found["sharpe_of_luck"] = luck * math.sqrt(best["periods_per_year"])
        found["deflated_sharpe"] = probability_above(luck, best)
    return found


def probability_above(benchmark: float, row: Mapping[str, Any]) -> float | None:
    """Probabilistic Sharpe ratio: that the true ratio per period is above `benchmark`, given length, skew and tails."""
    ratio, n = _per_period(row), row["n_periods"]
    if ratio is None or n < 2 or row["skew"] is None or row["kurtosis"] is None:
        return None
    variance = 1.0 - row["skew"] * ratio + (row["kurtosis"] + 2.0) / 4.0 * ratio * ratio
    if variance <= 0.0:
        return None
    return _NORMAL.cdf((ratio - benchmark) * math.sqrt(n - 1) / math.sqrt(variance))


def expected_best(ratios: Sequence[float], trials: int) -> float | None:
    """Expected largest of so many ratios of true value 0 that scatter as `ratios` do; None below two."""
    if len(ratios) < 2:
        return None
    mean = fmean(ratios)
    scatter = math.sqrt(math.fsum((ratio - mean) ** 2 for ratio in ratios) / (len(ratios) - 1))
    upper, lower = _NORMAL.inv_cdf(1.0 - 1.0 / trials), _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return scatter * ((1.0 - EULER) * upper + EULER * lower)


def _per_period(row: Mapping[str, Any]) -> float | None:
    if row["sharpe"] is None or not row["periods_per_year"]:
        return None
    return float(row["sharpe"] / math.sqrt(row["periods_per_year"]))
