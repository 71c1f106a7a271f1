"""What memory a run may have, told once when it starts. A-1."""

from __future__ import annotations

import logging

import pytest

from pipeline.budgets import Memory
from pipeline.data import DataFlow
from pipeline.machine import MB, default_pool, process_limit
from pipeline.testing import ListFeed, ListSink
from pipeline.topology import Topology, TopologyBuilder


def topology(limit_mb: float) -> Topology:
    builder = TopologyBuilder()
    flow = DataFlow(mode="hybrid", memory_limit_mb=limit_mb)
    builder.add("a", ListFeed([]), data_flow=flow)
    builder.add("b", ListSink(into="b"), ["a"], data_flow=flow)
    return builder.build()


def test_a1_what_was_declared_is_the_pool_and_budgets_beyond_it_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert Memory.of(100 * MB, False, topology(60)) == Memory(100 * MB, None)
    assert caplog.messages == [
        "all containers share 100.0 MB of memory: process_memory_mb",
        "2 budgets add up to 120 MB, more than these: each is a ceiling, not a reservation",
    ]
    caplog.clear()
    Memory.of(100 * MB, False, topology(50))
    assert len(caplog.messages) == 1, "they all fit"


def test_a1_undeclared_it_is_a_share_and_the_process_is_looked_at_only_where_it_is_the_runs_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    own = Memory.of(None, True, topology(1))
    assert own == Memory(default_pool(owns_process=True).bytes, process_limit().bytes)
    assert "0.70 of the" in caplog.messages[0]
    embedded = Memory.of(None, False, topology(1))
    assert embedded.process_bytes is None
    assert "0.25 of the" in caplog.messages[1]
