"""What has become of a phase: an engine that has run to its end, as the sequencer and `run.json` are told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ..containers.feeding import Container, FeedContainer
from ..errors import ContainerFailed
from ..hashing import hash_plain
from ..phases import ContainerOutcome, PhaseOutcome
from ..stage import Sink

if TYPE_CHECKING:
    from .local import LocalEngine


def outcome_of(engine: LocalEngine) -> PhaseOutcome:
    """Of every container, edge and measure. Raises `ContainerFailed` where a stage cannot tell its own."""
    outcomes = {}
    for name, container in engine.containers.items():
        try:
            outcomes[name] = _of_container(container)
        except Exception as error:
            raise ContainerFailed(name, error) from error
    feeds = engine.feeds()
    return PhaseOutcome(
        containers=outcomes,
        edges=[edge.stats() for edge in engine.edges],
        interrupted=engine.interrupted or engine.steering.sought,
        warmup_from_ns=min(
            (feed.cut.warmup_from_ns for feed in feeds.values() if feed.cut.warmup_from_ns is not None), default=None
        ),
        data_hash=_data_hash(feeds),
        measured={
            "feeds_cut_short": {
                name: _plain(feed.logic.metrics()) for name, feed in feeds.items() if feed.cut.shortened
            },
            "checkpoints": None if engine.checkpointer is None else msgspec.structs.asdict(engine.checkpointer.figures),
            "edges_peak_bytes": engine.account.peak_bytes,
            "pool": engine.pool_figures(),
            "dropped_for_subscribers": engine.losses_of_subscribers(),
            "loop_lag_p50_ms": engine.lag.percentile_ms(50),
            "loop_lag_p99_ms": engine.lag.percentile_ms(99),
            "loop_lag_max_ms": engine.lag.max_ns / 1e6,
            **engine.steering.figures(),
        },
    )


def _of_container(container: Container) -> ContainerOutcome:
    logic, keeper = container.logic, container.keeper
    sink = logic if isinstance(logic, Sink) else None
    # A feed that was not read to its end has counted what lies ahead as well, as far as it happened to read.
    short = isinstance(container, FeedContainer) and container.cut.shortened
    return ContainerOutcome(
        stats=container.stats(),
        mode=keeper.policy.mode,
        store=keeper.store.stats(),
        kept=keeper.kept,
        kept_output=keeper.kept_output,
        members=keeper.member_stats(),
        metrics={} if short or container.failure is not None else _plain(logic.metrics()),
        report=logic.report() if container.failure is None else None,
        error=None if container.failure is None else str(container.failure),
        committed_rows=sink.committed_rows if sink else None,
        rejected_rows=sink.rejected_rows if sink else 0,
        duplicate_rows=sink.duplicate_rows if sink else 0,
    )


def _data_hash(feeds: Mapping[str, FeedContainer]) -> str | None:
    """Of the rows the feeds gave, in a phase with a window."""
    given = {name: feed.given.hexdigest() for name, feed in feeds.items() if feed.given is not None}
    return hash_plain(given) if given else None


def _plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(metrics, enc_hook=_plain_number, str_keys=True)
    return plain


def _plain_number(value: Any) -> Any:
    """What people compute figures with: numpy's scalars. Anything else has no place among metrics."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected metrics() to give plain numbers, text, lists and dicts, found {type(value).__name__}")
