"""Whatever goes wrong, the container is named, nobody hangs, nothing is left behind, and the next run works."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import logging
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from whole_runs import (
    SECONDS,
    SMALL,
    assert_books_balance,
    await_program,
    changed,
    environment,
    finish,
    left_in,
    start_program,
)

from pipeline import (
    Batch,
    Context,
    EdgePolicy,
    Feed,
    Input,
    PenstockError,
    PhaseFailed,
    Pipeline,
    Sink,
    Stage,
    TopologyBuilder,
    Transform,
)
from pipeline.errors import DiskFull
from pipeline.testing import ListFeed, ListSink
from tests.conftest import tasks_left


def ticks(*numbers: int) -> dict[str, list[Any]]:
    return {"ts_event": [n * 1000 for n in numbers], "n": list(numbers)}


async def awaited(pipeline: Pipeline) -> None:
    """Run to the end, or fail the test where the run hangs."""
    async with asyncio.timeout(SECONDS):
        await pipeline.run()


# -- a stage that fails ----------------------------------------------------------------------------------------------


class Bad(Stage, frozen=True):
    """Fails at a moment, in the kind of logic it is told to be, with an error of the test's choice."""

    moment: str = "never"
    kind: str = "plain"
    error: type[BaseException] = ValueError

    def build(self, context: Context) -> Transform:
        if self.moment == "build":
            raise self.error("a bad day")
        return {"plain": Plain, "generator": Generating, "thread": InThread, "async": Async, "stream": Streaming}[
            self.kind
        ](self)


class Plain(Transform):
    def __init__(self, recipe: Bad) -> None:
        self.recipe = recipe
        self.batches = 0

    def fail_at(self, moment: str) -> None:
        if self.recipe.moment == moment:
            raise self.recipe.error("a bad day")

    def warm(self) -> None:
        self.fail_at("warm")

    def on_batch(self, batch: Batch) -> Any:
        self.batches += 1
        self.fail_at("first batch" if self.batches == 1 else "later batch" if self.batches == 4 else "")
        return batch

    def on_watermark(self, watermark: Any) -> Any:
        self.fail_at("watermark")

    def on_end(self) -> Any:
        self.fail_at("end")

    def metrics(self) -> dict[str, Any]:
        self.fail_at("metrics")
        return {}

    def close(self) -> None:
        self.fail_at("close")


class Generating(Plain):
    def on_batch(self, batch: Batch) -> Any:
        yield batch.slice(0, 1)
        yield Plain.on_batch(self, batch).slice(1)


class InThread(Plain):
    runs_in = "thread"


class Async(Plain):
    async def on_batch(self, batch: Batch) -> Any:
        await asyncio.sleep(0)
        return Plain.on_batch(self, batch)

    async def on_end(self) -> Any:
        await asyncio.sleep(0)
        return Plain.on_end(self)


class Streaming(Plain):
    async def on_batch(self, batch: Batch) -> Any:
        yield batch.slice(0, 1)
        await asyncio.sleep(0)
        yield Plain.on_batch(self, batch).slice(1)


def chain(*stages: Stage, batches: int = 8, into: list[Batch] | None = None) -> TopologyBuilder:
    """data -> stage_0 -> stage_1 -> ... -> sink; plain stages from `stage_1` on share the task of `stage_0`."""
    builder = TopologyBuilder()
    builder.add("data", ListFeed(items=[ticks(2 * n, 2 * n + 1) for n in range(batches)]))
    last = "data"
    for index, stage in enumerate(stages):
        builder.add(f"stage_{index}", stage, [last])
        last = f"stage_{index}"
    return builder.add("sink", ListSink(into=[] if into is None else into), [last])


async def assert_fails(pipeline: Pipeline, name: str, words: str, folder: Path) -> PhaseFailed:
    """The run fails by the one container called `name`, says why, and leaves no summary, no task."""
    with pytest.raises(PhaseFailed, match=words) as caught:
        await awaited(pipeline)
    assert list(caught.value.failures) == [name]
    assert f"container '{name}' failed" in str(caught.value)
    assert not list(folder.rglob("summary.json"))
    (record,) = [path for path in folder.rglob("run.json") if "latest" not in path.parts]
    told = json.loads(record.read_text())
    assert told["status"] == "failed" and f"'{name}'" in told["error"]
    assert await tasks_left() == set()
    return caught.value


MOMENTS = ["build", "warm", "first batch", "later batch", "watermark", "end", "metrics", "close"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["plain", "generator", "thread", "async", "stream"])
async def test_a_stage_that_fails_is_named_whatever_its_kind_and_moment(kind: str, moment: str, tmp_path: Path) -> None:
    topology = chain(Bad(), Bad(moment=moment, kind=kind), Bad()).build()
    await assert_fails(Pipeline.from_topology(topology, output=tmp_path), "stage_1", "ValueError: a bad day", tmp_path)


@pytest.mark.parametrize("moment", ["first batch", "later batch", "watermark", "end"])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
async def test_in_a_chain_that_shares_one_task_the_one_that_failed_is_named(
    place: int, moment: str, tmp_path: Path
) -> None:
    into: list[Batch] = []
    stages = [Bad(moment=moment if index == place else "never") for index in range(4)]
    topology = chain(*stages, into=into).build()
    await assert_fails(Pipeline.from_topology(topology, output=tmp_path), f"stage_{place}", "a bad day", tmp_path)
    expected = {"first batch": 0, "later batch": 3, "watermark": None, "end": 8}[moment]
    assert expected is None or len(into) == expected, "what came before the failing call was passed on, nothing else"


NOT_HERE = ("thread", StopIteration)
"""Tried below in a process of its own."""
AWKWARD = [StopIteration, StopAsyncIteration, asyncio.CancelledError, TimeoutError, MemoryError, OSError]


ONE_NEXT_TOO_MANY = """
import asyncio
from pipeline import Pipeline, Stage, TopologyBuilder, Transform
from pipeline.testing import ListFeed

class Eager(Stage, frozen=True):
    def build(self, context):
        return Taking()
class Taking(Transform):
    runs_in = "thread"
    def on_batch(self, batch):
        next(iter([]))

builder = TopologyBuilder().add("data", ListFeed(items=[{"n": [1]}])).add("eager", Eager(), ["data"])
asyncio.run(Pipeline.from_topology(builder.build()).run())
"""


def test_a_next_too_many_in_a_thread_is_a_failure_like_others(tmp_path: Path) -> None:
    """In a process of its own: a future that refuses the error would have this process wait for ever."""
    done = subprocess.run(
        [sys.executable, "-c", ONE_NEXT_TOO_MANY],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 1
    assert "container 'eager' failed" in done.stderr and "StopIteration" in done.stderr


@pytest.mark.parametrize(
    ("kind", "error"),
    [(kind, error) for kind in ("plain", "thread", "async") for error in AWKWARD if (kind, error) != NOT_HERE],
)
async def test_errors_that_mean_something_to_the_loop_are_failures_like_others(
    kind: str, error: type[BaseException], tmp_path: Path
) -> None:
    """A `next(...)` too many in somebody's stage raises StopIteration, which futures cannot carry."""
    topology = chain(Bad(), Bad(moment="later batch", kind=kind, error=error), Bad()).build()
    with pytest.raises(PhaseFailed, match="stage_1"):
        await awaited(Pipeline.from_topology(topology, output=tmp_path))
    assert await tasks_left() == set()
    assert not list(tmp_path.rglob("summary.json"))


class Odd(Stage, frozen=True):
    """Gives back what no logic may give back."""

    given: Any

    def build(self, context: Context) -> Any:
        return Giving(self.given)


class Giving(Transform):
    def __init__(self, given: Any) -> None:
        self.given = given

    def on_batch(self, batch: Batch) -> Any:
        return self.given


@pytest.mark.parametrize("given", [7, "text", [7], {"n": [1]}, (None,), Ellipsis], ids=repr)
async def test_what_is_neither_batch_nor_result_is_refused_by_name(given: Any, tmp_path: Path) -> None:
    topology = chain(Bad(), Odd(given=given), Bad()).build()
    await assert_fails(Pipeline.from_topology(topology, output=tmp_path), "stage_1", "expected a Batch", tmp_path)


class BadFeed(Stage, frozen=True):
    """Fails after some batches, as a plain generator in a thread or an async one on the loop."""

    kind: str
    after: int

    def build(self, context: Context) -> Feed:
        return (PlainFeed if self.kind == "plain" else AsyncFeed)(self.after)


class PlainFeed(Feed):
    def __init__(self, after: int) -> None:
        self.after = after

    def batches(self) -> Any:
        for n in range(self.after):
            yield Batch.from_pydict(ticks(n))
        raise ConnectionError("the line is dead")


class AsyncFeed(PlainFeed):
    async def batches(self) -> Any:
        for n in range(self.after):
            yield Batch.from_pydict(ticks(n))
            await asyncio.sleep(0)
        raise ConnectionError("the line is dead")


@pytest.mark.parametrize("after", [0, 1, 5])
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_feed_that_dies_is_named(kind: str, after: int, tmp_path: Path) -> None:
    into: list[Batch] = []
    builder = TopologyBuilder().add("data", BadFeed(kind=kind, after=after)).add("sink", ListSink(into=into), ["data"])
    pipeline = Pipeline.from_topology(builder.build(), output=tmp_path)
    await assert_fails(pipeline, "data", "ConnectionError: the line is dead", tmp_path)
    assert sum(batch.num_rows for batch in into) == after, "what it had given was worked on"


async def test_two_that_fail_are_both_named(tmp_path: Path) -> None:
    builder = TopologyBuilder().add("data", ListFeed(items=[ticks(n) for n in range(8)]))
    builder.add("left", Bad(moment="end"), ["data"]).add("right", Bad(moment="end", kind="async"), ["data"])
    with pytest.raises(PhaseFailed) as caught:
        await awaited(Pipeline.from_topology(builder.build(), output=tmp_path))
    assert set(caught.value.failures) <= {"left", "right"} and caught.value.failures
    assert await tasks_left() == set()


async def test_after_a_failure_the_same_folder_serves_the_next_run(tmp_path: Path) -> None:
    output = tmp_path / "results"
    with pytest.raises(PhaseFailed):
        await awaited(Pipeline.from_topology(chain(Bad(moment="end")).build(), output=output))
    for _ in range(2):
        summary = await Pipeline.from_topology(chain(Bad()).build(), output=output).run()
        assert summary.ledger.containers["sink"].committed == 16


# -- a stage that blocks, a consumer that is slow --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "generator", "thread", "async"])
async def test_who_holds_the_loop_is_named_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Time as the callers see it leaps, as if each of their calls took a quarter of a second."""
    leaps = count(step=250_000_000)
    monkeypatch.setattr("pipeline.containers.calling.perf_counter_ns", lambda: next(leaps))
    caplog.set_level(logging.WARNING, "penstock")
    builder = TopologyBuilder().add("data", ListFeed(items=[ticks(n) for n in range(5)]))
    builder.add("quick", Bad(kind="thread"), ["data"]).add("stuck", Bad(kind=kind), ["quick"])
    await awaited(Pipeline.from_topology(builder.build(), output=tmp_path))
    warnings = [record.getMessage() for record in caplog.records if "event loop" in record.getMessage()]
    if kind == "thread":
        assert warnings == []
    else:
        (warning,) = warnings
        assert warning.startswith("container 'stuck' held the event loop for 250 ms in on_")
        assert 'runs_in = "thread"' in warning


class Tap(Stage, frozen=True):
    """A feed in a thread that counts what it has made."""

    made: list[int]
    batches: int
    rows: int

    def build(self, context: Context) -> Feed:
        return Tapped(self)


class Tapped(Feed):
    def __init__(self, recipe: Tap) -> None:
        self.recipe = recipe

    def batches(self) -> Iterator[Batch]:
        rows = self.recipe.rows
        for n in range(self.recipe.batches):
            self.recipe.made.append(rows)
            yield Batch.from_pydict(ticks(*range(n * rows, (n + 1) * rows)))


class Slow(Stage, frozen=True):
    """A sink that waits, and then lets everybody else run as long as they can before it takes the next batch."""

    made: list[int]
    ahead: list[int]
    go: asyncio.Event

    def build(self, context: Context) -> Sink:
        return Slowly(self)


class Slowly(Sink):
    def __init__(self, recipe: Slow) -> None:
        self.recipe = recipe

    async def on_batch(self, batch: Batch) -> None:
        await self.recipe.go.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        self.recipe.ahead.append(sum(self.recipe.made) - self.committed_rows)
        self.committed_rows += batch.num_rows


async def test_a_slow_consumer_holds_its_producers_and_memory_stays_bounded(tmp_path: Path) -> None:
    made: list[int] = []
    ahead: list[int] = []
    bound, rows, batches = 1000, 100, 200
    builder = TopologyBuilder().add("data", Tap(made=made, batches=batches, rows=rows))
    policy = EdgePolicy(max_rows=bound, max_bytes=bound * 16)
    builder.add("pass", Bad(kind="async"), [Input("data", policy)])
    go = asyncio.Event()
    builder.add("sink", Slow(made=made, ahead=ahead, go=go), [Input("pass", policy)])
    pipeline = Pipeline.from_topology(builder.build(), output=tmp_path)
    async with asyncio.timeout(SECONDS), pipeline.start() as run:
        run.begin()
        while not any(edge.waits for edge in run.status().edges if edge.target == "sink"):
            await asyncio.sleep(0)
        go.set()
        await run.finished()
    (path,) = [path for path in tmp_path.rglob("run.json") if "latest" not in path.parts]
    record = json.loads(path.read_text())
    for edge in record["edges"]:
        assert edge["sent_rows"] == edge["received_rows"] == batches * rows
        assert edge["peak_rows"] <= bound and edge["peak_bytes"] <= bound * 16
    assert record["edges"][-1]["waits"] > 0, "the slow one did hold its producer up"
    assert record["edges_peak_bytes"] <= (2 * bound + rows) * 16, "two edges, and the batch the feed has read ahead"
    in_hand = 4 * rows
    assert max(ahead) <= 2 * bound + in_hand, "two edges, one batch at work or pulled ahead at each of three containers"
    assert sum(made) == batches * rows


# -- a disk that fails -----------------------------------------------------------------------------------------------


def no_space(*args: Any, **words: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def roots(error: BaseException) -> set[type[BaseException]]:
    """The types of an error and of everything that led to it."""
    found: set[type[BaseException]] = set()
    while error is not None:
        found.add(type(error))
        for inner in getattr(error, "failures", {}).values():
            found |= roots(inner)
        error = error.__cause__  # type: ignore[assignment]
    return found


TINY = {"mode": "hybrid", "memory_limit_mb": 0.005}
NO_KEEPING = {"data__data_flow": {"mode": "memory", "keep_output": "none"}}


def test_a_disk_that_is_full_when_values_spill_is_named_with_its_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.segments.write_records", no_space)
    with pytest.raises(PhaseFailed, match=r"container 'portfolio' failed: DiskFull: .*no room") as caught:
        finish(changed(SMALL, portfolio__data_flow=TINY), tmp_path)
    assert DiskFull in roots(caught.value)
    assert list(caught.value.failures) == ["portfolio"]
    assert not list(tmp_path.rglob("summary.json")) and not list(tmp_path.rglob("*.seg"))


def test_a_disk_that_fills_up_on_the_way_fails_the_run_and_a_rerun_with_room_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.storage import segments

    config = changed(SMALL, portfolio__data_flow=TINY)
    written, write = [], segments.write_records

    def until_full(*args: Any) -> Any:
        written.append(1)
        return no_space() if len(written) > 1 else write(*args)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.storage.segments.write_records", until_full)
        with pytest.raises(PhaseFailed, match="DiskFull"):
            finish(config, tmp_path)
    assert len(written) > 1
    left = finish(config, tmp_path)
    assert left.summary_bytes == finish(SMALL, tmp_path / "elsewhere").summary_bytes


@pytest.mark.parametrize(
    ("container", "mode"), [("portfolio", "hybrid"), ("execution", "file"), ("features", "streaming")]
)
def test_a_disk_that_is_full_when_results_are_written_is_named_with_its_container(
    container: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", no_space)
    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_batch", no_space)
    config = changed(SMALL, all__data_flow={"mode": "memory", "persistence": {"on_completion": False}})
    config = changed(config, **{f"{container}__data_flow": {"mode": mode}})
    with pytest.raises(PhaseFailed, match="DiskFull") as caught:
        finish(config, tmp_path)
    assert list(caught.value.failures) == [container]
    assert not list(tmp_path.rglob("summary.json")) and not list(tmp_path.rglob("*.tmp"))


def full_but_for_the_manifest(disk: Any, fd: int) -> None:
    """Stands in for `RealDisk.sync`: the folder can be opened, and that is all."""
    if "MANIFEST" not in os.readlink(f"/proc/self/fd/{fd}"):
        no_space()


def test_a_disk_that_is_full_for_everything_still_says_so_and_names_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the record of the failure can be written; the failure itself must not be lost over it."""
    monkeypatch.setattr("pipeline.storage.disk.RealDisk.sync", full_but_for_the_manifest)
    with pytest.raises(PhaseFailed, match="DiskFull") as caught:
        finish(changed(SMALL, execution__data_flow={"mode": "file"}), tmp_path)
    assert set(caught.value.failures) & {"portfolio", "execution"}
    assert not list(tmp_path.rglob("summary.json"))


def test_a_disk_that_is_full_when_the_summary_is_written_fails_the_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = {"persistence": {"on_completion": False}}
    monkeypatch.setattr("pipeline.storage.disk.RealDisk.sync", full_but_for_the_manifest)
    with pytest.raises(PenstockError, match=r"(?i)no space left|no room"):
        finish(changed(SMALL, all__data_flow={"mode": "memory", **none}), tmp_path)
    assert not list(tmp_path.rglob("summary.json"))


async def test_an_output_folder_that_cannot_be_is_told_clearly(tmp_path: Path) -> None:
    """A file stands where the folder should be: even the superuser cannot write into it."""
    (tmp_path / "taken").write_text("not a folder")
    for place in ("taken", "taken/deeper"):
        with pytest.raises(PhaseFailed, match=r"cannot write to .*taken.*choose another with --output"):
            await awaited(Pipeline.from_topology(chain(Bad()).build(), output=tmp_path / place))
    assert (tmp_path / "taken").read_text() == "not a folder"


def test_the_program_tells_it_in_one_line_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("not a folder")
    (tmp_path / "small.yaml").write_text(json.dumps(SMALL))
    code, _, err = await_program(start_program(tmp_path, "run", "small.yaml", "--output", "taken"))
    assert code == 1
    assert "cannot write to taken" in err and "--output" in err and "Traceback" not in err


# -- processes that die, and that meet -------------------------------------------------------------------------------

HOLDING = '''
import os, time
from pathlib import Path
from pipeline import Result, Stage, Transform

class Holding(Stage, frozen=True):
    """Stands still at a moment as long as there is a file called hold."""
    moment: str
    def build(self, context):
        return Holder(self)

class Holder(Transform):
    runs_in = "thread"
    def __init__(self, recipe):
        self.recipe = recipe
        self.rows = 0
        self.hold("build")
    def hold(self, moment):
        if moment == self.recipe.moment and Path("hold").exists():
            Path("held.tmp").write_text(str(os.getpid()))
            os.rename("held.tmp", "held")
            with open("hold") as pipe:
                pipe.read()
    def warm(self):
        self.hold("warm")
    def on_batch(self, batch):
        self.rows += batch.num_rows
        if self.rows > 500:
            self.hold("batch")
        yield Result("rows", batch.columns, append=True)
        yield batch
    def on_end(self):
        self.hold("end")
        return Result("total", {"rows": self.rows})
'''


def holding(folder: Path, moment: str) -> Path:
    """A configuration that stands still at a moment while the pipe `hold` has no writer."""
    (folder / "holding.py").write_text(HOLDING)
    containers = {
        "data": {"type": "synthetic", "rows": 1000, "batch_rows": 10, "data_flow": {"mode": "file"}},
        "holding": {
            "type": "./holding.py:Holding", "inputs": ["data"], "moment": moment,
            "data_flow": {"mode": "hybrid", "memory_limit_mb": 0.01, "keep_output": "all"},
        },
    }  # fmt: skip
    (folder / "holding.yaml").write_text(json.dumps({"name": "holding", "containers": containers}))
    return folder / "holding.yaml"


def until_held(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait for the word that the stage stands still."""
    while not (folder / "held").exists():
        assert process.poll() is None, process.communicate()
        os.sched_yield()


@pytest.mark.parametrize("moment", ["build", "warm", "batch", "end"])
def test_killed_at_any_moment_it_leaves_no_summary_and_a_rerun_is_complete(moment: str, tmp_path: Path) -> None:
    config = holding(tmp_path, moment)
    os.mkfifo(tmp_path / "hold")
    process = start_program(tmp_path, "run", config, "--output", "results")
    try:
        until_held(process, tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        code, _, _ = await_program(process)
    assert code == -signal.SIGKILL
    assert not list((tmp_path / "results").rglob("summary.json"))
    (tmp_path / "hold").unlink()
    rerun = finish(config, tmp_path / "results")
    assert rerun.summary["status"] == "complete"
    assert_books_balance(rerun.summary)
    assert rerun.summary_bytes == finish(config, tmp_path / "fresh").summary_bytes
    assert sorted(rerun.files) == sorted(left_in(tmp_path / "fresh").files)
    assert not list((tmp_path / "results").rglob("*.seg")) and not list((tmp_path / "results").rglob("*.tmp"))


def test_of_two_processes_on_one_folder_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    config = holding(tmp_path, "batch")
    os.mkfifo(tmp_path / "hold")
    first = start_program(tmp_path, "run", config, "--output", "results", "--json")
    try:
        until_held(first, tmp_path)
        code, out, err = await_program(start_program(tmp_path, "run", config, "--output", "results"))
        assert code == 1 and out == ""
        assert re.search(rf"is in use by process {first.pid}, since 20.* UTC; wait .* choose another --output", err)
        assert "Traceback" not in err
        with open(tmp_path / "hold", "w"):
            (tmp_path / "hold").unlink()  # while it is read, or the next batch finds a pipe nobody will write to
    except BaseException:
        first.kill()
        raise
    finally:
        code, out, err = await_program(first)
    assert code == 0, err
    assert json.loads(out)["ledger"]["containers"]["holding"]["received"] == 1000


KILLED_WHILE_PUBLISHING = """
import asyncio, json, os, pathlib, signal
from pipeline import Batch, DataFlow, Pipeline, Result, Stage, TopologyBuilder, Transform
from pipeline.testing import ListFeed

class Sum(Stage, frozen=True):
    def build(self, context):
        return Summing()
class Summing(Transform):
    total = 0
    def on_batch(self, batch):
        self.total += sum(batch.columns.column("n").to_pylist())
        return Result("rows", batch.columns, append=True)
    def on_end(self):
        return Result("total", {"sum": self.total})

deadly = seen = 0
def mortal(call):
    def step(*args, **words):
        global seen
        seen += 1
        if seen == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **words)
    return step
for name in ("replace", "rename", "symlink", "fsync", "fdatasync", "unlink"):
    setattr(os, name, mortal(getattr(os, name)))

def run(where):
    builder = TopologyBuilder().add("data", ListFeed(items=[{"ts_event": [n], "n": [n]} for n in range(20)]))
    builder.add("sum", Sum(), ["data"], data_flow=DataFlow(mode="file"))
    asyncio.run(Pipeline.from_topology(builder.build(), output=where).run())

def in_child(where):
    child = os.fork()
    if child == 0:
        run(where)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def summaries(where):
    return [path.read_text() for path in sorted(pathlib.Path(where).rglob("summary.json"))]

run("warm")  # what a run imports is imported here and not in every child
seen = 0
told = {"whole": in_child("whole"), "killed": []}
code = None
while code != 0:
    deadly += 1
    code = in_child("disturbed")
    told["killed"].append([deadly, code, summaries("disturbed")])
deadly = 0
told["again"] = in_child("disturbed")
print(json.dumps(told))
"""


def test_killed_before_every_step_of_publishing_the_summary_is_whole_or_absent(tmp_path: Path) -> None:
    """Every sync, link, rename and removal of a run is a place to die at; the next run starts over and is complete."""
    (tmp_path / "deadly.py").write_text(KILLED_WHILE_PUBLISHING)
    done = subprocess.run(
        [sys.executable, "deadly.py"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["whole"] == told["again"] == 0
    wanted = left_in(tmp_path / "whole").summary_bytes
    *killed, last = [code for _, code, _ in told["killed"]]
    assert set(killed) == {-signal.SIGKILL} and last == 0, "until there is no further step to die at"
    assert len(killed) > 20
    for step, _, summaries in told["killed"]:
        assert all(summary.encode() == wanted for summary in summaries), f"killed before step {step}"
    assert left_in(tmp_path / "disturbed").summary_bytes == wanted
    assert not list((tmp_path / "disturbed").rglob("*.tmp"))


# -- being cancelled -------------------------------------------------------------------------------------------------


class Steps(selectors.DefaultSelector):
    """Counts the loop's steps and calls somebody before some of them."""

    def __init__(self, calls: dict[int, Callable[[], object]]) -> None:
        super().__init__()
        self.calls = calls
        self.taken = 0

    def select(self, timeout: float | None = None) -> Any:
        self.taken += 1
        call = self.calls.get(self.taken)
        if call is not None:
            call()
            timeout = 0
        return super().select(timeout)


def threads_and_descriptors() -> tuple[int, int]:
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def summaries_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("summary.json") if "latest" not in path.parts]


def run_cancelled(pipeline: Pipeline, *steps: int) -> tuple[str, int]:
    """Run in a loop of its own whose main task is cancelled at these steps; how it ended, and steps it took."""
    main: asyncio.Task[str] | None = None
    selector = Steps({step: lambda: main and main.cancel() for step in steps})
    loop = asyncio.SelectorEventLoop(selector)

    async def use() -> str:
        async with asyncio.timeout(SECONDS), pipeline.start() as run:
            async with run.subscribe("features") as batches:
                async for _ in batches:
                    pass
            await run.finished()
        return "finished"

    try:
        main = loop.create_task(use())
        try:
            ended = loop.run_until_complete(main)
        except asyncio.CancelledError:
            ended = "cancelled"
        loop.run_until_complete(asyncio.sleep(0))
        assert asyncio.all_tasks(loop) == set(), "no task outlives the run"
        return ended, selector.taken
    finally:
        loop.close()


CANCELLATIONS = 60
"""Runs of one test, each cancelled at another step, spread over all steps of a run."""


def second_cancel(step: int, times: int) -> tuple[int, ...]:
    return () if times == 1 else (step + 1 + step % 7,)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_cancelled_at_any_step_of_the_loop_it_leaves_nothing_and_can_run_again(times: int, tmp_path: Path) -> None:
    """Twice: whoever cancels loses patience while the run is being left, as a second Ctrl-C or a timeout does."""
    config = changed(
        SMALL, data__rows=600, data__batch_rows=100, portfolio__data_flow=TINY, features__data_flow=TINY,
        execution__data_flow={"mode": "file"},
    )  # fmt: skip
    pipeline = Pipeline.from_yaml(config, output=tmp_path)
    ended, steps = run_cancelled(pipeline)
    assert ended == "finished" and steps > 50
    wanted = left_in(tmp_path).summary_bytes
    before = threads_and_descriptors()
    told = {"cancelled": 0, "finished": 0}
    for number in range(CANCELLATIONS):
        step = 1 + number * steps // CANCELLATIONS
        ended, _ = run_cancelled(pipeline, step, *second_cancel(step, times))
        told[ended] += 1
        for _ in range(1000):  # Arrow's own threads let go of a file a moment after it was read
            if threads_and_descriptors() == before:
                break
            time.sleep(0.01)
        assert threads_and_descriptors() == before, f"cancelled at step {step}"
        assert all(path.read_bytes() == wanted for path in summaries_below(tmp_path))
    assert told["cancelled"] > CANCELLATIONS // 2, told
    ended, _ = run_cancelled(pipeline)
    assert ended == "finished" and left_in(tmp_path).summary_bytes == wanted
