"""`penstock check CONFIG`: says whether a configuration would run, or everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import click

from pipeline.config import Config
from pipeline.errors import ConfigError, Problem
from pipeline.lookahead import DEFAULT_CUTS, DEFAULT_ROWS
from pipeline.phasing import lossless_notes, plan_phases
from pipeline.planning import plan_of
from pipeline.plans import PhasePlan
from pipeline.topology import Topology
from pipeline.windows import ALL

from .options import CONFIG, ReadingOptions, reading
from .reading import read
from .trouble import FAILED

POOL = "process_memory_mb"
MOST_NAMED = 3
"""Phases that are listed by name in the first line; of more, how many there are."""


@click.command()
@CONFIG
@reading
@click.option("--lookahead", is_flag=True, help="Also run it on other futures: does one move the past?")
@click.option(
    "--rows", type=click.IntRange(min=2), metavar="N", help=f"Rows of each feed to try it on ({DEFAULT_ROWS:,})."
)
@click.option("--cuts", type=click.IntRange(min=1), metavar="K", help=f"Moments to cut the data at ({DEFAULT_CUTS}).")
def check(config: Path, lookahead: bool, rows: int | None, cuts: int | None, **options: Unpack[ReadingOptions]) -> None:
    """Check a configuration without running it.

    Every problem is told at once, with its line. Exit code 2 where there is one. With --lookahead the graph is run on
    the first rows of its data, then with what comes after a few moments cut off, shuffled, raised and lowered; exit
    code 1 where that moves anything before such a moment.
    """
    if not lookahead and (rows is not None or cuts is not None):
        raise click.UsageError("--rows and --cuts belong to --lookahead")
    loaded = read(config, options)
    _tell(loaded)
    if lookahead:
        import asyncio

        from pipeline.lookahead import check_lookahead

        report = asyncio.run(check_lookahead(loaded, rows=rows or DEFAULT_ROWS, cuts=cuts or DEFAULT_CUTS))
        click.echo(str(report))
        if not report.ok:
            click.get_current_context().exit(FAILED)


def _tell(loaded: Config) -> None:
    """That it would run, and the graph."""
    plans = plan_phases(loaded)
    _refuse_too_small(loaded, plans)
    topology = plans[0].topology
    count = len(topology.nodes)
    parts = [f"{count} container{'s' if count != 1 else ''}"]
    if loaded.parameter_space:
        parts.append(f"{loaded.parameter_space.size:,} combinations")
    names = ", ".join(plan.name for plan in plans)
    plural = "s" if len(plans) != 1 else ""
    parts.append(f"phase{plural} {names}" if len(plans) <= MOST_NAMED else f"{len(plans):,} phases")
    click.echo(f"ok: {', '.join(parts)}")
    for line in order_lines(topology):
        click.echo(line)
    for note in lossless_notes(topology):
        click.echo(f"note: {note}")
    if any(plan.window != ALL or plan.select is not None for plan in plans):
        for line in phase_lines(plans):
            click.echo(line)


def _refuse_too_small(loaded: Config, plans: Sequence[PhasePlan]) -> None:
    """Raise `ConfigError` where a pool was declared that the run certainly does not fit into."""
    if loaded.process_memory_mb is None:
        return
    file, line = loaded.locate(POOL)
    refusals = plan_of(loaded, plans).refusals
    if refusals:
        raise ConfigError([Problem(POOL, said.removeprefix(f"{POOL}: "), "", "", file, line) for said in refusals])


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
