"""Ranking: who comes first, who comes last, and what a person is told."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import SchemaMismatch
from pipeline.frames import Result
from pipeline.stage import Context
from stages.execution.execution import Execution
from stages.execution.ranking import OBJECTIVES, RANKING
from stages.portfolio.records import PORTFOLIOS
from tests.stages.portfolio_rows import rows_sent


def row(name: str, **figures: Any) -> dict[str, Any]:
    """A portfolio's row of statistics."""
    number = len(name)
    parameters = f'{{"quantity":1.0,"fast":{number},"slow":50}}'
    return {"container": name, "strategy": "SmaCross", "parameters": parameters} | figures


def ranked_by(objective: str, rows: list[dict[str, Any]], top: int = 10) -> tuple[list[str], Any, pa.RecordBatch]:
    """Names in order, the logic and the ranking; rows come in single batches."""
    logic: Any = Execution(objective=objective, top=top).build(Context())
    for one in rows:
        logic.on_batch(rows_sent([one]))
    result, batch = logic.on_end()
    assert isinstance(result, Result)
    assert result.key == "ranking"
    assert result.value.equals(batch.columns)
    assert batch.columns.schema == RANKING
    return result.value.column("container").to_pylist(), logic, result.value


def test_more_sharpe_and_less_drawdown_come_first() -> None:
    rows = [row("a", sharpe=1.0, max_drawdown=0.3), row("bb", sharpe=2.0, max_drawdown=0.5)]
    assert ranked_by("sharpe", rows)[0] == ["bb", "a"]
    assert ranked_by("max_drawdown", rows)[0] == ["a", "bb"]


def test_ties_go_to_the_return_then_to_the_name_and_nulls_come_last_in_any_order_of_arrival() -> None:
    rows = [
        row("best", sharpe=1.0, total_return=0.2),
        row("first", sharpe=1.0, total_return=0.1),
        row("second", sharpe=1.0, total_return=0.1),
        row("unsure", sharpe=1.0),
        row("idle-a", total_return=0.0),
        row("idle-b", total_return=0.0),
        row("broken", error="boom"),
    ]
    expected = [one["container"] for one in rows]
    for seed in range(10):
        random.Random(seed).shuffle(rows)
        names, _, ranking = ranked_by("sharpe", rows)
        assert names == expected
        assert ranking.column("rank").to_pylist() == list(range(1, 8))


def test_metrics_tell_the_best_and_the_distribution() -> None:
    rows = [row("x" * n, sharpe=float(n), total_return=0.0) for n in range(1, 6)]
    _, logic, _ = ranked_by("sharpe", [*rows, row("none"), row("lost", error="boom")])
    told = logic.metrics()
    assert told["objective"] == "sharpe"
    best = {name: value for name, value in told["best"].items() if name != "statistics"}
    assert best == {
        "portfolio": "xxxxx",
        "strategy": "SmaCross",
        "parameters": {"quantity": 1.0, "fast": 5, "slow": 50},
        "sharpe": 5.0,
    }
    spread = {"min": 1.0, "q1": 2.0, "median": 3.0, "q3": 4.0, "max": 5.0, "null": 1, "null_share": 1 / 6}
    assert told["distribution"]["sharpe"] == spread
    assert told["distribution"]["calmar"]["median"] is None and told["distribution"]["calmar"]["null"] == 6
    assert told["portfolios"] == {"planned": 7, "run": 6, "failed": 1}


def test_the_report_shows_the_top_with_the_parameters_that_differ() -> None:
    rows = [row("x" * n, max_drawdown=n / 10, sharpe=1.0, n_trades=n, end_equity=1.0) for n in range(1, 6)]
    table = ranked_by("max_drawdown", rows, top=2)[1].report()
    assert table.schema.names == [
        *("rank", "portfolio", "parameters", "max_drawdown", "total_return", "sharpe", "n_trades", "win_rate", "fees"),
        "end_equity",
    ]
    assert table.column("parameters").to_pylist() == ["fast=1", "fast=2"]
    assert table.column("rank").to_pylist() == [1, 2]
    alone = ranked_by("sharpe", rows[:1])[1].report()
    assert alone.column("parameters").to_pylist() == ["quantity=1.0, fast=1, slow=50"]


def test_nobody_to_rank_is_no_error() -> None:
    names, logic, _ = ranked_by("sharpe", [])
    assert names == []
    assert logic.metrics()["best"] is None
    assert logic.metrics()["distribution"]["sharpe"]["median"] is None
    assert logic.report().num_rows == 0


def test_an_unknown_objective_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match="no statistic 'sharp' to rank by; did you mean 'sharpe'"):
        Execution(objective="sharp")
    with pytest.raises(ValueError, match="neither more nor less n_trades is better"):
        Execution(objective="n_trades")
    with pytest.raises(ValueError, match="top of 1 or more"):
        Execution(top=0)
    assert {"sharpe", "max_drawdown", "total_return", "calmar"} <= set(OBJECTIVES)


def test_an_input_without_statistics_is_found_before_the_run() -> None:
    assert Execution().output_schema({"portfolio_0": PORTFOLIOS, "portfolio_1": None}) == RANKING
    with pytest.raises(SchemaMismatch, match="'bars' does not send"):
        Execution().output_schema({"bars": pa.schema([("close", pa.float64())])})
