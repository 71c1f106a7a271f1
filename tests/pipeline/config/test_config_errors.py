"""`errors:` in a configuration: a global default, wildcards over it, exact names last; explained and checked."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft7Validator

from pipeline import ConfigError, ErrorPolicy, Registry, compose, load_config
from pipeline.config import explain, json_schema

TEXT = """\
errors: {retries: 3, backoff_seconds: 0.5}
containers:
  data: {type: synthetic, rows: 100}
  feat*:
    errors: {dead_letters: true, max_dead_share: 0.05}
  features:
    errors: {max_dead_share: 0.1}
  portfolio_*:
    errors: {on_failure: record, restarts: 2}
parameter_space: {fast: [5, 10], slow: [20, 40]}
"""


def load(text: str) -> Any:
    return load_config(text, registry=Registry.installed())


def test_later_wins_key_by_key_and_reaches_the_graph() -> None:
    topology = compose(load(TEXT))
    assert topology["data"].errors == ErrorPolicy(retries=3, backoff_seconds=0.5)
    assert topology["features"].errors == ErrorPolicy(
        retries=3, backoff_seconds=0.5, dead_letters=True, max_dead_share=0.1
    )
    assert topology["portfolio"].errors == ErrorPolicy(retries=3, backoff_seconds=0.5, on_failure="record", restarts=2)


def test_without_a_word_the_first_failure_fails_the_phase() -> None:
    topology = compose(load("containers: {data: {type: synthetic, rows: 100}}\n"))
    assert {node.errors for node in topology.nodes} == {ErrorPolicy()}
    assert not ErrorPolicy().mends and ErrorPolicy().on_failure == "fail_phase" and ErrorPolicy().restarts == 0


def test_every_value_is_explained_with_its_line() -> None:
    rows = {row.setting: (row.value, row.where) for row in explain(load(TEXT), "features")}
    assert rows["errors.retries"] == (3, "<text>:1")
    assert rows["errors.dead_letters"] == (True, "<text>:5")
    assert rows["errors.max_dead_share"] == (0.1, "<text>:7")
    assert rows["errors.restarts"] == (0, "built-in default")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("retires: 2", r"<text>:3: containers.data.errors.retires: .*did you mean 'retries'"),
        ("retries: -1", r"errors.retries: expected .*at least 0"),
        ("max_dead_share: 1.5", r"errors.max_dead_share: expected .*at most 1"),
        ("on_failure: ignore", r"errors.on_failure: expected one of fail_phase, record"),
        ("backoff_seconds: soon", r"errors.backoff_seconds: expected "),
    ],
)
def test_mistakes_are_told_with_their_line(setting: str, says: str) -> None:
    text = f"containers:\n  data:\n    {{type: synthetic, rows: 100, errors: {{{setting}}}}}\n"
    with pytest.raises(ConfigError, match=says):
        load(text)
    assert list(Draft7Validator(json_schema(Registry.installed())).iter_errors({"errors": {"on_failure": "ignore"}}))


def test_a_global_mistake_is_told_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load("errors: {retries: -1}\ncontainers: {data: {type: synthetic, rows: 100}}\n")
    assert [problem.path for problem in caught.value.problems] == ["errors.retries"]


def test_a_member_of_a_group_has_no_errors_of_its_own() -> None:
    text = TEXT.replace("parameter_space", "  portfolio_0001: {errors: {retries: 1}}\nparameter_space")
    with pytest.raises(ConfigError, match="members of a group share its errors; set them for the whole group"):
        load(text)


def test_members_that_are_containers_may_differ() -> None:
    text = """\
containers:
  data: {type: synthetic, rows: 100, schema: trade}
  bars_*: {type: bars, inputs: data, errors: {on_failure: record}}
  bars_0001: {errors: {retries: 1}}
parameter_space: {every: [1m, 5m]}
"""
    topology = compose(load(text))
    assert topology["bars_0000"].errors == ErrorPolicy(on_failure="record")
    assert topology["bars_0001"].errors == ErrorPolicy(on_failure="record", retries=1)


def test_the_schema_for_editors_knows_them_everywhere() -> None:
    validator = Draft7Validator(json_schema(Registry.installed()))
    assert not list(validator.iter_errors({"errors": {"retries": 1}, "containers": {"a": {"errors": {"retries": 1}}}}))
    assert list(validator.iter_errors({"containers": {"data": {"errors": {"retires": 1}}}}))
