"""The program `penstock`: its commands, and what becomes of their errors."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from pipeline.version import code_version

from .trouble import told

COMMANDS = {
    "check": "Check a configuration without running it.",
    "dead-letters": "List rows that failed in spite of all retries and were put aside.",
    "demo": "Run a small sweep on a generated market.",
    "explain": "Show where each setting of a container, a member or everything comes from.",
    "ingest": "Take captures of messages into a recording, in the order of their times.",
    "inspect": "Show what is committed in a folder, by whom, and how large it is.",
    "new": "Write a small project into DIR: a configuration, a strategy, a stage and a few words about them.",
    "plan": "Say what a run will take: combinations, containers, memory, disk, inputs.",
    "quality": "Show what is wrong with the data of a run or a recording: gaps, duplicates, errors.",
    "record": "Record what venues send, raw and as records in parquet files, until it is stopped.",
    "replay": "Play a recording as if it happened now.",
    "report": "Write one self-contained HTML page about a run.",
    "run": "Run a configuration to the end of its data and show the results.",
    "schema": "Print the JSON Schema of configurations.",
    "verify": "Read a folder from end to end and say what is not as it was written.",
}
"""What `penstock --help` says of each. A command lies in the module of its name, imported when it is called."""


class Program(click.Group):
    """A group whose commands end with an exit code and a sentence, not with a traceback."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known, rest = super().resolve_command(ctx, args)
        return name, known if name is None else _imported(name), rest

    def invoke(self, ctx: click.Context) -> Any:
        with told(ctx):
            return super().invoke(ctx)


def _imported(name: str) -> click.Command:
    module = name.replace("-", "_")
    command: click.Command = getattr(import_module(f".{module}", __package__), module)
    return command


def _tell_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"penstock, version {code_version()}")
        context.exit()


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="Show the version and exit.",
)
def penstock() -> None:
    """Streaming pipelines for market data, each container with its own memory budget.

    Begin with `penstock demo`, then `penstock new my_project`.
    """


for name, said in COMMANDS.items():
    penstock.add_command(click.Command(name, short_help=said))
