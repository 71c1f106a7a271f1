"""Tests of pipeline/config/resolve.py and layers.py: who has the last word."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from config_fakes import Clock, Features, Fills, Hold, Live, Portfolio, Replay, SmaCross, Synthetic, registry

from pipeline.config import Bound, Config, InputConfig, load_config
from pipeline.errors import ConfigError


def load(source: Any, *overrides: str, **options: Any) -> Config:
    return load_config(source, registry=registry(), overrides=overrides, **options)


SWEEP = """\
parameter_space:
  fast: [1, 2, 3]
  slow: {start: 20, stop: 40, step: 10}
containers:
  portfolio_*: {strategy: sma_cross}
"""
SPACE = {"fast": [1, 2, 3], "slow": [20, 30, 40]}

PRECEDENCE: list[tuple[str, list[tuple[str, int]], list[str], float]] = [
    ("nobody wrote: the topology's guess", [], [], 10),
    ("a wildcard beats the topology", [("*", 20)], [], 20),
    ("more literal characters win", [("*", 20), ("port*", 30)], [], 30),
    ("wherever they stand", [("port*", 30), ("*", 20)], [], 30),
    ("the group's own name is one of them", [("portfolio_*", 40), ("port*", 30)], [], 40),
    ("a part of the group", [("portfolio_00*", 50), ("portfolio_*", 40)], [], 50),
    ("a question mark is not literal", [("portfolio_000?", 60), ("portfolio_00*", 50)], [], 60),
    ("ties go to the later", [("portfolio_000*", 1), ("portfolio_0?03", 2), ("portfolio_?003", 3)], [], 3),
    ("ties go to the later, again", [("portfolio_?003", 3), ("portfolio_000*", 1)], [], 1),
    ("the exact name", [("portfolio_0003", 70), ("portfolio_000?", 60)], [], 70),
    ("--set on a wildcard", [("portfolio_0003", 70)], ["containers.*.data_flow.memory_limit_mb=80"], 80),
    (
        "--set among themselves",
        [],
        ["containers.portfolio_0003.data_flow.memory_limit_mb=90", "containers.*.data_flow.memory_limit_mb=80"],
        90,
    ),
    ("--set of a default is a default", [("*", 20)], ["data_flow.default_memory_limit_mb=80"], 20),
    ("--set of a default beats the topology", [], ["data_flow.default_memory_limit_mb=80"], 80),
    ("another member's entry is another's", [("portfolio_0004", 70)], [], 10),
]


@pytest.mark.parametrize(("why", "entries", "overrides", "expected"), PRECEDENCE)
def test_the_last_word(why: str, entries: list[tuple[str, int]], overrides: list[str], expected: float) -> None:
    containers: dict[str, Any] = {pattern: {"data_flow": {"memory_limit_mb": limit}} for pattern, limit in entries}
    containers.setdefault("portfolio_*", {})["strategy"] = "sma_cross"
    config = load({"parameter_space": SPACE, "containers": containers}, *overrides)
    assert config.data_flow_of("portfolio_0003").memory_limit_mb == expected, why


def test_the_global_data_flow_lies_between_topology_and_wildcards() -> None:
    config = load(
        "data_flow: {default_memory_limit_mb: 33, on_full: evict_oldest}\n"
        "containers:\n  exec*: {data_flow: {memory_limit_mb: 44}}\n"
    )
    assert config.data_flow_of("portfolio_*").memory_limit_mb == 33
    assert config.data_flow_of("execution").memory_limit_mb == 44
    assert config.data_flow_of("execution").on_full == "evict_oldest"


def test_nested_settings_merge_key_by_key() -> None:
    config = load(
        "data_flow: {file_settings: {compression: zstd}, persistence: {on_completion: no}}\n"
        "containers:\n"
        "  '*': {data_flow: {streaming_settings: {buffer_mb: 2}}}\n"
        "  data: {clock: {speed: 50}, data_flow: {streaming_settings: {buffer_size: 7}}}\n"
        "  portfolio_*: {fills: {fee_bps: 10}}\n"
        "  portfolio_0000: {fills: {slippage_bps: 1}}\n"
    )
    policy = config.data_flow_of("data")
    assert (policy.streaming_settings.buffer_size, policy.streaming_settings.buffer_mb) == (7, 2)
    assert policy.file_settings.compression == "zstd"
    assert not policy.persistence.on_completion
    assert config.stage_of("data") == Replay(clock=Clock(speed=50))
    assert config.stage_of("portfolio_*") == Portfolio(fills=Fills(fee_bps=10))
    assert config.stage_of("portfolio_0000") == Portfolio(fills=Fills(fee_bps=10, slippage_bps=1))


def test_an_empty_section_changes_nothing() -> None:
    config = load("data_flow:\ncontainers:\n  data:\n  features:\n    data_flow:\n    bars: 5m\n")
    assert config.stage_of("features") == Features(bars="5m")
    assert config.data_flow_of("features").memory_limit_mb == 100


def test_another_type_leaves_the_settings_of_the_former_behind() -> None:
    text = "containers:\n  data: {type: replay, path: a.csv, data_flow: {memory_limit_mb: 7}}\n"
    config = load(text, "containers.data.type=synthetic", "containers.data.rows=5")
    assert config.stage_of("data") == Synthetic(rows=5)
    assert config.data_flow_of("data").memory_limit_mb == 7


def test_another_type_inside_a_stage_does_so_too() -> None:
    text = "containers:\n  portfolio_*: {strategy: {type: sma_cross, fast: 1, slow: 2, quantity: 9}}\n"
    assert load(text, "containers.portfolio_*.strategy.type=hold").stage_of("portfolio_*") == Portfolio()
    assert load(text, "containers.portfolio_*.strategy=hold").stage_of("portfolio_*") == Portfolio(strategy=Hold())
    same = load(text, "containers.portfolio_*.strategy={type: sma_cross, slow: 5}")
    assert same.stage_of("portfolio_*") == Portfolio(strategy=SmaCross(fast=1, slow=5, quantity=9))


def test_a_bare_name_takes_settings_from_elsewhere() -> None:
    text = "containers:\n  portfolio_*: {strategy: sma_cross}\n  '*_0000': {strategy: {fast: 1, slow: 2}}\n"
    with pytest.raises(ConfigError):
        load(text)
    text = "containers:\n  portfolio_*: {strategy: sma_cross}\n"
    config = load(text, "containers.portfolio_*.strategy.fast=1", "containers.portfolio_*.strategy.slow=2")
    assert config.stage_of("portfolio_*") == Portfolio(strategy=SmaCross(fast=1, slow=2))


def test_required_fields_may_come_from_the_parameter_space() -> None:
    assert load(SWEEP).stage_of("portfolio_*") == Portfolio(strategy=SmaCross(fast=1, slow=20))


def test_a_sweep_may_begin_with_a_combination_that_its_strategy_refuses() -> None:
    config = load(SWEEP.replace("[1, 2, 3]", "[30, 10]"))
    assert config.stage_of("portfolio_*") == Portfolio(strategy=SmaCross(fast=30, slow=40))


def test_only_a_container_that_is_told_a_mode_configures_one() -> None:
    config = load("data_flow: {default_mode: hybrid}\ncontainers:\n  feat*: {data_flow: {mode: memory}}\n")
    assert config.configures_mode("features")
    assert config.configures_mode("portfolio_0000"), "the topology named one"
    assert not config.configures_mode("data")
    assert config.data_flow_of("data").mode == "hybrid"


def test_inputs_are_names_patterns_or_settings() -> None:
    config = load(
        "containers:\n"
        "  feed_*: {type: synthetic}\n"
        "  bars: {type: features, inputs: feed_*}\n"
        "  sink:\n"
        "    type: execution\n"
        "    inputs: [bars, {from: feed_*, when_full: conflate, key: symbol, bound: {rows: 10, mb: 0.5}}]\n"
    )
    assert config.topology is None
    assert config.declared == ("feed_*", "bars", "sink")
    assert config.inputs_of("feed_*") == ()
    assert config.inputs_of("bars") == (InputConfig(source="feed_*"),)
    lossy = InputConfig(source="feed_*", when_full="conflate", key="symbol", bound=Bound(rows=10, mb=0.5))
    assert config.inputs_of("sink") == (InputConfig(source="bars"), lossy)


def test_a_file_whose_types_are_the_topologys_own_is_still_a_backtest() -> None:
    config = load("containers:\n  data: {type: synthetic}\n")
    assert config.topology == "backtest"
    assert config.declared == ("data", "features", "portfolio_*", "execution")
    assert load("containers:\n  ticks: {type: synthetic}\n").topology is None


def test_a_named_topology_may_be_extended() -> None:
    text = "topology: backtest\ncontainers:\n  log: {type: execution, inputs: features}\n"
    assert load(text).declared == ("data", "features", "portfolio_*", "execution", "log")


def test_five_thousand_members_cost_milliseconds() -> None:
    config = load(
        {
            "parameter_space": {"fast": {"start": 1, "stop": 5000}, "slow": [6000]},
            "containers": {"portfolio_*": {"strategy": "sma_cross"}, "*": {"data_flow": {"on_full": "block"}}},
        }
    )
    names = [config.group_of("portfolio_*").member(index) for index in range(5000)]  # type: ignore[union-attr]
    began = time.thread_time()
    policies = {id(config.data_flow_of(name)) for name in names}
    stages = {id(config.stage_of(name)) for name in names}
    assert len(policies) == len(stages) == 1, "members that nothing sets apart share one policy and one recipe"
    assert time.thread_time() - began < 1


def test_a_setting_is_located_where_it_was_written_last() -> None:
    config = load(SWEEP, "containers.features.bars=5m")
    assert config.locate("parameter_space.slow.stop") == ("<text>", 3)
    assert config.locate("containers.portfolio_*.strategy.quantity") == ("<text>", 5)
    assert config.locate("containers.features.bars") == ("--set containers.features.bars", None)
    assert config.locate("nowhere.at.all") == ("<text>", None)


def test_the_canonical_mapping_does_not_depend_on_how_it_was_written() -> None:
    one = load(SWEEP, "name=run", "containers.portfolio_*.cash=5e3").to_mapping()
    other = load(
        {
            "containers": {
                "data": {"type": "replay"},
                "portfolio_*": {"cash": 5000, "strategy": {"type": "sma_cross"}},
            },
            "parameter_space": SPACE,
        }
    ).to_mapping()
    assert one == other
    assert one["containers"]["portfolio_*"]["strategy"] == {"type": "sma_cross", "quantity": 1, "fast": 1, "slow": 20}


def test_members_set_apart_show_in_the_canonical_mapping() -> None:
    text = SWEEP + "  portfolio_0007: {cash: 1}\n  portfolio_000?: {cash: 2}\n"
    members = load(text).to_mapping()["members"]
    assert [members[f"portfolio_{n:04d}"]["cash"] for n in range(9)] == [2, 2, 2, 2, 2, 2, 2, 1, 2]
    assert "members" not in load(SWEEP).to_mapping()


def test_tuning_can_be_left_out_of_the_canonical_mapping() -> None:
    config = load({"name": "a"})
    assert config.to_mapping()["containers"]["data"]["clock"] == {"speed": "max"}, "it has no type to choose"
    assert "batch_rows" in config.to_mapping()["containers"]["data"]
    assert "batch_rows" not in config.to_mapping(tuning=False)["containers"]["data"]


def test_data_goes_to_the_one_feed_that_takes_a_path() -> None:
    config = load("containers:\n  data: {format: csv}\n", data="ticks.csv")
    assert config.stage_of("data") == Replay(path="ticks.csv", format="csv")
    assert config.locate("containers.data.path") == ("--data", None)


def test_data_makes_a_replay_of_a_feed_without_a_path() -> None:
    config = load("containers:\n  data: {type: synthetic, rows: 7}\n", data="ticks.csv")
    assert config.stage_of("data") == Replay(path="ticks.csv")


def test_data_for_several_feeds_is_a_problem() -> None:
    text = "containers:\n  a: {type: replay}\n  b: {type: replay}\n  c: {type: features, inputs: [a, b]}\n"
    with pytest.raises(ConfigError, match=r"--data: expected one feed to give the path to, found a, b; --set"):
        load(text, data="x.csv")


def test_python_values_use_the_same_words() -> None:
    strategy = SmaCross(fast=3, slow=9)
    config = load({"containers": {"portfolio_*": {"strategy": strategy}, "data": {"path": Path("x")}}})
    assert config.stage_of("portfolio_*") == Portfolio(strategy=strategy)
    assert config.stage_of("data") == Replay(path="x")
    assert config.name == "run"
    live = {"feed": {"type": "live", "api_key": "k", "symbols": ("a", "b")}}
    assert load({"containers": live}).stage_of("feed") == Live(api_key="k", symbols=("a", "b"))
