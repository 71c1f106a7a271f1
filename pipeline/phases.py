"""What the sequencer decides, without awaiting anything: who goes on into a phase, and whether the books balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .errors import InputError, PhaseFailed
from .topology import Topology, ranker_of

if TYPE_CHECKING:
    from .containers.container import ContainerStats
    from .containers.keeping import KeptKey
    from .data import DataStats
    from .edges.edge import EdgeStats


@dataclass(frozen=True)
class ContainerOutcome:
    """What one container left: counts, the keys it keeps, its figures."""

    stats: ContainerStats
    mode: str
    store: DataStats
    kept: Sequence[KeptKey] = ()
    kept_output: KeptKey | None = None
    members: Mapping[str, DataStats] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    report: pa.Table | None = None
    committed_rows: int | None = None
    """Sinks only: what became of the rows they received."""
    rejected_rows: int = 0
    duplicate_rows: int = 0
    error: str | None = None
    """The failure that ended it, where that was recorded and the others went on."""


@dataclass(frozen=True)
class PhaseOutcome:
    """What a topology left when every container had ended."""

    containers: Mapping[str, ContainerOutcome]
    edges: Sequence[EdgeStats]
    interrupted: bool = False
    warmup_from_ns: int | None = None
    """Event time of the earliest row sent before the window; None: there is none."""
    data_hash: str | None = None
    """Of the rows the feeds gave, in a phase with a window."""
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Who was chosen from an earlier phase, best first."""

    phase: str
    by: str
    top: int
    names: tuple[str, ...]


def choose(
    name: str, source: str, topology: Topology, results: Mapping[str, Mapping[str, Any]], top: int, by: str | None
) -> Selection:
    """Who goes on into phase `name`: the best of the ranking that phase `source`, which ran `topology`, published.

    Blocking: reads the ranking. Raises `PhaseFailed` where there is none, or nobody in it qualifies.
    """
    ranker = ranker_of(topology)
    if ranker is None or ranker.stage.ranking_key is None:
        raise PhaseFailed(name, {}, f"it selects from phase '{source}', in which not exactly one container ranks")
    key = ranker.stage.ranking_key
    try:
        ranking = results[ranker.name][key]
    except (KeyError, InputError) as error:
        raise PhaseFailed(
            name, {}, f"it selects from phase '{source}', whose '{key}' of '{ranker.name}' cannot be read: {error}; "
            f"it must be kept: `containers.{ranker.name}.data_flow.persistence.on_completion: true`",
        ) from error  # fmt: skip
    objective = ranker.stage.ranks_by(by)
    names = tuple(ranker.stage.choose(ranking, top, objective))
    if not names:
        raise PhaseFailed(
            name, {}, f"it selects from phase '{source}', where nobody that was ranked has "
            f"the objective '{objective}' and has not failed; look at '{key}' of '{ranker.name}' there, whether the "
            "window has data, and whether anything traded in it",
        )  # fmt: skip
    return Selection(source, objective, top, names)


def check_needs(name: str, needs: Sequence[str], done: Mapping[str, object]) -> None:
    """Raise `PhaseFailed` when a phase needs one that has not completed."""
    for needed in needs:
        if needed not in done:
            raise PhaseFailed(
                name, {}, f"it needs phase '{needed}', which has not completed; completed: {', '.join(done) or 'none'}"
            )


def check_ledger(outcome: PhaseOutcome) -> list[str]:
    """Every sentence about rows that do not add up; empty when each row is accounted for."""
    wrong = []
    for edge in outcome.edges:
        if edge.sent_rows != edge.received_rows + edge.dropped_rows + edge.in_flight_rows:
            wrong.append(
                f"edge {edge.source} -> {edge.target}: sent {edge.sent_rows}, but received {edge.received_rows} "
                f"+ dropped {edge.dropped_rows} + in flight {edge.in_flight_rows}"
            )
        given = outcome.containers[edge.source].stats.sent_rows
        if edge.sent_rows != given and not edge.records:
            wrong.append(f"edge {edge.source} -> {edge.target}: sent {edge.sent_rows} of {given} rows")
        if edge.in_flight_rows:
            wrong.append(f"edge {edge.source} -> {edge.target}: {edge.in_flight_rows} rows are still in flight")
    for name, container in outcome.containers.items():
        stats = container.stats
        if stats.received_rows != stats.processed_rows + stats.late_rows + stats.dead_rows + stats.lost_rows:
            wrong.append(
                f"container {name}: received {stats.received_rows}, but processed {stats.processed_rows} "
                f"+ late {stats.late_rows} + dead {stats.dead_rows}"
                + (f" + lost {stats.lost_rows}" if stats.lost_rows else "")
            )
        arrived = sum(edge.received_rows for edge in outcome.edges if edge.target == name)
        if stats.kind != "feed" and arrived != stats.received_rows:
            wrong.append(f"container {name}: its edges delivered {arrived} rows, it received {stats.received_rows}")
        if container.committed_rows is not None and container.error is None:
            told = container.committed_rows + container.rejected_rows + container.duplicate_rows
            if told + stats.dead_rows != stats.received_rows:
                dead = f" + dead {stats.dead_rows}" if stats.dead_rows else ""
                wrong.append(
                    f"sink {name}: received {stats.received_rows}, but committed {container.committed_rows} "
                    f"+ rejected {container.rejected_rows} + duplicates {container.duplicate_rows}{dead}"
                )
    return wrong
