"""Who did best: portfolios in the order of a declared objective, the baseline in its place among them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from stages.portfolio.records import PORTFOLIOS
from stages.portfolio.statistics import STATISTICS

RANKING = pa.schema([pa.field("rank", pa.int64()), *PORTFOLIOS], metadata={"record": "ranking"})
"""The columns of `records.PORTFOLIOS` after the portfolio's rank, from 1; a baseline's is null."""

OBJECTIVES = tuple(name for name, statistic in STATISTICS.items() if statistic.better)
"""Statistics of which one end is better: `STATISTICS[name].better` says which."""

TIES = "higher total_return, then the name that comes first"
"""What decides between portfolios of one objective."""


def check_objective(name: str) -> None:
    """Raises `ValueError` for what no portfolio can be ranked by, with a suggestion."""
    if name in OBJECTIVES:
        return
    if name in STATISTICS:
        raise ValueError(f"neither more nor less {name} is better; rank by one of {', '.join(OBJECTIVES)}")
    near = difflib.get_close_matches(name, OBJECTIVES, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(OBJECTIVES)}"
    raise ValueError(f"there is no statistic '{name}' to rank by; {hint}")


def ranked(portfolios: Sequence[pa.RecordBatch], objective: str) -> pa.RecordBatch:
    """All portfolios, best first, as RANKING.

    Ties as TIES says. Those without the objective (null) come last, by the same rules; those that failed after them.
    Baselines stand in the order like all others, but have no rank and count for nobody else's; those that differ in
    nothing but the name, as every group has one, are one row, called by the first of their names. Does not depend on
    the order the portfolios came in.
    """
    table = pa.Table.from_batches(portfolios, PORTFOLIOS).combine_chunks()
    names = table.column("container").to_pylist()
    baseline = table.column("baseline").to_pylist()
    failed = [error is not None for error in table.column("error").to_pylist()]
    values = table.column(objective).to_pylist()
    returns = table.column("total_return").to_pylist()
    sign = -1.0 if STATISTICS[objective].better == "higher" else 1.0

    def key(place: int) -> tuple[bool, bool, float, bool, float, str]:
        value, total = values[place], returns[place]
        return (
            failed[place],
            value is None,
            0.0 if value is None else sign * value,
            total is None,
            0.0 if total is None else -total,
            names[place],
        )

    repeated = _repeated(table, [place for place, is_baseline in enumerate(baseline) if is_baseline])
    order = sorted((place for place in range(len(names)) if place not in repeated), key=key)
    ranks: list[int | None] = []
    rank = 0
    for place in order:
        rank += not baseline[place]
        ranks.append(None if baseline[place] else rank)
    table = table.take(pa.array(order, pa.int64())).combine_chunks()
    columns = [pa.array(ranks, pa.int64()), *(_whole(column) for column in table.columns)]
    return pa.RecordBatch.from_arrays(columns, schema=RANKING)


def rivals(ranking: pa.RecordBatch) -> pa.RecordBatch:
    """The ranked portfolios, without baselines."""
    import pyarrow.compute as pc

    return ranking.filter(pc.invert(ranking.column("baseline")))


def _repeated(table: pa.Table, baselines: Sequence[int]) -> set[int]:
    """Places of baselines of which one with a name that comes before says the same."""
    rows: list[dict[str, Any]] = table.take(pa.array(baselines, pa.int64())).to_pylist()
    seen: set[tuple[Any, ...]] = set()
    found = set()
    for place, row in sorted(zip(baselines, rows, strict=True), key=lambda item: str(item[1]["container"])):
        said = tuple(value for name, value in row.items() if name != "container")
        if said in seen:
            found.add(place)
        seen.add(said)
    return found


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
