"""What becomes of calls that fail: retries, the state before, the rows to blame, the breaker, time limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from faulty import Diary, Fatal, Faulty, Poisoned, column, letters_in, numbered
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import Batch, CallOverdue, Context, ErrorPolicy, Sink, TooManyDeadLetters, Transform
from pipeline.containers.calling import Caller
from pipeline.edges.in_flight import EdgesAccount
from pipeline.mending.breaker import Breaker
from pipeline.mending.dead_letters import DeadLetterFile, DeadLetters
from pipeline.mending.mender import HELD_BYTES, HELD_CALLS, MOST_TOLD, POOL_PARTS, Mender
from pipeline.pool import Pool
from pipeline.storage.executor import IoExecutor
from pipeline.testing import VirtualClock
from pipeline.threads import Workers
from tests.counted import count

PATIENT = ErrorPolicy(backoff_seconds=0, retries=2)
LETTERS = ErrorPolicy(backoff_seconds=0, dead_letters=True, max_dead_share=1)


@asynccontextmanager
async def mending(
    folder: Path,
    stage: Faulty,
    policy: ErrorPolicy,
    clock: VirtualClock | None = None,
    account: EdgesAccount | None = None,
) -> AsyncIterator[Mender]:
    workers, io = Workers(2), IoExecutor(2)

    async def rebuild() -> Transform:
        logic = stage.build(Context())
        assert isinstance(logic, Transform)
        return logic

    logic = await rebuild()
    letters = DeadLetterFile(folder, "work", io)
    try:
        yield Mender(
            policy, Caller("work", logic, workers), logic, clock=clock or VirtualClock(), seed=1, letters=letters,
            rebuild=rebuild, account=account,
        )  # fmt: skip
    finally:
        await workers.close()
        await io.close()


def batches(*cuts: int) -> list[Batch]:
    made, first = [], 0
    for columns in numbered(*cuts):
        batch = Batch.from_pydict(columns).stamped("data", first)
        made.append(batch)
        first += batch.num_rows
    return made


async def call(mender: Mender, batch: Batch) -> list[Batch]:
    outputs = await mender(mender.logic.on_batch, batch)
    return [output for output in outputs if isinstance(output, Batch)]


async def fed(mender: Mender, *cuts: int) -> list[Batch]:
    return [output for batch in batches(*cuts) for output in await call(mender, batch)]


# -- retries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["plain", "thread", "async", "generator"])
@pytest.mark.parametrize("kind", ["stateless", "counting"])
async def test_a_call_that_failed_is_made_again_and_sends_its_output_once(tmp_path: Path, way: str, kind: str) -> None:
    diary = Diary()
    stage = Faulty(diary=diary, poison=frozenset({5}), times=2, way=way, kind=kind)
    async with mending(tmp_path, stage, PATIENT) as mender:
        sent = await fed(mender, 4, 4)
    assert column(sent, "n") == ([2 * n for n in range(8)] if kind == "stateless" else list(range(8)))
    # A plain logic comes back to where it was by its first batch; an async one may not be given that again.
    again = [(0, 4), (4, 4)] if kind == "counting" and way in ("plain", "thread") else [(4, 4)]
    assert diary.calls == [(0, 4), (4, 4), *again, *again] and mender.retries == 2
    if kind == "counting":
        assert column(sent, "sum") == [0, 1, 3, 6, 10, 15, 21, 28], "a failed call left nothing in the state"
        assert mender.restores == 2 and diary.built == 3 and diary.closed == 2
    else:
        assert diary.built == 1


async def test_after_the_last_retry_the_error_is_raised_as_it_was(tmp_path: Path) -> None:
    diary = Diary()
    async with mending(tmp_path, Faulty(diary=diary, poison=frozenset({1})), PATIENT) as mender:
        with pytest.raises(Poisoned, match="row 1"):
            await fed(mender, 3)
    assert len(diary.calls) == 3 and not mender.dead_rows


@pytest.mark.parametrize("way", ["plain", "thread", "async"])
async def test_what_is_no_exception_is_nobodys_to_mend(tmp_path: Path, way: str) -> None:
    diary = Diary()
    stage = Faulty(diary=diary, poison=frozenset({1}), way=way, error=Fatal)
    async with mending(tmp_path, stage, PATIENT) as mender:
        with pytest.raises(Fatal):
            await fed(mender, 3)
    assert len(diary.calls) == 1


async def test_waits_double_up_to_the_longest_and_are_seeded(tmp_path: Path) -> None:
    policy = ErrorPolicy(retries=5, backoff_seconds=1, max_backoff_seconds=4)
    waits = []
    for folder in ("a", "b"):
        clock, diary = VirtualClock(), Diary()
        async with mending(tmp_path / folder, Faulty(diary=diary, poison=frozenset({0})), policy, clock) as mender:
            async with anyio.create_task_group() as tasks:

                async def feed(mender: Mender = mender) -> None:
                    with pytest.raises(Poisoned):
                        await fed(mender, 1)

                tasks.start_soon(feed)
                found = []
                for tries in range(1, 6):
                    await anyio.wait_all_tasks_blocked()
                    assert len(diary.calls) == tries
                    began = clock.monotonic_ns()
                    while len(diary.calls) == tries:
                        await clock.advance(0.05)
                    found.append((clock.monotonic_ns() - began) / 1e9)
        waits.append(found)
    assert waits[0] == waits[1]
    for wait, longest in zip(waits[0], [1, 2, 4, 4, 4], strict=True):
        assert longest / 2 <= wait <= longest + 0.05


async def test_a_wait_before_a_retry_can_be_cancelled(tmp_path: Path) -> None:
    diary = Diary()
    policy = ErrorPolicy(retries=5, backoff_seconds=10)
    async with mending(tmp_path, Faulty(diary=diary, poison=frozenset({0})), policy) as mender:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fed, mender, 1)
            await anyio.wait_all_tasks_blocked()
            assert len(diary.calls) == 1
            tasks.cancel_scope.cancel()
    assert len(diary.calls) == 1


async def test_on_end_is_made_again_too_and_from_the_state_before(tmp_path: Path) -> None:
    diary = Diary()
    stage = Faulty(diary=diary, kind="counting", fails_at_end=True, times=1)
    async with mending(tmp_path, stage, PATIENT) as mender:
        await fed(mender, 3)
        (result,) = await mender(mender.logic.on_end)
    assert result.value.column("total").to_pylist() == [3]  # type: ignore[union-attr]


# -- rows to blame -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["plain", "thread", "async", "generator"])
async def test_the_row_to_blame_is_found_in_two_calls_for_each_halving(tmp_path: Path, way: str) -> None:
    diary = Diary()
    async with mending(tmp_path, Faulty(diary=diary, poison=frozenset({300}), way=way), LETTERS) as mender:
        sent = await fed(mender, 256, 256)
    assert column(sent, "n") == [2 * n for n in range(512) if n != 300]
    assert len(diary.calls) == 2 + 2 * 8
    (letter,) = await letters_in(tmp_path)
    assert (letter.container, letter.source, letter.first_seq, letter.rows) == ("work", "data", 300, 1)
    assert letter.error == "Poisoned: row 300" and letter.attempts == 9  # the whole batch, then eight halves
    assert letter.value.column("n").to_pylist() == [300] and mender.dead_rows == 1


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.sets(st.integers(0, 60), max_size=12),
    st.sampled_from(["stateless", "counting"]),
)
@settings(max_examples=80, deadline=None)
def test_the_output_is_that_of_the_other_rows_however_batches_are_cut(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], poison: set[int], kind: str
) -> None:
    """No row is lost, none comes twice, all in their order; a state is as if the dead rows had never come."""
    folder = tmp_path_factory.mktemp("letters")
    rows = range(sum(cuts))
    good = [n for n in rows if n not in poison]

    async def run() -> tuple[list[Batch], Mender]:
        async with mending(folder, Faulty(diary=Diary(), poison=frozenset(poison), kind=kind), LETTERS) as mender:
            return await fed(mender, *cuts), mender

    sent, mender = asyncio.run(run())
    count("poisoned rows", len(poison & set(rows)))
    assert column(sent, "n") == (good if kind == "counting" else [2 * n for n in good])
    if kind == "counting":
        totals = [sum(good[: place + 1]) for place in range(len(good))]
        assert column(sent, "sum") == totals
    dead = list(DeadLetters(folder))
    assert [letter.first_seq for letter in dead] == sorted(poison & set(rows)) and mender.dead_rows == len(dead)
    assert [letter.value.column("n").to_pylist() for letter in dead] == [[n] for n in sorted(poison & set(rows))]


async def test_a_state_is_restored_and_the_batch_tried_once_more_before_rows_are_blamed(tmp_path: Path) -> None:
    diary = Diary()
    stage = Faulty(diary=diary, poison=frozenset({2}), times=1, kind="counting")
    async with mending(tmp_path, stage, LETTERS) as mender:
        assert column(await fed(mender, 4), "sum") == [0, 1, 3, 6]
    assert diary.calls == [(0, 4), (0, 4)] and not mender.dead_rows and mender.restores == 1


async def test_a_logic_nobody_can_bring_back_is_not_called_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "penstock")
    diary = Diary()
    policy = ErrorPolicy(backoff_seconds=0, retries=1, dead_letters=True)
    async with mending(tmp_path, Faulty(diary=diary, poison=frozenset({2}), kind="dumb"), policy) as mender:
        assert "has no retries and no dead letters" in caplog.text
        with pytest.raises(Poisoned):
            await fed(mender, 4)
    assert len(diary.calls) == 1 and not await letters_in(tmp_path)


async def test_a_failed_call_counts_nothing_for_the_books(tmp_path: Path) -> None:
    diary = Diary()
    async with mending(tmp_path, Faulty(diary=diary, poison=frozenset({2}), kind="sink"), LETTERS) as mender:
        await fed(mender, 8)
        assert isinstance(mender.logic, Sink) and mender.logic.committed_rows == 7


async def test_the_log_tells_of_the_first_failures_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with mending(tmp_path, Faulty(diary=Diary(), poison=frozenset(range(99))), LETTERS) as mender:
        await fed(mender, *[1] * 99)
    told = [record for record in caplog.records if "became dead letters" in record.getMessage()]
    assert len(told) == MOST_TOLD and told[-1].getMessage().endswith("it is not told any more")
    assert mender.dead_rows == 99


@pytest.mark.parametrize("kind", ["stateless", "counting"])
@pytest.mark.parametrize("way", ["plain", "thread", "async"])
async def test_t8_cancelled_at_any_round_of_the_loop_no_letter_is_torn_or_written_twice(
    tmp_path: Path, kind: str, way: str
) -> None:
    """However far it came: the file holds whole letters, and nothing runs on."""
    policy = ErrorPolicy(dead_letters=True, backoff_seconds=0, max_dead_share=1, retries=1)
    rounds = 0
    while True:
        phase = tmp_path / str(rounds)
        stage = Faulty(diary=Diary(), poison=frozenset({1, 6}), kind=kind, way=way)
        async with mending(phase, stage, policy) as mender:
            task = asyncio.create_task(fed(mender, 4, 4))
            for _ in range(rounds):
                await asyncio.sleep(0)
            ended = task.done()
            task.cancel()
            await asyncio.wait([task])
        found = [letter.first_seq for letter in await letters_in(phase)]
        assert found in ([], [1], [1, 6]) and mender.dead_rows <= len(found)
        count("mended calls cancelled")
        rounds = max(rounds + 1, rounds * 5 // 4)
        if ended and found == [1, 6]:
            break
    assert not task.cancelled() and rounds > 5


@pytest.mark.parametrize("way", ["plain", "thread", "async", "generator"])
async def test_the_state_is_taken_now_and_then_but_before_each_async_call(tmp_path: Path, way: str) -> None:
    diary = Diary()
    async with mending(tmp_path, Faulty(diary=diary, kind="counting", way=way), LETTERS) as mender:
        await fed(mender, *[1] * (2 * HELD_CALLS))
    assert diary.snapshots == (2 if way in ("plain", "thread") else 2 * HELD_CALLS) and diary.built == 1


async def test_large_batches_are_not_held_to_be_given_again(tmp_path: Path) -> None:
    diary, account = Diary(), EdgesAccount()
    large = HELD_BYTES // 16
    async with mending(tmp_path, Faulty(diary=diary, kind="counting"), LETTERS, account=account) as mender:
        for calls, batch in enumerate(batches(large, large, large, large), 1):
            await call(mender, batch)
            assert (diary.snapshots, account.charged > 0) == ((calls + 1) // 2, True)
            assert account.charged <= HELD_BYTES + batch.num_bytes
        await mender(mender.logic.on_end)
    assert account.charged == 0
    # A slice of something large is copied out of it, rather than keeping all of it alive.
    diary, sliced = Diary(), EdgesAccount()
    async with mending(tmp_path, Faulty(diary=diary, kind="counting"), LETTERS, account=sliced) as mender:
        (whole,) = batches(4 * large)
        for place in range(0, 4 * large, large // 16):
            await call(mender, whole.slice(place, 10))
        assert diary.snapshots == 1 and sliced.charged < HELD_BYTES // 16
    diary, tight = Diary(), EdgesAccount(Pool(POOL_PARTS * 100))
    async with mending(tmp_path, Faulty(diary=diary, kind="counting"), LETTERS, account=tight) as mender:
        await fed(mender, 50, 50)
        assert diary.snapshots == 2, "before each call, since two batches would take too much of the pool"


@pytest.mark.parametrize("way", ["plain", "thread"])
async def test_what_is_given_again_sends_nothing(tmp_path: Path, way: str) -> None:
    poison = frozenset({20, 41, 60})
    stage = Faulty(diary=Diary(), poison=poison, kind="counting", way=way)
    async with mending(tmp_path, stage, LETTERS) as mender:
        sent = await fed(mender, *[1] * 10, *[7] * 8)
    good = [n for n in range(66) if n not in poison]
    assert column(sent, "n") == good and column(sent, "sum") == [sum(good[: i + 1]) for i in range(len(good))]


# -- the breaker ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(30,), (1,) * 30, (7, 7, 7, 7, 2)])
async def test_the_breaker_trips_at_the_very_row_however_batches_are_cut(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    policy = ErrorPolicy(backoff_seconds=0, dead_letters=True, max_dead_share=0.2, dead_window_rows=10)
    # Two of any ten are allowed: 0, 1, then 10 and 11 when those have left the window, and 19 is one too many.
    poison = frozenset({0, 1, 10, 11, 19})
    async with mending(tmp_path, Faulty(diary=Diary(), poison=poison), policy) as mender:
        with pytest.raises(TooManyDeadLetters, match=r"3 of the last 10 rows.*allows 2.*row 19 of 'data'.*row 19"):
            await fed(mender, *cuts)
    assert [letter.first_seq for letter in await letters_in(tmp_path)] == [0, 1, 10, 11, 19] and mender.dead_rows == 5


async def test_at_its_edge_the_breaker_holds(tmp_path: Path) -> None:
    policy = ErrorPolicy(backoff_seconds=0, dead_letters=True, max_dead_share=0.2, dead_window_rows=10)
    async with mending(tmp_path, Faulty(diary=Diary(), poison=frozenset({0, 1, 10, 11, 20})), policy) as mender:
        await fed(mender, 30)
    assert mender.dead_rows == 5


@given(st.sets(st.integers(0, 60)), st.integers(1, 20), st.sampled_from([0.07, 0.1, 0.29, 0.3, 0.5, 1.0]))
def test_the_breaker_counts_as_one_counts_by_hand(dead: set[int], window: int, share: float) -> None:
    breaker = Breaker(share, window)
    allowed = int(round(share * 100) * window // 100)
    for place in sorted(dead):
        within = sum(place - window < other <= place for other in dead)
        assert breaker.trips(place) == (within > allowed)
        assert len(breaker.places) <= window


async def test_a_checkpoint_brings_back_the_counts_and_cuts_the_file(tmp_path: Path) -> None:
    policy = ErrorPolicy(backoff_seconds=0, dead_letters=True, max_dead_share=0.2, dead_window_rows=10)
    first, second, third = batches(5, 5, 5)
    stage = Faulty(diary=Diary(), poison=frozenset({1, 6, 11, 13}))
    async with mending(tmp_path, stage, policy) as mender:
        await call(mender, first)
        taken = mender.snapshot()
        await call(mender, second)
    async with mending(tmp_path, stage, policy) as again:
        await asyncio.to_thread(again.restore, taken)
        assert again.dead_rows == 1
        await call(again, second)
        with pytest.raises(TooManyDeadLetters, match="row 13"):
            await call(again, third)
    assert [letter.first_seq for letter in await letters_in(tmp_path)] == [1, 6, 11, 13]


# -- calls that hang -----------------------------------------------------------------------------------------------


class _Hanging(Transform):
    """Async: hangs the first `times` calls. In a thread: waits for `go`."""

    stateless = True

    def __init__(self, times: int, go: threading.Event | None = None) -> None:
        self.times, self.go = times, go
        self.calls = self.cancelled = 0
        if go is not None:
            self.runs_in = "thread"

    def on_batch(self, batch: Batch) -> Any:
        self.calls += 1
        if self.go is not None:
            assert self.go.wait(60)
            return batch
        return self._later(batch)

    async def _later(self, batch: Batch) -> Batch:
        if self.calls <= self.times:
            try:
                await anyio.sleep_forever()
            finally:
                self.cancelled += 1
        return batch


@asynccontextmanager
async def hanging(folder: Path, logic: _Hanging, policy: ErrorPolicy, clock: VirtualClock) -> AsyncIterator[Mender]:
    workers, io = Workers(1), IoExecutor(1)

    async def rebuild() -> Transform:
        raise AssertionError("what is stateless is not built again")

    try:
        letters = DeadLetterFile(folder, "work", io)
        yield Mender(policy, Caller("work", logic, workers), logic, clock=clock, seed=1, letters=letters,
                     rebuild=rebuild)  # fmt: skip
    finally:
        await workers.close()
        await io.close()


async def test_an_async_call_that_hangs_is_cancelled_and_made_again(tmp_path: Path) -> None:
    clock, logic, sent = VirtualClock(), _Hanging(2), list[Batch]()
    async with hanging(tmp_path, logic, ErrorPolicy(timeout_seconds=5, retries=2, backoff_seconds=0), clock) as mender:
        async with anyio.create_task_group() as tasks:

            async def feed() -> None:
                sent.extend(await fed(mender, 3))

            tasks.start_soon(feed)
            for calls in (1, 2):
                await anyio.wait_all_tasks_blocked()
                await clock.advance(4.5)
                assert (logic.calls, logic.cancelled) == (calls, calls - 1)
                await clock.advance(0.6)
    assert column(sent, "n") == [0, 1, 2] and (logic.calls, logic.cancelled) == (3, 2)


async def test_an_async_call_that_always_hangs_fails_and_says_so(tmp_path: Path) -> None:
    clock, logic = VirtualClock(), _Hanging(99)
    async with hanging(tmp_path, logic, ErrorPolicy(timeout_seconds=5), clock) as mender:
        async with anyio.create_task_group() as tasks:

            async def feed() -> None:
                with pytest.raises(CallOverdue, match=r"on_batch has not returned after 5 s.*was cancelled"):
                    await fed(mender, 3)

            tasks.start_soon(feed)
            await anyio.wait_all_tasks_blocked()
            await clock.advance(5.1)


async def test_a_call_in_a_thread_that_hangs_is_left_behind_and_not_made_again(tmp_path: Path) -> None:
    go = threading.Event()
    clock, logic = VirtualClock(), _Hanging(0, go)
    policy = ErrorPolicy(timeout_seconds=5, retries=3, dead_letters=True, backoff_seconds=0)
    async with hanging(tmp_path, logic, policy, clock) as mender:
        async with anyio.create_task_group() as tasks:

            async def feed() -> None:
                with pytest.raises(CallOverdue, match="left behind until the process ends"):
                    await fed(mender, 3)

            tasks.start_soon(feed)
            await anyio.wait_all_tasks_blocked()
            await clock.advance(5.1)
    assert logic.calls == 1 and mender.left_behind
    left = [thread for thread in threading.enumerate() if thread.name == "penstock-detached"]
    assert len(left) == 1 and left[0].daemon
    go.set()
    left[0].join()


async def test_a_call_in_a_thread_that_returns_in_time_is_as_any_other(tmp_path: Path) -> None:
    go = threading.Event()
    go.set()
    async with hanging(tmp_path, _Hanging(0, go), ErrorPolicy(timeout_seconds=5), VirtualClock()) as mender:
        assert column(await fed(mender, 2, 2), "n") == [0, 1, 2, 3]
        assert mender.calls_in_thread == 2 and mender.busy_ns > 0
