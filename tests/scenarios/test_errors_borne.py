"""Whole runs with logics that fail: what comes out, what the books say, who goes on, how often it begins again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty import Diary, Fatal, Faulty, Poisoned, column, letters_in, numbered

from pipeline import (
    Batch,
    Context,
    DataFlow,
    ErrorPolicy,
    Feed,
    PenstockError,
    PhaseFailed,
    Pipeline,
    Push,
    Stage,
    TopologyBuilder,
    Transform,
)
from pipeline.folder import read_record, read_summary
from pipeline.testing import ListFeed, ListSink, Mark, Pause, VirtualClock
from stages import Bars
from stages.features.feature_bars import FeatureBars
from stages.portfolio.group import PortfolioGroup

LETTERS = ErrorPolicy(dead_letters=True, backoff_seconds=0, max_dead_share=1)
RECORD = ErrorPolicy(on_failure="record")


def chain(
    into: list[Batch], *stages: Stage, errors: Sequence[ErrorPolicy | None], cuts: Sequence[int] = (5, 5)
) -> TopologyBuilder:
    """data -> work_0 -> work_1 ... -> out."""
    builder = TopologyBuilder().add("data", ListFeed(items=numbered(*cuts)))
    last = "data"
    for number, (stage, policy) in enumerate(zip(stages, errors, strict=True)):
        builder.add(f"work_{number}", stage, [last], errors=policy)
        last = f"work_{number}"
    return builder.add("out", ListSink(into=into), [last])


def pipeline(builder: TopologyBuilder, folder: Path, clock: Any = None) -> Pipeline:
    return Pipeline.from_topology(builder.build(), output=folder, clock=clock)


async def run(builder: TopologyBuilder, folder: Path) -> tuple[Any, Path]:
    async with pipeline(builder, folder).start() as started:
        summary = await started.finished()
        assert started.folder is not None
        return summary, started.folder / "run"


# -- dead letters in the books -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stateless", "counting"])
@pytest.mark.parametrize("way", ["plain", "thread", "async", "generator"])
async def test_dead_rows_are_in_the_books_and_all_others_come_out(tmp_path: Path, kind: str, way: str) -> None:
    into: list[Batch] = []
    # The second container shares a task with the first where both are plain and on the loop.
    first = Faulty(diary=Diary(), poison=frozenset({3, 8}), kind=kind, way=way)
    second = Faulty(diary=Diary(), poison=frozenset({4, 7}), kind="stateless", way=way)
    summary, phase = await run(chain(into, first, second, errors=[LETTERS, LETTERS]), tmp_path)
    kept = [n for n in range(10) if n not in (3, 8)]
    sent = [n if kind == "counting" else 2 * n for n in kept]
    assert column(into, "n") == [2 * n for n in sent if n not in (4, 7)]
    books = summary.ledger.containers
    assert (books["work_0"].received, books["work_0"].processed, books["work_0"].dead) == (10, 8, 2)
    dead = sum(n in (4, 7) for n in sent)
    assert (books["work_1"].received, books["work_1"].processed, books["work_1"].dead) == (8, 8 - dead, dead)
    assert summary.status == "complete" and not summary.failed and books["work_0"].lost is None
    assert [letter.first_seq for letter in await letters_in(phase, "work_0")] == [3, 8]
    # A row's offset is its place in what the container before has sent, and numbers have no gaps there.
    assert [letter.first_seq for letter in await letters_in(phase, "work_1")] == [
        sent.index(n) for n in (4, 7) if n in sent
    ]
    batches = [(batch.first_seq, batch.num_rows) for batch in into]
    assert [first for first, _ in batches] == [sum(rows for _, rows in batches[:i]) for i in range(len(batches))]
    table = pq.read_table(phase / "containers.parquet").to_pylist()
    assert [row["dead_rows"] for row in table if row["name"] == "work_0"] == [2]
    assert (await asyncio.to_thread(read_record, phase))["containers"]["work_0"]["dead_rows"] == 2


async def test_a_sink_has_committed_all_but_the_dead(tmp_path: Path) -> None:
    builder = TopologyBuilder().add("data", ListFeed(items=numbered(6)))
    builder.add("save", Faulty(diary=Diary(), poison=frozenset({2}), kind="sink"), ["data"], errors=LETTERS)
    summary, _ = await run(builder, tmp_path)
    books = summary.ledger.containers["save"]
    assert (books.received, books.committed, books.dead) == (6, 5, 1)


async def test_the_summary_is_the_same_however_batches_are_cut_and_calls_are_made(tmp_path: Path) -> None:
    found = []
    for number, (cuts, way) in enumerate([((10,), "plain"), ((1,) * 10, "thread"), ((3, 7), "async")]):
        stage = Faulty(diary=Diary(), poison=frozenset({3, 8}), kind="counting", way=way)
        builder = chain([], stage, errors=[LETTERS], cuts=cuts)
        summary, _ = await run(builder, tmp_path / str(number))
        found.append((summary.ledger, summary.hashes["output"], summary.container_results))
    assert found[0] == found[1] == found[2]


class PickyBars(Bars, frozen=True):
    """Bars that fail for every trade of one price, after they have begun with its batch."""

    refused: float = -1.0

    def build(self, context: Context) -> Transform:
        logic = super().build(context)
        assert isinstance(logic, Transform)
        work = logic.on_batch

        def picky(batch: Batch) -> Any:
            given = work(batch)
            if self.refused in batch.columns.column("price").to_pylist():
                raise Poisoned("a price")
            return given

        logic.on_batch = picky  # type: ignore[method-assign]
        return logic


async def test_bars_are_as_if_the_poison_had_never_come(tmp_path: Path) -> None:
    def trades(places: Sequence[int]) -> list[Batch]:
        seconds = [n for n in range(600) if n not in places]
        prices = [100.0 + n % 13 if n not in (77, 301, 302) else 13.0 for n in seconds]
        stamps = pa.array([n * 10**9 for n in seconds], pa.timestamp("ns", "UTC"))
        columns = {"ts_event": stamps, "instrument_id": ["A"] * len(seconds), "price": prices}
        table = pa.table({**columns, "size": [1.0] * len(seconds)})
        return [Batch(part) for part in table.to_batches(max_chunksize=90)]

    found = []
    for number, (places, refused) in enumerate([((77, 301, 302), -1.0), ((), 13.0)]):
        builder = TopologyBuilder().add("data", ListFeed(items=trades(places)))
        builder.add("bars", PickyBars(every="1m", refused=refused), ["data"], errors=LETTERS)
        into: list[Batch] = []
        builder.add("out", ListSink(into=into), ["bars"])
        summary, phase = await run(builder, tmp_path / str(number))
        found.append(pa.Table.from_batches([batch.columns for batch in into]))
        assert summary.ledger.containers["bars"].processed == 597
        assert [letter.first_seq for letter in await letters_in(phase)] == ([77, 301, 302] if refused == 13.0 else [])
    assert found[0].num_rows == 10 and found[0] == found[1]


SWEEP = """\
name: sweep
errors: {retries: 1, backoff_seconds: 0}
containers:
  data: {type: synthetic, rows: 2000, seed: 3, batch_rows: 120}
  features: {bars: 5m}
  portfolio_*: {strategy: {quantity: 100}, fills: {fee_bps: 1}}
parameter_space:
  - {strategy: sma_cross, fast: [2, 3], slow: [8, 13]}
  - {strategy: rsi, n: [5, 9]}
"""


async def test_a_sweep_whose_stages_fail_after_their_work_now_and_then_leaves_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed call did to bars, averages, books and strategies is undone, however large the state."""
    summaries = []
    failed: set[tuple[str, int]] = set()
    for folder in ("calm", "rough"):
        async with Pipeline.from_yaml(SWEEP, output=tmp_path / folder).start() as started:
            summaries.append(await started.finished())
            record = await asyncio.to_thread(read_record, started.folder / "run")  # type: ignore[operator]
        for kind in () if failed else (FeatureBars, PortfolioGroup):
            monkeypatch.setattr(kind, "on_batch", _failing(kind, failed))
        failed.add(("", -1))
    calm, rough = summaries
    assert rough.container_results == calm.container_results and rough.ledger == calm.ledger
    assert rough.aggregate_metrics == calm.aggregate_metrics and rough.hashes["output"] == calm.hashes["output"]
    kinds = {kind for kind, _ in failed}
    assert kinds >= {"FeatureBars", "PortfolioGroup"} and len(failed) > 10
    assert sum(container["restores"] for container in record["containers"].values()) >= len(failed) - 1


def _failing(kind: Any, failed: set[tuple[str, int]]) -> Any:
    """Works on every batch, and fails after it the first time for every third."""
    work, seen = kind.on_batch, dict[tuple[str, int], int]()

    def on_batch(self: Any, batch: Batch) -> Any:
        given = work(self, batch)
        if given is not None and not isinstance(given, Batch):
            given = list(given)
        place = (kind.__name__, batch.first_seq)
        if len(seen) % 3 == 2 and place not in seen:
            failed.add(place)
            seen[place] = 1
            raise Poisoned(f"after {place}")
        seen[place] = 1
        return given

    return on_batch


async def test_a_merge_gives_dead_rows_the_offset_of_the_input_they_came_from(tmp_path: Path) -> None:
    left = [{"ts_event": [10, 30, 50], "n": [1, 2, 3]}]
    right = [{"ts_event": [20, 40, 60], "n": [4, 5, 6]}]
    builder = TopologyBuilder().add("left", ListFeed(items=left)).add("right", ListFeed(items=right))
    builder.add("work", Faulty(diary=Diary(), poison=frozenset({3, 5})), ["left", "right"], errors=LETTERS)
    summary, phase = await run(builder, tmp_path)
    assert [(letter.source, letter.first_seq) for letter in await letters_in(phase)] == [("right", 1), ("left", 2)]
    assert summary.ledger.containers["work"].processed == 4


async def test_the_breaker_fails_the_phase_and_the_letters_stay(tmp_path: Path) -> None:
    policy = ErrorPolicy(dead_letters=True, max_dead_share=0.1, dead_window_rows=10)
    builder = chain([], Faulty(diary=Diary(), poison=frozenset({1, 3})), errors=[policy])
    with pytest.raises(PhaseFailed, match=r"'work_0' failed: TooManyDeadLetters: 2 of the last 10 rows"):
        await pipeline(builder, tmp_path).run()
    (file,) = tmp_path.rglob("work_0.seg")
    assert [letter.first_seq for letter in await letters_in(file.parent.parent)] == [1, 3]


async def test_by_default_the_first_failure_fails_the_phase(tmp_path: Path) -> None:
    diary = Diary()
    with pytest.raises(PhaseFailed, match="Poisoned: row 3"):
        await pipeline(chain([], Faulty(diary=diary, poison=frozenset({3})), errors=[None]), tmp_path).run()
    assert len(diary.calls) == 1 and not list(tmp_path.rglob("*.seg"))


# -- a failure that is recorded ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["plain", "thread", "async"])
async def test_who_failed_is_recorded_and_the_others_go_on_to_their_end(tmp_path: Path, way: str) -> None:
    into: list[Batch] = []
    good: list[Batch] = []
    before = Faulty(diary=Diary(), way=way)
    builder = chain(into, before, Faulty(diary=Diary(), poison=frozenset({14}), way=way), errors=[None, RECORD],
                    cuts=(5, 5, 5, 5))  # fmt: skip
    builder.add("beside", ListSink(into=good), ["work_0"])
    summary, phase = await run(builder, tmp_path)
    assert summary.status == "partial" and list(summary.failed) == ["work_1"]
    assert column(into, "n") == [4 * n for n in range(5)], "its consumer has what it sent before, and an end"
    assert column(good, "n") == [2 * n for n in range(20)]
    books = summary.ledger.containers
    assert (books["work_1"].received, books["work_1"].processed, books["work_1"].lost) == (10, 5, 5)
    (edge,) = [edge for edge in summary.ledger.edges if edge.target == "work_1"]
    assert (edge.sent, edge.received, edge.dropped) == (20, 10, 10)
    (row,) = [row for row in pq.read_table(phase / "containers.parquet").to_pylist() if row["error"]]
    assert row["name"] == "work_1" and "Poisoned: row 14" in row["error"]
    assert "Poisoned" in (await asyncio.to_thread(read_record, phase))["containers"]["work_1"]["error"]
    assert (await asyncio.to_thread(read_summary, phase)) == summary


async def test_a_merge_that_failed_in_the_midst_of_a_batch_leaves_books_that_balance(tmp_path: Path) -> None:
    left = [{"ts_event": [10, 30, 50], "n": [1, 2, 3]}]
    right = [{"ts_event": [20, 40, 60], "n": [4, 5, 6]}]
    builder = TopologyBuilder().add("left", ListFeed(items=left)).add("right", ListFeed(items=right))
    builder.add("work", Faulty(diary=Diary(), poison=frozenset({2})), ["left", "right"], errors=RECORD)
    summary, _ = await run(builder, tmp_path)
    books = summary.ledger.containers["work"]
    assert (books.received, books.processed, books.lost) == (3, 2, 1)
    assert [(edge.sent, edge.received, edge.dropped) for edge in summary.ledger.edges] == [(3, 2, 1), (3, 1, 2)]


async def test_a_feed_that_failed_is_recorded_and_what_it_gave_is_worked_on(tmp_path: Path) -> None:
    into: list[Batch] = []
    builder = TopologyBuilder().add("data", Breaks(), errors=RECORD).add("out", ListSink(into=into), ["data"])
    summary, _ = await run(builder, tmp_path)
    assert column(into, "n") == [1] and list(summary.failed) == ["data"] and summary.status == "partial"


class Breaks(Stage, frozen=True):
    is_feed = True

    def build(self, context: Context) -> Feed:
        return _Breaks()


class _Breaks(Feed):
    async def batches(self) -> AsyncIterator[Batch]:
        yield Batch.from_pydict({"n": [1]})
        raise Poisoned("the source died")


async def test_the_breaker_may_be_recorded_too(tmp_path: Path) -> None:
    policy = ErrorPolicy(dead_letters=True, max_dead_share=0.1, dead_window_rows=10, on_failure="record")
    summary, phase = await run(chain([], Faulty(diary=Diary(), poison=frozenset({1, 3})), errors=[policy]), tmp_path)
    books = summary.ledger.containers["work_0"]
    assert (books.received, books.processed, books.dead, books.lost) == (5, 0, 2, 3)
    assert len(await letters_in(phase)) == 2 and list(summary.failed) == ["work_0"]


async def test_what_is_no_exception_is_never_recorded(tmp_path: Path) -> None:
    builder = chain([], Faulty(diary=Diary(), poison=frozenset({1}), error=Fatal), errors=[RECORD])
    with pytest.raises((Fatal, PenstockError)):
        await pipeline(builder, tmp_path).run()
    assert not list(tmp_path.rglob("summary.json"))


async def test_a_partial_phase_runs_again_without_being_forced(tmp_path: Path) -> None:
    diary = Diary()
    builder = TopologyBuilder().add("data", ListFeed(items=numbered(6)))
    builder.add("work", Faulty(diary=diary, poison=frozenset({3}), times=1), ["data"], errors=RECORD)
    made = pipeline(builder, tmp_path)
    for status, skipped in (("partial", []), ("complete", []), ("complete", ["run"])):
        async with made.start(force=False) as started:
            assert (await started.finished()).status == status
            assert list(started.skipped) == skipped


# -- restarts ------------------------------------------------------------------------------------------------------


async def test_a_phase_begins_again_as_often_as_its_budget_allows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    diary, into = Diary(), list[Batch]()
    policy = ErrorPolicy(restarts=2, backoff_seconds=0)
    builder = chain(into, Faulty(diary=diary, poison=frozenset({7}), times=2), errors=[policy])
    summary, phase = await run(builder, tmp_path)
    assert summary.status == "complete" and summary.ledger.containers["work_0"].processed == 10
    assert diary.built == 3 and diary.failed == 2
    assert "was it given others?" not in caplog.text, "nobody asked for a run to be gone on with"
    assert [list(restart) for restart in (await asyncio.to_thread(read_record, phase))["restarts"]] == [
        ["work_0"],
        ["work_0"],
    ]


async def test_beyond_its_budget_it_fails(tmp_path: Path) -> None:
    diary = Diary()
    policy = ErrorPolicy(restarts=2, backoff_seconds=0)
    with pytest.raises(PhaseFailed, match="row 7"):
        await pipeline(chain([], Faulty(diary=diary, poison=frozenset({7})), errors=[policy]), tmp_path).run()
    assert diary.built == 3
    (record,) = tmp_path.rglob("run.json")
    assert (
        len((await asyncio.to_thread(read_record, record.parent))["restarts"]) == 2
        and (await asyncio.to_thread(read_record, record.parent))["status"] == "failed"
    )


async def test_beyond_its_budget_it_is_recorded_where_that_is_said(tmp_path: Path) -> None:
    diary = Diary()
    policy = ErrorPolicy(restarts=1, backoff_seconds=0, on_failure="record")
    summary, _ = await run(chain([], Faulty(diary=diary, poison=frozenset({7})), errors=[policy]), tmp_path)
    assert diary.built == 2 and list(summary.failed) == ["work_0"]


async def test_a_failure_of_somebody_without_restarts_is_not_restarted(tmp_path: Path) -> None:
    first, second = Diary(), Diary()
    builder = chain(
        [], Faulty(diary=first), Faulty(diary=second, poison=frozenset({4})),
        errors=[ErrorPolicy(restarts=5), None],
    )  # fmt: skip
    with pytest.raises(PhaseFailed):
        await pipeline(builder, tmp_path).run()
    assert first.built == 1


async def test_dead_letters_of_a_phase_that_begins_again_are_not_doubled(tmp_path: Path) -> None:
    policy = ErrorPolicy(dead_letters=True, backoff_seconds=0, max_dead_share=1)
    late = Faulty(diary=Diary(), poison=frozenset({16}), times=1)
    builder = chain([], Faulty(diary=Diary(), poison=frozenset({3})), late,
                    errors=[policy, ErrorPolicy(restarts=1, backoff_seconds=0)])  # fmt: skip
    summary, phase = await run(builder, tmp_path)
    assert [letter.first_seq for letter in await letters_in(phase)] == [3]
    assert summary.ledger.containers["work_0"].dead == 1


@pytest.mark.parametrize("kind", ["stateless", "counting"])
async def test_with_a_checkpoint_it_goes_on_from_there_and_dead_letters_are_cut_back_to_it(
    tmp_path: Path, kind: str
) -> None:
    """R-6: what came behind the checkpoint is done again, and is there once."""

    async def go(folder: Path, times: int) -> tuple[Any, Path, Diary]:
        first, second = numbered(5, 5)
        pause, clock, diary = Pause(), VirtualClock(), Diary()
        feed = ListFeed(items=[first, Mark.PAUSE, second], pause=pause)
        builder = TopologyBuilder().add("data", feed)
        builder.add("work", Faulty(diary=diary, poison=frozenset({3, 8}), kind=kind), ["data"], errors=LETTERS,
                    data_flow=DataFlow(mode="hybrid"))  # fmt: skip
        late = Faulty(diary=Diary(), poison=frozenset({18, 9}), times=times, kind="counting", way="async")
        builder.add("late", late, ["work"], errors=ErrorPolicy(restarts=1, backoff_seconds=0))
        made = Pipeline.from_topology(builder.build(), output=folder, clock=clock, checkpoint_seconds=1)
        async with made.start() as started:
            started.begin()
            await pause.reached.wait()
            await anyio.wait_all_tasks_blocked()
            await clock.advance(1)
            while not await asyncio.to_thread(lambda: list(folder.rglob("checkpoints/*.seg"))):
                pass
            for _ in range(times + 1):
                reached = pause.reached
                await reached.wait()
                pause.resume()
                while pause.reached is reached:
                    await anyio.lowlevel.checkpoint()
            summary = await started.finished()
            assert started.folder is not None
            return summary, started.folder / "run", diary

    whole, _, once = await go(tmp_path / "whole", 0)
    again, phase, diary = await go(tmp_path / "again", 1)
    assert again.ledger == whole.ledger and again.container_results == whole.container_results
    assert [letter.first_seq for letter in await letters_in(phase)] == [3, 8]
    before = [[call for call in each.calls if call[0] < 5] for each in (once, diary)]
    assert before[0] == before[1] and diary.built > once.built, "what was before the checkpoint was not done again"
    assert len((await asyncio.to_thread(read_record, phase))["restarts"]) == 1


async def test_once_a_failure_is_recorded_no_checkpoint_is_taken_any_more(tmp_path: Path) -> None:
    """What a failed container holds is nothing to go on from; the checkpoint before it is, and comes to the same."""
    first, second = numbered(5, 5)
    pause, clock = Pause(), VirtualClock()
    builder = TopologyBuilder().add("data", ListFeed(items=[first, Mark.PAUSE, second], pause=pause))
    builder.add("work", Faulty(diary=Diary(), poison=frozenset({3}), kind="counting"), ["data"], errors=RECORD)
    made = Pipeline.from_topology(builder.build(), output=tmp_path, clock=clock, checkpoint_seconds=1)
    async with made.start() as started:
        started.begin()
        await pause.reached.wait()
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            await clock.advance(1)
            for _ in range(30):
                await asyncio.to_thread(int)  # others have their turn, as one that writes a checkpoint would
        pause.resume()
        summary = await started.finished()
        assert started.folder is not None
        record = await asyncio.to_thread(read_record, started.folder / "run")
    assert summary.status == "partial" and record["checkpoints"]["taken"] == 0


async def test_the_wait_before_a_restart_is_on_the_clock_of_the_run_and_can_be_aborted(tmp_path: Path) -> None:
    clock, diary = VirtualClock(), Diary()
    policy = ErrorPolicy(restarts=3, backoff_seconds=8)
    builder = chain([], Faulty(diary=diary, poison=frozenset({7})), errors=[policy])
    async with pipeline(builder, tmp_path, clock).start() as started:
        started.begin()
        while not clock._sleepers or diary.failed < 1:
            await anyio.lowlevel.checkpoint()
        assert diary.built == 1
        await started.abort()
    assert diary.built == 1


async def test_pushed_rows_are_gone_so_their_phase_does_not_begin_again(tmp_path: Path) -> None:
    diary = Diary()
    builder = TopologyBuilder().add("data", Push())
    builder.add("work", Faulty(diary=diary, poison=frozenset({1})), ["data"], errors=ErrorPolicy(restarts=5))
    async with pipeline(builder, tmp_path).start() as started:
        await started.push("data", {"n": [1]})
        with pytest.raises(PhaseFailed):
            await started.finished()
    assert diary.built == 1
