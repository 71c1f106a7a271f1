"""What the sequencer decides: whether a phase may begin, and whether the books balance."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from pipeline.containers.container import ContainerStats
from pipeline.data import DataStats
from pipeline.edges.edge import EdgeStats
from pipeline.errors import PhaseFailed
from pipeline.phases import ContainerOutcome, PhaseOutcome, check_ledger, check_needs


def container(name: str, kind: str = "transform", **counts: int) -> ContainerOutcome:
    stats = ContainerStats(
        name=name, kind=kind, received_rows=counts.get("received", 0), processed_rows=counts.get("processed", 0),
        late_rows=counts.get("late", 0), sent_rows=0, sent_batches=0, busy_seconds=0, calls_on_loop=0,
        calls_in_thread=0, yields=0, watermark=None, ended=True,
    )  # fmt: skip
    return ContainerOutcome(
        stats=stats,
        mode="memory",
        store=DataStats(mode="memory"),
        committed_rows=counts.get("committed"),
        rejected_rows=counts.get("rejected", 0),
        duplicate_rows=counts.get("duplicates", 0),
    )


def edge(sent: int, received: int, dropped: int = 0, in_flight: int = 0) -> EdgeStats:
    return EdgeStats(
        source="a", target="b", sent_rows=sent, received_rows=received, dropped_rows=dropped,
        in_flight_rows=in_flight, in_flight_bytes=0, peak_rows=0, peak_bytes=0, sent_batches=0, fast_sends=0, waits=0,
    )  # fmt: skip


def books(b: ContainerOutcome, line: EdgeStats, sent: int | None = None) -> list[str]:
    a = container("a", "feed")
    stats = msgspec.structs.replace(a.stats, sent_rows=line.sent_rows if sent is None else sent)
    return check_ledger(PhaseOutcome(containers={"a": replace(a, stats=stats), "b": b}, edges=[line]))


def test_books_that_balance_have_nothing_to_say() -> None:
    assert books(container("b", received=7, processed=5, late=2), edge(10, 7, dropped=3)) == []
    sink = container("b", "sink", received=6, processed=6, committed=3, rejected=2, duplicates=1)
    assert books(sink, edge(6, 6)) == []


@pytest.mark.parametrize(
    ("b", "line", "said"),
    [
        (container("b", received=7, processed=7), edge(10, 7), "edge a -> b: sent 10"),
        (container("b", received=7, processed=7), edge(8, 7, in_flight=1), "1 rows are still in flight"),
        (container("b", received=7, processed=6), edge(7, 7), "container b: received 7, but processed 6"),
        (container("b", received=6, processed=6), edge(7, 7), "its edges delivered 7 rows, it received 6"),
        (container("b", "sink", received=7, processed=7, committed=6), edge(7, 7), "sink b: received 7"),
    ],
)
def test_each_row_that_is_missing_is_said(b: ContainerOutcome, line: EdgeStats, said: str) -> None:
    assert any(said in sentence for sentence in books(b, line))


def test_rows_that_came_to_one_consumer_and_not_to_another_are_said() -> None:
    b, line = container("b", received=7, processed=7), edge(7, 7)
    assert books(b, line, sent=9) == ["edge a -> b: sent 7 of 9 rows"]
    assert books(b, msgspec.structs.replace(line, records=["trade"]), sent=9) == []


def test_a_missing_dependency_fails_the_phase_and_says_which() -> None:
    check_needs("validate", ["train"], {"train": object()})
    with pytest.raises(PhaseFailed, match="phase 'validate' failed: it needs phase 'train', which has not completed"):
        check_needs("validate", ["train"], {})


def test_outcomes_are_values() -> None:
    assert msgspec.structs.replace(edge(1, 1)) == edge(1, 1)
