"""The end of a backtest: ranks the portfolios and shows the best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from pipeline import Batch, Context, Footprint, Logic, Result, SchemaMismatch, Stage, StateOf, Transform
from stages.portfolio.records import PORTFOLIOS

from .figures import figures
from .ranking import RANKING, check_objective, ranked
from .table import report_of
from .walk import Joined, OutOfSample

ROW_BYTES = 500
"""Of a portfolio in the ranking, supposed by `footprint`."""


class Execution(Stage, frozen=True):
    """Ranks portfolios by one of their statistics.

        execution:
          type: execution
          inputs: [portfolio_*]
          objective: sharpe
          top: 10

    Input: rows of `stages/portfolio/records.py: PORTFOLIOS`, from any number of portfolios or groups of them. Result:
    `ranking`, all of them in order with a `rank` column, which is also the output. Whether more or less of the
    objective is better stands in `STATISTICS`; ties, missing values and baselines as `ranking.ranked` says.
    """

    is_feed: ClassVar[bool | None] = False
    ranking_key: ClassVar[str | None] = "ranking"

    objective: str = "sharpe"
    """The statistic to rank by."""
    top: int = 10
    """Rows of the report; the baseline's is shown beside them."""

    def __post_init__(self) -> None:
        check_objective(self.objective)
        if self.top < 1:
            raise ValueError(f"expected a top of 1 or more rows, found {self.top}")

    def footprint(self, members: int, rows: int | None) -> Footprint:
        """One row of `ROW_BYTES` for each portfolio, gathered and ranked."""
        size = None if rows is None else rows * ROW_BYTES
        return Footprint(rows=rows, memory_bytes=size, results={"ranking": size})

    def build(self, context: Context) -> Logic:
        return Ranker(self, rankings_of(context.earlier, context.name))

    def ranks_by(self, by: str | None = None) -> str:
        check_objective(by or self.objective)
        return by or self.objective

    def choose(self, ranking: pa.Table, top: int, by: str | None = None) -> Sequence[str]:
        from .choosing import chosen

        return chosen(ranking, self.ranks_by(by), top)

    def joining(
        self, name: str, pairs: Sequence[tuple[str, str]], by: str | None = None
    ) -> Sequence[tuple[str, Stage]]:
        steps = tuple(pairs)
        return [
            ("out_of_sample", OutOfSample(pairs=steps, ranking=name)),
            ("joined", Joined(pairs=steps, ranking=name, objective=self.ranks_by(by))),
        ]

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema:
        for name, schema in inputs.items():
            if schema is not None and not set(PORTFOLIOS.names) <= set(schema.names):
                raise SchemaMismatch(f"execution ranks portfolios, and '{name}' does not send their statistics")
        return RANKING


def rankings_of(earlier: Mapping[str, Any], container: str) -> dict[str, pa.RecordBatch | pa.Table]:
    """Phase -> the ranking the container of this name has left there, of phases where it has."""
    left = {phase: containers.get(container, {}).get("ranking") for phase, containers in earlier.items()}
    return {phase: ranking for phase, ranking in left.items() if ranking is not None}


class Ranker(Transform):
    """Gathers the portfolios' rows (a few hundred bytes each); ranks them and works out all figures at the end."""

    runs_in = "thread"

    def __init__(self, recipe: Execution, earlier: Mapping[str, pa.RecordBatch | pa.Table]) -> None:
        self._recipe = recipe
        self._earlier = earlier
        self._gathered: list[pa.RecordBatch] = []
        self._rows = 0
        self._ended = False
        self._ranking: pa.RecordBatch = ranked([], recipe.objective)
        self._figures: dict[str, Any] = {}

    def on_batch(self, batch: Batch) -> None:
        self._gathered.append(batch.columns.select(PORTFOLIOS.names).cast(PORTFOLIOS))
        self._rows += batch.num_rows

    def on_end(self) -> Iterator[Result | Batch]:
        self._rank()
        yield Result("ranking", self._ranking)
        yield Batch.from_columns(self._ranking)

    def _rank(self) -> None:
        self._ended = True
        self._ranking = ranked(self._gathered, self._recipe.objective)
        self._figures = figures(self._ranking, self._recipe.objective, self._earlier)

    def snapshot(self) -> Any:
        """The rows that came; the rest is worked out of them."""
        return self._state_of().seal({"rows": list(self._gathered), "ended": self._ended})

    def restore(self, state: Any) -> None:
        found = self._state_of().open(state)
        self._gathered = list(found["rows"])
        self._rows = sum(rows.num_rows for rows in self._gathered)
        if found["ended"]:
            self._rank()

    def _state_of(self) -> StateOf:
        return StateOf("execution", 1, {"objective": self._recipe.objective, "earlier": sorted(self._earlier)})

    def metrics(self) -> Mapping[str, Any]:
        """As `figures.figures` says."""
        return self._figures

    def report(self) -> pa.Table:
        """As `table.report_of` says."""
        return report_of(self._ranking, self._recipe.objective, self._recipe.top)

    def progress(self) -> str:
        """A few words for the live progress line."""
        return f"{self._rows:,} portfolios"
