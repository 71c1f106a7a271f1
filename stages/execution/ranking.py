"""Who did best: portfolios in the order of a declared objective."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from stages.portfolio.records import PORTFOLIOS
from stages.portfolio.statistics import STATISTICS

RANKING = pa.schema([pa.field("rank", pa.int64(), nullable=False), *PORTFOLIOS], metadata={"record": "ranking"})
"""The columns of `records.PORTFOLIOS` after the portfolio's rank, from 1."""

OBJECTIVES = tuple(name for name, statistic in STATISTICS.items() if statistic.better)
"""Statistics of which one end is better: `STATISTICS[name].better` says which."""


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
    """All portfolios, best first.

    Ties go to the higher `total_return`, then to the name that comes first. Those without the objective (null) come
    last, by the same rules, and those that failed after them. Does not depend on the order they came in.
    """
    table = pa.Table.from_batches(portfolios, PORTFOLIOS).combine_chunks()
    names = table.column("container").to_pylist()
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

    order = sorted(range(len(names)), key=key)
    table = table.take(pa.array(order, pa.int64())).combine_chunks()
    columns = [pa.array(np.arange(1, len(order) + 1)), *(_whole(column) for column in table.columns)]
    return pa.RecordBatch.from_arrays(columns, schema=RANKING)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
