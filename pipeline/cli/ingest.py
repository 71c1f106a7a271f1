"""`penstock ingest PATH... --output DIR`: takes captures into a recording."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from . import INTERRUPTED
from .logs import logging_to_stderr
from .options import DEBUG
from .working import carried_out, shown, work_of


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The recording's folder.")
@click.option("--venue", metavar="NAME", help="Whose messages they are, where they do not tell.")
@click.option("--set", "settings", metavar="A=B", multiple=True, help="Of the recording, such as roll_every=1d.")
@click.option("--repair", is_flag=True, help="Open a folder whose manifest is damaged, with what can be read.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON, and nothing else, on stdout.")
@click.option("--quiet", is_flag=True, help="No progress; only what was done.")
@DEBUG
@click.pass_context
def ingest(
    ctx: click.Context, paths: tuple[Path, ...], output: Path, venue: str | None, settings: tuple[str, ...],
    repair: bool, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Take captures of messages into a recording, in the order of their times.

    PATH is a file, folder or glob of captures. Messages that the recording has are passed over: what was cut off is
    gone on with by the same command, and captures may overlap. Ctrl-C ends it, with everything published that was
    taken in.
    """
    with logging_to_stderr("text", "warning" if quiet else "info"):
        done, stopped = asyncio.run(
            carried_out(
                work_of("ingest"), quiet, paths=paths, folder=output, venue=venue, settings=settings, repair=repair
            )
        )
    shown(done, as_json)
    if stopped:
        ctx.exit(INTERRUPTED)
