"""`penstock run CONFIG`: runs a configuration and shows what came of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

import click

from pipeline.errors import PenstockError
from pipeline.folder import RUN
from pipeline.service import Pipeline

from . import INTERRUPTED
from .conduct import Conducted, conduct
from .ending import show, summary_json
from .logs import logging_to_stderr
from .options import CONFIG, RunOptions, reading, running
from .trouble import RunFailed, unless_unread
from .watching import watcher

SWITCH_SECONDS = 0.0005
"""How long a computing thread may keep the interpreter from the event loop; Python's own 5 ms would show as lag."""


@click.command()
@CONFIG
@reading
@running
def run(config: Path, **options: Unpack[RunOptions]) -> None:
    """Run a configuration to the end of its data and show the results.

    The first Ctrl-C lets the rows under way finish and reports them; the second stops at once.
    """
    carry_out(config, options)


def carry_out(config: Path, options: RunOptions) -> None:
    """Run, tell, and end the command with its exit code."""
    if options["force"] and options["resume"]:
        raise click.UsageError("--resume goes on with a run, --force runs it from its beginning; give one of them")
    every = [] if options["checkpoint"] is None else [f"checkpoint.every_seconds={options['checkpoint']}"]
    pipeline = Pipeline.from_yaml(
        config,
        data=options["data"],
        overrides=[*options["overrides"], *every],
        output=options["output"],
        limit=options["limit"],
        until=options["until"],
    )
    perform(pipeline, options)


def perform(pipeline: Pipeline, options: RunOptions) -> Conducted:
    """Run a pipeline and tell; how it went, where it was not stopped: that ends the command with its exit code."""
    level = "warning" if options["quiet"] else options["log_level"]
    with logging_to_stderr(options["log_format"], level), _quick_switches():
        conducted = asyncio.run(
            conduct(
                pipeline,
                force=options["force"],
                resume=options["resume"],
                repair=options["repair"],
                watch=watcher(quiet=options["quiet"], log_format=options["log_format"]),
                drain_seconds=options["drain_seconds"],
            )
        )
    _tell(conducted, options)
    if conducted.stopped:
        click.get_current_context().exit(INTERRUPTED)
    return conducted


def _tell(conducted: Conducted, options: RunOptions) -> None:
    if conducted.error is not None:
        raise _failure(conducted, conducted.error)
    if not conducted.summaries:
        click.echo(f"stopped at once: no summary was published in {conducted.folder}", err=True)
        return
    with unless_unread():
        if options["as_json"]:
            click.echo(summary_json(conducted))
        else:
            show(conducted, quiet=options["quiet"])


def _failure(conducted: Conducted, error: PenstockError) -> RunFailed:
    phase = getattr(error, "phase", None)
    record = conducted.folder / phase / RUN if conducted.folder is not None and phase is not None else None
    return RunFailed(error, record if record is not None and record.is_file() else None)


@contextmanager
def _quick_switches() -> Iterator[None]:
    """Only the command line does this: an embedded run changes nothing of the process it is in."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
