"""What a person is shown when a run has ended: the containers' reports, and a few lines about the run."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from pipeline.folder import CONTAINERS, read_record
from pipeline.summary import PhaseSummary

from .conduct import Conducted
from .figures import bytes_said, printable, quality_said, rows_said, seconds_said
from .phases import phase_rows
from .tables import report_table

MOST_SHOWN = 4
"""Phases whose own tables are shown; of more, the last one's only."""


def summary_json(conducted: Conducted) -> str:
    """The last phase's summary, as `summary.json` has it, and the run's folder."""
    summary = list(conducted.summaries.values())[-1]
    shown = {**msgspec.to_builtins(summary), "folder": str(conducted.folder)}
    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()


def show(conducted: Conducted, *, quiet: bool = False) -> None:
    """Print tables and closing lines on stdout."""
    folder = conducted.folder
    assert folder is not None, "a run that published a summary has a folder"
    records = {phase: read_record(folder / phase) for phase in conducted.summaries}
    if conducted.skipped and len(conducted.skipped) == len(conducted.summaries):
        click.echo(f"already complete: {shortened(folder)}; --force runs it again")
    if len(records) > 1:
        rows = phase_rows(folder, conducted.summaries)
        click.echo(report_table(rows, "phases") + "\n")
    for phase, record in records.items() if len(records) <= MOST_SHOWN else list(records.items())[-1:]:
        for container, rows in record.get("reports", {}).items():
            if rows:
                title = f"{phase}: {container}" if len(records) > 1 else container
                click.echo(report_table(rows, title) + "\n")
    if not quiet:
        for label, words in closing_lines(conducted, records):
            click.echo(f"{label:<13} {words}")


def closing_lines(conducted: Conducted, records: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Label and words of each line."""
    folder = conducted.folder
    assert folder is not None
    if conducted.stopped:
        yield "stopped", "before its data ended; the results are of what was processed until then"
    for phase, record in records.items():
        if began := (record.get("checkpoints") or {}).get("began"):
            yield "resumed", printable(" ".join(f"{phase}: {began}".split()))
    rows = sum(_feed_rows(record) for record in records.values())
    silent = sorted({name for record in records.values() for name in _silent_feeds(record)})
    if silent:
        yield "no data", f"{', '.join(silent)} gave no row; look at the path, and at `begin`, --until and --limit"
    yield from _failures(folder, conducted.summaries, records)
    for phase, summary in conducted.summaries.items():
        if told := quality_said(summary.aggregate_metrics):
            yield "quality", printable(f"{phase}: {told}; penstock quality {shlex.quote(str(shortened(folder)))}")
    wall = sum(record.get("wall_seconds", 0.0) for record in records.values())
    yield "rows", rows_said(rows)
    yield "wall time", seconds_said(wall)
    yield "rows/s", rows_said(rows / wall) if wall else "-"
    yield (
        "peak RSS",
        bytes_said(max((record.get("process_peak_rss_bytes", 0) for record in records.values()), default=0)),
    )
    yield "spilled", bytes_said(sum(_spilled(record) for record in records.values()))
    yield "results", str(shortened(folder))
    yield "look at them", _look(folder, conducted.summaries)


def _failures(
    folder: Path, summaries: Mapping[str, PhaseSummary], records: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    """Containers whose failure is recorded, and rows that were put aside."""
    for phase, summary in summaries.items():
        for name in summary.failed:
            error = records[phase].get("containers", {}).get(name, {}).get("error") or f"container '{name}' failed"
            yield "failed", printable(" ".join(f"{phase}: {error}".split()))
        for edge in summary.ledger.edges:
            if edge.dropped:
                lost = f"{rows_said(edge.dropped)} of {rows_said(edge.sent)} rows from {edge.source} to {edge.target}"
                yield "dropped", f"{phase}: {lost}"
        dead = {name: books.dead for name, books in summary.ledger.containers.items() if books.dead}
        if dead:
            told = ", ".join(f"{rows_said(rows)} of {name}" for name, rows in dead.items())
            yield "dead letters", f"{phase}: {told}; penstock dead-letters {shlex.quote(str(shortened(folder)))}"


def shortened(path: Path) -> Path:
    """Relative to here, where it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path


def _feed_rows(record: Mapping[str, Any]) -> int:
    containers = record.get("containers", {}).values()
    return sum(container["sent_rows"] for container in containers if container["kind"] == "feed")


def _silent_feeds(record: Mapping[str, Any]) -> list[str]:
    containers = record.get("containers", {}).items()
    return [name for name, container in containers if container["kind"] == "feed" and not container["sent_rows"]]


def _spilled(record: Mapping[str, Any]) -> int:
    """Bytes that had to leave memory for lack of room; what a mode writes anyway is none."""
    return sum(container["store"]["evicted_bytes"] for container in record.get("containers", {}).values())


def _look(folder: Path, summaries: Mapping[str, PhaseSummary]) -> str:
    """A command that prints one of the results, or the first of the files a sink has written."""
    folder = shortened(folder)
    for summary in reversed(list(summaries.values())):
        for container, result in reversed(list(summary.container_results.items())):
            for key, kept in result.keys.items():
                if kept.path is not None:
                    opened = f"open_results({_text(folder)})[{_text(container)}][{_text(key)}]"
                    return _command(f"from pipeline import open_results; print({opened})")
    written = sorted(found for found in folder.rglob("*.parquet") if found.name != CONTAINERS)
    if written:
        return _command(f"import pyarrow.parquet as pq; print(pq.read_table({_text(written[0])}))")
    return "nothing was written but the summary; `persistence: {on_completion: true}` writes results"


def _command(code: str) -> str:
    """A line for the shell that works as it stands: with the very interpreter that runs now."""
    return f"{shlex.quote(_interpreter())} -c {shlex.quote(code)}"


def _interpreter() -> str:
    """`python` where that is the one, else its path; links are not followed, for a virtual environment is one."""
    if shutil.which("python") == sys.executable:
        return "python"
    return str(shortened(Path(sys.executable)))


def _text(value: object) -> str:
    """Python's text of it, in double quotes, which need no quoting within the single ones of a shell."""
    return msgspec.json.encode(str(value)).decode()
