"""The three files a phase leaves: what is true of the result, what was measured on the way, one row per container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from .hashing import hash_plain
from .phases import ContainerOutcome, PhaseOutcome, Selection
from .windows import ALL, Window, iso

FORMAT = 1
"""Version of the summary's layout."""


class PhaseSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a phase's result: byte-identical for the same input, however it was run.

    Nothing here depends on speed, mode, batch size, thread or path; those stand in `run.json`.
    """

    format: int
    name: str
    phase: str
    status: str
    """`complete`; `partial` when containers failed whose failure is recorded; `interrupted` when the feeds were stopped
    before their end."""
    failed: Sequence[str] = ()
    """Containers that failed; what is said of them is what they had done by then."""
    window: Mapping[str, str | None] | None = None
    """`from` and `until` of `[from, until)`, and `warmup_from`, the time of the first row before it that came along:
    ISO texts, or null; null for a phase over all of the data."""
    selection: Mapping[str, Any] | None = None
    """`phase` it selected from, objective `by`, `top`, and the `portfolios` chosen, best first; null: it runs all."""
    container_results: Mapping[str, ContainerResult]
    aggregate_metrics: Mapping[str, Mapping[str, Any]]
    """Container -> the figures its logic reports."""
    ledger: Ledger
    hashes: Mapping[str, str]
    """Of configuration, code, data (the input files; in a phase with a window the rows it was given) and output."""


class ContainerResult(msgspec.Struct, frozen=True, kw_only=True):
    """A container's results: counts of rows, and each key with its rows, hash and file."""

    kind: str
    received_rows: int
    sent_rows: int
    members: int
    keys: Mapping[str, KeyResult]


class KeyResult(msgspec.Struct, frozen=True, kw_only=True):
    """One key; `path` is relative to the phase's folder, None where nothing was persisted."""

    rows: int
    hash: str
    path: str | None


class EdgeLedger(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from", "target": "to"}):
    """`sent = received + dropped + in_flight`, in rows."""

    source: str
    target: str
    sent: int
    received: int
    dropped: int
    in_flight: int


class ContainerLedger(msgspec.Struct, frozen=True, kw_only=True):
    """`received = processed + late + dead`, in rows; a sink's also `= committed + rejected + duplicates + dead`.

    Of a container that failed there is also `lost`: the rows it had received and not finished.
    """

    received: int
    processed: int
    late: int
    sent: int
    dead: int = 0
    lost: int | None = None
    committed: int | None = None
    rejected: int | None = None
    duplicates: int | None = None


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Every row accounted for."""

    edges: Sequence[EdgeLedger]
    containers: Mapping[str, ContainerLedger]


def summarise(
    name: str,
    phase: str,
    outcome: PhaseOutcome,
    identity: Mapping[str, str],
    *,
    window: Window = ALL,
    selection: Selection | None = None,
) -> PhaseSummary:
    """The summary of an outcome; `identity` holds the hashes of configuration, code and data."""
    failed = [container for container, left in outcome.containers.items() if left.error is not None]
    results = {container: _result(left) for container, left in outcome.containers.items()}
    outputs = {
        container: {key: [kept.rows, kept.hash] for key, kept in result.keys.items()}
        for container, result in results.items()
    }
    return PhaseSummary(
        format=FORMAT,
        name=name,
        phase=phase,
        status="interrupted" if outcome.interrupted else "partial" if failed else "complete",
        failed=failed,
        window=None if window == ALL else _window(window, outcome.warmup_from_ns),
        selection=None if selection is None else _selection(selection),
        container_results=results,
        aggregate_metrics={container: left.metrics for container, left in outcome.containers.items() if left.metrics},
        ledger=_ledger(outcome),
        hashes={
            **identity,
            **({} if outcome.data_hash is None else {"data": outcome.data_hash}),
            "output": hash_plain(outputs),
        },
    )


def _window(window: Window, warmup_from_ns: int | None) -> dict[str, str | None]:
    times = {"from": window.from_ns, "until": window.until_ns, "warmup_from": warmup_from_ns}
    return {name: None if ns is None else iso(ns) for name, ns in times.items()}


def _selection(selection: Selection) -> dict[str, Any]:
    return {
        "phase": selection.phase,
        "by": selection.by,
        "top": selection.top,
        "portfolios": list(selection.names),
    }


def _result(left: ContainerOutcome) -> ContainerResult:
    return ContainerResult(
        kind=left.stats.kind,
        received_rows=left.stats.received_rows,
        sent_rows=left.stats.sent_rows,
        members=len(left.members),
        keys={
            kept.key: KeyResult(rows=kept.rows, hash=kept.hash, path=kept.path)
            for kept in sorted(left.kept, key=lambda kept: kept.key)
        },
    )


def _ledger(outcome: PhaseOutcome) -> Ledger:
    return Ledger(
        edges=[
            EdgeLedger(
                source=edge.source,
                target=edge.target,
                sent=edge.sent_rows,
                received=edge.received_rows,
                dropped=edge.dropped_rows,
                in_flight=edge.in_flight_rows,
            )
            for edge in outcome.edges
        ],
        containers={
            name: ContainerLedger(
                received=left.stats.received_rows,
                processed=left.stats.processed_rows,
                late=left.stats.late_rows,
                sent=left.stats.sent_rows,
                dead=left.stats.dead_rows,
                lost=None if left.error is None else left.stats.lost_rows,
                committed=left.committed_rows,
                rejected=None if left.committed_rows is None else left.rejected_rows,
                duplicates=None if left.committed_rows is None else left.duplicate_rows,
            )
            for name, left in outcome.containers.items()
        },
    )


def run_record(outcome: PhaseOutcome, measured: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured on the way, for `run.json`."""
    return {
        **measured,
        **outcome.measured,
        "containers": {
            name: {
                "mode": left.mode,
                "error": left.error,
                **msgspec.structs.asdict(left.stats),
                "store": msgspec.structs.asdict(left.store),
                "kept_output": None if left.kept_output is None else msgspec.structs.asdict(left.kept_output),
            }
            for name, left in outcome.containers.items()
        },
        "edges": [msgspec.structs.asdict(edge) for edge in outcome.edges],
        "reports": {
            name: left.report.to_pylist() for name, left in outcome.containers.items() if left.report is not None
        },
    }


def containers_table(outcome: PhaseOutcome) -> pa.Table:
    """One row per container and per member: name, group, kind, mode, rows, and what its data manager held."""
    return pa.Table.from_pylist(list(_container_rows(outcome)), schema=CONTAINERS_SCHEMA)


CONTAINERS_SCHEMA = pa.schema(
    [
        ("name", pa.utf8()),
        ("group", pa.utf8()),
        ("kind", pa.utf8()),
        ("mode", pa.utf8()),
        ("received_rows", pa.int64()),
        ("sent_rows", pa.int64()),
        ("late_rows", pa.int64()),
        ("dead_rows", pa.int64()),
        ("entries", pa.int64()),
        ("limit_bytes", pa.int64()),
        ("peak_bytes", pa.int64()),
        ("disk_bytes", pa.int64()),
        ("evictions", pa.int64()),
        ("restores", pa.int64()),
        ("flushes", pa.int64()),
        ("waits", pa.int64()),
        ("dropped", pa.int64()),
        ("error", pa.utf8()),
    ]
)


def _container_rows(outcome: PhaseOutcome) -> Iterator[dict[str, Any]]:
    for name, left in outcome.containers.items():
        counts = {
            "received_rows": left.stats.received_rows,
            "sent_rows": left.stats.sent_rows,
            "late_rows": left.stats.late_rows,
            "dead_rows": left.stats.dead_rows,
            "error": left.error,
        }
        yield {"name": name, "group": None, "kind": left.stats.kind, **counts, **_store_columns(left.store)}
        for member, store in sorted(left.members.items()):
            yield {"name": member, "group": name, "kind": "member", **_store_columns(store)}


def _store_columns(store: Any) -> dict[str, Any]:
    kept = (
        "entries",
        "limit_bytes",
        "peak_bytes",
        "disk_bytes",
        "evictions",
        "restores",
        "flushes",
        "waits",
        "dropped",
    )
    return {"mode": store.mode, **{name: getattr(store, name) for name in kept}}
