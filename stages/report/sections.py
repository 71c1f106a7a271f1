"""The sections of the page: plots and tables, with captions that say what is seen and what is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.execution.comparison import DECAY, pairs

from .curves import Curve, curve_of
from .drawing import MOST_MARKS, drawdown_plot, equity_plot, in_and_out_plot, landscape_plot, spread_plot
from .examined import Examined
from .headline import said, said_name
from .page import Section, Shown
from .space import MOST_VALUES, Landscape, said_value
from .tables import (
    MOST_FAILED,
    MOST_LEDGER,
    MOST_RANKED,
    containers_table,
    edges_table,
    failures_table,
    hashes_table,
    measured_table,
    phases_table,
    ranking_table,
    statistics_table,
)
from .windows import Followers, Windows

BASELINE = "baseline"
GRIDS = {"1m": "minute", "5m": "5 minutes", "15m": "15 minutes", "1h": "hour", "4h": "4 hours", "1d": "day"}
QUARTILES = {"a quarter below": "q1", "median": "median", "a quarter above": "q3"}


def ranking(focus: Examined) -> Section:
    counts = focus.figures["portfolios"]
    some = f" The best {MOST_RANKED} are shown." if counts["planned"] > MOST_RANKED else ""
    tinted = " The baseline stands where its figures put it, without a rank." if focus.baseline else ""
    order = f"By {focus.objective}; ties go to the {focus.figures['ties']}. A column's head sorts by it."
    return Section(
        "Ranking",
        "ranking",
        f"{counts['run']:,} of {counts['planned']:,} portfolios ran in {focus.name}.",
        [Shown(f"{order}{some}{tinted}", table=ranking_table(focus))],
    )


def against_the_baseline(focus: Examined, chosen: Mapping[str, Any]) -> Section:
    """Equity and drawdown of the chosen portfolio and of the baseline in one phase."""
    curves = _those({chosen["container"]: curve_of(focus.left, chosen), BASELINE: curve_of(focus.left, focus.baseline)})
    title = "Against the baseline" if BASELINE in curves else "Equity"
    if not curves:
        return Section(title, "equity", "No equity was kept; `persistence: {on_completion: true}` keeps it.")
    each = GRIDS.get(chosen["equity_every"], "bar")
    return Section(
        title,
        "equity",
        f"In {focus.name}.",
        [
            Shown(f"Equity as a multiple of the start, at the end of each {each}, UTC.", equity_plot("equity", curves)),
            Shown(
                "Fall from the highest equity so far. The figure at the top is over every bar and may be deeper.",
                drawdown_plot("drawdown", curves),
            ),
        ],
    )


def parameter_space(search: Examined, found: Landscape) -> Section:
    """The objective over the two parameters that tell most, or the one there is."""
    axes = [axis for axis in (found.x, found.y) if axis is not None]
    said_of = f"{said_name(search.objective)} of {found.strategy} in {search.name} by"
    sentences = [f"{said_of} {' and '.join(axis.name for axis in axes)}."]
    if found.others and found.y is not None:
        sentences.append("These two explain most of the objective's variance.")
    if found.others and found.sliced:
        held = ", ".join(f"{name} {said_value(value)}" for name, value in found.others.items())
        sentences.append(f"Others are as the best has them: {held}.")
    elif found.others:
        sentences.append(f"Each place shows the best over {', '.join(found.others)}, which flatters.")
    if together := [axis.name for axis in axes if axis.together]:
        sentences.append(f"Neighbouring values of {' and '.join(together)} share one of {MOST_VALUES} classes, and the")
        sentences.append("best of a class is shown.")
    sentences.append(f"The {'frame' if found.y is not None else 'large point'} is the best of all.")
    return Section(
        "Parameters",
        "parameters",
        "A good choice stands among good neighbours; one that stands alone is an accident.",
        [Shown(" ".join(sentences), landscape_plot(found, search.objective, lower=search.lower))],
    )


def spread(search: Examined) -> Iterator[Section]:
    """How the objective is distributed over the portfolios of the search; nothing where none has it."""
    objective = search.objective
    values = [row[objective] for row in search.rivals if row[objective] is not None]
    if not values or not math.isfinite(max(values) - min(values)):
        return
    told = search.figures["distribution"][objective]
    marks = {"best": search.figures["best"][objective]} if search.figures["best"] else {}
    if search.baseline is not None and search.baseline[objective] is not None:
        marks[BASELINE] = search.baseline[objective]
    quartiles = ", ".join(f"{name} {said(objective, told[key])}" for name, key in QUARTILES.items())
    without = f" {told['null']:,} have none." if told["null"] else ""
    caption = f"{said_name(objective)} of {len(values):,} portfolios in {search.name}: {quartiles}.{without}"
    yield Section("Spread of the objective", "spread", "", [Shown(caption, spread_plot(values, marks, objective))])


def out_of_sample(follow: Followers, windows: Windows | None) -> Section:
    """A table of phases and what became of their choices, a point for each portfolio, the windows in a row."""
    objective = follow[-1][1].objective
    points, best = _points(follow, objective)
    lost = f"Lost is the share of the {objective} that is gone: {DECAY}. Rank correlation is Spearman's."
    shown = []
    if windows is not None:
        shared = " Those selected share the capital equally." if windows.joined else ""
        caption = (
            f"{windows.count:,} windows in a row, none seen by the choice made for it; each begins with what the one "
            f"before ended with. Equity as a multiple of the start.{shared}"
        )
        shown.append(Shown(caption, equity_plot("stitched", windows.curves)))
    shown.append(Shown(lost, table=phases_table(follow)))
    if points:
        stride = math.ceil(len(points) / MOST_MARKS)
        some = f" One in {stride} of {len(points):,} is shown." if stride > 1 else ""
        caption = f"A point for each portfolio that ran in both. Below the dotted line it did worse than before.{some}"
        shown.append(Shown(caption, in_and_out_plot(points[::stride], best, objective)))
    intro = "What was chosen on one stretch of time, on the stretch after it."
    return Section("In sample, out of sample", "out-of-sample", intro, shown)


def statistics(focus: Examined, chosen: Mapping[str, Any]) -> Section:
    return Section(
        "Every statistic",
        "statistics",
        "Ratios and returns are shares, durations seconds, money in quote currency.",
        [
            Shown(
                f"Least to most are over the portfolios of {focus.name} that ran, without baselines; undefined counts "
                "those that have no such figure.",
                table=statistics_table(focus, chosen, focus.baseline),
            )
        ],
        folded=True,
    )


def failures(focus: Examined) -> Section:
    more = f" The first {MOST_FAILED} of {len(focus.failed):,}." if len(focus.failed) > MOST_FAILED else ""
    return Section("What failed", "failures", "", [Shown(f"Errors by portfolio.{more}", table=failures_table(focus))])


def ledger(focus: Examined) -> Section:
    """Rows on every edge and in every container."""
    books = focus.left.summary.ledger
    off = sum(edge.sent != edge.received + edge.dropped + edge.in_flight for edge in books.edges)
    verdict = f"{off:,} edges do not balance" if off else "Every row is accounted for"
    many = max(len(books.edges), len(books.containers)) > MOST_LEDGER
    some = f" The first {MOST_LEDGER} of {len(books.edges):,} and {len(books.containers):,}." if many else ""
    return Section(
        "Ledger",
        "ledger",
        f"{verdict}, on {len(books.edges):,} edges between {len(books.containers):,} containers.",
        [
            Shown("Rows on each edge: sent = received + dropped + in flight.", table=edges_table(focus)),
            Shown(f"Rows in each container: received = processed + late.{some}", table=containers_table(focus)),
        ],
        folded=True,
    )


def measured(phases: Sequence[Examined]) -> Section:
    caption = "Spilled are bytes that left memory for lack of room; peak RSS is the whole process's so far."
    return Section("How it was measured", "measured", "", [Shown(caption, table=measured_table(phases))])


def identity(phases: Sequence[Examined]) -> Section:
    caption = "Hashes. Equal ones of configuration, code and data give an equal output, byte for byte."
    return Section("Identity", "hashes", "", [Shown(caption, table=hashes_table(phases))])


def _points(follow: Followers, objective: str) -> tuple[list[tuple[float, float, str]], list[tuple[float, float, str]]]:
    """In sample, out of sample and name of all portfolios in both, and of those that were best in sample."""
    points, best = [], []
    for before, after in follow:
        chosen = after.chosen()
        for old, new in pairs(before.ranking, after.ranking, objective):
            if old[objective] is not None and new[objective] is not None:
                point = old[objective], new[objective], f"{new['container']}, {after.name}"
                points.append(point)
                if chosen is not None and new["container"] == chosen["container"]:
                    best.append(point)
    return points, best


def _those(given: Mapping[str, Curve | None]) -> dict[str, Curve]:
    return {label: curve for label, curve in given.items() if curve is not None}
