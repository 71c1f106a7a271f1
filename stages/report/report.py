"""The report on a backtest: what its page holds, and what the terminal is told of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline import PhaseResults, Report
from stages.execution.table import report_of

from .doubts import doubts
from .examined import Examined, examine, followers, search_of
from .headline import headline
from .page import Page, Section, html_of
from .sections import (
    against_the_baseline,
    failures,
    identity,
    ledger,
    measured,
    out_of_sample,
    parameter_space,
    ranking,
    spread,
    statistics,
)
from .space import Landscape, landscape, said_value
from .windows import Windows, windows_of

TOP = 10
"""Rows of the terminal's table, beside baselines."""


def backtest_report(phases: Sequence[PhaseResults]) -> Report | None:
    """The page and the table about the last of the phases that ranked portfolios, None where none did.

    Raises `InputError` where its ranking was not kept, `PenstockError` where plotly or jinja2 is not installed. However
    many portfolios there are, the page shows a bounded number of rows, cells and points, and says so.
    """
    examined = examine(phases)
    if not examined:
        return None
    focus = examined[-1]
    page = page_of(examined, windows_of(followers(examined), phases))
    words = [(figure.label.lower(), f"{figure.value}  {figure.note}".rstrip()) for figure in page.headline]
    words += [("doubt", f"{doubt.head}: {doubt.sentence}") for doubt in page.doubts]
    table = report_of(focus.ranking, focus.objective, TOP)
    return Report(html_of(page), table, f"{page.title}: {focus.name}", words)


def page_of(phases: Sequence[Examined], windows: Windows | None = None) -> Page:
    """Everything the page says of the last of these phases and those before it, and of their windows in a row."""
    focus = phases[-1]
    search = search_of(focus, phases)
    chosen = focus.chosen()
    found = _landscape(search)
    record, summary = focus.left.record, focus.left.summary
    return Page(
        title=summary.name,
        subtitle=f"Backtest, phase {focus.name}",
        facts={label: words for label, words in _facts(focus, record) if words},
        chosen=chosen["container"] if chosen else "",
        chosen_in=f"best of {focus.name}" if focus is search else f"chosen in {focus.parent} for {focus.name}",
        parameters=_parameters(chosen),
        headline=list(headline(focus, search, chosen, windows)),
        doubts=list(doubts(focus, search, chosen, found, windows)),
        sections=list(_sections(phases, search, chosen, found, windows)),
        version=f"Penstock {record.get('version', '')}".rstrip(),
    )


def _sections(
    phases: Sequence[Examined],
    search: Examined,
    chosen: Mapping[str, Any] | None,
    found: Landscape | None,
    windows: Windows | None,
) -> Iterator[Section]:
    focus, follow = phases[-1], followers(phases)
    if follow:
        yield out_of_sample(follow, windows)
    yield ranking(focus)
    if chosen is not None:
        yield against_the_baseline(focus, chosen)
    if found is not None:
        yield parameter_space(search, found)
    yield from spread(search)
    if chosen is not None:
        yield statistics(focus, chosen)
    if focus.failed:
        yield failures(focus)
    yield ledger(focus)
    yield measured(phases)
    yield identity(phases)


def _landscape(search: Examined) -> Landscape | None:
    best = search.figures["best"] and search.row(search.figures["best"]["portfolio"])
    return landscape(search.rivals, best, search.objective, lower=search.lower) if best else None


def _facts(focus: Examined, record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Objective", f"{focus.objective}, {'lower' if focus.lower else 'higher'} is better"
    ends = [row["ts_event"] for row in focus.rows if row["ts_event"] is not None]
    yield "Window", focus.window or (f"all of the data, to {max(ends):%Y-%m-%d %H:%M}" if ends else "")
    yield "Run", focus.left.folder.absolute().parent.resolve().name
    started = record.get("started_ns")
    yield "Started", datetime.fromtimestamp(started // 10**9, UTC).strftime("%Y-%m-%d %H:%M UTC") if started else ""
    status = focus.left.summary.status
    yield "Status", status if status != "complete" else ""


def _parameters(chosen: Mapping[str, Any] | None) -> dict[str, str]:
    if chosen is None:
        return {}
    told = {name: said_value(value) for name, value in json.loads(chosen["parameters"]).items()}
    return {"strategy": str(chosen["strategy"]), **told}
