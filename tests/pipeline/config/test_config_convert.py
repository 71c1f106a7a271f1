"""Tests of pipeline/config/convert.py: every kind of field a recipe may declare."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from pipeline.config.convert import Converter
from pipeline.config.located import Place, lift
from pipeline.durations import Duration, DurationOrZero
from pipeline.errors import Problem
from pipeline.registry import Registry
from pipeline.stage import Recipe, Stage


class Side(enum.Enum):
    BUY = "buy"
    SELL = "sell"


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    width: int = 1


class Everything(Stage, frozen=True):
    whole: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    fraction: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    flag: bool = False
    word: Annotated[str, msgspec.Meta(min_length=2)] = "ab"
    folder: Path | None = None
    side: Side = Side.BUY
    start: datetime.datetime | None = None
    day: datetime.date | None = None
    price: Decimal = Decimal(1)
    pair: tuple[int, str] = (1, "a")
    names: tuple[str, ...] = ()
    unique: frozenset[int] = frozenset()
    weights: Mapping[str, float] = {}
    inner: Inner = Inner()
    inners: Sequence[Inner] = ()
    every: Duration | None = None
    lateness: DurationOrZero = "0s"
    speed: Literal["max"] | float = "max"
    count: int | float = 1
    anything: Any = None
    level: Literal[1, 2, "off"] = 1
    few: Annotated[list[int], msgspec.Meta(max_length=2)] = []
    nested: Mapping[str, Inner] = {}


class Rule(Recipe, frozen=True):
    limit: int = 3


class Tight(Rule, frozen=True):
    slack: float = 0.1


class Ruled(Stage, frozen=True):
    rule: Rule = Rule()
    rules: list[Rule] = []


def convert(value: Mapping[str, Any], cls: type[Any] = Everything) -> tuple[Any, list[Problem]]:
    registry = Registry()
    registry.add("tight", Tight)
    converter = Converter(registry, None)
    made = converter.struct(lift(value, Place("at", "c.yaml", 1), []), cls)
    assert (made is None) == bool(converter.problems)
    return made, converter.problems


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        ("whole", 3, 3),
        ("whole", 3.0, 3),
        ("fraction", 0.25, 0.25),
        ("flag", "yes", True),
        ("flag", "Off", False),
        ("flag", True, True),
        ("folder", "a/b", Path("a/b")),
        ("folder", None, None),
        ("side", "sell", Side.SELL),
        ("start", "2024-05-01T12:00:00Z", datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)),
        ("day", "2024-05-01", datetime.date(2024, 5, 1)),
        ("price", "1.10", Decimal("1.10")),
        ("price", 2, Decimal(2)),
        ("pair", [2, "b"], (2, "b")),
        ("names", ["a", "b"], ("a", "b")),
        ("unique", [1, 1, 2], frozenset({1, 2})),
        ("weights", {"a": 1}, {"a": 1.0}),
        ("inner", {"width": 2}, Inner(width=2)),
        ("inner", None, Inner()),
        ("inners", [{"width": 2}, {}], [Inner(width=2), Inner()]),
        ("every", "1m", "1m"),
        ("lateness", "0s", "0s"),
        ("speed", "max", "max"),
        ("speed", 50, 50.0),
        ("count", 1, 1),
        ("count", 1.5, 1.5),
        ("anything", {"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
        ("level", 2, 2),
        ("level", "off", "off"),
        ("nested", {"a": {"width": 4}}, {"a": Inner(width=4)}),
    ],
)
def test_a_field_takes_what_it_declares(field: str, given: Any, expected: Any) -> None:
    made, problems = convert({field: given})
    assert not problems
    found = getattr(made, field)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        ("whole", 10, "at.whole: expected a whole number of at least 1 and of at most 9, found 10"),
        ("whole", True, "at.whole: expected a whole number of at least 1 and of at most 9, found true"),
        ("fraction", 1, "at.fraction: expected a number above 0 and below 1, found 1"),
        ("fraction", float("nan"), "at.fraction: expected a number above 0 and below 1, found nan"),
        ("flag", 1, "at.flag: expected true or false, found 1"),
        ("word", "a", "at.word: expected text of at least 2 characters, found 'a'"),
        ("word", None, "at.word: expected text of at least 2 characters, found nothing"),
        ("word", True, 'at.word: expected text of at least 2 characters, found true; write "true" in quotes?'),
        ("folder", 3, "at.folder: expected a path, found 3"),
        ("side", "buuy", "at.side: expected one of buy, sell, found 'buuy'; did you mean 'buy'?"),
        ("start", "noon", "at.start: expected a time such as '2024-05-01T12:00:00Z', found 'noon'"),
        ("price", "much", "at.price: expected a decimal number, found 'much'"),
        ("pair", [1], "at.pair: expected a list of 2: a whole number, text, found a list"),
        ("pair", ["a", "b"], "at.pair.0: expected a whole number, found 'a'"),
        ("names", "a", "at.names: expected a list, found 'a'; write [a]?"),
        ("weights", [1], "at.weights: expected a mapping, found a list"),
        ("weights", {"a": "b"}, "at.weights.a: expected a number, found 'b'"),
        ("inner", {"wdth": 2}, "at.inner.wdth: unknown setting; did you mean 'width'?"),
        ("inners", [{}, {"width": "x"}], "at.inners.1.width: expected a whole number, found 'x'"),
        ("every", 1, "at.every: expected a duration such as '1m', found 1; write '1s'?"),
        ("every", "0s", "at.every: expected a duration such as '1m', found '0s'; units are ns, us, ms, s, m, h, d, w"),
        ("speed", "fast", "at.speed: expected max or a number, found 'fast'"),
        ("level", True, "at.level: expected one of 1, 2, off, found true"),
        ("few", [1, 2, 3], "at.few: expected at most 2 items, found 3"),
        ("nested", {"a": {"x": 4}}, "at.nested.a.x: unknown setting; known: width"),
    ],
)
def test_what_does_not_fit_says_what_was_expected(field: str, given: Any, expected: str) -> None:
    _, problems = convert({field: given})
    assert [str(problem) for problem in problems] == [f"c.yaml:1: {expected}"]


def test_a_family_without_rivals_needs_no_type() -> None:
    assert convert({"inner": {}})[0] == Everything()
    made, problems = convert({"rule": {"limit": 4}}, Ruled)
    assert made is None
    assert [problem.path for problem in problems] == ["at.rule.type"]


def test_lists_of_recipes_may_mix_names_and_settings() -> None:
    made, problems = convert({"rules": ["tight", {"type": "tight", "slack": 1, "limit": 9}]}, Ruled)
    assert not problems
    assert made.rules == [Tight(), Tight(slack=1, limit=9)]


def test_a_class_whose_annotations_cannot_be_read_is_a_problem() -> None:
    broken = msgspec.defstruct("Broken", [("a", "Nowhere", 1)], bases=(Stage,), frozen=True, kw_only=True)
    _, problems = convert({"a": 1}, broken)
    assert "cannot read the fields of Broken" in str(problems[0])
