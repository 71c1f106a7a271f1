"""`penstock check CONFIG`: says whether a configuration would run, or everything that is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import click

from pipeline.compose import compose
from pipeline.topology import Topology

from .options import CONFIG, ReadingOptions, reading
from .reading import read


@click.command()
@CONFIG
@reading
def check(config: Path, **options: Unpack[ReadingOptions]) -> None:
    """Check a configuration without running it.

    Every problem is told at once, with its line. Exit code 2 where there is one.
    """
    loaded = read(config, options)
    topology = compose(loaded)
    count = len(topology.nodes)
    parts = [f"{count} container{'s' if count != 1 else ''}"]
    if loaded.parameter_space:
        parts.append(f"{len(loaded.parameter_space):,} combinations")
    phases = ", ".join(phase.name for phase in loaded.phases)
    parts.append(f"phase{'s' if len(loaded.phases) != 1 else ''} {phases}")
    click.echo(f"ok: {', '.join(parts)}")
    for line in order_lines(topology):
        click.echo(line)


def order_lines(topology: Topology) -> list[str]:
    """The graph, one container per line, every input before its readers."""
    width = max(len(node.name) for node in topology.nodes)
    lines = []
    for node in topology.nodes:
        sources = ", ".join(entry.source for entry in node.inputs)
        many = f" x {len(node.members):,}" if node.members else ""
        read_from = f" <- {sources}" if sources else ""
        lines.append(f"  {node.name:<{width}}  {type(node.stage).__name__}{many}{read_from}")
    return lines
