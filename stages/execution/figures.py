"""What a phase says of its portfolios: how many ran, the best, the baseline, the spread, and how far to believe it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from stages.portfolio.statistics import STATISTICS

from .comparison import comparison
from .deflated import selection
from .distribution import distributions
from .ranking import TIES, rivals

SELECTION = ["error", "sharpe", "periods_per_year", "n_periods", "skew", "kurtosis"]


def figures(
    ranking: pa.RecordBatch, objective: str, earlier: Mapping[str, pa.RecordBatch | pa.Table]
) -> dict[str, Any]:
    """Figures of a phase from its RANKING, and those of the phases it follows, by name.

    `portfolios`: planned = run + failed. `best`: the first of those with the objective, with its `statistics`, None
    where nobody has it; `ties` says who comes first among equals. `selection` as `deflated.selection`. `distribution`:
    of each statistic, over those that ran. `baseline`: the one of the best's own group, else of its instrument, else
    the first there is; `difference` is the best's statistics less the baseline's. `earlier`: phase -> `comparison`.
    Baselines count in nothing but `baseline`.
    """
    portfolios = rivals(ranking)
    ran = portfolios.filter(portfolios.column("error").is_null())
    head = ran.slice(0, 1).to_pylist()
    best = head[0] if head and head[0][objective] is not None else None
    baseline = _baseline_for(best, ranking.filter(ranking.column("baseline")).to_pylist())
    return {
        "objective": objective,
        "better": STATISTICS[objective].better,
        "ties": TIES,
        "portfolios": {
            "planned": portfolios.num_rows,
            "run": ran.num_rows,
            "failed": portfolios.num_rows - ran.num_rows,
        },
        "best": best
        and {
            "portfolio": best["container"],
            "strategy": best["strategy"],
            "parameters": json.loads(best["parameters"]),
            objective: best[objective],
            "statistics": _statistics(best),
        },
        "selection": selection(best, portfolios.select(SELECTION).to_pylist()),
        "baseline": baseline
        and {
            "portfolio": baseline["container"],
            "instrument_id": baseline["instrument_id"],
            objective: baseline[objective],
            "statistics": _statistics(baseline),
            "difference": best and _difference(best, baseline),
        },
        "distribution": distributions(ran),
        "earlier": {phase: comparison(ranks, portfolios, objective) for phase, ranks in earlier.items()},
    }


def _baseline_for(best: Mapping[str, Any] | None, baselines: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The one to hold `best` against; baselines come in the order of the ranking."""
    if not baselines or best is None:
        return baselines[0] if baselines else None
    own = [row for row in baselines if best["container"].startswith(row["container"].removesuffix("baseline"))]
    own.sort(key=lambda row: -len(row["container"]))
    same = [row for row in baselines if row["instrument_id"] == best["instrument_id"]]
    return [*own, *same, *baselines][0]


def _statistics(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in STATISTICS}


def _difference(best: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, float | None]:
    names = [name for name, statistic in STATISTICS.items() if statistic.kind != "text"]
    return {
        name: None if best[name] is None or baseline[name] is None else best[name] - baseline[name] for name in names
    }
