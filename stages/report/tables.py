"""The tables of the page: cells as people read them, beside what they are sorted by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import bytes_said, column_said, rows_said, seconds_said
from stages.execution.ranking import RANKING
from stages.execution.table import REPORTED, said_parameters
from stages.portfolio.statistics import STATISTICS

from .examined import Examined

MOST_RANKED = 50
"""Rows of the ranking that are shown, beside baselines."""
MOST_FAILED = 20
MOST_LEDGER = 200
"""Edges, and containers, whose books are shown one by one."""
MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """What is read, and what is sorted by (None comes last)."""

    text: str
    key: float | str | None


@dataclass(frozen=True)
class Column:
    """A head and whether it holds numbers."""

    head: str
    numeric: bool


@dataclass(frozen=True)
class Table:
    """Rows of cells; `marks` are a row's classes."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    marks: Sequence[str]
    sortable: bool = False


def table_of(
    columns: Mapping[str, Sequence[Any]],
    marks: Sequence[str] = (),
    *,
    sortable: bool = False,
    right: Collection[str] = (),
) -> Table:
    """Name -> values, all of one length, said as the terminal says them; numbers, and columns named, to the right."""
    names = list(columns)
    said = [[MISSING if text == "-" else text for text in column_said(name, columns[name])] for name in names]
    numeric = [name in right or all(_is_number(value) for value in columns[name]) for name in names]
    rows = [
        [Cell(text, _sort_key(value)) for text, value in zip(texts, values, strict=True)]
        for texts, values in zip(zip(*said, strict=True), zip(*columns.values(), strict=True), strict=True)
    ]
    heads = [Column(name.replace("_", " "), right) for name, right in zip(names, numeric, strict=True)]
    return Table(heads, rows, list(marks) or [""] * len(rows), sortable)


def ranking_table(phase: Examined) -> Table:
    """The best MOST_RANKED portfolios, baselines in their place or at the end."""
    shown = [row for row in phase.rows if row["baseline"] or row["rank"] <= MOST_RANKED]
    columns: dict[str, Sequence[Any]] = {name: [row[key] for row in shown] for name, key in HEADS.items()}
    columns["parameters"] = parameters_of(phase, shown)
    for name in (phase.objective, *REPORTED):
        columns.setdefault(name, [row[name] for row in shown])
    best = phase.figures["best"] and phase.figures["best"]["portfolio"]
    marks = ["baseline" if row["baseline"] else "best" if row["container"] == best else "" for row in shown]
    return table_of(columns, marks, sortable=True)


HEADS = {"rank": "rank", "portfolio": "container"}


def parameters_of(phase: Examined, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the terminal's table says of parameters."""
    return said_parameters(phase.ranking, pa.Table.from_pylist(list(rows), RANKING))


def failures_table(phase: Examined) -> Table:
    shown = phase.failed[:MOST_FAILED]
    return table_of(
        {
            "portfolio": [row["container"] for row in shown],
            "parameters": [row["parameters"] for row in shown],
            "error": [row["error"] for row in shown],
        }
    )


def statistics_table(phase: Examined, chosen: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> Table:
    """Every statistic of the chosen, of the baseline, and its spread over all; a row each."""
    spread = phase.figures["distribution"]
    rows = []
    for name, statistic in STATISTICS.items():
        told = spread.get(name, {})
        values = [chosen[name], baseline and baseline[name], *(told.get(share) for share in SPREAD)]
        said = [MISSING if text == "-" else text for text in column_said(name, values)]
        without = told.get("null")
        said.append(MISSING if without is None else f"{without:,}")
        rows.append([Cell(name, name), *(Cell(text, None) for text in said), Cell(statistic.meaning, None)])
    heads = ["statistic", str(chosen["container"]), "baseline", *SPREAD.values(), "undefined"]
    columns = [Column(head, place > 0) for place, head in enumerate(heads)]
    return Table([*columns, Column("what it is", False)], rows, [""] * len(rows))


SPREAD = {"min": "least", "q1": "1st quartile", "median": "median", "q3": "3rd quartile", "max": "most"}


def phases_table(pairs: Sequence[tuple[Examined, Examined]]) -> Table:
    """A row for each phase that follows another: what was chosen, and what became of it."""
    columns: dict[str, list[Any]] = {name: [] for name in PHASES}
    for before, after in pairs:
        told = (after.figures.get("earlier") or {}).get(before.name) or {}
        best, rival = told.get("best") or {}, after.baseline
        decayed = best.get("decay")
        values = [
            before.name, after.name, after.window or MISSING, after.figures["portfolios"]["run"],
            best.get("portfolio"), best.get("earlier"), best.get("now"),
            MISSING if decayed is None else f"{decayed:.0%}", rival and rival[after.objective],
            told.get("rank_correlation"),
        ]  # fmt: skip
        for name, value in zip(PHASES, values, strict=True):
            columns[name].append(value)
    return table_of(columns, right={"lost"})


PHASES = (
    *("in sample", "out of sample", "window", "portfolios", "best in sample", "objective in", "objective out"),
    *("lost", "baseline out", "rank correlation"),
)


def edges_table(phase: Examined) -> Table:
    edges = phase.left.summary.ledger.edges
    kept = edges[:MOST_LEDGER]
    columns = {name: [getattr(edge, name) for edge in kept] for name in ("sent", "received", "dropped", "in_flight")}
    return table_of({"from": [edge.source for edge in kept], "to": [edge.target for edge in kept], **columns})


def containers_table(phase: Examined) -> Table:
    books = list(phase.left.summary.ledger.containers.items())[:MOST_LEDGER]
    names = ("received", "processed", "late", "sent", "committed", "rejected", "duplicates")
    columns: dict[str, list[Any]] = {name: [getattr(each, name) for _, each in books] for name in names}
    told = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    return table_of({"container": [name for name, _ in books], **told})


def measured_table(phases: Sequence[Examined]) -> Table:
    """How each phase was run: time, rows, memory, disk."""
    columns: dict[str, list[str]] = {name: [] for name in MEASURED}
    for phase in phases:
        record = phase.left.record
        containers = record.get("containers", {}).values()
        rows = sum(each["sent_rows"] for each in containers if each["kind"] == "feed")
        wall = record.get("wall_seconds")
        spilled = sum(each["store"]["evicted_bytes"] for each in containers)
        lag = record.get("loop_lag_p99_ms")
        values = [
            phase.name, rows_said(rows), _said(wall, seconds_said), rows_said(rows / wall) if wall else MISSING,
            _said(record.get("cpu_seconds"), seconds_said), _said(record.get("process_peak_rss_bytes"), bytes_said),
            bytes_said(spilled), MISSING if lag is None else f"{lag:.1f} ms",
        ]  # fmt: skip
        for name, value in zip(MEASURED, values, strict=True):
            columns[name].append(value)
    return table_of(columns, right=MEASURED[1:])


MEASURED = ("phase", "rows read", "wall time", "rows/s", "processor time", "peak RSS", "spilled", "loop lag p99")


def hashes_table(phases: Sequence[Examined]) -> Table:
    """A row for each hash, a column for each phase."""
    names = list(dict.fromkeys(name for phase in phases for name in phase.left.summary.hashes))
    hashes = {phase.name: [phase.left.summary.hashes.get(name, MISSING) for name in names] for phase in phases}
    table = table_of({"of": names, **hashes})
    return Table([Column("of", False), *(Column(phase.name, False) for phase in phases)], table.rows, table.marks)


def _said(value: Any, how: Any) -> str:
    return MISSING if value is None else str(how(value))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _sort_key(value: Any) -> float | str | None:
    return value if value is None or isinstance(value, int | float | str) else str(value)
