"""Containers: watermarks, gathering of single rows, manners on the loop."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest

from pipeline import (
    Batch,
    Context,
    EdgePolicy,
    Feed,
    Input,
    Interrupted,
    Pipeline,
    Row,
    RowTransform,
    Stage,
    TopologyBuilder,
    Transform,
    Watermark,
)
from pipeline.edges.edge import Edge
from pipeline.edges.outlet import Gatherer, Outlet
from pipeline.testing import ListFeed, ListSink


class Tick(Row, frozen=True):
    ts_event: int
    n: int


class Hears(Stage, frozen=True):
    into: list[Any]

    def build(self, context: Context) -> Transform:
        return Listener(self.into)


class Listener(Transform):
    def __init__(self, into: list[Any]) -> None:
        self.into = into

    def on_batch(self, batch: Batch) -> None:
        self.into.append([row.n for row in batch.rows])

    def on_watermark(self, watermark: Watermark) -> None:
        self.into.append(watermark)


async def run(tmp_path: Path, feed: Stage, *stages: Stage) -> Any:
    builder = TopologyBuilder().add("data", feed)
    last = "data"
    for i, stage in enumerate(stages):
        builder.add(f"stage_{i}", stage, [last])
        last = f"stage_{i}"
    return await Pipeline.from_topology(builder.build(), output=tmp_path).run()


async def test_a_feed_sends_its_largest_time_less_its_lateness_after_each_batch(tmp_path: Path) -> None:
    heard: list[Any] = []
    items = [{"ts_event": [10, 30, 20], "n": [1, 2, 3]}, {"ts_event": [25], "n": [4]}, {"ts_event": [40], "n": [5]}]
    # A third stage between keeps every watermark: a joint one hears each, none replaced while it waits.
    await run(tmp_path, ListFeed(items=items, lateness_ns=5), Passes(), Hears(into=heard))
    assert [item for item in heard if not isinstance(item, Watermark)] == [[1, 2, 3], [4], [5]]
    marks = [item.ts for item in heard if isinstance(item, Watermark)]
    assert marks[-1] == 35
    assert set(marks) <= {25, 35}


class Passes(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return PassesOn()


class PassesOn(Transform):
    def on_batch(self, batch: Batch) -> Batch:
        return batch


async def test_a_feed_may_declare_itself_idle(tmp_path: Path) -> None:
    heard: list[Any] = []
    await run(tmp_path, ListFeed(items=[{"ts_event": [1], "n": [1]}, Watermark(None, idle=True)]), Hears(into=heard))
    assert heard[-1].idle


class Doubles(Stage, frozen=True):
    is_async: bool = False

    def build(self, context: Context) -> Transform:
        return DoublesLater() if self.is_async else DoublesNow()


class DoublesNow(RowTransform):
    def on_row(self, row: Tick) -> Any:
        if row.n % 3 == 0:
            return None
        return [row, row] if row.n % 3 == 1 else row


class DoublesLater(DoublesNow):
    async def on_row(self, row: Tick) -> Any:
        await anyio.lowlevel.checkpoint()
        return DoublesNow.on_row(self, row)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_row_transform_gives_none_one_or_many_rows(tmp_path: Path, is_async: bool) -> None:
    into: list[Batch] = []
    rows = [Tick(n, n) for n in range(6)]
    await run(tmp_path, ListFeed(items=rows), Doubles(is_async=is_async), ListSink(into=into))
    assert [row.n for batch in into for row in batch.rows] == [1, 1, 2, 4, 4, 5]


async def test_a_gatherer_closes_a_full_batch_and_one_that_a_consumer_waits_for() -> None:
    outlet = Outlet("a")
    gatherer = Gatherer(outlet)
    assert not any(gatherer.add(Tick(n, n)) for n in range(511))
    assert gatherer.add(Tick(511, 511))
    batch = gatherer.close()
    assert batch is not None
    assert batch.num_rows == 512
    assert gatherer.close() is None
    edge = Edge("a", "b")
    outlet.attach(edge)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(edge.receive)
        await anyio.wait_all_tasks_blocked()
        assert gatherer.add(Tick(1, 1)), "somebody waits on an empty edge"
        closed = gatherer.close()
        assert closed is not None
        edge.send_nowait(closed)


class Trickle(Stage, frozen=True):
    """Gives one row and then nothing until the test says so."""

    go: Any

    def build(self, context: Context) -> Feed:
        return TrickleFeed(self.go)


class TrickleFeed(Feed):
    def __init__(self, go: anyio.Event) -> None:
        self.go = go

    async def batches(self) -> AsyncIterator[Tick]:  # type: ignore[override]
        for n in range(5):
            yield Tick(n, n)
        await self.go.wait()


async def test_rows_do_not_linger_while_the_feed_waits_for_more(tmp_path: Path) -> None:
    go = anyio.Event()
    builder = TopologyBuilder().add("data", Trickle(go=go)).add("stage", Passes(), ["data"])
    got: list[int] = []
    async with Pipeline.from_topology(builder.build(), output=tmp_path).start() as running:
        async with running.subscribe("stage") as batches:
            async for batch in batches:
                got += [row.n for row in batch.rows]
                if len(got) == 5:
                    go.set()
        await running.finished()
    assert got == [0, 1, 2, 3, 4]


class Sleepy(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return SleepyLogic()


class SleepyLogic(Transform):
    def on_batch(self, batch: Batch) -> None:
        until = time.perf_counter() + 0.15
        while time.perf_counter() < until:
            pass


async def test_a_stage_that_holds_the_loop_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "penstock"):
        await run(tmp_path, ListFeed(items=[{"ts_event": [1], "n": [1]}] * 2), Sleepy())
    said = [record.getMessage() for record in caplog.records if "held the event loop" in record.getMessage()]
    said = [words for words in said if "container 'stage_0'" in words]  # a busy machine may hold others up
    assert len(said) == 1
    assert 'runs_in = "thread"' in said[0]


class Nonsense(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return NonsenseLogic()


class NonsenseLogic(Transform):
    def on_batch(self, batch: Batch) -> Any:
        return 42


async def test_a_stage_that_returns_nonsense_is_told_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"container 'stage_0' failed: .*expected a Batch, a Result.*found int"):
        await run(tmp_path, ListFeed(items=[{"ts_event": [1], "n": [1]}]), Nonsense())


class Ticking(Stage, frozen=True):
    """Single rows; ends, or waits to be stopped, while those that lingered wait for room on the second edge."""

    ends: bool

    def build(self, context: Context) -> Feed:
        return TickingFeed(self.ends)


class TickingFeed(Feed):
    def __init__(self, ends: bool) -> None:
        self.ends = ends

    async def batches(self) -> AsyncIterator[Tick]:  # type: ignore[override]
        for n in range(6):
            yield Tick(n, n)
            await anyio.sleep(0.006)
        if not self.ends:
            await anyio.sleep_forever()


class Dawdles(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return Dawdler()


class Dawdler(Transform):
    async def on_batch(self, batch: Batch) -> None:
        await anyio.sleep(0.02)


@pytest.mark.parametrize("ends", [True, False])
async def test_rows_that_are_being_sent_when_a_feed_ends_come_to_all_consumers_or_to_none(
    ends: bool, tmp_path: Path
) -> None:
    heard: list[Any] = []
    builder = TopologyBuilder().add("data", Ticking(ends=ends)).add("quick", Hears(into=heard), ["data"])
    builder.add("slow", Dawdles(), [Input("data", EdgePolicy(max_rows=1))])
    async with Pipeline.from_topology(builder.build(), output=tmp_path).start() as run:
        run.begin()
        if not ends:
            await anyio.sleep(0.05)
            run.drain()
        with pytest.raises(Interrupted) if not ends else nullcontext():
            await run.finished()
        edges = {edge.target: edge.sent_rows for edge in run.status().edges}
    if ends:
        assert sum(len(item) for item in heard if isinstance(item, list)) == 6
    assert len(set(edges.values())) <= 1, edges
