"""What became of a run's phases, as a table: their windows, whom they ran, and the objective in- and out-of-sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.results import PhaseResults
from pipeline.summary import PhaseSummary


def phase_rows(folder: Path, summaries: Mapping[str, PhaseSummary]) -> list[dict[str, Any]]:
    """One row per phase. Blocking: reads rankings.

    `best` is the best of that phase. `in_sample` and `out_of_sample` are means of the objective over those a phase
    selected: where they were selected, and here. Columns that no phase has anything for are left out.
    """
    objectives = {phase: _objectives(PhaseResults(folder / phase, found)) for phase, found in summaries.items()}
    rows = []
    for phase, summary in summaries.items():
        name, values = objectives[phase]
        best = _best(summary)
        row = {
            "phase": phase,
            "window": _said(summary.window),
            "portfolios": _count(summary),
            "best": None if best is None else best.get("portfolio"),
            name or "objective": None if best is None or name is None else best.get(name),
        }
        if summary.selection is not None:
            source, chosen = summary.selection["phase"], summary.selection["portfolios"]
            known = objectives.get(source, (None, {}))[1]
            row["in_sample"] = _mean(known.get(portfolio) for portfolio in chosen)
            row["out_of_sample"] = _mean(values.get(portfolio) for portfolio in chosen)
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    kept = [name for name in names if any(row.get(name) is not None for row in rows)]
    return [{name: row.get(name) for name in kept} for row in rows]


def _objectives(results: PhaseResults) -> tuple[str | None, dict[str, float | None]]:
    """The objective a phase was ranked by, and each portfolio's, as far as the ranking was kept."""
    for container, metrics in results.summary.aggregate_metrics.items():
        objective = metrics.get("objective")
        if objective is None or "best" not in metrics:
            continue
        try:
            ranking = results[container]["ranking"]
            names, values = ranking.column("container").to_pylist(), ranking.column(objective).to_pylist()
        except (KeyError, InputError):
            return objective, {}
        return objective, dict(zip(names, values, strict=True))
    return None, {}


def _count(summary: PhaseSummary) -> int | None:
    """How many were ranked, where what ranks says so; else how many there were."""
    for metrics in summary.aggregate_metrics.values():
        counts = metrics.get("portfolios")
        if "objective" in metrics and isinstance(counts, Mapping) and "planned" in counts:
            return int(counts["planned"])
    return sum(result.members for result in summary.container_results.values()) or None


def _best(summary: PhaseSummary) -> Mapping[str, Any] | None:
    return next((metrics["best"] for metrics in summary.aggregate_metrics.values() if metrics.get("best")), None)


def _said(window: Mapping[str, str | None] | None) -> str | None:
    """`2024-01-01 .. 2024-03-01`."""
    if window is None:
        return None
    return " .. ".join(_moment(window[end]) for end in ("from", "until")).strip()


def _moment(text: str | None) -> str:
    if text is None:
        return ""
    said = f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}"
    return said.removesuffix(":00").removesuffix(" 00:00")


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
