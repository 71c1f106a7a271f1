"""Tests of pipeline/config/explain.py: each effective value, and the line that set it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from config_fakes import registry

from pipeline.config import Config, explain, load_config
from pipeline.errors import ConfigError

TEXT = """\
output: out
data_flow:
  default_mode: hybrid
containers:
  features:
    bars: 5m
  port*:
    data_flow: {memory_limit_mb: 7}
  portfolio_*:
    strategy: sma_cross
  portfolio_0002:
    cash: 5
parameter_space:
  fast: [1, 2]
  slow: {start: 10, stop: 30, step: 10}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "backtest.yaml"
    path.write_text(TEXT)
    return load_config(path, registry=registry(), overrides=["containers.execution.objective=return"])


def told(config: Config, name: str | None = None) -> dict[str, tuple[Any, str]]:
    rows = explain(config, name)
    assert len({row.setting for row in rows}) == len(rows)
    return {row.setting: (row.value, row.where) for row in rows}


def test_every_value_names_the_line_that_set_it(config: Config) -> None:
    rows = told(config, "features")
    assert rows["type"] == ("features", "topology default")
    assert rows["bars"] == ("5m", "backtest.yaml:6")
    assert rows["windows"] == ([], "built-in default")
    assert rows["data_flow.mode"] == ("hybrid", "backtest.yaml:3")
    assert rows["data_flow.persistence.on_completion"] == (True, "built-in default")
    assert told(config, "execution")["objective"] == ("return", "--set containers.execution.objective")


def test_settings_have_the_names_of_the_founding_document(config: Config) -> None:
    names = set(told(config, "data"))
    assert {
        "data_flow.mode",
        "data_flow.memory_limit_mb",
        "data_flow.streaming_settings.buffer_size",
        "data_flow.file_settings.format",
        "data_flow.file_settings.compression",
        "data_flow.persistence.on_completion",
    } <= names


def test_a_member_shows_its_own_parameters(config: Config) -> None:
    rows = told(config, "portfolio_0002")
    assert rows["strategy.type"] == ("sma_cross", "backtest.yaml:10")
    assert rows["strategy.fast"] == (1, "backtest.yaml:14")
    assert rows["strategy.slow"] == (30, "backtest.yaml:15")
    assert rows["cash"] == (5, "backtest.yaml:12")
    assert rows["data_flow.memory_limit_mb"] == (7, "backtest.yaml:8")
    assert rows["data_flow.persistence.format"] == ("parquet", "topology default")
    assert told(config, "portfolio_0001")["cash"] == (100_000, "built-in default")


def test_a_group_shows_all_values_of_its_parameters(config: Config) -> None:
    rows = told(config, "portfolio_*")
    assert rows["strategy.fast"][0] == [1, 2]
    assert rows["strategy.slow"][0] == {"start": 10, "stop": 30, "step": 10}
    assert told(config, "portfolio_000*")["strategy.fast"] == rows["strategy.fast"]


def test_without_a_name_everything_is_told(config: Config) -> None:
    rows = told(config)
    assert rows["name"] == ("backtest", "from the file's name")
    assert rows["topology"] == ("backtest", "topology default")
    assert rows["output"] == ("out", "backtest.yaml:1")
    assert rows["seed"] == (0, "built-in default")
    assert rows["phases"] == (["run"], "built-in default")
    assert rows["containers.features.bars"] == ("5m", "backtest.yaml:6")
    assert rows["containers.data.data_flow.mode"] == ("hybrid", "backtest.yaml:3")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("featurs", "did you mean 'features'?"),
        ("portfolio_0006", "members are portfolio_0000 to portfolio_0005"),
        ("portfolio_2", "members are portfolio_0000 to portfolio_0005"),
        ("zzz", "known: data, features, portfolio_*, execution"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(config: Config, name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint.replace("*", r"\*").replace("?", r"\?")):
        explain(config, name)


def test_secrets_are_not_told() -> None:
    config = load_config("containers:\n  feed: {type: live, api_key: hunter2}\n", registry=registry())
    assert told(config, "feed")["api_key"] == ("***", "<text>:2")
    assert "hunter2" not in repr(explain(config)) + repr(config.to_mapping())


def test_a_mapping_from_python_says_so() -> None:
    config = load_config({"containers": {"features": {"bars": "5m"}}}, registry=registry())
    assert told(config, "features")["bars"] == ("5m", "python")


def test_a_huge_space_is_told_without_being_made() -> None:
    fast, slow = {"start": 1, "stop": 10**6, "step": 1}, {"start": 10**7, "stop": 2 * 10**7, "step": 10}
    config = load_config(
        {"parameter_space": {"fast": fast, "slow": slow}, "containers": {"portfolio_*": {"strategy": "sma_cross"}}},
        registry=registry(),
    )
    assert len(config.parameter_space) > 10**12 - 1
    assert told(config)["parameter_space.fast"][0] == fast
    assert told(config, "portfolio_*")["strategy.slow"][0] == slow
