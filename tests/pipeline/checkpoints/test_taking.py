"""When checkpoints are due, and who is asked for a part in one."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from resumed_runs import Doubles, Host
from test_resuming import GRAPHS, dying

from pipeline.checkpoints import taking
from pipeline.checkpoints.cutting import Counts, Cut, Cutter
from pipeline.checkpoints.taking import Checkpointer, Checkpoints
from pipeline.frames import CHECKPOINT, Barrier
from pipeline.testing import VirtualClock


class Counting(Checkpointer):
    """Notes when it takes one; each costs so many seconds."""

    def __init__(self, clock: VirtualClock, costs: list[float]) -> None:
        running: Any = type("Running", (), {"ended": False})()
        settings = Checkpoints(10.0, None, None)  # type: ignore[arg-type]
        super().__init__("run", {"c": running}, settings, None, clock)  # type: ignore[arg-type]
        self.costs, self.times = costs, list[float]()

    async def take(self) -> None:
        self.times.append(self.clock.monotonic_ns() / 1e9)
        self.figures.cost_seconds += self.costs[len(self.times) - 1]


async def test_one_that_costs_more_than_a_twentieth_of_the_time_puts_off_the_next_and_that_is_counted() -> None:
    clock = VirtualClock()
    checkpointer = Counting(clock, [0.1, 2.0, 0.5, 0.1])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(checkpointer.run)
        for _ in range(10):
            await asyncio.sleep(0)
        for _ in range(75):
            await clock.advance(1)
            for _ in range(10):
                await asyncio.sleep(0)
        checkpointer.stop()
    assert checkpointer.times == pytest.approx([10, 20, 58, 68])
    assert checkpointer.figures.put_off == 1


@pytest.mark.parametrize("name", ["a group of hybrids", "diamond"])
@pytest.mark.parametrize("queued", [-1, 1 << 30])
async def test_a_run_that_dies_goes_on_the_same_where_queues_are_waited_for_and_where_they_are_recorded(
    name: str, queued: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-6: every queue is long, and is recorded at last; or every one is short, and is recorded at once."""
    monkeypatch.setattr(taking, "QUEUED_BYTES", queued)
    monkeypatch.setattr(taking, "_patience", _steps)
    dice = random.Random(name)
    host = Host(tmp_path / "root", GRAPHS[name])
    wanted = await host.whole()
    log: list[int] = []
    conduct: Callable[[Any], Any] = dying(dice, log)
    for _ in range(4):
        await host.process(conduct)
    left = await host.process(None)
    assert left == wanted
    assert log and sorted(log) == log


def _steps(align_seconds: float) -> tuple[float, float, float]:
    return 0.0, 0.001, align_seconds


async def test_what_an_attempt_left_behind_its_cut_is_never_taken_for_what_led_to_an_earlier_one() -> None:
    """R-6: a journal counts on from its last record, which a cut before lies above; its numbers are not given again."""
    journal: Any = SimpleNamespace(generations=itertools.count(97))
    kept: Any = SimpleNamespace(cut=lambda: None, state=lambda: None)
    workers: Any = None
    told: list[Cut] = []
    cutter = Cutter(
        "c", Doubles(True), live=False, journal=journal, journaled_as="c", kept=kept, workers=workers, told=told.append
    )
    cutter.begin([(3, 80), (90, 115)])
    counts = Counts(
        received_rows=0, processed_rows=0, sent_rows=0, sent_batches=0, sent_records={}, watermark=None, ended=False
    )
    await cutter.cut(Barrier(1, CHECKPOINT), None, lambda: counts)
    (*before, (begun, last)) = told[0].taken.gens
    assert before == [(3, 80), (90, 115)]
    assert 115 <= begun < last
