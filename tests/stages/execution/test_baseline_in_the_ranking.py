"""The baseline: shown wherever it stands, never ranked, never the best, counted nowhere, and one of several alike."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest

from pipeline.stage import Context
from stages.execution.execution import Execution
from tests.stages.portfolio_rows import rows_sent


def row(name: str, sharpe: float | None, **more: Any) -> dict[str, Any]:
    parameters = f'{{"fast":{len(name)},"slow":50}}'
    return {"container": name, "strategy": "SmaCross", "parameters": parameters, "sharpe": sharpe} | more


def baseline(name: str, sharpe: float | None, **more: Any) -> dict[str, Any]:
    return row(name, sharpe) | {"baseline": True, "strategy": "BuyAndHold", "parameters": "{}"} | more


def finished(rows: list[dict[str, Any]], top: int = 10) -> tuple[pa.RecordBatch, Any]:
    """The ranking and the logic; each row comes in a batch of its own."""
    logic: Any = Execution(top=top).build(Context())
    for one in rows:
        logic.on_batch(rows_sent([one]))
    result, _ = logic.on_end()
    return result.value, logic


ROWS = [row("p_1", 2.0), row("p_22", 1.0), row("p_333", 0.5), row("p_4444", None)]


def test_it_stands_in_its_place_without_a_rank() -> None:
    ranking, _ = finished([*ROWS, baseline("p_baseline", 0.7)])
    assert ranking.column("container").to_pylist() == ["p_1", "p_22", "p_baseline", "p_333", "p_4444"]
    assert ranking.column("rank").to_pylist() == [1, 2, None, 3, 4]


def test_it_is_never_the_best_and_counts_nowhere() -> None:
    without = finished(ROWS)[1].metrics()
    told = finished([*ROWS, baseline("p_baseline", 9.0, total_return=1.0)])[1].metrics()
    assert told["best"]["portfolio"] == "p_1"
    assert told["portfolios"] == {"planned": 4, "run": 4, "failed": 0}
    assert told["selection"]["trials"] == 4
    assert {**told, "baseline": None} == without


def test_where_it_alone_has_the_objective_nobody_is_best() -> None:
    told = finished([row("p_1", None), baseline("p_baseline", 1.0)])[1].metrics()
    assert told["best"] is None
    assert told["baseline"]["sharpe"] == 1.0
    assert told["baseline"]["difference"] is None


def test_the_best_is_held_against_it() -> None:
    rows = [row("p_1", 2.0, total_return=0.5), baseline("p_baseline", 0.75, total_return=0.75, calmar=1.0)]
    told = finished(rows)[1].metrics()["baseline"]
    assert told["portfolio"] == "p_baseline"
    assert told["difference"]["sharpe"] == 1.25
    assert told["difference"]["total_return"] == -0.25
    assert told["difference"]["calmar"] is None
    assert told["statistics"]["calmar"] == 1.0
    assert "returns_every" not in told["difference"]


def test_baselines_of_several_groups_that_say_the_same_are_one() -> None:
    rows = [*ROWS, baseline("p_baseline", 0.7), baseline("b_baseline", 0.7), baseline("q_baseline", 0.6)]
    for order in itertools.islice(itertools.permutations(rows), 0, 5000, 97):
        ranking, _ = finished(list(order))
        assert ranking.column("container").to_pylist() == [
            *("p_1", "p_22", "b_baseline", "q_baseline", "p_333", "p_4444"),
        ]


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        ("ema_1", "ema_baseline"),
        ("ema_fine_1", "ema_fine_baseline"),
        ("other", "ema_baseline"),
    ],
)
def test_the_best_is_held_against_the_baseline_of_its_group_else_of_its_instrument(best: str, expected: str) -> None:
    rows = [
        baseline("sma_baseline", 0.9, instrument_id="A.X"),
        baseline("ema_baseline", 0.7, instrument_id="B.X"),
        baseline("ema_fine_baseline", 0.6, instrument_id="C.X"),
        row(best, 2.0, instrument_id="B.X"),
    ]
    assert finished(rows)[1].metrics()["baseline"]["portfolio"] == expected


def test_the_table_shows_it_even_below_the_top() -> None:
    table = finished([*ROWS, baseline("p_baseline", 0.1)], top=2)[1].report()
    assert table.column("portfolio").to_pylist() == ["p_1", "p_22", "p_baseline"]
    assert table.column("rank").to_pylist() == [1, 2, None]
    assert table.column("parameters").to_pylist() == ["fast=3", "fast=4", "baseline"]


def test_rows_of_several_strategies_say_which() -> None:
    rows = [row("a_1", 2.0), row("a_22", 1.5), row("b_1", 1.0, strategy="Dip", parameters='{"n":3,"kind":"low"}')]
    table = finished([*rows, baseline("a_baseline", 0.5)])[1].report()
    assert table.column("parameters").to_pylist() == [
        *("SmaCross fast=3", "SmaCross fast=4", "Dip n=3, kind=low", "baseline"),
    ]
