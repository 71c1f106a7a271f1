"""Tests of pipeline/config/space/read.py and choices.py: blocks of a parameter space, as a file writes them."""

from __future__ import annotations

from typing import Any

import pytest
from config_fakes import Fills, Hold, Portfolio, SmaCross, registry

from pipeline.config import Config, explain, load_config
from pipeline.errors import ConfigError

MIXED = """\
containers:
  portfolio_*:
    strategy: {quantity: 9}
    fills: {fee_bps: 3}
  portfolio_0001:
    cash: 5
parameter_space:
  - strategy: sma_cross
    fast: [1, 2, 3]
    slow: [2, 3]
    where: fast < slow
  - strategy: {type: hold, side: short}
    fills.slippage_bps: [1, 2]
  - strategy: {type: hold, quantity: 4}
"""


def load(source: Any, *overrides: str) -> Config:
    return load_config(source, registry=registry(), overrides=overrides)


def problems(source: Any, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(source, *overrides)
    return [str(problem).removeprefix("<text>:") for problem in caught.value.problems]


def test_members_are_numbered_through_the_blocks() -> None:
    config = load(MIXED)
    assert list(config.parameter_space) == [
        {"fast": 1, "slow": 2}, {"fast": 1, "slow": 3}, {"fast": 2, "slow": 3},
        {"fills.slippage_bps": 1}, {"fills.slippage_bps": 2}, {},
    ]  # fmt: skip
    assert config.groups[0].count == 6


def test_each_block_has_a_strategy_of_its_own_and_what_all_strategies_have_in_common() -> None:
    config = load(MIXED)
    fees = Fills(fee_bps=3)
    assert config.stage_of("portfolio_0000") == Portfolio(strategy=SmaCross(quantity=9, fast=1, slow=2), fills=fees)
    assert config.stage_of("portfolio_0001").cash == 5  # type: ignore[attr-defined]
    assert config.stage_of("portfolio_0003") == Portfolio(strategy=Hold(quantity=9, side="short"), fills=fees)
    assert config.stage_of("portfolio_0005") == Portfolio(strategy=Hold(quantity=4), fills=fees)
    second = config.parameter_space.blocks[1]
    assert config.stage_of("portfolio_*", second) == config.stage_of("portfolio_0004")


def test_a_member_of_its_own_has_the_last_word_and_the_command_line_too() -> None:
    text = MIXED.replace("cash: 5", "strategy: {quantity: 2}")
    config = load(text, "containers.portfolio_*.strategy.quantity=7")
    assert config.stage_of("portfolio_0000").strategy.quantity == 7  # type: ignore[attr-defined]
    assert config.stage_of("portfolio_0003").strategy.quantity == 7  # type: ignore[attr-defined]
    assert config.stage_of("portfolio_0005").strategy.quantity == 4, "the block says so"  # type: ignore[attr-defined]
    assert load(text).stage_of("portfolio_0001").strategy.quantity == 2  # type: ignore[attr-defined]


def test_one_setting_of_one_block_may_be_set() -> None:
    config = load(MIXED, "parameter_space.0.fast=[1]", "parameter_space.1.strategy.side=long")
    assert config.parameter_space.blocks[0].size == 2
    assert config.stage_of("portfolio_0002").strategy.side == "long"  # type: ignore[attr-defined]


def test_a_plain_space_may_choose_and_constrain_as_well() -> None:
    text = "parameter_space: {strategy: sma_cross, fast: [1, 2], slow: [2, 3], where: [fast < slow, slow != 2]}\n"
    config = load(text)
    assert list(config.parameter_space) == [{"fast": 1, "slow": 3}, {"fast": 2, "slow": 3}]
    assert config.stage_of("portfolio_*") == Portfolio(strategy=SmaCross(fast=1, slow=3))
    assert config.to_mapping()["parameter_space"] == {
        "strategy": {"type": "sma_cross"}, "fast": [1, 2], "slow": [2, 3], "where": ["fast < slow", "slow != 2"],
    }  # fmt: skip


def test_a_sample_takes_the_seed_of_the_run_unless_it_has_its_own() -> None:
    text = (
        "seed: 3\nparameter_space:\n  quantity: {low: 1, high: 1000000, scale: log}\n  sample: {size: 5}\n"
        "containers: {portfolio_*: {strategy: hold}}\n"
    )
    one = list(load(text).parameter_space)
    assert one == list(load(text).parameter_space) != list(load(text, "seed=4").parameter_space)
    assert one == list(load(text, "seed=4", "parameter_space.sample.seed=3").parameter_space)
    assert load(text).to_mapping()["parameter_space"]["sample"] == {"size": 5, "method": "random", "seed": 3}
    assert load(text, "parameter_space.sample=7").parameter_space.size == 7


def test_blocks_are_explained_one_by_one() -> None:
    config = load(MIXED)
    rows = {row.setting: (row.value, row.where) for row in explain(config)}
    assert rows["parameter_space.0.where"] == (["fast < slow"], "<text>:11")
    assert rows["parameter_space.1.fills.slippage_bps"] == ([1, 2], "<text>:13")
    assert rows["containers.portfolio_*.strategy.type (parameter_space.0)"] == ("sma_cross", "<text>:8")
    assert rows["containers.portfolio_*.strategy.side (parameter_space.1)"] == ("short", "<text>:12")
    assert rows["containers.portfolio_*.fills.fee_bps"] == (3, "<text>:4")
    member = {row.setting: (row.value, row.where) for row in explain(config, "portfolio_0004")}
    assert member["fills.slippage_bps"] == (2, "<text>:13")
    assert member["strategy.quantity"] == (9, "<text>:3")


PROBLEMS = [
    ("where: fast < slw", "4: parameter_space.where: no parameter is called 'slw'; did you mean 'slow'?"),
    ("where: fast = slow", "4: parameter_space.where: expected a constraint, found 'fast = slow'; write `==`"),
    ("where: [3]", "4: parameter_space.where.0: expected a constraint, found 3; write a comparison such as"),
    ("where: fast > slow + 9", "4: parameter_space.where: expected `where` to leave a combination, found none of 4"),
    ("where: fast / (slow - 5) > 2", "4: parameter_space.where: expected no division by zero, found one"),
    ("where: strategy == 'a'", "4: parameter_space.where: no parameter is called 'strategy'"),
    ("sample: {size: 5}", "4: parameter_space.sample: expected 5 combinations to sample, found 4 of 4; leave `sample`"),
    ("sample: {size: 0}", "4: parameter_space.sample.size: expected a positive whole number, found 0"),
    ("sample: {size: 2, metod: random}", "4: parameter_space.sample.metod: unknown setting; did you mean 'method'?"),
    ("sample: {size: 2, method: sobol}", "4: parameter_space.sample.method: expected one of latin_hypercube, random"),
    ("sample: 200000", "4: parameter_space.sample: expected a sample of at most 100,000 combinations"),
    ("quantity: {low: 1, high: 2}", "4: parameter_space.quantity: a distribution has no grid to go through; add"),
    ("quantity: {low: 2, high: 1}", "4: parameter_space.quantity: expected a low below high, found 2 and 1"),
    ("quantity: {start: 1, stop: 2, num: 0}", "4: parameter_space.quantity.num: expected a whole number of at least 1"),
    ("quantity: {start: 1, stop: 2, scale: log}", "4: parameter_space.quantity.num: expected a whole number"),
    ("quantity: {low: -1, high: 2}\n  sample: 3", "4: parameter_space.quantity.0: expected a positive number"),
    ("fills.fee_bp: [1]", "4: parameter_space.fills.fee_bp: no group has this parameter; did you mean 'fills.fee"),
    ("fills.fee_bps: [1, x]", "4: parameter_space.fills.fee_bps.1: expected a number of at least 0, found 'x'"),
    ("strategy: sma_cros", "4: parameter_space.strategy: no strategy is called 'sma_cros'; did you mean 'sma_cross'?"),
    ("strategy: {type: hold, sid: long}", "4: parameter_space.strategy.sid: Hold has no setting 'sid'; did you mean"),
    ("smaple: {size: 2}", "4: parameter_space.smaple: no parameter takes this; did you mean 'sample'?"),
    ("whre: fast < slow", "4: parameter_space.whre: expected a list, a range such as {start: 5, stop: 50, step: 5}, "
     "or a distribution such as {low: 0.1, high: 0.9}, found 'fast < slow'; did you mean 'where'?"),
    ("quantity: long", "4: parameter_space.quantity: expected a list, a range such as"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), PROBLEMS)
def test_a_problem_is_told_with_its_line_and_what_to_try(line: str, expected: str) -> None:
    text = f"parameter_space:\n  fast: [1, 2]\n  slow: [5, 6]\n  {line}\n"
    text += "containers: {portfolio_*: {strategy: sma_cross}}\n" if "strategy:" not in line else ""
    found = problems(text)
    assert any(each.startswith(expected) for each in found), found


def test_problems_of_every_block_are_told() -> None:
    found = problems(
        MIXED.replace("side: short", "side: up").replace("fast < slow", "fast < slo"), "parameter_space.2=3"
    )
    assert [each.split(":")[0] for each in found] == ["11", "--set"], "a block that was not read chooses nothing"
    found = problems(MIXED.replace("side: short", "side: up"))
    assert len(found) == 1 and found[0].startswith("12: parameter_space.1.strategy.side: expected one of long, short")


def test_a_space_is_a_mapping_or_a_list_of_mappings() -> None:
    assert problems("parameter_space: 3\n") == [
        "1: parameter_space: expected a mapping of parameters to values, or a list of such mappings, found 3"
    ]
    assert not load("parameter_space:\n").parameter_space
    assert not load("parameter_space: []\n").parameter_space


def test_a_grid_of_any_size_loads_without_being_made() -> None:
    axes = {f"p{number}": {"start": 1, "stop": 1000} for number in range(9)} | {"quantity": {"start": 1, "stop": 1000}}
    config = load({"parameter_space": {"quantity": axes["quantity"], "fills.fee_bps": {"start": 1, "stop": 10**15}}})
    assert config.parameter_space.size == 10**18
    last = config.groups[0].member(10**18 - 1)
    assert {row.setting: row.value for row in explain(config, last)}["fills.fee_bps"] == 10**15
