"""`penstock check CONFIG`: says whether a configuration would run, or everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import click

from pipeline.phasing import plan_phases
from pipeline.sequencer import PhasePlan
from pipeline.topology import Topology
from pipeline.windows import ALL

from .options import CONFIG, ReadingOptions, reading
from .reading import read

MOST_NAMED = 3
"""Phases that are listed by name in the first line; of more, how many there are."""


@click.command()
@CONFIG
@reading
def check(config: Path, **options: Unpack[ReadingOptions]) -> None:
    """Check a configuration without running it.

    Every problem is told at once, with its line. Exit code 2 where there is one.
    """
    loaded = read(config, options)
    plans = plan_phases(loaded)
    topology = plans[0].topology
    count = len(topology.nodes)
    parts = [f"{count} container{'s' if count != 1 else ''}"]
    if loaded.parameter_space:
        parts.append(f"{len(loaded.parameter_space):,} combinations")
    names = ", ".join(plan.name for plan in plans)
    plural = "s" if len(plans) != 1 else ""
    parts.append(f"phase{plural} {names}" if len(plans) <= MOST_NAMED else f"{len(plans):,} phases")
    click.echo(f"ok: {', '.join(parts)}")
    for line in order_lines(topology):
        click.echo(line)
    if any(plan.window != ALL or plan.select is not None for plan in plans):
        for line in phase_lines(plans):
            click.echo(line)


def phase_lines(plans: Sequence[PhasePlan]) -> list[str]:
    """One phase per line: its window, what warms it up, whom it runs."""
    windows = {plan.name: plan.window.said() or "all of the data" for plan in plans}
    wide, wider = max(map(len, windows)), max(map(len, windows.values()))
    lines = []
    for plan in plans:
        words = []
        if plan.window.from_ns is not None:
            words.append(f"warm-up {plan.warmup}")
        if plan.select is not None:
            by = f" by {plan.select.by}" if plan.select.by is not None else ""
            words.append(f"top {plan.select.top} of {plan.select.source}{by}")
        if plan.window == ALL and len(plan.needs) > MOST_NAMED:
            words.append(f"joins {len(plan.needs):,} phases")
        lines.append(f"  {plan.name:<{wide}}  {windows[plan.name]:<{wider}}  {', '.join(words)}".rstrip())
    return lines


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
