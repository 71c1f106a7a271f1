"""How the portfolios of an earlier phase did in this one: whether their order held, and what was left of the best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from stages.portfolio.statistics import STATISTICS

from .distribution import quantile

Row: TypeAlias = Mapping[str, Any]
DECAY = "(earlier - now) / |earlier|; (now - earlier) / |earlier| where less is better"
"""Share of the objective that was lost: 0 none, 1 all of it, more where it changed its sign, below 0 a gain."""
NEEDED = ("rank", "container", "strategy", "parameters")


def comparison(earlier: pa.RecordBatch | pa.Table, now: pa.RecordBatch, objective: str) -> dict[str, Any]:
    """What two rankings (RANKING, baselines left out) of two phases say about each other.

    `portfolios`: those with the objective in both; where only some were selected, the rest is of them alone.
    `rank_correlation`: Spearman's of the objective, ties by their mean rank; None below two portfolios, and where all
    of a phase are equal. `best`: that of the earlier phase by its own objective, `median`: of the portfolios in both;
    each with this phase's objective `earlier` and `now`, and its `decay` as DECAY. None where undefined.
    """
    lower = STATISTICS[objective].better == "lower"
    both = pairs(earlier, now, objective)
    defined = [(old, new) for old, new in both if old[objective] is not None and new[objective] is not None]
    before = [float(old[objective]) for old, _ in defined]
    after = [float(new[objective]) for _, new in defined]
    medians = quantile(sorted(before), 0.5), quantile(sorted(after), 0.5)
    first = min(both, key=lambda pair: pair[0]["rank"], default=None)
    return {
        "portfolios": len(defined),
        "rank_correlation": spearman(before, after),
        "best": first
        and {
            "portfolio": first[1]["container"],
            "rank_earlier": first[0]["rank"],
            "rank_now": first[1]["rank"],
            **_change(first[0][objective], first[1][objective], lower=lower),
        },
        "median": _change(*medians, lower=lower),
        "decay_is": DECAY,
    }


def pairs(earlier: pa.RecordBatch | pa.Table, now: pa.RecordBatch | pa.Table, objective: str) -> list[tuple[Row, Row]]:
    """Rows of portfolios that are ranked in both, of the earlier phase and of this one: NEEDED and the objective."""
    return _matched(_rows(earlier, objective), _rows(now, objective))


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Pearson's correlation of mean ranks; None below two values, or where one side is all ties."""
    n = len(left)
    if n < 2:
        return None
    ranks = mean_ranks(left), mean_ranks(right)
    middle = (n + 1) / 2
    a, b = ([rank - middle for rank in side] for side in ranks)
    # Twice a rank is whole, so these sums are exact.
    scale = math.fsum(x * x for x in a) * math.fsum(y * y for y in b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(scale) if scale else None


def mean_ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value from 1, ascending; equal ones share the mean of theirs."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    ranks = [0.0] * len(values)
    begin = 0
    while begin < len(order):
        end = begin
        while end < len(order) and values[order[end]] == values[order[begin]]:
            end += 1
        for place in order[begin:end]:
            ranks[place] = (begin + 1 + end) / 2
        begin = end
    return ranks


def decay(earlier: float | None, now: float | None, *, lower: bool) -> float | None:
    """As DECAY says; None where one of them is, and of nothing."""
    if earlier is None or now is None or earlier == 0:
        return None
    lost = now - earlier if lower else earlier - now
    found = lost / abs(earlier)
    return found if math.isfinite(found) else None


def _change(earlier: float | None, now: float | None, *, lower: bool) -> dict[str, float | None]:
    return {"earlier": earlier, "now": now, "decay": decay(earlier, now, lower=lower)}


def _rows(ranking: pa.RecordBatch | pa.Table, objective: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ranking.select([*NEEDED, objective]).to_pylist()
    return [row for row in rows if row["rank"] is not None]


def _matched(earlier: Sequence[Row], now: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pairs of rows of one portfolio: of one strategy and parameters, else of one strategy and name.

    Names alone would do where they are kept, parameters alone where no two portfolios share them and no setting of the
    later phase changes them.
    """
    found = []
    old, new = list(earlier), list(now)
    for names in (("container", "strategy", "parameters"), ("strategy", "parameters"), ("container", "strategy")):
        theirs, ours = ([tuple(row[name] for name in names) for row in side] for side in (old, new))
        counts, ours_counts = Counter(theirs), Counter(ours)
        single = {key: row for key, row in zip(ours, new, strict=True) if counts[key] == ours_counts[key] == 1}
        found += [(row, single[key]) for key, row in zip(theirs, old, strict=True) if key in single]
        old = [row for key, row in zip(theirs, old, strict=True) if key not in single]
        new = [row for key, row in zip(ours, new, strict=True) if key not in single]
    return found
