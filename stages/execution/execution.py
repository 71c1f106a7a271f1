"""The end of a backtest: ranks the portfolios and shows the best."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from pipeline import Batch, Context, Logic, Result, SchemaMismatch, Stage, Transform
from stages.portfolio.records import PORTFOLIOS

from .deflated import selection
from .ranking import RANKING, check_objective, ranked

SHARPE = ["sharpe", "periods_per_year"]
REPORTED = ("total_return", "sharpe", "max_drawdown", "n_trades", "win_rate", "fees", "end_equity")


class Execution(Stage, frozen=True):
    """Ranks portfolios by one of their statistics.

        execution:
          type: execution
          inputs: [portfolio_*]
          objective: sharpe
          top: 10

    Input: rows of `stages/portfolio/records.py: PORTFOLIOS`, from any number of portfolios or groups of them. Result:
    `ranking`, all of them in order with a `rank` column, which is also the output. Whether more or less of the
    objective is better stands in `STATISTICS`; ties and missing values as `ranking.ranked` says.
    """

    is_feed: ClassVar[bool | None] = False

    objective: str = "sharpe"
    """The statistic to rank by."""
    top: int = 10
    """Rows of the report."""

    def __post_init__(self) -> None:
        check_objective(self.objective)
        if self.top < 1:
            raise ValueError(f"expected a top of 1 or more rows, found {self.top}")

    def build(self, context: Context) -> Logic:
        return Ranker(self)

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema:
        for name, schema in inputs.items():
            if schema is not None and not set(PORTFOLIOS.names) <= set(schema.names):
                raise SchemaMismatch(f"execution ranks portfolios, and '{name}' does not send their statistics")
        return RANKING


class Ranker(Transform):
    """Gathers the portfolios' rows (a few hundred bytes each) and ranks them at the end."""

    def __init__(self, recipe: Execution) -> None:
        self._recipe = recipe
        self._gathered: list[pa.RecordBatch] = []
        self._ranking: pa.RecordBatch = ranked([], recipe.objective)

    def on_batch(self, batch: Batch) -> None:
        self._gathered.append(batch.columns.select(PORTFOLIOS.names).cast(PORTFOLIOS))

    def on_end(self) -> Iterator[Result | Batch]:
        self._ranking = ranked(self._gathered, self._recipe.objective)
        yield Result("ranking", self._ranking)
        yield Batch.from_columns(self._ranking)

    def metrics(self) -> Mapping[str, Any]:
        """`best` (None where no portfolio has the objective), its `selection`, `distribution` and `portfolios`."""
        objective = self._recipe.objective
        values = [value for value in self._column(objective) if value is not None]
        failed = sum(error is not None for error in self._column("error"))
        planned = self._ranking.num_rows
        best = self._ranking.slice(0, 1).to_pylist()[0] if values else None
        return {
            "objective": objective,
            "best": best
            and {
                "portfolio": best["container"],
                "strategy": best["strategy"],
                "parameters": json.loads(best["parameters"]),
                objective: best[objective],
            },
            "distribution": distribution(values) | {"null": planned - failed - len(values)},
            "selection": selection(best, self._ranking.select(SHARPE).to_pylist()),
            "portfolios": {"planned": planned, "run": planned - failed, "failed": failed},
        }

    def report(self) -> pa.Table:
        """The best `top` portfolios: rank, name, parameters, objective and what a person asks next."""
        top = self._ranking.slice(0, self._recipe.top)
        shown = [json.loads(text) for text in top.column("parameters").to_pylist()]
        told = _differing([json.loads(text) for text in self._column("parameters")])
        columns: dict[str, Any] = {"rank": top.column("rank"), "portfolio": top.column("container")}
        columns["parameters"] = pa.array([_said(parameters, told) for parameters in shown], pa.utf8())
        for name in (self._recipe.objective, *REPORTED):
            columns.setdefault(name, top.column(name))
        return pa.table(columns)

    def progress(self) -> str:
        """A few words for the live progress line."""
        return f"{sum(batch.num_rows for batch in self._gathered):,} portfolios"

    def _column(self, name: str) -> list[Any]:
        return list(self._ranking.column(name).to_pylist())


def distribution(values: Sequence[float]) -> dict[str, float | None]:
    """Smallest, quartiles (linear interpolation) and largest of some numbers; None without any."""
    ordered = sorted(values)
    shares = {"min": 0.0, "q1": 0.25, "median": 0.5, "q3": 0.75, "max": 1.0}
    return {name: _quantile(ordered, share) for name, share in shares.items()}


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    if not ordered:
        return None
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (place - below))


def _differing(parameters: Sequence[Mapping[str, Any]]) -> set[str]:
    """Names of parameters in which portfolios differ; all of them where there is but one portfolio."""
    first = parameters[0] if parameters else {}
    if len(parameters) == 1:
        return set(first)
    return {name for each in parameters for name, value in each.items() if name not in first or first[name] != value}


def _said(parameters: Mapping[str, Any], names: set[str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items() if name in names)
