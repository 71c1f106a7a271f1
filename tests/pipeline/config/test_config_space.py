"""Tests of pipeline/config/space/ and patterns.py: combinations, and the members they name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, product
from typing import Any

import pytest

from pipeline.config import Block, Distribution, Group, ParameterSpace, Range, Spaced
from pipeline.config.patterns import covers, specificity
from pipeline.config.space import Constraint, Grid, GridTooLarge, Points, Steps
from pipeline.config.space.grid import CHUNK
from pipeline.config.space.where import parse


@pytest.mark.parametrize(
    ("start", "stop", "step", "expected"),
    [
        (20, 50, 10, [20, 30, 40, 50]),
        (20, 55, 10, [20, 30, 40, 50]),
        (1, 1, 1, [1]),
        (3, 1, -1, [3, 2, 1]),
        (0.1, 0.5, 0.1, [0.1, 0.2, 0.3, 0.4, 0.5]),
        (0, 1, 0.25, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (1.0, 3, 1, [1.0, 2.0, 3.0]),
        (1e-9, 3e-9, 1e-9, [1e-9, 2e-9, 3e-9]),
        (0.5, -0.5, -0.5, [0.5, 0.0, -0.5]),
    ],
)
def test_a_range_includes_its_stop_and_does_not_drift(start: Any, stop: Any, step: Any, expected: list[Any]) -> None:
    values = list(Steps(Range(start=start, stop=stop, step=step)))
    assert values == expected
    assert [type(value) for value in values] == [type(value) for value in expected]


@pytest.mark.parametrize(("start", "stop", "step"), [(1, 2, 0), (1, 2, -1), (2, 1, 1), (0, float("inf"), 1)])
def test_a_range_that_leads_nowhere_is_refused(start: float, stop: float, step: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        Range(start=start, stop=stop, step=step)


def test_the_last_key_is_the_fastest() -> None:
    space = ParameterSpace({"b": [1, 2], "a": Range(start=1, stop=3), "c": ["x", "y"]})
    expected = [{"b": b, "a": a, "c": c} for b, a, c in product([1, 2], [1, 2, 3], ["x", "y"])]
    assert list(space) == expected
    assert [space[index] for index in range(len(space))] == expected
    assert (space[-1], space[2:4]) == (expected[-1], expected[2:4])
    assert list(space[0]) == ["b", "a", "c"]
    with pytest.raises(IndexError):
        space[12]


def test_a_space_is_counted_without_being_made() -> None:
    space = ParameterSpace({name: Range(start=1, stop=1000) for name in "abcd"})
    assert len(space) == 10**12
    assert space[10**12 - 1] == dict.fromkeys("abcd", 1000)
    assert next(iter(space)) == dict.fromkeys("abcd", 1)


def test_without_keys_there_is_one_empty_combination() -> None:
    assert list(ParameterSpace()) == [{}]
    assert not ParameterSpace()
    assert ParameterSpace({"a": [1]})


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "data", True),
        ("*", "portfolio_*", True),
        ("port*", "portfolio_*", True),
        ("portfolio_*", "portfolio_*", True),
        ("portfolio_?", "portfolio_*", False),
        ("portfolio_00*", "portfolio_*", False),
        ("portfolio_*", "portfolio_00*", True),
        ("portfolio_*", "portfolio_", True),
        ("portfolio_????", "portfolio_0042", True),
        ("portfolio_*", "my_portfolio_1", False),
        ("[ab]", "a", False),
        ("a.c", "abc", False),
        ("da**ta", "data", True),
    ],
)
def test_a_pattern_covers_names_and_narrower_patterns(pattern: str, name: str, expected: bool) -> None:
    assert covers(pattern, name) is expected


def test_wildcards_are_not_literal() -> None:
    assert [specificity(pattern) for pattern in ("*", "a?c*", "abc")] == [0, 2, 3]


def test_members_are_numbered_in_the_order_of_the_space() -> None:
    group = Group("portfolio_*", 5000)
    assert [group.member(index) for index in (0, 42, 4999)] == ["portfolio_0000", "portfolio_0042", "portfolio_4999"]
    assert Group("*_p", 12_345).member(7) == "00007_p"
    assert all(group.index(group.member(index)) == index for index in range(5000))


@pytest.mark.parametrize(
    "name",
    ["portfolio_5000", "portfolio_42", "portfolio_00042", "portfolio_", "portfolio_*", "portfolio_٠٠٤٢", "x", ""],
)
def test_what_is_no_member_has_no_index(name: str) -> None:
    assert Group("portfolio_*", 5000).index(name) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"start": 1, "stop": 1000, "num": 7, "scale": "log"}, [1, 3, 10, 32, 100, 316, 1000]),
        ({"start": 1, "stop": 4, "num": 10, "scale": "log"}, [1, 2, 3, 4]),
        ({"start": 0.001, "stop": 0.1, "num": 3, "scale": "log"}, [0.001, 0.01, 0.1]),
        ({"start": 100, "stop": 1, "num": 3, "scale": "log"}, [100, 10, 1]),
        ({"start": 0, "stop": 100, "num": 5}, [0, 25, 50, 75, 100]),
        ({"start": 0, "stop": 1.0, "num": 5}, [0, 0.25, 0.5, 0.75, 1.0]),
        ({"start": 7, "stop": 7, "num": 1}, [7]),
    ],
)
def test_points_are_spaced_by_distance_or_by_ratio_and_whole_ones_are_held_once(
    given: dict[str, Any], expected: list[float]
) -> None:
    points = Points(Spaced(**given))
    assert list(points) == expected
    whole = isinstance(given["start"], int) and isinstance(given["stop"], int)
    assert all(isinstance(value, int) for value in points) == whole


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Spaced, {"start": 0, "stop": 9, "num": 3, "scale": "log"}, "expected a start and stop above 0"),
        (Spaced, {"start": 1, "stop": 9, "num": 1}, "expected a num of 2 or more"),
        (Spaced, {"start": 1, "stop": float("nan"), "num": 2}, "expected finite numbers"),
        (Distribution, {"low": 2, "high": 2}, "expected a low below high"),
        (Distribution, {"low": 0, "high": 2, "scale": "log"}, "expected a low above 0"),
        (Range, {"start": 1, "stop": 10**30}, "expected fewer values"),
    ],
)
def test_an_axis_that_cannot_be_is_refused(kind: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**given)


def test_a_distribution_spreads_shares_evenly_over_values_or_ratios() -> None:
    assert [Distribution(low=1, high=4).at(share / 8) for share in range(8)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [Distribution(low=0.0, high=2.0).at(share / 4) for share in range(4)] == [0.0, 0.5, 1.0, 1.5]
    log = Distribution(low=0.001, high=0.1, scale="log")
    assert [log.at(share) for share in (0, 0.25, 0.5, 0.75)] == [0.001, 0.00316227766017, 0.01, 0.0316227766017]
    whole = Distribution(low=1, high=7, scale="log")
    assert [whole.at(share) for share in (0, 0.3333, 0.3334, 0.6666, 0.6667, 0.999999)] == [1, 1, 2, 3, 4, 7]


def test_tied_axes_count_as_one_that_stands_where_the_first_stands() -> None:
    grid = Grid({"a": (1, 2, 3), "b": "xy", "c": (1, 2, 3)}, [parse("a < c")])
    expected = [(a, b, c) for a, c in product((1, 2, 3), repeat=2) if a < c for b in "xy"]
    assert list(grid) == expected and len(grid) == 6 and grid.whole == 18
    assert grid[-1] == (2, "y", 3) and grid[1:3] == expected[1:3]
    with pytest.raises(IndexError):
        grid[6]


@pytest.mark.parametrize(
    ("where", "left"),
    [
        (["a < b"], 3 * 3),
        (["a < b", "b < c"], 1),
        (["a < b", "c == 2"], 3),
        (["a != b or c > 1"], 24),
        ([], 27),
    ],
)
def test_a_grid_counts_what_every_constraint_leaves(where: list[str], left: int) -> None:
    grid = Grid(dict.fromkeys("abc", (1, 2, 3)), [parse(text) for text in where])
    assert grid.size == len(list(grid)) == left
    assert len({*grid}) == left
    for point in grid:
        assert all(eval(text, dict(zip("abc", point, strict=True))) for text in where)


class Counted(Sequence[int]):
    """Whole numbers from 1 that count how many of them were made."""

    made = 0

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if index >= self.size:
            raise IndexError(index)
        Counted.made += 1
        return index + 1


def test_a_huge_space_is_counted_and_looked_into_without_being_made() -> None:
    Counted.made = 0
    axes = {"a": Counted(1000), "b": Counted(10**9), "c": Counted(500), "d": Counted(10**12)}
    space = ParameterSpace(blocks=[Block(axes, where=[parse("a < c"), parse("a > 2 * c or a < c")])])
    assert space.size == 124_750 * 10**21
    assert Counted.made <= 2 * 1500, "only tied axes are looked through, each value of them once or twice"
    Counted.made = 0
    assert space[space.size - 1] == {"a": 499, "b": 10**9, "c": 500, "d": 10**12}
    assert [each["d"] for each in islice(space, 3)] == [1, 2, 3]
    assert Counted.made <= 4 * 4


def test_constraints_that_tie_too_much_are_refused_before_it_is_looked_through() -> None:
    Counted.made = 0
    grid = Grid({"a": Counted(10**5), "b": Counted(10**4)}, [parse("a < b")])
    with pytest.raises(GridTooLarge, match="a, b: 1,000,000,000"):
        grid.size
    assert Counted.made == 0


def test_a_few_million_combinations_are_looked_through_whole_columns_at_a_time(monkeypatch: Any) -> None:
    calls = 0
    holds = Constraint.holds

    def counting(self: Constraint, columns: Any, rows: int) -> Any:
        nonlocal calls
        calls += 1
        return holds(self, columns, rows)

    monkeypatch.setattr(Constraint, "holds", counting)
    grid = Grid({"a": range(2000), "b": range(2000)}, [parse("a < b")])
    assert grid.size == 1999 * 2000 // 2
    assert calls == -(-4_000_000 // CHUNK)


def test_blocks_are_numbered_through() -> None:
    space = ParameterSpace(blocks=[Block({"a": [1, 2]}), Block({"b": [3]}, number=1), Block({"a": [4]}, number=2)])
    assert list(space) == [{"a": 1}, {"a": 2}, {"b": 3}, {"a": 4}] == [space[index] for index in range(4)]
    assert [space.find(index)[0].number for index in range(4)] == [0, 0, 1, 2]
    assert space.names == ("a", "b") and space[-1] == {"a": 4}
    with pytest.raises(IndexError):
        space.find(4)
