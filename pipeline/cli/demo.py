"""`penstock demo`: a backtest on a made-up market, to see the whole thing at work within seconds."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Unpack

import click

from .options import RunOptions, reading, running
from .run import carry_out


@click.command()
@reading
@running
def demo(**options: Unpack[RunOptions]) -> None:
    """Run a small sweep on a generated market: `configs/demo.yaml`, which comes with the program."""
    with as_file(files(__package__) / "demo.yaml") as config:
        carry_out(config, options)
