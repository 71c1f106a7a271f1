"""The figures at the top of the page: what was chosen, how good it is, against what, and out of how many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import column_said

from .curves import Curve
from .doubts import CONFIDENCE
from .examined import Examined
from .tables import MISSING


@dataclass(frozen=True)
class Figure:
    """One of them."""

    label: str
    value: str
    note: str = ""
    state: str = ""
    """`doubtful` where it speaks against the choice."""


def headline(
    focus: Examined, search: Examined, chosen: Mapping[str, Any] | None, windows: Mapping[str, Curve]
) -> Iterator[Figure]:
    """Objective, return, drawdown, baseline, trials, deflated Sharpe; without a chosen portfolio only the counts.

    `windows` is the stitched equity of a walk-forward, of the chosen, then of the baseline; empty where there is none.
    """
    counts, told = search.figures["portfolios"], search.figures["selection"]
    if chosen is not None:
        objective, rival = focus.objective, focus.baseline
        last = f", {focus.name}" if windows else ""
        yield Figure(said_name(objective) + last, said(objective, chosen[objective]), _sample(focus, search))
        if rival is not None:
            yield Figure("Baseline" + last, said(objective, rival[objective]), f"{said_name(objective)}, buy and hold")
        yield from _of_windows(*windows.values()) if windows else _of_one(objective, chosen, rival)
    failed = f", {counts['failed']:,} failed" if counts["failed"] else ""
    yield Figure("Trials", f"{told['trials']:,}", f"portfolios in {search.name}{failed}")
    deflated = told["deflated_sharpe"]
    yield Figure(
        "Deflated Sharpe",
        MISSING if deflated is None else f"{deflated:.2f}",
        "undefined" if deflated is None else f"probability that the best of {search.name} is more than luck",
        "doubtful" if deflated is None or deflated < CONFIDENCE else "",
    )


def _of_one(objective: str, chosen: Mapping[str, Any], rival: Mapping[str, Any] | None) -> Iterator[Figure]:
    for name, label in {"total_return": "Total return", "max_drawdown": "Largest drawdown"}.items():
        if name != objective:
            yield Figure(label, said(name, chosen[name]), f"baseline {said(name, rival[name])}" if rival else "")


def _of_windows(mine: Curve, rival: Curve | None = None) -> Iterator[Figure]:
    held = "" if rival is None else f"baseline {said('total_return', rival.total_return)}"
    yield Figure("Return, all windows", said("total_return", mine.total_return), held)
    falls = [said("max_drawdown", -float(curve.drawdown().min())) for curve in (mine, rival) if curve is not None]
    yield Figure("Drawdown, all windows", falls[0], f"baseline {falls[1]}" if len(falls) > 1 else "")


def said_name(statistic: str) -> str:
    return statistic.replace("_", " ").capitalize()


def said(name: str, value: Any) -> str:
    """One statistic as the tables have it."""
    return MISSING if value is None else column_said(name, [value])[0]


def _sample(focus: Examined, search: Examined) -> str:
    if focus is search:
        return f"in sample: best of {focus.name}"
    told = (focus.figures.get("earlier") or {}).get(focus.parent)
    before = told["best"]["earlier"] if told and told["best"] else None
    return f"out of sample; {said(focus.objective, before)} in {focus.parent}"
