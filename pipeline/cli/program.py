"""The program `penstock`: its commands, and what becomes of their errors."""

from __future__ import annotations

from typing import Any

import click

from pipeline.identity import code_version

from .check import check
from .dead_letters import dead_letters
from .demo import demo
from .explain import explain
from .inspect import inspect
from .new import new
from .plan import plan
from .report import report
from .run import run
from .schema import schema
from .trouble import told
from .verify import verify


class Program(click.Group):
    """A group whose commands end with an exit code and a sentence, not with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        with told(ctx):
            return super().invoke(ctx)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(code_version(), prog_name="penstock")
def penstock() -> None:
    """Streaming pipelines for market data, each container with its own memory budget.

    Begin with `penstock demo`, then `penstock new my_project`.
    """


for command in (run, check, explain, plan, schema, report, inspect, verify, dead_letters, demo, new):
    penstock.add_command(command)
