"""`penstock record CONFIG`: records what venues send until it is stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from .logs import logging_to_stderr
from .options import CONFIG, DEBUG
from .reading import read
from .working import carried_out, shown, work_of


@click.command()
@CONFIG
@click.option("--set", "overrides", metavar="A.B=C", multiple=True, help="Change one setting; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON, and nothing else, on stdout.")
@click.option("--quiet", is_flag=True, help="No progress; only what was done.")
@DEBUG
def record(config: Path, overrides: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Record what venues send, raw and as records in parquet files, until it is stopped.

    Each feed of `type: live` that says `record:` is recorded; other containers are not run. Ctrl-C, or a
    terminal that closes, ends it with everything published that came (exit code 0). After a crash the same command
    goes on: nothing that was on disk is lost, and nothing is there twice.
    """
    loaded = read(config, {"data": None, "overrides": overrides})
    with logging_to_stderr("text", "warning" if quiet else "info"):
        done, _ = asyncio.run(carried_out(work_of("record"), quiet, config=loaded))
    shown(done, as_json)
