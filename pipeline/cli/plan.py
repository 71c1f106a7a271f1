"""`penstock plan CONFIG`: what a run will take, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import click
import msgspec

from pipeline.machine import default_pool
from pipeline.planning import Plan, plan_of

from .figures import bytes_said, rows_said
from .options import CONFIG, ReadingOptions, reading
from .reading import read
from .tables import text_table
from .trouble import BAD_CONFIGURATION

MOST_NAMED = 8
"""Phases named in the first lines."""
UNKNOWN = "?"
ABSENT = "-"


@click.command()
@CONFIG
@reading
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, and nothing else, on stdout.")
@click.pass_context
def plan(context: click.Context, config: Path, as_json: bool, **options: Unpack[ReadingOptions]) -> None:
    """Say what a run will take: combinations, containers, memory, disk, inputs.

    Nothing runs; figures marked ~ are estimates. Exit code 2 where it certainly will not fit.
    """
    made = plan_of(read(config, options))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(as_mapping(made)), indent=2).decode())
    else:
        click.echo("\n\n".join(sections(made)))
    if made.refusals:
        for refusal in made.refusals:
            click.echo(refusal, err=True)
        context.exit(BAD_CONFIGURATION)


def as_mapping(made: Plan) -> dict[str, Any]:
    """The plan as plain data, with its sums."""
    totals = {"ceiling_bytes": made.ceiling_bytes, "state_bytes": made.state_bytes, "result_bytes": made.result_bytes}
    return {**msgspec.to_builtins(made), "totals": totals}


def sections(made: Plan) -> Iterator[str]:
    """The plan in words, part by part."""
    yield _heading(made)
    if made.blocks:
        yield _combinations(made)
    if made.containers:
        yield _containers(made)
        yield _memory(made)
        yield _disk(made)
        if notes := _notes(made):
            yield notes
    if made.files:
        yield _inputs(made)
    for warning in made.warnings:
        yield f"warning: {warning}"


def _heading(made: Plan) -> str:
    names = [phase.name for phase in made.phases]
    listed = names if len(names) <= MOST_NAMED else [*names[: MOST_NAMED - 1], "...", names[-1]]
    lines = [f"plan of {made.name}", f"phases        {len(names):,}: {', '.join(listed)}"]
    if made.blocks:
        lines.append(f"combinations  {made.combinations:,} of at most {made.max_portfolios:,}")
    return "\n".join(lines)


def _combinations(made: Plan) -> str:
    rows = []
    for block in made.blocks:
        chosen = ", ".join(f"{name}: {kind}" for name, kind in block.chosen.items()) or ABSENT
        rows.append(
            (
                block.path,
                chosen,
                "continuous" if block.grid is None else rows_said_exactly(block.grid),
                ABSENT if block.excluded is None else rows_said_exactly(block.excluded),
                block.sampled or ABSENT,
                f"{block.combinations:,}",
                ", ".join(block.parameters),
            )
        )
    return text_table(["block", "chosen", "grid", "excluded", "sampled", "combinations", "parameters"], rows)


def _containers(made: Plan) -> str:
    rows = []
    for container in made.containers:
        rows.append(
            (
                container.name,
                container.stage,
                f"{container.members:,}" if container.members else ABSENT,
                UNKNOWN if container.rows is None else f"~{rows_said(container.rows)}",
                container.mode,
                ", ".join(container.inputs) or ABSENT,
            )
        )
    return text_table(["container", "stage", "members", "rows sent at most", "keeps", "reads"], rows)


def _memory(made: Plan) -> str:
    rows = []
    for container in made.containers:
        each = f" ({container.members:,} accounts)" if container.members else ""
        state = UNKNOWN if container.state_bytes is None else f"~{bytes_said(container.state_bytes)}"
        rows.append((container.name, bytes_said(container.ceiling_bytes) + each, state))
    rows.append(("edges", bytes_said(made.edges_bytes), ABSENT))
    rows.append(("all together", bytes_said(made.ceiling_bytes), f"~{bytes_said(made.state_bytes)}"))
    if made.pool_bytes is None:
        default = default_pool(owns_process=True)
        pool = f"none declared; `penstock run` here takes {bytes_said(default.bytes)}, {default.said}"
    else:
        pool = bytes_said(made.pool_bytes)
    return text_table(["memory", "ceiling", "working state"], rows) + f"\npool (process_memory_mb): {pool}"


def _disk(made: Plan) -> str:
    rows = []
    for container in made.containers:
        for key, size in container.results.items():
            rows.append((container.name, key, UNKNOWN if size is None else f"~{bytes_said(size)}"))
        if container.spill:
            quota = "no ceiling" if container.spill_bytes is None else f"at most {bytes_said(container.spill_bytes)}"
            rows.append((container.name, "(spilled on the way)", quota))
    rows.append(("all results", "", f"~{bytes_said(made.result_bytes)}"))
    per_phase = " for each phase" if len(made.phases) > 1 else ""
    return text_table(["disk", "key", f"uncompressed{per_phase}"], rows)


def _notes(made: Plan) -> str:
    lines = [
        f"{container.name}: {words}"
        for container in made.containers
        for words in (*(f"{name}: {fact}" for name, fact in container.facts.items()), *container.notes)
    ]
    return "\n".join(lines)


def _inputs(made: Plan) -> str:
    rows = [(file.container, file.path, bytes_said(file.bytes)) for file in made.inputs]
    if made.files > len(rows):
        rows.append(("", f"{made.files - len(rows):,} more", ""))
    rows.append(("all inputs", f"{made.files:,} file{'s' if made.files != 1 else ''}", bytes_said(made.input_bytes)))
    return text_table(["input", "file", "bytes"], rows)


def rows_said_exactly(count: int) -> str:
    """A count of any size; `rows_said` would make a float of it."""
    return f"{count:,}"
