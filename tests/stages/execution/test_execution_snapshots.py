"""The stages at the end of a backtest, brought back from a checkpoint between any two batches, and after the end."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from pipeline import NS_UTC, Batch, StateMismatch
from pipeline.stage import Context
from pipeline.testing import check_snapshots
from stages.execution.execution import Execution
from stages.execution.walk import PIECES, Joined
from tests.stages.portfolio_rows import rows_sent


async def test_r6_a_ranking_goes_on_from_wherever_it_was_cut() -> None:
    chance = random.Random(1)
    rows = [
        {
            "container": f"portfolio_{number}",
            "strategy": "SmaCross",
            "parameters": f'{{"fast":{number}}}',
            "sharpe": chance.choice((None, 1.0, chance.random())),
            "total_return": chance.random(),
            "max_drawdown": chance.random(),
            "baseline": number == 3,
            "error": "boom" if number == 5 else None,
        }
        for number in range(12)
    ]
    batches = [rows_sent(rows[first : first + size]) for first, size in ((0, 1), (1, 4), (5, 2), (7, 5))]
    earlier = {"train": {"execution": {"ranking": (await check_snapshots(Execution(), batches)).output}}}
    context = Context(name="execution", earlier=earlier)
    given = await check_snapshots(Execution(objective="max_drawdown", top=3), batches, context=context)
    assert given.metrics["portfolios"]["planned"] == 11
    assert set(given.metrics["earlier"]) == {"train"}


async def test_r6_a_joined_walk_does() -> None:
    def ranking(sharpe: float) -> Any:
        return pa.table({"container": ["p"], "baseline": [False], "sharpe": [sharpe]})

    def piece(phase: str, first: int) -> Batch:
        times = pa.array([first + step for step in range(4)], pa.int64()).cast(NS_UTC)
        columns = [times, [phase] * 4, [1.0, 1.1, 0.9, 1.2], ["bar"] * 4, ["crypto"] * 4]
        return Batch(pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=PIECES))

    phases = {"train_1": 1.0, "test_1": 0.5, "train_2": 2.0, "test_2": 0.1}
    earlier = {phase: {"execution": {"ranking": ranking(sharpe)}} for phase, sharpe in phases.items()}
    recipe = Joined(pairs=(("train_1", "test_1"), ("train_2", "test_2")))
    batches = [piece("test_1", 0), piece("test_2", 10).slice(0, 1), piece("test_2", 10).slice(1, 3)]
    given = await check_snapshots(recipe, batches, context=Context(name="joined", earlier=earlier))
    assert given.metrics["steps"] == 2
    assert given.results["", "equity"].num_rows == 8


def test_r6_the_state_of_another_ranking_is_refused() -> None:
    state = Execution(objective="sharpe").build(Context()).snapshot()
    with pytest.raises(StateMismatch, match="execution with objective 'sortino', found 'sharpe'"):
        Execution(objective="sortino").build(Context()).restore(state)
