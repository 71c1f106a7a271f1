"""What two phases say about each other: rank correlation against scipy, and what was left of the objective."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.stage import Context
from stages.execution.comparison import comparison, decay, spearman
from stages.execution.execution import Execution
from tests.stages.portfolio_rows import rows_sent

VALUES = st.lists(st.tuples(st.integers(-4, 4), st.floats(-3, 3)), min_size=2, max_size=40)


@settings(max_examples=100, deadline=None)
@given(pairs=VALUES)
def test_rank_correlation_is_scipys_with_ties(pairs: list[tuple[int, float]]) -> None:
    left, right = [float(a) for a, _ in pairs], [round(b, 1) for _, b in pairs]
    found = spearman(left, right)
    if len(set(left)) == 1 or len(set(right)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(left, right).statistic, abs=1e-12)


def test_an_order_that_holds_is_exactly_one_and_the_other_way_round_minus_one() -> None:
    values = [math.sin(n) for n in range(101)]
    assert spearman(values, [math.exp(value) for value in values]) == 1.0
    assert spearman(values, [-value for value in values]) == -1.0
    assert spearman([1.0], [2.0]) is None and spearman([], []) is None


@pytest.mark.parametrize(
    ("earlier", "now", "lower", "expected"),
    [
        (2.0, 1.0, False, 0.5),
        (2.0, -1.0, False, 1.5),
        (2.0, 3.0, False, -0.5),
        (-1.0, -2.0, False, 1.0),
        (0.1, 0.2, True, 1.0),
        (0.2, 0.1, True, -0.5),
        (0.0, 1.0, False, None),
        (None, 1.0, False, None),
        (1.0, None, False, None),
        (1e-300, 1e300, False, None),
    ],
)
def test_decay_is_the_share_that_was_lost(
    earlier: float | None, now: float | None, lower: bool, expected: float | None
) -> None:
    assert decay(earlier, now, lower=lower) == (expected if expected is None else pytest.approx(expected))


def row(name: str, fast: int, sharpe: float | None, **more: Any) -> dict[str, Any]:
    return {"container": name, "strategy": "SmaCross", "parameters": f'{{"fast":{fast}}}', "sharpe": sharpe} | more


def phase(rows: list[dict[str, Any]], earlier: dict[str, Any] | None = None) -> tuple[pa.RecordBatch, dict[str, Any]]:
    """Ranking and figures of a phase."""
    logic: Any = Execution().build(Context(name="execution", earlier=earlier or {}))
    for one in rows:
        logic.on_batch(rows_sent([one]))
    result, _ = logic.on_end()
    return result.value, logic.metrics()


NAMED = (("p_0", 5), ("p_1", 10))
TRAIN = [row("p_0", 5, 2.0), row("p_1", 10, 1.0), row("p_2", 20, 0.5), row("p_3", 40, None)]
HOLD = {"container": "p_baseline", "baseline": True, "strategy": "BuyAndHold", "parameters": "{}", "sharpe": 0.4}


def test_a_phase_is_held_against_the_one_it_follows() -> None:
    train, _ = phase([*TRAIN, HOLD])
    after = [row("p_0", 5, 0.5), row("p_1", 10, 0.8), row("p_2", 20, 0.1), row("p_3", 40, 0.3)]
    _, told = phase([*after, HOLD], {"train": {"execution": {"ranking": train}}})
    found = told["earlier"]["train"]
    assert found["portfolios"] == 3, "the baseline is none, and p_3 had no ratio"
    assert found["rank_correlation"] == pytest.approx(0.5)
    assert found["best"] == {
        "portfolio": "p_0", "rank_earlier": 1, "rank_now": 2, "earlier": 2.0, "now": 0.5, "decay": 0.75,
    }  # fmt: skip
    assert found["median"] == {"earlier": 1.0, "now": 0.5, "decay": 0.5}
    assert "|earlier|" in found["decay_is"]


def test_portfolios_keep_their_identity_under_other_names_and_under_other_settings() -> None:
    """The best two go on, renamed; then under a changed parameter with their names kept."""
    train, _ = phase(TRAIN)
    renamed, _ = phase([row("p_0", 10, 0.8), row("p_1", 5, 0.2)])
    found = comparison(train, renamed, "sharpe")
    assert found["best"]["portfolio"] == "p_1", "fast=5, whatever it is called"
    assert (found["best"]["earlier"], found["best"]["now"]) == (2.0, 0.2)
    changed = [row(name, 0, 0.1) | {"parameters": f'{{"fast":{fast},"more":1}}'} for name, fast in NAMED]
    found = comparison(train, phase(changed)[0], "sharpe")
    assert (found["portfolios"], found["best"]["portfolio"]) == (2, "p_0")


def test_phases_with_nothing_in_common_leave_everything_undefined() -> None:
    train, _ = phase(TRAIN)
    found = comparison(train, phase([])[0], "sharpe")
    assert found["portfolios"] == 0
    assert found["rank_correlation"] is found["best"] is None
    assert found["median"] == {"earlier": None, "now": None, "decay": None}


def test_a_phase_without_a_ranking_is_passed_over() -> None:
    _, told = phase(TRAIN, {"prepare": {"bars": {"output": None}}, "other": {"execution": {"fills": 1}}})
    assert told["earlier"] == {}


def test_figures_are_the_same_bytes_in_any_order_and_any_batches() -> None:
    dice = random.Random(5)
    rows = [
        row(f"p_{n:03d}", n, dice.choice([None, 0.5, dice.gauss(0, 1)]), total_return=dice.gauss(0, 1), fees=0.1 * n)
        for n in range(120)
    ]
    rows += [HOLD, {**HOLD, "container": "q_baseline"}, row("p_bad", 999, None, error="boom")]
    train, first = phase(rows)
    expected = json.dumps(phase(rows, {"train": {"execution": {"ranking": train}}})[1])
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        logic: Any = Execution().build(Context(name="execution", earlier={"train": {"execution": {"ranking": train}}}))
        for begin in range(0, len(rows), seed * 7 + 1):
            logic.on_batch(rows_sent(rows[begin : begin + seed * 7 + 1]))
        result, _ = logic.on_end()
        assert result.value.equals(train)
        assert json.dumps(logic.metrics()) == expected
    assert first["portfolios"] == {"planned": 121, "run": 120, "failed": 1}
