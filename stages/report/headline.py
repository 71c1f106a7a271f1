"""The figures at the top of the page: what was chosen, how good it is, against what, and out of how many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import column_said

from .doubts import CONFIDENCE
from .examined import Examined
from .tables import MISSING
from .windows import Windows


@dataclass(frozen=True)
class Figure:
    """One of them."""

    label: str
    value: str
    note: str = ""
    state: str = ""
    """`doubtful` where it speaks against the choice."""


def headline(
    focus: Examined, search: Examined, chosen: Mapping[str, Any] | None, windows: Windows | None
) -> Iterator[Figure]:
    """Objective, return, drawdown, baseline, trials, deflated Sharpe; of all windows where there are several.

    Without a chosen portfolio only the counts.
    """
    if chosen is not None:
        yield from _of_one(focus, search, chosen) if windows is None else _of_windows(focus, search, chosen, windows)
    counts, told = search.figures["portfolios"], search.figures["selection"]
    failed = f", {counts['failed']:,} failed" if counts["failed"] else ""
    yield Figure("Trials", f"{told['trials']:,}", f"portfolios in {search.name}{failed}")
    deflated = told["deflated_sharpe"]
    yield Figure(
        "Deflated Sharpe",
        MISSING if deflated is None else f"{deflated:.2f}",
        "undefined" if deflated is None else f"probability that the best of {search.name} is more than luck",
        "doubtful" if deflated is None or deflated < CONFIDENCE else "",
    )


def _of_one(focus: Examined, search: Examined, chosen: Mapping[str, Any]) -> Iterator[Figure]:
    objective, rival = focus.objective, focus.baseline
    yield Figure(said_name(objective), said(objective, chosen[objective]), _sample(focus, search))
    if rival is not None:
        yield Figure("Baseline", said(objective, rival[objective]), f"{said_name(objective)}, buy and hold")
    for name, label in {"total_return": "Total return", "max_drawdown": "Largest drawdown"}.items():
        if name != objective:
            yield Figure(label, said(name, chosen[name]), f"baseline {said(name, rival[name])}" if rival else "")


def _of_windows(focus: Examined, search: Examined, chosen: Mapping[str, Any], windows: Windows) -> Iterator[Figure]:
    objective, joined = focus.objective, windows.joined
    if joined:
        yield Figure(
            "Sharpe, all windows", said("sharpe", joined["sharpe"]), f"out of sample, {windows.count:,} windows"
        )
        before = said(joined["objective"], joined["in_sample_mean"])
        after = said(joined["objective"], joined["out_of_sample_mean"])
        yield Figure(f"{said_name(joined['objective'])}, mean", after, f"out of sample; {before} in sample")
    else:
        label = f"{said_name(objective)}, {focus.name}"
        yield Figure(label, said(objective, chosen[objective]), _sample(focus, search))
    curves = list(windows.curves.values())
    gains = [said("total_return", curve.total_return) for curve in curves]
    yield Figure("Return, all windows", gains[0], f"baseline {gains[1]}" if len(gains) > 1 else "")
    falls = [said("max_drawdown", -float(curve.drawdown().min())) for curve in curves]
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
