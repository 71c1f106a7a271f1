"""Recordings replayed at any speed, paused and stepped: the same bytes, and nothing before its time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from whole_runs import SMALL

from pipeline import (
    Batch,
    Context,
    EdgePolicy,
    Feed,
    Input,
    Pacing,
    PenstockError,
    PhaseFailed,
    Pipeline,
    Stage,
    TopologyBuilder,
    Transform,
)
from pipeline.testing import ListFeed, VirtualClock

SECOND = 1_000_000_000


class Ticks(Stage, frozen=True):
    """A row each `step` seconds from `start` on, in one batch or several."""

    rows: int = 20
    start: int = 0
    step: int = 1
    cut: int = 1000
    speed: float | None = None
    fails_at: int | None = None

    def build(self, context: Context) -> Feed:
        return TicksFeed(self)


class TicksFeed(Feed):
    def __init__(self, recipe: Ticks) -> None:
        self.recipe = recipe
        self.pacing = Pacing(speed=recipe.speed)

    def batches(self) -> Iterator[Batch]:
        times = [(self.recipe.start + i * self.recipe.step) * SECOND for i in range(self.recipe.rows)]
        for at in range(0, len(times), self.recipe.cut):
            if self.recipe.fails_at is not None and at >= self.recipe.fails_at:
                raise OSError("the disk is gone")
            yield Batch.from_pydict({"ts_event": times[at : at + self.recipe.cut]})


class Seen(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return SeenLogic()


class SeenLogic(Transform):
    def __init__(self) -> None:
        self.times: list[int] = []

    def on_batch(self, batch: Batch) -> None:
        times = batch.times()
        assert times is not None
        self.times += [time // SECOND for time in times.tolist()]

    def metrics(self) -> Mapping[str, Any]:
        return {"times": self.times}


def two_feeds(one: Ticks, other: Ticks, policy: EdgePolicy | None = None) -> Any:
    builder = TopologyBuilder().add("one", one).add("other", other)
    return builder.add("seen", Seen(), [Input("one", policy), Input("other", policy)]).build()


def seen_by(run: Any) -> list[int]:
    times: list[int] = run._engine.containers["seen"].logic.times
    return times


async def test_at_any_speed_with_pauses_and_steps_a_backtest_leaves_the_same_bytes(tmp_path: Path) -> None:
    def config(name: str) -> Pipeline:
        return Pipeline.from_yaml(SMALL, output=tmp_path / name)

    async def left(run: Any) -> bytes:
        await run.finished()
        return await asyncio.to_thread(lambda: next(run.folder.glob("*/summary.json")).read_bytes())

    async with config("whole").start() as run:
        whole = await left(run)
    async with config("fast").start() as run:
        run.set_speed(2e5)  # six hours in a tenth of a second
        fast = await left(run)
    async with config("stepped").start() as run:
        assert await run.step(1) == 1 and run.replay_state == "paused"
        assert await run.step(7) == 7
        run.set_speed(100)  # not fast enough to come far, however long this moment lasts
        run.resume()
        await asyncio.sleep(0)
        run.pause()
        assert await run.step(1000) == 1000
        run.set_speed(None)
        run.resume()
        stepped = await left(run)
        assert run.replay_state == "finished" and await run.step(1) == 0

    assert fast == whole and stepped == whole


async def test_rows_are_given_when_they_are_due_and_not_before(tmp_path: Path) -> None:
    clock = VirtualClock()
    topology = two_feeds(Ticks(rows=5, step=10, speed=10), Ticks(rows=3, start=5, step=20, speed=10))
    async with Pipeline.from_topology(topology, output=tmp_path, clock=clock).start() as run:
        run.begin()
        while run.replayed_ns is None:
            await anyio.sleep(0.001)
        await settled(run)
        assert seen_by(run) == [0]
        await clock.advance(2.05)
        await settled(run)
        assert seen_by(run) == [0, 5, 10, 20]
        run.pause()
        await clock.advance(100)
        await settled(run)
        assert seen_by(run) == [0, 5, 10, 20] and run.status().state == "paused"
        run.resume()
        await anyio.wait_all_tasks_blocked()
        await clock.advance(100)
        summary = await run.finished()
    assert summary.aggregate_metrics["seen"]["times"] == [0, 5, 10, 20, 25, 30, 40, 45]


async def settled(run: Any) -> None:
    await run._engine.steering.at_rest()


async def test_a_step_returns_when_everything_it_let_go_has_been_worked_on(tmp_path: Path) -> None:
    """Two feeds that are merged, through edges that hold a row: none keeps the other from going on."""
    topology = two_feeds(Ticks(rows=6, step=10, cut=1), Ticks(rows=30, start=5, step=1, cut=4), EdgePolicy(max_rows=1))
    async with Pipeline.from_topology(topology, output=tmp_path).start() as run:
        assert await run.step(until="1970-01-01T00:00:10Z") == 6
        assert seen_by(run) == [0, 5, 6, 7, 8, 9]
        assert await run.step(2) == 2
        assert seen_by(run)[6:] == [10, 10]
        assert run.replayed_ns == 10 * SECOND
        assert await run.step(until=60 * SECOND) == 28
        assert run.replay_state == "finished"
        summary = await run.finished()
    assert len(summary.aggregate_metrics["seen"]["times"]) == 36


async def test_feeds_of_one_phase_have_one_clock(tmp_path: Path) -> None:
    topology = two_feeds(Ticks(speed=2), Ticks())
    with pytest.raises(PhaseFailed, match=r"same `clock` for all feeds.*\{speed: max\} for 'other'.*\{speed: 2\}"):
        async with Pipeline.from_topology(topology, output=tmp_path).start() as run:
            await run.finished()


async def test_only_replays_are_stepped_and_a_run_that_fails_ends_a_step(tmp_path: Path) -> None:
    pushed = TopologyBuilder().add("data", ListFeed(items=[{"n": [1]}])).add("seen", Seen(), ["data"]).build()
    async with Pipeline.from_topology(pushed, output=tmp_path / "a").start() as run:
        with pytest.raises(PenstockError, match="expected a feed that is a replay"):
            await run.step(1)
    topology = two_feeds(Ticks(cut=1, fails_at=3), Ticks())
    async with Pipeline.from_topology(topology, output=tmp_path / "b").start() as run:
        assert 6 <= await run.step(1000) <= 26
        with pytest.raises(PhaseFailed, match="the disk is gone"):
            await run.finished()


async def test_a_replay_in_time_can_be_stopped(tmp_path: Path) -> None:
    clock = VirtualClock()
    topology = two_feeds(Ticks(speed=1), Ticks(start=100, speed=1))
    async with Pipeline.from_topology(topology, output=tmp_path, clock=clock).start() as run:
        run.begin()
        while run.replayed_ns is None:
            await anyio.sleep(0.001)
        await settled(run)
        run.drain()
        with pytest.raises(PenstockError, match="stopped before its feeds ended"):
            await run.finished()


class Sought(TicksFeed):
    def seek(self, ts_ns: int) -> Iterator[Batch]:
        for batch in self.batches():
            times = batch.times()
            assert times is not None
            first = int((times < ts_ns).sum())
            if first < batch.num_rows:
                yield batch.slice(first)


class SoughtTicks(Ticks, frozen=True):
    def build(self, context: Context) -> Feed:
        return Sought(self)


@pytest.mark.parametrize("cut", [1, 4, 1000])
async def test_a_seek_leaves_out_what_lies_between_and_downstream_goes_on(tmp_path: Path, cut: int) -> None:
    topology = two_feeds(SoughtTicks(rows=30, step=10, cut=cut), SoughtTicks(rows=40, start=5, step=10, cut=cut))
    async with Pipeline.from_topology(topology, output=tmp_path).start() as run:
        await run.seek(95 * SECOND)
        assert run.replay_state == "paused" and await run.step(3) == 3
        assert seen_by(run) == [95, 100, 105]
        await run.seek("1970-01-01T00:04:00Z")
        assert await run.step(until=255 * SECOND) == 3
        with pytest.raises(PenstockError, match=r"has not been reached, found 1970-01-01T00:00:01Z"):
            await run.seek(SECOND)
        run.resume()
        await run.seek(380 * SECOND)
        await run.finished()
        with pytest.raises(PenstockError, match="has ended"):
            await run.seek(390 * SECOND)
    times = run.summary.aggregate_metrics["seen"]["times"]
    assert times[:6] == [95, 100, 105, 240, 245, 250] and times[-2:] == [385, 395]
    assert run.summary.status == "interrupted"


async def test_after_a_seek_rows_are_due_as_time_goes_on_from_there(tmp_path: Path) -> None:
    clock = VirtualClock()
    topology = (
        TopologyBuilder().add("one", SoughtTicks(rows=100, step=10, speed=10)).add("seen", Seen(), ["one"]).build()
    )
    async with Pipeline.from_topology(topology, output=tmp_path, clock=clock).start() as run:
        run.begin()
        while run.replayed_ns is None:
            await anyio.sleep(0.001)
        await settled(run)
        assert seen_by(run) == [0]
        await run.seek(500 * SECOND)
        await settled(run)
        assert seen_by(run) == [0, 500]
        await clock.advance(1.05)
        await settled(run)
        assert seen_by(run) == [0, 500, 510] and run.replayed_ns == 510 * SECOND + SECOND // 2
        run.drain()
        with pytest.raises(PenstockError, match="stopped before its feeds ended"):
            await run.finished()


async def begun(run: Any, ts_ns: int) -> asyncio.Task[None]:
    """A seek of which feeds have been told, and which they have not answered."""
    seeking = asyncio.ensure_future(run.seek(ts_ns))
    while not any(feed._sought for feed in run._engine.feeds().values()):
        await asyncio.sleep(0)
    return seeking


async def test_a_seek_is_alone_and_one_that_nobody_waits_for_any_more_still_leaves_rows_out(tmp_path: Path) -> None:
    topology = two_feeds(SoughtTicks(rows=30, step=10), SoughtTicks(rows=40, start=5, step=10))
    async with Pipeline.from_topology(topology, output=tmp_path).start() as run:
        assert await run.step(1) == 1
        first = await begun(run, 95 * SECOND)
        with pytest.raises(PenstockError, match="no seek while another is under way"):
            await run.seek(200 * SECOND)
        first.cancel()
        await asyncio.wait([first])
        await run.seek(200 * SECOND)
        run.resume()
        await run.finished()
    times = run.summary.aggregate_metrics["seen"]["times"]
    assert times[:3] == [0, 200, 205] and run.summary.status == "interrupted"


async def test_a_seek_that_is_cancelled_leaves_the_run_interrupted(tmp_path: Path) -> None:
    topology = two_feeds(SoughtTicks(rows=30, step=10), SoughtTicks(rows=40, start=5, step=10))
    async with Pipeline.from_topology(topology, output=tmp_path).start() as run:
        assert await run.step(1) == 1
        seeking = await begun(run, 200 * SECOND)
        seeking.cancel()
        await asyncio.wait([seeking])
        run.resume()
        await run.finished()
    assert len(run.summary.aggregate_metrics["seen"]["times"]) < 70 and run.summary.status == "interrupted"


async def test_only_feeds_that_can_be_sought_in_are_and_not_while_checkpoints_are_taken(tmp_path: Path) -> None:
    async with Pipeline.from_topology(two_feeds(Ticks(), SoughtTicks()), output=tmp_path / "a").start() as run:
        with pytest.raises(PenstockError, match="expected feeds that can be sought in, which replays can; one cannot"):
            await run.seek(SECOND)
        run.drain()
    kept = Pipeline.from_topology(two_feeds(SoughtTicks(), SoughtTicks()), output=tmp_path / "b", checkpoint_seconds=1)
    async with kept.start() as run:
        with pytest.raises(PenstockError, match="expected a run without checkpoints"):
            await run.seek(SECOND)


async def test_what_cannot_be_steered_by_is_told_at_once_and_harms_no_run(tmp_path: Path) -> None:
    """A half row, a speed in words or an endless one, a moment that is none: the run goes on as if nothing was said."""
    pipeline = Pipeline.from_topology(two_feeds(Ticks(), Ticks(start=5)), output=tmp_path)
    async with pipeline.start() as run:
        for rows in (1.5, "5", 0, -3):
            with pytest.raises(ValueError, match="expected to step by at least 1 row, a whole number, found"):
                await run.step(rows)  # type: ignore[arg-type]
        for speed in ("max", "5", 0, -1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="expected a speed above 0, or None"):
                run.set_speed(speed)  # type: ignore[arg-type]
        for moment in (1.5, object()):
            with pytest.raises(ValueError, match="expected a moment, an ISO time such as"):
                await run.step(until=moment)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="expected a moment, an ISO time such as"):
                await run.seek(moment)  # type: ignore[arg-type]
        summary = await run.finished()
    assert len(summary.aggregate_metrics["seen"]["times"]) == 40


async def test_a_run_that_nobody_entered_says_so_instead_of_waiting_for_ever(tmp_path: Path) -> None:
    run = Pipeline.from_topology(two_feeds(Ticks(), Ticks()), output=tmp_path).start()
    for call in (run.finished, lambda: run.step(1), lambda: run.seek(0)):
        with pytest.raises(PenstockError, match="use `async with run:`"):
            with anyio.fail_after(30):
                await call()
