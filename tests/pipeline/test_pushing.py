"""Rows that are pushed in faster than they are worked on: what lossy and spilling inputs lose, and what is said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from pipeline import Batch, Context, EdgePolicy, Input, Pipeline, Run, Stage, Topology, TopologyBuilder, Transform
from pipeline.containers.pushing import Push
from pipeline.errors import EdgeClosed, PhaseFailed

PUSHES, ROWS = 200, 4


class Held(Stage, frozen=True):
    """Works on its first batch until it is let go."""

    seen: list[int]
    go: Any
    fails: bool = False

    def build(self, context: Context) -> Transform:
        return Holding(self)


class Holding(Transform):
    stateless = True

    def __init__(self, recipe: Held) -> None:
        self.recipe = recipe

    async def on_batch(self, batch: Batch) -> AsyncIterator[Batch]:
        if self.recipe.fails:
            raise ValueError("not this one")
        await self.recipe.go.wait()
        self.recipe.seen.extend(batch.columns.column("n").to_pylist())
        yield batch


def pushed_into(held: Held, policy: EdgePolicy) -> Topology:
    builder = TopologyBuilder().add("ticks", Push())
    return builder.add("held", held, [Input("ticks", policy)]).build()


def rows(number: int) -> dict[str, list[Any]]:
    numbers = list(range(number * ROWS, (number + 1) * ROWS))
    return {"ts_event": numbers, "n": numbers, "of": [f"k{n % 3}" for n in numbers]}


BOUND = 12
WAITING = BOUND - ROWS
"""Rows that wait where the bound is reached: those that are being worked on count as well."""
KEPT = {
    "drop_oldest": lambda first: [*first, *range(PUSHES * ROWS - WAITING, PUSHES * ROWS)],
    "drop_newest": lambda first: [*first, *range(len(first), len(first) + WAITING)],
    "conflate": lambda first: [*first, *range(PUSHES * ROWS - 3, PUSHES * ROWS)],
    "spill": lambda first: list(range(PUSHES * ROWS)),
}


@pytest.mark.parametrize("when_full", list(KEPT))
async def test_e5_an_edge_that_is_full_all_the_time_keeps_what_it_says_in_order(when_full: str, tmp_path: Path) -> None:
    """E5: 800 rows against a consumer that stands still; the ledger tells every one of them."""
    held = Held(seen=[], go=anyio.Event())
    policy = EdgePolicy(
        max_rows=BOUND, max_bytes=1 << 20, when_full=when_full, key="of" if when_full == "conflate" else None
    )
    async with Pipeline.from_topology(pushed_into(held, policy), output=tmp_path).start() as run:
        await push_all(run)
        run.push_end("ticks")
        if when_full != "spill":
            await anyio.wait_all_tasks_blocked()
        held.go.set()
        summary = await run.finished()
    first = list(range(ROWS))
    assert held.seen == KEPT[when_full](first)
    (edge,) = summary.ledger.edges
    assert (edge.sent, edge.received, edge.in_flight) == (PUSHES * ROWS, len(held.seen), 0)
    assert edge.dropped == PUSHES * ROWS - len(held.seen)
    assert summary.ledger.containers["held"].processed == len(held.seen)


async def push_all(run: Run) -> None:
    for number in range(PUSHES):
        await run.push("ticks", rows(number))


async def test_who_pushes_into_a_run_that_has_failed_is_told_where_to_learn_why(tmp_path: Path) -> None:
    held = Held(seen=[], go=anyio.Event(), fails=True)
    pipeline = Pipeline.from_topology(pushed_into(held, EdgePolicy(max_rows=BOUND)), output=tmp_path)
    async with pipeline.start() as run:
        with pytest.raises(EdgeClosed, match=r"the feed has ended; .* `await run.finished\(\)` raises why"):
            await push_all(run)
        with pytest.raises(PhaseFailed, match="not this one"):
            await run.finished()
        with pytest.raises(EdgeClosed) as afterwards:
            await run.push("ticks", rows(0))
        assert "not this one" in str(afterwards.value.__cause__) or "raises why" in str(afterwards.value)
