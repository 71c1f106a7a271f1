"""The embedded API: runs live in the caller's loop, and leave nothing behind however they end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, ClassVar

import anyio
import msgspec
import numpy as np
import pyarrow as pa
import pytest

from pipeline import (
    Batch,
    Context,
    DataFlow,
    EdgeClosed,
    EdgePolicy,
    Feed,
    InputError,
    Interrupted,
    PhaseFailed,
    Pipeline,
    Push,
    Result,
    Row,
    Sink,
    Stage,
    TopologyBuilder,
    Transform,
)
from pipeline.data.policy import StreamingSettings
from pipeline.testing import Aborted, ListFeed, ListSink, Mark, Pause
from tests.conftest import tasks_left
from tests.patience import SECONDS


def ticks(*numbers: int) -> dict[str, list[Any]]:
    return {"ts_event": [n * 1000 for n in numbers], "n": list(numbers)}


class Doubled(Stage, frozen=True):
    """Doubles `n` in the way it is told to."""

    how: str = "plain"

    def build(self, context: Context) -> Transform:
        return {
            "plain": Plain,
            "generator": Generated,
            "async": Awaited,
            "async generator": Streamed,
            "thread": Threaded,
        }[self.how]()


def doubled(batch: Batch) -> Batch:
    return batch.with_columns(n=[2 * n for n in batch.columns.column("n").to_pylist()])


class Plain(Transform):
    def on_batch(self, batch: Batch) -> Batch:
        return doubled(batch)


class Generated(Transform):
    def on_batch(self, batch: Batch) -> Any:
        yield doubled(batch.slice(0, 1))
        if batch.num_rows > 1:
            yield doubled(batch.slice(1))


class Awaited(Transform):
    async def on_batch(self, batch: Batch) -> Batch:
        await asyncio.sleep(0)
        return doubled(batch)


class Streamed(Transform):
    async def on_batch(self, batch: Batch) -> Any:
        await asyncio.sleep(0)
        yield doubled(batch)


class Threaded(Transform):
    runs_in = "thread"

    def on_batch(self, batch: Batch) -> Batch:
        return doubled(batch)


class Remembered(Stage, frozen=True):
    """Keeps the sum and the rows it has seen."""

    def build(self, context: Context) -> Transform:
        return Remembers()


class Remembers(Transform):
    def __init__(self) -> None:
        self.sum = 0

    def on_batch(self, batch: Batch) -> Any:
        self.sum += sum(batch.columns.column("n").to_pylist())
        yield Result("rows", batch.columns.select(["n"]), append=True)
        yield batch

    def on_end(self) -> Result:
        return Result("total", {"sum": self.sum})

    def metrics(self) -> dict[str, Any]:
        return {"sum": self.sum}


class Fails(Stage, frozen=True):
    after: int = 2

    def build(self, context: Context) -> Transform:
        return FailsLater(self.after)


class FailsLater(Transform):
    def __init__(self, after: int) -> None:
        self.left = after

    def on_batch(self, batch: Batch) -> Batch:
        self.left -= 1
        if self.left < 0:
            raise ValueError("no more, please")
        return batch


def chain(items: list[Any], *stages: Stage, into: list[Batch] | None = None, **feed: Any) -> Any:
    builder = TopologyBuilder()
    builder.add("data", ListFeed(items=items, **feed))
    last = "data"
    for i, stage in enumerate(stages):
        builder.add(f"stage_{i}", stage, [last])
        last = f"stage_{i}"
    if into is not None:
        builder.add("sink", ListSink(into=into), [last])
    return builder.build()


def received(into: list[Batch]) -> list[int]:
    return [row.n for batch in into for row in batch.rows]


@pytest.mark.parametrize("how", ["plain", "generator", "async", "async generator", "thread"])
async def test_logic_of_every_kind_is_called_and_its_output_sent_on(how: str, tmp_path: Path) -> None:
    into: list[Batch] = []
    topology = chain([ticks(1, 2), ticks(3)], Doubled(how=how), into=into)
    summary = await Pipeline.from_topology(topology, output=tmp_path).run()
    assert received(into) == [2, 4, 6]
    assert summary.ledger.containers["sink"].committed == 3
    assert into[0].first_seq == 0
    assert {batch.source for batch in into} == {"stage_0"}
    assert await tasks_left() == set()


async def test_results_metrics_and_files_reach_the_summary(tmp_path: Path) -> None:
    topology = chain([ticks(1, 2), ticks(3)], Remembered())
    pipeline = Pipeline.from_topology(topology, name="sums", output=tmp_path)
    async with pipeline.start() as run:
        summary = await run.finished()
    assert summary.aggregate_metrics == {"stage_0": {"sum": 6}}
    keys = summary.container_results["stage_0"].keys
    assert keys["rows"].rows == 3
    assert run.folder is not None
    written = json.loads((run.folder / "run" / "summary.json").read_text())
    assert written["aggregate_metrics"]["stage_0"]["sum"] == 6
    assert (tmp_path / "sums" / "latest").resolve() == run.folder.resolve()
    rows = await run.retrieve("stage_0", "rows")
    assert rows.column("n").to_pylist() == [1, 2, 3]
    assert (await run.retrieve("stage_0", "total")).to_pylist() == [{"sum": 6}]


async def test_a_subscriber_sees_every_batch_from_the_first(tmp_path: Path) -> None:
    pipeline = Pipeline.from_topology(chain([ticks(1), ticks(2), ticks(3)], Doubled()), output=tmp_path)
    got = []
    async with pipeline.start() as run:
        async with run.subscribe("stage_0") as batches:
            async for batch in batches:
                got += [row.n for row in batch.rows]
        await run.finished()
    assert got == [2, 4, 6]
    assert await tasks_left() == set()


async def test_leaving_a_subscription_detaches_it_and_the_run_goes_on(tmp_path: Path) -> None:
    into: list[Batch] = []
    pipeline = Pipeline.from_topology(chain([ticks(n) for n in range(100)], Doubled(), into=into), output=tmp_path)
    async with pipeline.start() as run:
        async with run.subscribe("stage_0", policy=EdgePolicy(max_rows=2)) as batches:
            async for _ in batches:
                break
        await run.finished()
    assert received(into) == [2 * n for n in range(100)]


async def test_a_slow_subscriber_holds_the_run_up_and_loses_nothing(tmp_path: Path) -> None:
    pipeline = Pipeline.from_topology(chain([ticks(n) for n in range(50)], Doubled()), output=tmp_path)
    got = []
    async with pipeline.start() as run:
        async with run.subscribe("stage_0", policy=EdgePolicy(max_rows=1)) as batches:
            async for batch in batches:
                await anyio.wait_all_tasks_blocked()
                got += [row.n for row in batch.rows]
        await run.finished()
    assert got == [2 * n for n in range(50)]


async def test_a_failing_container_is_named_and_nobody_hangs(tmp_path: Path) -> None:
    topology = chain([ticks(n) for n in range(10)], Fails(), Doubled(), into=[])
    with pytest.raises(PhaseFailed, match="container 'stage_0' failed: ValueError: no more, please") as caught:
        await Pipeline.from_topology(topology, output=tmp_path).run()
    assert list(caught.value.failures) == ["stage_0"]
    assert await tasks_left() == set()
    assert not list(tmp_path.glob("run/*/run/summary.json"))
    record = json.loads(next(tmp_path.glob("run/*/run/run.json")).read_text())
    assert record["status"] == "failed"
    assert "stage_0" in record["error"]


async def test_a_failing_feed_is_named(tmp_path: Path) -> None:
    topology = chain([ticks(1), Mark.ABORT], Doubled(), into=[])
    with pytest.raises(PhaseFailed, match="container 'data' failed: Aborted"):
        await Pipeline.from_topology(topology, output=tmp_path).run()
    assert issubclass(Aborted, Exception)


async def test_a_subscriber_of_a_failing_run_gets_the_error(tmp_path: Path) -> None:
    pipeline = Pipeline.from_topology(chain([ticks(n) for n in range(10)], Fails()), output=tmp_path)
    async with pipeline.start() as run, run.subscribe("stage_0") as batches:
        with pytest.raises(PhaseFailed, match="no more, please"):
            async for _ in batches:
                pass


async def test_leaving_early_stops_everything(tmp_path: Path) -> None:
    pause = Pause()
    pipeline = Pipeline.from_topology(chain([ticks(1), Mark.PAUSE], Doubled(), pause=pause), output=tmp_path)
    async with pipeline.start() as run:
        run.begin()
        await pause.reached.wait()
    assert await tasks_left() == set()
    with pytest.raises(Interrupted):
        await run.finished()


async def test_a_run_may_be_entered_and_left_in_different_tasks(tmp_path: Path) -> None:
    into: list[Batch] = []
    run = Pipeline.from_topology(chain([ticks(1, 2)], Doubled(), into=into), output=tmp_path).start()
    await asyncio.create_task(run.__aenter__())
    await asyncio.create_task(run.finished())
    await asyncio.create_task(run.__aexit__(None, None, None))
    assert received(into) == [2, 4]
    assert await tasks_left() == set()


async def test_draining_persists_what_was_processed_and_says_so(tmp_path: Path) -> None:
    pause = Pause()
    pipeline = Pipeline.from_topology(
        chain([ticks(1, 2), Mark.PAUSE, ticks(3)], Remembered(), pause=pause), output=tmp_path
    )
    async with pipeline.start() as run:
        run.begin()
        await pause.reached.wait()
        run.drain()
        with pytest.raises(Interrupted):
            await run.finished()
    assert run.summary.status == "interrupted"
    assert run.summary.container_results["stage_0"].keys["rows"].rows == 2
    assert await tasks_left() == set()


async def test_a_paused_run_stands_still_until_resumed(tmp_path: Path) -> None:
    into: list[Batch] = []
    pipeline = Pipeline.from_topology(chain([ticks(n) for n in range(5)], Doubled(), into=into), output=tmp_path)
    async with pipeline.start() as run:
        run.pause()
        run.begin()
        await anyio.wait_all_tasks_blocked()
        assert run.status().state == "paused"
        assert into == []
        run.resume()
        await run.finished()
    assert len(received(into)) == 5


async def test_cancelling_the_caller_leaves_nothing(tmp_path: Path) -> None:
    pause = Pause()
    pipeline = Pipeline.from_topology(chain([ticks(1), Mark.PAUSE], Doubled(), pause=pause), output=tmp_path)

    async def main() -> None:
        async with pipeline.start() as run:
            await run.finished()

    task = asyncio.create_task(main())
    await anyio.wait_all_tasks_blocked()
    while not pause.reached.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await tasks_left() == set()


async def test_single_rows_are_gathered_and_none_is_lost(tmp_path: Path) -> None:
    class Tick(Row, frozen=True):
        ts_event: int
        n: int

    into: list[Batch] = []
    items = [Tick(n, n) for n in range(2000)]
    await Pipeline.from_topology(chain(items, into=into), output=tmp_path).run()
    assert received(into) == list(range(2000))
    assert max(batch.num_rows for batch in into) <= 512


async def test_limit_and_until_cut_the_feed(tmp_path: Path) -> None:
    into: list[Batch] = []
    items = [ticks(1, 2, 3), ticks(4, 5)]
    await Pipeline.from_topology(chain(items, into=into), output=tmp_path, limit=4).run()
    assert received(into) == [1, 2, 3, 4]
    into.clear()
    await Pipeline.from_topology(chain(items, into=into), output=tmp_path, until="1970-01-01T00:00:00.000004Z").run()
    assert received(into) == [1, 2, 3]
    with pytest.raises(InputError, match="expected a time"):
        Pipeline.from_topology(chain(items), output=tmp_path, until="yesterday")


class Blocks(Stage, frozen=True):
    def build(self, context: Context) -> Feed:
        return BlockingFeed()


class BlockingFeed(Feed):
    def batches(self) -> Any:
        for n in range(3):
            yield Batch(pa.RecordBatch.from_pydict(ticks(n)))


async def test_a_plain_generator_is_pulled_in_a_thread(tmp_path: Path) -> None:
    into: list[Batch] = []
    topology = TopologyBuilder().add("data", Blocks()).add("sink", ListSink(into=into), ["data"]).build()
    await Pipeline.from_topology(topology, output=tmp_path).run()
    assert received(into) == [0, 1, 2]


async def test_what_a_container_sends_can_be_kept(tmp_path: Path) -> None:
    for mode in ("memory", "streaming", "file", "hybrid"):
        builder = TopologyBuilder()
        builder.add("data", ListFeed(items=[ticks(1, 2), ticks(3)]), data_flow=DataFlow(mode=mode))
        pipeline = Pipeline.from_topology(builder.build(), output=tmp_path / mode)
        async with pipeline.start() as run:
            await run.finished()
        kept = await run.retrieve("data", "output")
        assert kept.column("n").to_pylist() == [1, 2, 3], mode


async def test_fan_out_and_fan_in_keep_every_row_once_and_in_order(tmp_path: Path) -> None:
    into: list[Batch] = []
    builder = TopologyBuilder()
    builder.add("data", ListFeed(items=[ticks(n, n + 1) for n in range(0, 40, 2)]))
    builder.add("left", Doubled(), ["data"])
    builder.add("right", Doubled(how="thread"), ["data"])
    builder.add("sink", ListSink(into=into), ["left", "right"])
    summary = await Pipeline.from_topology(builder.build(), output=tmp_path).run()
    assert received(into) == [2 * n for n in range(40) for _ in range(2)]
    assert summary.ledger.containers["sink"].received == 80


def test_it_runs_under_uvloop(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")
    into: list[Batch] = []
    pipeline = Pipeline.from_topology(chain([ticks(1, 2)], Doubled(how="thread"), into=into), output=tmp_path)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(pipeline.run())
    assert received(into) == [2, 4]


class Careless(Sink):
    def on_batch(self, batch: Batch) -> None:
        self.committed_rows += 1


class CarelessSink(Stage, frozen=True):
    def build(self, context: Context) -> Sink:
        return Careless()


async def test_a_sink_whose_books_do_not_balance_fails_the_phase(tmp_path: Path) -> None:
    with pytest.raises(PhaseFailed, match="the ledger does not balance: sink stage_0: received 3"):
        await Pipeline.from_topology(chain([ticks(1, 2, 3)], CarelessSink()), output=tmp_path).run()
    assert not list(tmp_path.glob("run/*/run/summary.json"))


async def test_rows_can_be_pushed_in_and_the_pusher_feels_back_pressure(tmp_path: Path) -> None:
    into: list[Batch] = []
    topology = TopologyBuilder().add("ticks", Push()).add("sink", ListSink(into=into), ["ticks"]).build()
    async with Pipeline.from_topology(topology, output=tmp_path).start() as run:
        for n in range(10):
            await run.push("ticks", ticks(n))
        run.push_end("ticks")
        await run.finished()
        with pytest.raises(EdgeClosed):
            await run.push("ticks", ticks(11))
    assert received(into) == list(range(10))


async def test_pushing_into_what_is_no_push_feed_is_an_error(tmp_path: Path) -> None:
    pause = Pause()
    pipeline = Pipeline.from_topology(chain([Mark.PAUSE], Doubled(), pause=pause), output=tmp_path)
    async with pipeline.start() as run:
        with pytest.raises(KeyError, match="'data' is not a feed of type push"):
            await run.push("data", ticks(1))
        with pytest.raises(KeyError, match="'stage_9'"):
            run.subscribe("stage_9")


async def test_a_failure_in_a_joint_chain_names_the_stage_that_failed(tmp_path: Path) -> None:
    topology = chain([ticks(n) for n in range(10)], Doubled(), Fails(), Doubled(), into=[])
    with pytest.raises(PhaseFailed, match="container 'stage_1' failed: ValueError") as caught:
        await Pipeline.from_topology(topology, output=tmp_path).run()
    assert list(caught.value.failures) == ["stage_1"]
    assert await tasks_left() == set()


async def test_plain_stages_in_a_row_share_a_task_and_threaded_ones_do_not(tmp_path: Path) -> None:
    into: list[Batch] = []
    topology = chain([ticks(1)], Doubled(), Doubled(), Doubled(how="thread"), Doubled(how="async"), into=into)
    async with Pipeline.from_topology(topology, output=tmp_path).start() as run:
        edges = {edge.target: edge.joint for edge in run.status().edges}
        await run.finished()
    assert edges == {"stage_0": False, "stage_1": True, "stage_2": False, "stage_3": False, "sink": True}
    assert received(into) == [16]


async def test_a_drain_that_misses_its_deadline_stops_the_run(tmp_path: Path) -> None:
    pipeline = Pipeline.from_topology(chain([ticks(1)], Stuck()), output=tmp_path)
    async with pipeline.start() as run:
        run.begin()
        await Stuck.reached.wait()
        run.drain(deadline_seconds=0.0)
        with pytest.raises(Interrupted):
            await run.finished()
    assert not run.summaries
    assert await tasks_left() == set()


class Stuck(Stage, frozen=True):
    """Never comes back from its first batch."""

    reached: ClassVar[anyio.Event]

    def build(self, context: Context) -> Transform:
        Stuck.reached = anyio.Event()
        return StuckLogic()


class StuckLogic(Transform):
    async def on_batch(self, batch: Batch) -> None:
        Stuck.reached.set()
        await anyio.sleep_forever()


def stamps(*numbers: int) -> dict[str, list[int]]:
    return {"n": list(numbers)}


class DropsAll(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return DropsAllLogic()


class DropsAllLogic(Transform):
    def on_batch(self, batch: Batch) -> None:
        return None


async def test_a_silent_input_holds_no_rows_up_that_have_no_time(tmp_path: Path) -> None:
    into: list[Batch] = []
    rows = list(range(70_000))
    builder = TopologyBuilder().add("data", ListFeed(items=[stamps(*rows)] * 12))
    builder.add("silent", DropsAll(), ["data"]).add("spoken", Doubled(how="thread"), ["data"])
    builder.add("sink", ListSink(into=into), ["silent", "spoken"])
    with anyio.fail_after(SECONDS):
        await Pipeline.from_topology(builder.build(), output=tmp_path).run()
    assert sum(batch.num_rows for batch in into) == 12 * len(rows)


async def test_what_was_pushed_before_a_drain_flows_on(tmp_path: Path) -> None:
    into: list[Batch] = []
    topology = TopologyBuilder().add("ticks", Push()).add("sink", ListSink(into=into), ["ticks"]).build()
    async with Pipeline.from_topology(topology, output=tmp_path).start() as run:
        await run.push("ticks", ticks(1, 2, 3))
        await run.push("ticks", ticks(4, 5, 6))
        run.drain()
        with pytest.raises(Interrupted):
            await run.finished()
    assert received(into) == [1, 2, 3, 4, 5, 6]
    assert run.summary.ledger.containers["ticks"].received == 6


async def test_subscribers_that_left_are_forgotten_and_their_bytes_given_back(tmp_path: Path) -> None:
    pause = Pause()
    topology = chain([ticks(1), Mark.PAUSE, ticks(2)], Doubled(), pause=pause)
    async with Pipeline.from_topology(topology, output=tmp_path).start() as run:
        run.begin()
        await pause.reached.wait()
        for _ in range(50):
            async with run.subscribe("stage_0"):
                pass
        engine = run._engine
        assert engine is not None
        assert len(engine.containers["stage_0"].outlet.edges) == 0
        assert run._subscriptions == []
        async with run.subscribe("stage_0") as batches:
            pause.resume()
            async for _ in batches:
                break
        await run.finished()
        assert engine.account.charged == 0


@pytest.mark.parametrize("how", ["build", "on_batch", "close"])
async def test_a_stop_iteration_in_a_thread_is_an_error_and_no_hang(how: str, tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS), pytest.raises(PhaseFailed, match=r"'stage_0' failed: .*StopIteration"):
        await Pipeline.from_topology(chain([ticks(1)], Ends(where=how)), output=tmp_path).run()


class Ends(Stage, frozen=True):
    where: str

    def build(self, context: Context) -> Transform:
        if self.where == "build":
            next(iter(()))
        return EndsLogic(self.where)


class EndsLogic(Transform):
    runs_in = "thread"

    def __init__(self, where: str) -> None:
        self.where = where

    def on_batch(self, batch: Batch) -> None:
        if self.where == "on_batch":
            next(iter(()))

    def close(self) -> None:
        if self.where == "close":
            next(iter(()))


@pytest.mark.parametrize("item", [None, "text", 42, [1, 2]])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_feed_that_gives_nonsense_is_told_what_was_expected(item: Any, is_async: bool, tmp_path: Path) -> None:
    topology = TopologyBuilder().add("data", Gives(item=item, is_async=is_async)).build()
    with pytest.raises(PhaseFailed, match="container 'data' failed: TypeError: expected a Batch"):
        await Pipeline.from_topology(topology, output=tmp_path).run()


class Gives(Stage, frozen=True):
    item: Any
    is_async: bool

    def build(self, context: Context) -> Feed:
        return GivesLater(self.item) if self.is_async else GivesNow(self.item)


class GivesNow(Feed):
    def __init__(self, item: Any) -> None:
        self.item = item

    def batches(self) -> Any:
        yield self.item


class GivesLater(GivesNow):
    async def batches(self) -> Any:
        yield self.item


class Returns(Stage, frozen=True):
    what: Any

    def build(self, context: Context) -> Transform:
        return ReturnsLogic(self.what)


class ReturnsLogic(Transform):
    def __init__(self, what: Any) -> None:
        self.what = what

    def on_batch(self, batch: Batch) -> Any:
        return self.what


@pytest.mark.parametrize("what", ["text", {"n": [1]}, pa.table({"n": [1]})], ids=["text", "dict", "table"])
async def test_a_stage_that_returns_a_table_or_text_is_told_what_was_expected(what: Any, tmp_path: Path) -> None:
    with pytest.raises(PhaseFailed, match=rf"expected a Batch, a Result.*found {type(what).__name__}"):
        await Pipeline.from_topology(chain([ticks(1)], Returns(what=what)), output=tmp_path).run()


@pytest.mark.parametrize("where", ["metrics", "report", "close"])
async def test_an_error_after_the_data_names_the_container_too(where: str, tmp_path: Path) -> None:
    with pytest.raises(PhaseFailed, match="container 'stage_0' failed: ValueError: too late"):
        await Pipeline.from_topology(chain([ticks(1)], Late(where=where)), output=tmp_path).run()


class Counts(Stage, frozen=True):
    what: Any

    def build(self, context: Context) -> Transform:
        return CountsLogic(self.what)


class CountsLogic(ReturnsLogic):
    def metrics(self) -> dict[str, Any]:
        return {"figure": self.what}

    def on_batch(self, batch: Batch) -> None:
        return None


async def test_metrics_may_be_numpy_numbers_and_what_else_they_are_is_told(tmp_path: Path) -> None:
    topology = chain([ticks(1)], Counts(what=np.int64(3)))
    summary = await Pipeline.from_topology(topology, output=tmp_path).run()
    assert summary.aggregate_metrics["stage_0"] == {"figure": 3}
    with pytest.raises(PhaseFailed, match="container 'stage_0' failed: TypeError: expected metrics"):
        await Pipeline.from_topology(chain([ticks(1)], Counts(what=object())), output=tmp_path).run()


class Late(Stage, frozen=True):
    where: str

    def build(self, context: Context) -> Transform:
        def fail(logic: Any) -> Any:
            raise ValueError("too late")

        return type("LateLogic", (ReturnsLogic,), {self.where: fail})(None)


async def test_columns_that_change_under_a_kept_window_are_a_clear_error(tmp_path: Path) -> None:
    builder = TopologyBuilder().add(
        "data", ListFeed(items=[{"x": [1]}, {"y": ["a"]}]), data_flow=DataFlow(mode="memory")
    )
    with pytest.raises(PhaseFailed, match="container 'data' failed: SchemaMismatch: the columns of the output changed"):
        await Pipeline.from_topology(builder.build(), output=tmp_path).run()


async def test_cancelling_twice_leaves_nothing_either(tmp_path: Path) -> None:
    pause = Pause()
    pipeline = Pipeline.from_topology(
        chain([ticks(1), Mark.PAUSE], Doubled(how="thread"), pause=pause), output=tmp_path
    )

    async def main() -> None:
        async with pipeline.start() as run:
            await run.finished()

    task = asyncio.create_task(main())
    while not pause.reached.is_set():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await tasks_left() == set()


async def test_a_streaming_container_hands_what_it_keeps_to_a_callback(tmp_path: Path) -> None:
    got: list[Any] = []

    async def flush(batch: Any, batch_id: Any) -> None:
        got.append((batch, batch_id))

    builder = TopologyBuilder()
    flow = DataFlow(mode="streaming", streaming_settings=StreamingSettings(buffer_size=3))
    builder.add("data", ListFeed(items=[ticks(n) for n in range(10)]), data_flow=flow)
    pipeline = Pipeline.from_topology(builder.build(), output=tmp_path)
    async with pipeline.start(flush={"data": flush}) as run:
        await run.finished()
    assert [batch_id[1:] for _, batch_id in got] == [(0, 2), (3, 5), (6, 8), (9, 9)]
    with pytest.raises(KeyError, match="'sink' is no container in mode streaming"):
        pipeline.start(flush={"sink": flush})


async def test_rows_a_lossy_subscriber_has_lost_are_said(tmp_path: Path) -> None:
    pipeline = Pipeline.from_topology(chain([ticks(n) for n in range(100)], Doubled()), output=tmp_path)
    got = 0
    async with pipeline.start() as run:
        lossy = EdgePolicy(max_rows=2, when_full="drop_oldest")
        async with run.subscribe("stage_0", policy=lossy) as batches:
            async for batch in batches:
                await anyio.wait_all_tasks_blocked()
                got += batch.num_rows
        await run.finished()
        assert run.folder is not None
        record = json.loads((run.folder / "run" / "run.json").read_text())
    assert got < 100
    assert record["dropped_for_subscribers"] == {"stage_0": 100 - got}


async def test_a_failed_rerun_keeps_the_complete_result(tmp_path: Path) -> None:
    items: list[Any] = [ticks(1)]
    pipeline = Pipeline.from_topology(chain(items, Remembered()), output=tmp_path)
    complete = await pipeline.run()
    items.append(Mark.ABORT)
    run = pipeline.start()
    async with run:
        with pytest.raises(PhaseFailed):
            await run.finished()
    assert run.folder is not None
    phases = {path.name for path in next(tmp_path.glob("run/*/run/summary.json")).parent.parent.iterdir()}
    assert "run" in phases
    kept = msgspec.json.decode(next(tmp_path.glob("run/*/run/summary.json")).read_bytes())
    assert kept["hashes"]["output"] == complete.hashes["output"]


async def test_a_subscription_that_is_never_entered_holds_nothing_up(tmp_path: Path) -> None:
    pipeline = Pipeline.from_topology(chain([ticks(n) for n in range(50)], Doubled()), output=tmp_path)
    async with pipeline.start() as run:
        run.subscribe("stage_0", policy=EdgePolicy(max_rows=1))
        with anyio.fail_after(SECONDS):
            await run.finished()
