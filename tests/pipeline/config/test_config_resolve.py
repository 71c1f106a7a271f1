"""Tests of pipeline/config/resolve.py and layers.py: who has the last word."""

from __future__ import annotations

import time
from typing import Any

import pytest
from config_fakes import Features, Fills, Portfolio, SmaCross, Synthetic, registry

from pipeline.config import Config, InputConfig, load_config
from pipeline.errors import ConfigError


def load(source: Any, *overrides: str, **options: Any) -> Config:
    return load_config(source, registry=registry(), overrides=overrides, **options)


SPACE = "parameter_space: {fast: [1, 2, 3], slow: {start: 20, stop: 40, step: 10}}\n"
SWEEP = SPACE + "containers:\n  portfolio_*: {strategy: sma_cross}\n"

PRECEDENCE: list[tuple[str, list[str], float]] = [
    ("{}", [], 10),
    ("{'*': {limit: 20}}", [], 20),
    ("{'*': {limit: 20}, 'port*': {limit: 30}}", [], 30),
    ("{'port*': {limit: 30}, '*': {limit: 20}}", [], 30),
    ("{'portfolio_*': {limit: 40}, 'port*': {limit: 30}}", [], 40),
    ("{'portfolio_00*': {limit: 50}, 'portfolio_*': {limit: 40}}", [], 50),
    ("{'portfolio_000?': {limit: 60}, 'portfolio_00*': {limit: 50}}", [], 60),
    ("{'portfolio_000*': {limit: 1}, 'portfolio_?003': {limit: 2}}", [], 2),
    ("{'portfolio_?003': {limit: 2}, 'portfolio_000*': {limit: 1}}", [], 1),
    ("{'portfolio_0003': {limit: 70}, 'portfolio_000?': {limit: 60}}", [], 70),
    ("{'portfolio_0003': {limit: 70}}", ["containers.*.data_flow.memory_limit_mb=80"], 80),
    ("{'portfolio_0003': {limit: 70}}", ["data_flow.default_memory_limit_mb=80"], 70),
    ("{'*': {limit: 20}}", ["data_flow.default_memory_limit_mb=80"], 20),
    ("{}", ["data_flow.default_memory_limit_mb=80"], 80),
]


@pytest.mark.parametrize(("entries", "overrides", "expected"), PRECEDENCE)
def test_the_more_particular_word_wins(entries: str, overrides: list[str], expected: float) -> None:
    entries = entries.replace("{limit: ", "{data_flow: {memory_limit_mb: ").replace("}", "}}", 0)
    text = SPACE + "containers:\n  portfolio_*: {strategy: sma_cross}\n"
    mapping = eval_entries(entries)
    config = load({"parameter_space": {"fast": [1, 2], "slow": [20, 30, 40]}, "containers": mapping}, *overrides)
    assert text
    assert config.data_flow_of("portfolio_0003").memory_limit_mb == expected
