"""Tests of pipeline/config/space.py and patterns.py: combinations, and the members they name."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from pipeline.config import Group, ParameterSpace, Range
from pipeline.config.patterns import covers, specificity
from pipeline.config.space import Steps


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
