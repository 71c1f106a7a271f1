"""Tests of pipeline/config/reader.py, scalars.py and located.py: plain data with lines, from friend and foe."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from pipeline.config import reader
from pipeline.config.located import MAX_DEPTH, is_secret, plain, shown, walk
from pipeline.config.reader import read_yaml
from pipeline.errors import Problem


def read(text: str, **environment: str) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []
    made = read_yaml(text, "c.yaml", environment, problems)
    return plain(made) if made is not None else None, problems


def value(text: str, **environment: str) -> Any:
    made, problems = read(f"key: {text}", **environment)
    assert not problems
    return made["key"]


def complaint(text: str, **environment: str) -> str:
    _, problems = read(text, **environment)
    assert len(problems) == 1
    return str(problems[0])


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def _with_and_without_libyaml(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_Loader", getattr(yaml, request.param, yaml.SafeLoader))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("-1", -1),
        ("1_000", 1000),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("NO", "NO"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("2014-05-01", "2014-05-01"),
        ("2014-05-01T00:00:00Z", "2014-05-01T00:00:00Z"),
        ("007", "007"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("1_", "1_"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("99999999999999999999", "99999999999999999999"),
        ("9" * 5000, "9" * 5000),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 1", "1"),
        ("! 1", "1"),
        ("=", "="),
        ("{a: [1, b]}", {"a": [1, "b"]}),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, expected: Any) -> None:
    made = value(text)
    assert made == expected
    assert type(made) is type(expected)


def test_keys_are_text() -> None:
    assert read("1: a\ntrue: b\non: c\n2014-05-01: d\nnull: e\n")[0] == {
        "1": "a",
        "true": "b",
        "on": "c",
        "2014-05-01": "d",
        "null": "e",
    }


def test_every_key_and_item_knows_its_line() -> None:
    made = read_yaml("a:\n  b: 1\n  c:\n    - x\n    - d: 2\n# note\ne: {f: 3,\n  g: 4}\n", "c.yaml", {}, [])
    assert made is not None
    lines = {item.place.path: item.place.line for item in walk(made)}
    assert lines == {
        "": 1,
        "a": 1,
        "a.b": 2,
        "a.c": 3,
        "a.c.0": 4,
        "a.c.1": 5,
        "a.c.1.d": 5,
        "e": 7,
        "e.f": 7,
        "e.g": 8,
    }


def test_a_key_given_twice_names_both_lines() -> None:
    assert (
        complaint("a:\n  b: 1\n  c: 2\n  b: 3\n") == "c.yaml:4: a.b: expected to be set once, found line 2 and line 4"
    )


def test_merged_keys_may_be_overridden() -> None:
    made, problems = read("base: &base {a: 1, b: 2}\nmore: &more {c: 3}\nuse:\n  <<: [*base, *more]\n  b: 5\n")
    assert not problems
    assert made["use"] == {"a": 1, "b": 5, "c": 3}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3),
        ("a: 1\n b: 2\n", 2),
        ("a:\n\tb: 1\n", 2),
        ("a: 'open\n", 2),
        ("a: *nowhere\n", 1),
        ("a: &x [*x]\n", 1),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: 1\n? [b]\n: 2\n", 2),
        ("a: 1\n<<: 3\n", 2),
        ("a: !!python/object/apply:os.system ['true']\n", 1),
        ("a: !!python/name:os.system\n", 1),
        ("a: 1\nb: !env HOME\n", 2),
        ("a: 1\nb: \x01\n", 2),
    ],
)
def test_what_is_not_plain_yaml_is_one_problem_with_its_line(text: str, line: int) -> None:
    made, problems = read(text)
    assert made is None
    assert len(problems) == 1
    assert problems[0].file == "c.yaml"
    assert problems[0].line is not None
    assert abs(problems[0].line - line) <= 1, "the two parsers count the end of a file differently"


def test_python_tags_are_refused_by_name() -> None:
    assert "the tag 'tag:yaml.org,2002:python/object/apply:os.system'" in complaint(
        "a: !!python/object/apply:os.system [x]"
    )


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_ten_thousand_levels_are_refused_and_not_walked(opening: str) -> None:
    assert complaint(opening * 10_000).endswith(f"expected at most {MAX_DEPTH} levels of nesting, found more")


def test_an_alias_bomb_is_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    began = time.thread_time()
    assert "values, found more; check the aliases" in complaint("\n".join(lines))
    assert time.thread_time() - began < 10


def test_a_bomb_of_empty_merges_is_bounded() -> None:
    lines = ["a0: &a0 {}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    assert "values, found more; check the aliases" in complaint("\n".join(lines))


def test_a_chain_of_aliases_cannot_nest_without_end() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 500)]
    assert "levels of nesting" in complaint("\n".join(lines))


def test_a_huge_file_is_refused_unread() -> None:
    assert "bytes of YAML" in complaint("#" * (reader.MAX_BYTES + 1))


def test_variables_expand_in_scalars() -> None:
    assert value("${HOME}/data", HOME="/me") == "/me/data"
    assert value("${PORT}", PORT="80") == 80
    assert value("'${PORT}'", PORT="80") == "80"
    assert value("${PORT:-90}") == 90
    assert value("${PORT:-90}", PORT="") is None
    assert value("${A:-}${B:-x:-y}") == "x:-y"
    assert value("$${HOME} costs $5", HOME="/me") == "${HOME} costs $5"
    assert value("${A}", A="${B} [1, 2]") == "${B} [1, 2]", "what a variable holds is text, not YAML"


def test_a_missing_variable_is_a_problem_that_says_what_to_do() -> None:
    assert complaint("a: 1\nb: ${NOWHERE}\n") == (
        "c.yaml:2: b: expected the environment variable NOWHERE; set it, or write '${NOWHERE:-default}'"
    )
    assert "expected '${NAME}'" in complaint("a: ${open")
    assert "expected '${NAME}'" in complaint("a: ${1x}")


@pytest.mark.parametrize("path", ["a.api_key", "PASSWORD", "x.client-secret", "access_token", "tokens.first"])
def test_secrets_are_never_shown(path: str) -> None:
    assert is_secret(path)
    assert shown("hunter2", path) == "***"


def test_long_values_are_cut_short() -> None:
    assert len(shown("x" * 10_000, "a")) == 80
