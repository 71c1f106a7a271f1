"""Who of a phase's portfolios goes on into the next: the best of a published ranking."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from stages.portfolio.records import PORTFOLIOS

from .ranking import ranked


def chosen(ranking: pa.Table, objective: str, top: int) -> list[str]:
    """Names of the best `top` by an objective, in the order of `ranking.ranked`, its ties included.

    Portfolios that failed, that lack the objective (null) and baselines are never chosen, so there may be fewer.
    """
    portfolios = ranking.select(PORTFOLIOS.names)
    baseline = pc.fill_null(portfolios.column("baseline"), False)
    fit = pc.and_(pc.is_null(portfolios.column("error")), pc.is_valid(portfolios.column(objective)))
    fit = pc.and_(fit, pc.invert(baseline))
    table = portfolios.filter(fit).cast(PORTFOLIOS)
    best = ranked(table.to_batches(), objective)
    return list(best.column("container").to_pylist()[:top])
