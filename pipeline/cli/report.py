"""`penstock report DIR`: writes a page about a run, and prints the most telling rows of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.errors import InputError
from pipeline.registry import Registry
from pipeline.report import Report
from pipeline.results import PhaseResults
from pipeline.runs import open_run

from .ending import shortened
from .figures import printable
from .options import DEBUG
from .tables import report_table

PAGE = "report.html"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where the page goes.")
@click.option("--phase", metavar="NAME", help="Report on this phase and those before it, not on the last.")
@DEBUG
def report(folder: Path, output: Path | None, phase: str | None) -> None:
    """Write one self-contained HTML page about a run.

    DIR is results/<name> (its latest run), a run's folder or a phase's. The page goes to report.html in the run's
    folder; it needs no network and nothing beside it.
    """
    phases = open_run(folder, phase)
    made = made_of(phases, Registry.installed())
    path = output or shortened(phases[-1].folder.parent) / PAGE
    write_whole(path, made.html)
    click.echo(report_table(made.table.to_pylist(), made.title) + "\n")
    lines = [*made.words, ("page", str(path))]
    width = max(len(label) for label, _ in lines)
    for label, words in lines:
        click.echo(f"{label:<{width}}  {printable(words)}")


def made_of(phases: Sequence[PhaseResults], registry: Registry) -> Report:
    """The report of the first reporter, by name, that knows such a run; raises `InputError` where none does."""
    for _, reporter in sorted(registry.reports.items()):
        made = reporter(phases)
        if made is not None:
            return made
    raise InputError(
        f"no report knows what to say of phase '{phases[-1].summary.phase}' in {phases[-1].folder.parent}; "
        f"there are reports on: {', '.join(sorted(registry.reports)) or 'nothing'}"
    )


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears complete or not at all; folders are made. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
