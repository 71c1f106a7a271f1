"""The map of parameters: which two are shown, what a cell holds, and how it stays small."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from made_runs import grid

from stages.report.space import MOST_VALUES, NOTHING, Landscape, at_the_edge, axis_of, explained, landscape


def rows_of(space: list[dict[str, Any]], objective: Any) -> list[dict[str, Any]]:
    return [
        {"container": f"p_{place}", "strategy": "S", "parameters": json.dumps(each), "sharpe": objective(**each)}
        for place, each in enumerate(space)
    ]


def best_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return max((row for row in rows if row["sharpe"] is not None), key=lambda row: float(row["sharpe"]))


def mapped(rows: list[dict[str, Any]]) -> Landscape:
    found = landscape(rows, best_of(rows), "sharpe", lower=False)
    assert found is not None
    return found


def test_the_two_parameters_that_explain_most_are_shown_the_others_as_the_best_has_them() -> None:
    rows = rows_of(
        grid(quantity=[1.0], noise=[1, 2], fast=[5, 10, 20], slow=[50, 100]),
        lambda quantity, noise, fast, slow: fast * 2 + slow / 10 + noise / 100,
    )
    found = mapped(rows)
    assert found.y is not None
    assert (found.x.name, found.y.name) == ("fast", "slow")
    assert found.sliced and found.others == {"noise": 2}, "quantity is the same for all"
    assert len(found.cells) == 6
    assert found.cells[found.best] == (50.02, best_of(rows)["container"])
    assert found.cells[(0, 0)][0] == 15.02, "noise as the best has it, not the least"
    assert (found.x.labels, found.y.labels) == (["5", "10", "20"], ["50", "100"])


def test_where_hardly_a_portfolio_shares_the_bests_other_values_the_best_over_them_is_shown() -> None:
    space = [{"a": n % 5, "b": n % 7, "c": n} for n in range(35)]
    found = mapped(rows_of(space, lambda a, b, c: 7 * a + 10 * b + c / 1000))
    assert not found.sliced and set(found.others) == {"c"}
    assert len(found.cells) == 35


def test_one_parameter_makes_a_line_and_none_makes_nothing() -> None:
    rows = rows_of(grid(fast=[5, 10, 20]), lambda fast: -abs(fast - 10))
    found = mapped(rows)
    assert found.y is None and [found.cells[place][0] for place in sorted(found.cells)] == [-5, 0, -10]
    assert landscape(rows[:1], rows[0], "sharpe", lower=False) is None


def test_less_is_kept_where_less_is_better() -> None:
    rows = rows_of([{"a": n % 2, "c": n} for n in range(40)], lambda a, c: c)
    low = landscape(rows, rows[0], "sharpe", lower=True)
    assert low is not None
    rows = rows_of([{"a": 1, "b": 1, "c": n} for n in range(3)] + [{"a": 2, "b": 2, "c": 9}], lambda a, b, c: a + c)
    two = landscape(rows, rows[0], "sharpe", lower=True)
    assert two is not None and min(value for value, _ in two.cells.values()) == 1


def test_undefined_objectives_and_other_strategies_are_left_out() -> None:
    rows = rows_of(grid(fast=[1, 2, 3], slow=[1, 2]), lambda fast, slow: None if fast == 2 else fast + slow)
    found = mapped([*rows, {**rows[0], "strategy": "Other", "parameters": '{"fast": 99, "slow": 1}', "sharpe": -1}])
    assert found.x.labels == ["1", "3"] and len(found.cells) == 4


def test_a_thousand_values_share_forty_classes_of_neighbours() -> None:
    axis = axis_of("x", [math.exp(n / 100) for n in range(1000)])
    assert len(axis.labels) == MOST_VALUES and axis.together
    places = [axis.place[json.dumps(math.exp(n / 100))] for n in range(1000)]
    assert places == sorted(places) and {places.count(place) for place in range(MOST_VALUES)} == {25}
    assert axis.labels[0] == "1 – 1.271"


def test_values_of_any_kind_have_their_place() -> None:
    axis = axis_of("x", ["b", "a", True, None, [1, 2], 0.1 + 0.2, "a"])
    assert len(axis.labels) == 6 and not axis.together
    assert set(axis.labels) == {"a", "b", "true", "null", "[1, 2]", "0.3"}
    assert axis_of("x", [10, 9, 100]).labels == ["9", "10", "100"], "numbers in their order, not in that of their text"


@pytest.mark.parametrize(
    ("given", "values", "expected"),
    [
        ([1, 1, 2, 2], [1.0, 1.0, 5.0, 5.0], 1.0),
        ([1, 2, 1, 2], [1.0, 1.0, 5.0, 5.0], -0.5),
        ([1, 1, 2], [3.0, 3.0, 3.0], NOTHING),
        ([1, 2, 3], [1.0, 5.0, 9.0], NOTHING),
        ([1, 1, 2, 2], [0.0, 2.0, 2.0, 4.0], 0.25),
    ],
)
def test_explained_is_the_share_of_variance_between_values(
    given: list[int], values: list[float], expected: float
) -> None:
    assert explained(given, values) == pytest.approx(expected)


def test_a_parameter_of_a_thousand_values_does_not_explain_all_by_that_alone() -> None:
    assert explained(list(range(1000)), [math.sin(n * n) for n in range(1000)]) < 0.02


def test_a_best_at_the_end_of_what_was_tried_is_told() -> None:
    rows = rows_of(grid(fast=[1, 2, 3], slow=[1, 2, 3]), lambda fast, slow: fast - abs(slow - 2))
    assert at_the_edge(mapped(rows)) == ["fast"]
    assert at_the_edge(mapped(rows_of(grid(fast=[1, 2], slow=[1, 2]), lambda fast, slow: fast + slow))) == []
