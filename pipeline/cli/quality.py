"""`penstock quality DIR`: what is wrong with the data of a run or a recording, as a table and as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.durations import parse_duration
from pipeline.errors import InputError
from pipeline.registry import Registry
from pipeline.report import Report

from .figures import printable
from .options import DEBUG
from .report import write_whole
from .tables import report_table

PAGE = "quality.html"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True), metavar="DIR")
@click.option(
    "--every", metavar="DURATION", help="A row for each stretch of so much time in which something was wrong."
)
@click.option("--plot", is_flag=True, help="Draw the events over time, as a page beside the data.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where the page goes.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@DEBUG
def quality(folder: Path, every: str | None, plot: bool, output: Path | None, as_json: bool) -> None:
    """Show what is wrong with the data of a run or a recording: gaps, duplicates, errors.

    DIR is any folder that holds quality events: results/<name> (its latest run), a run's or a phase's folder, a
    recording, or one parquet file of such. Each instrument is a row, with --every each of its windows too.
    """
    every_ns = None if every is None else _nanoseconds(every)
    made = made_of(folder, every_ns, plot or output is not None, Registry.installed())
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(made.table.to_pylist()).decode())
    else:
        click.echo((report_table(made.table.to_pylist(), made.title) if len(made.table) else made.title) + "\n")
    lines = list(made.words)
    if made.html:
        path = output or (folder if folder.is_dir() else folder.parent) / PAGE
        write_whole(path, made.html)
        lines.append(("page", str(path)))
    width = max((len(label) for label, _ in lines), default=0)
    for label, words in lines if not as_json else lines[-1:] if made.html else []:
        click.echo(f"{label:<{width}}  {printable(words)}", err=as_json)


def made_of(folder: Path, every_ns: int | None, plot: bool, registry: Registry) -> Report:
    """The report of the first that knows what lies there; raises `InputError` where none does."""
    for _, inspector in sorted(registry.qualities.items()):
        made = inspector(folder, every_ns, plot)
        if made is not None:
            return made
    raise InputError(
        f"expected quality events at {folder}, found none: a feed of messages sends them; keep them with `data_flow: "
        "{mode: file}` on the feed, or write them with a sink whose input has `records: quality_event`"
    )


def _nanoseconds(every: str) -> int:
    try:
        found = parse_duration(every)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--every") from error
    if not found:
        raise click.BadParameter("expected a duration longer than zero", param_hint="--every")
    return found
