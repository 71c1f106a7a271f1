"""The table a person is shown of a ranking: its best rows, and the baseline wherever it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

REPORTED = ("total_return", "sharpe", "max_drawdown", "n_trades", "win_rate", "fees", "end_equity")
BASELINE = "baseline"
"""Stands where others have their parameters."""


def report_of(ranking: pa.RecordBatch | pa.Table, objective: str, top: int) -> pa.Table:
    """The best `top` portfolios: rank, name, parameters, objective and what a person asks next.

    Baselines that stand among them or below are shown too, without a rank, marked as such.
    """
    ranks = ranking.column("rank").to_pylist()
    shown = ranking.take(
        pa.array([place for place, rank in enumerate(ranks) if rank is None or rank <= top], pa.int64())
    )
    columns: dict[str, Any] = {"rank": shown.column("rank"), "portfolio": shown.column("container")}
    columns["parameters"] = pa.array(said_parameters(ranking, shown), pa.utf8())
    for name in (objective, *REPORTED):
        columns.setdefault(name, shown.column(name))
    return pa.table(columns)


def said_parameters(ranking: pa.RecordBatch | pa.Table, shown: pa.RecordBatch | pa.Table) -> list[str]:
    """Parameters of the rows shown, as far as portfolios of the ranking differ in them.

    Where there are several strategies, each row opens with its own.
    """
    strategies = [
        row["strategy"] for row in ranking.select(["strategy", "baseline"]).to_pylist() if not row["baseline"]
    ]
    told = differing(ranking)
    said = []
    for row in shown.select(["strategy", "parameters", "baseline"]).to_pylist():
        if row["baseline"]:
            said.append(BASELINE)
            continue
        words = _said(json.loads(row["parameters"]), told.get(row["strategy"], set()))
        said.append(f"{row['strategy']} {words}".rstrip() if len(set(strategies)) > 1 else words)
    return said


def differing(ranking: pa.RecordBatch | pa.Table) -> dict[str, set[str]]:
    """Strategy -> names of the parameters in which its portfolios differ; all of them where it has but one."""
    parameters: dict[str, list[Mapping[str, Any]]] = {}
    for row in ranking.select(["strategy", "parameters", "baseline"]).to_pylist():
        if not row["baseline"]:
            parameters.setdefault(row["strategy"], []).append(json.loads(row["parameters"]))
    return {strategy: _differing(each) for strategy, each in parameters.items()}


def _differing(parameters: Sequence[Mapping[str, Any]]) -> set[str]:
    first = parameters[0]
    if len(parameters) == 1:
        return set(first)
    names = {name for each in parameters for name in each}
    return {name for name in names if any(name not in each or each[name] != first.get(name) for each in parameters)}


def _said(parameters: Mapping[str, Any], names: set[str]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in parameters.items() if name in names)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
