"""Gives dead letters to their container again, in a run of the same graph whose feeds are silent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from ..errors import InputError
from ..folder import read_summary
from ..frames import Batch
from ..handed import HandedTable
from ..plans import PhasePlan, RunPlan
from ..service import Pipeline
from ..stage import Context, Feed, Stage
from ..topology import Node, Topology
from .dead_letters import DeadLetter, DeadLetters


class DeadRows(Stage, frozen=True):
    """Stands in for a container: sends those of its rows that became dead letters, or nothing."""

    tables: tuple[HandedTable, ...] = ()
    """In order; each of other columns than the one before."""
    is_feed = True

    def build(self, context: Context) -> Feed:
        return _Rows([table.table for table in self.tables])


class _Rows(Feed):
    def __init__(self, tables: Sequence[pa.Table]) -> None:
        self.tables = tables
        self.lateness_ns = max((_steps_back(table) for table in tables), default=0)

    def batches(self) -> Iterator[Batch]:
        for table in self.tables:
            for columns in table.combine_chunks().to_batches(max_chunksize=65_536):
                yield Batch(columns)


def _steps_back(table: pa.Table) -> int:
    """How far event time steps back in a table at most, ns."""
    batches = table.combine_chunks().to_batches()
    times = Batch(batches[0]).times() if batches else None
    return 0 if times is None else int((np.maximum.accumulate(times) - times).max(initial=0))


def replay(
    pipeline: Pipeline, phases: Sequence[Path], container: str | None = None, *, output: Path | None = None
) -> Pipeline:
    """A pipeline that gives the dead letters of some phases (or of one container in them) to their containers again.

    Each of its phases is called `<phase>.<container>` and has that container of `pipeline` and all that reads from it,
    with their settings; the containers before it are silent but for its own rows that died, in the order and under the
    name they came by. Results lie in `<output>/<name>-replay/`, beside those of the run, which stays as it is. What a
    logic that remembers would have made of the rows among all the others, nobody can tell afterwards. Blocks; raises
    `InputError` where there is nothing to give, or the pipeline has no such phase or container.
    """
    known = {plan.name: plan for plan in pipeline.plan.phases}
    plans: list[PhasePlan] = []
    found = 0
    for phase in phases:
        letters: dict[str, list[DeadLetter]] = {}
        for letter in DeadLetters(phase, container):
            found += 1
            if _can_be_given(letter):
                letters.setdefault(letter.container, []).append(letter)
        if not letters:
            continue
        if phase.name not in known:
            raise InputError(f"the configuration has no phase '{phase.name}'; it has {', '.join(known)}")
        topology = _graph_of(known[phase.name], phase)
        for node in topology.nodes:
            if node.name in letters:
                plans.append(PhasePlan(f"{phase.name}.{node.name}", _alone(topology, node, letters.pop(node.name))))
        if letters:
            raise InputError(
                f"the configuration has no container '{next(iter(letters))}' in phase '{phase.name}'; it has "
                f"{', '.join(node.name for node in topology.nodes)}"
            )
    if not plans:
        kind = "none of these dead letters is of rows that can be given again" if found else "there are no dead letters"
        raise InputError(f"{kind}; looked in {', '.join(map(str, phases)) or 'no phase'}")
    plan = pipeline.plan
    return Pipeline(
        RunPlan(
            name=f"{plan.name}-replay", phases=plans, output=output or plan.output, configuration=plan.configuration,
            seed=plan.seed, memory_bytes=plan.memory_bytes,
        ),
        pipeline.clock,
    )  # fmt: skip


def _can_be_given(letter: DeadLetter) -> bool:
    return letter.batch_id is None and isinstance(letter.value, pa.RecordBatch)


def _graph_of(plan: PhasePlan, phase: Path) -> Topology:
    """The phase's graph, with the members it had chosen where it chose any."""
    summary = read_summary(phase)
    if plan.narrowed is None or summary is None or summary.selection is None:
        return plan.topology
    return plan.narrowed(summary.selection["portfolios"])


def _alone(topology: Topology, node: Node, letters: Sequence[DeadLetter]) -> Topology:
    """One container and all that reads from it, directly or not; what they read else is silent."""
    kept = {node.name}
    for other in topology.nodes:
        if any(entry.source in kept for entry in other.inputs):
            kept.add(other.name)
    sources = {entry.source for other in topology.nodes if other.name in kept for entry in other.inputs} - kept
    return Topology(
        tuple(
            _patient(other) if other.name in kept else _silent(other, letters if _feeds(node, other) else ())
            for other in topology.nodes
            if other.name in kept or other.name in sources
        )
    )


def _feeds(node: Node, other: Node) -> bool:
    return any(entry.source == other.name for entry in node.inputs)


def _patient(node: Node) -> Node:
    """That all its rows may die again is no surprise here: among them are none but those that died."""
    return replace(node, errors=msgspec.structs.replace(node.errors, max_dead_share=1.0))


def _silent(node: Node, letters: Sequence[DeadLetter]) -> Node:
    own = sorted((letter for letter in letters if letter.source == node.name), key=lambda letter: letter.first_seq)
    tables: list[list[pa.RecordBatch]] = []
    for letter in own:
        if not tables or tables[-1][0].schema != letter.value.schema:
            tables.append([])
        tables[-1].append(letter.value)
    handed = tuple(HandedTable(pa.Table.from_batches(batches)) for batches in tables)
    return Node(node.name, DeadRows(tables=handed), pattern=node.pattern, schema=node.schema, live=node.live)
