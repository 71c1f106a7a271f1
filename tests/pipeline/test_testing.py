"""The help for people's own tests helps."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pipeline import Batch, Context, Result, Stage, Transform
from pipeline.testing import VirtualClock, check_stage, run_stage


def batches() -> list[Batch]:
    return [Batch.from_pydict({"ts_event": [1, 2, 3], "n": [1, 2, 3]}), Batch.from_pydict({"ts_event": [4], "n": [4]})]


class Sums(Stage, frozen=True):
    """A running sum, right or with a mistake people make."""

    mistake: str = ""

    def build(self, context: Context) -> Transform:
        return SumsLogic(self.mistake)


class SumsLogic(Transform):
    total = 0

    def __init__(self, mistake: str) -> None:
        self.mistake = mistake

    def on_batch(self, batch: Batch) -> Any:
        if self.mistake == "forgets":
            self.total = 0
        if self.mistake == "remembers too much":
            type(self).total += 1
        sums = []
        for n in batch.columns.column("n").to_pylist():
            self.total += n
            sums.append(self.total)
        yield batch.with_columns(sum=sums)

    def on_end(self) -> Result:
        return Result("total", {"total": self.total})


async def test_a_right_stage_passes_and_its_answers_are_returned() -> None:
    given = await check_stage(Sums(), batches())
    assert given.output is not None
    assert given.output.column("sum").to_pylist() == [1, 3, 6, 10]
    assert given.results == {("", "total"): {"total": 10}}


async def test_a_stage_that_depends_on_how_rows_are_cut_is_caught() -> None:
    with pytest.raises(AssertionError, match="batches of 1 rows gave another answer"):
        await check_stage(Sums(mistake="forgets"), batches())


async def test_a_stage_that_shares_state_between_runs_is_caught() -> None:
    with pytest.raises(AssertionError, match="a second run"):
        await check_stage(Sums(mistake="remembers too much"), batches())


async def test_running_a_stage_needs_no_pipeline() -> None:
    given = await run_stage(Sums(), batches())
    assert given.metrics == {}


async def test_a_virtual_clock_wakes_sleepers_in_order_and_only_when_moved() -> None:
    clock = VirtualClock()
    woken = []

    async def sleeper(seconds: int) -> None:
        await clock.sleep_until(clock.monotonic_ns() + seconds * 10**9)
        woken.append(seconds)

    async with anyio.create_task_group() as tasks:
        for seconds in (3, 1, 2):
            tasks.start_soon(sleeper, seconds)
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        await clock.advance(2)
        assert woken == [1, 2]
        await clock.advance(1)
        assert woken == [1, 2, 3]
    assert clock.monotonic_ns() == 3 * 10**9
