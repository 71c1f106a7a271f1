"""The ready-made topology: data -> features -> portfolio_* -> execution, with the memory profiles it was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import ConfigError, Pipeline, Topology
from stages import EmaCross, Execution, Features, Portfolio, Replay, SmaCross, Synthetic, create_backtest_topology
from stages.backtest import FEW, MANY, backtest
from stages.features.feature import Feature

MARKET = {"type": "synthetic", "rows": 300}
SPACE = {"fast": [2, 3, 5], "slow": [10, 20]}


def config(**more: Any) -> dict[str, Any]:
    return {"containers": {"data": MARKET, **more.pop("containers", {})}, **more}


def shape(topology: Topology) -> list[tuple[str, list[str]]]:
    return [(node.name, [entry.source for entry in node.inputs]) for node in topology.nodes]


def test_four_containers_stand_in_a_row() -> None:
    topology = create_backtest_topology(config())
    assert shape(topology) == [
        ("data", []), ("features", ["data"]), ("portfolio", ["features"]), ("execution", ["portfolio"]),
    ]  # fmt: skip
    stages = [type(node.stage) for node in topology.nodes]
    assert stages == [Synthetic, Features, Portfolio, Execution]


def test_without_a_feed_it_is_a_recording_to_be_named() -> None:
    topology = create_backtest_topology({})
    assert topology["data"].stage == Replay()


def test_a_few_portfolios_have_a_hundred_megabytes_of_memory_each() -> None:
    """As in the founding document: few containers can use more memory."""
    topology = create_backtest_topology(config())
    group = topology["portfolio"]
    assert list(group.members) == ["portfolio_0000"] and group.member_flow is not None
    policy = group.member_flow("portfolio_0000")
    assert (policy.mode, policy.memory_limit_mb) == ("memory", 100)
    assert backtest({})["portfolio_*"]["data_flow"] == FEW == {"mode": "memory", "memory_limit_mb": 100}


def test_many_portfolios_have_ten_megabytes_each_spill_and_are_saved_as_parquet() -> None:
    """As in the founding document: many containers, minimal memory each."""
    topology = create_backtest_topology(config(parameter_space=SPACE))
    group = topology["portfolio"]
    assert list(group.members) == [f"portfolio_{index:04d}" for index in range(6)] and group.member_flow is not None
    for name in group.members:
        policy = group.member_flow(name)
        assert (policy.mode, policy.memory_limit_mb) == ("hybrid", 10)
        assert (policy.persistence.on_completion, policy.persistence.format) == (True, "parquet")
    assert backtest({"parameter_space": SPACE})["portfolio_*"]["data_flow"] == MANY


def test_a_thousand_combinations_are_one_container() -> None:
    space = {"fast": {"start": 2, "stop": 40, "step": 2}, "slow": {"start": 50, "stop": 295, "step": 5}}
    topology = create_backtest_topology(config(parameter_space=space))
    assert len(topology.nodes) == 4
    assert len(topology["portfolio"].members) == 1000
    assert len({repr(member) for member in topology["portfolio"].members.values()}) == 1000


@pytest.mark.parametrize(
    ("space", "hint"),
    [
        ({"fast": [5, 10, 30], "slow": [20, 40]}, r"1 of 6 combinations are refused; try `fast: .5, 10.`, which"),
        ({"fast": [5, 10, 30], "slow": [8, 40, 50, 60]}, r"2 of 12 .* refused; try `slow: .40, 50, 60.`, which"),
        ({"fast": [5, 10], "slow": [10, 5]}, r"3 of 4 .* refused; leave out the values that take part in them"),
    ],
)
def test_combinations_that_are_refused_come_with_values_to_try(space: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        create_backtest_topology(config(parameter_space=space))


@pytest.mark.parametrize("parameter_space", [{}, SPACE])
def test_what_a_person_writes_beats_what_the_topology_guessed(parameter_space: dict[str, Any]) -> None:
    written = {"portfolio_*": {"data_flow": {"memory_limit_mb": 3}}, "portfolio_0000": {"data_flow": {"mode": "file"}}}
    more = {"parameter_space": parameter_space} if parameter_space else {}
    group = create_backtest_topology(config(containers=written, **more))["portfolio"]
    assert group.member_flow is not None
    policy = group.member_flow("portfolio_0000")
    assert (policy.mode, policy.memory_limit_mb) == ("file", 3)


def test_global_defaults_beat_the_guess_and_wildcards_beat_the_defaults() -> None:
    written = config(
        data_flow={"default_mode": "streaming", "default_memory_limit_mb": 7}, parameter_space=SPACE,
        containers={"portfolio_*": {"data_flow": {"memory_limit_mb": 2}}},
    )  # fmt: skip
    topology = create_backtest_topology(written)
    assert topology["features"].data_flow.mode == "streaming"
    group = topology["portfolio"]
    assert group.member_flow is not None
    policy = group.member_flow("portfolio_0003")
    assert (policy.mode, policy.memory_limit_mb) == ("streaming", 2)


def test_features_computes_the_union_of_what_the_portfolios_need_once() -> None:
    features = create_backtest_topology(config(parameter_space=SPACE))["features"].stage
    assert isinstance(features, Features)
    wanted = [Feature.sma(n) for n in (2, 3, 5, 10, 20)]
    assert sorted(features.features, key=repr) == sorted(wanted, key=repr)
    schema = create_backtest_topology(config(parameter_space=SPACE))["features"].schema
    assert schema is not None and schema.names[-5:] == ["sma_2", "sma_3", "sma_5", "sma_10", "sma_20"]


def test_strategies_vary_by_the_parameter_space() -> None:
    written = config(
        containers={"portfolio_*": {"strategy": {"type": "ema_cross", "quantity": 2}}}, parameter_space=SPACE
    )
    members = create_backtest_topology(written)["portfolio"].members
    found = [member.strategy for member in members.values() if isinstance(member, Portfolio)]
    assert found == [EmaCross(fast=fast, slow=slow, quantity=2) for fast in SPACE["fast"] for slow in SPACE["slow"]]
    assert isinstance(create_backtest_topology(config())["portfolio"].members["portfolio_0000"], Portfolio)
    assert SmaCross() == SmaCross(fast=10, slow=50)


def test_a_mapping_yaml_text_and_a_file_say_the_same(tmp_path: Path) -> None:
    text = "containers:\n  data: {type: synthetic, rows: 300}\nparameter_space: {fast: [2, 3, 5], slow: [10, 20]}\n"
    (tmp_path / "config.yaml").write_text(text)
    from_mapping = create_backtest_topology(config(parameter_space=SPACE))
    for other in (create_backtest_topology(text), create_backtest_topology(tmp_path / "config.yaml")):
        assert [(node.name, node.stage, dict(node.members)) for node in other.nodes] == [
            (node.name, node.stage, dict(node.members)) for node in from_mapping.nodes
        ]


def test_every_problem_of_a_configuration_is_told() -> None:
    wrong = config(
        containers={"features": {"bars": "1x"}, "portfolio_*": {"strategy": {"type": "sma_cros"}}, "exekution": {}}
    )
    with pytest.raises(ConfigError) as caught:
        create_backtest_topology(wrong)
    told = str(caught.value)
    assert len(caught.value.problems) >= 3
    assert "sma_cross" in told and "execution" in told and "1x" in told


def test_combinations_that_make_no_sense_are_told_by_name() -> None:
    with pytest.raises(ConfigError, match=r"portfolio_0000 \(fast=50, slow=10\)"):
        create_backtest_topology(config(parameter_space={"fast": [50], "slow": [10]}))


async def test_the_topology_runs(tmp_path: Path) -> None:
    topology = create_backtest_topology(config(parameter_space=SPACE))
    summary = await Pipeline.from_topology(topology, output=tmp_path).run()
    assert summary.aggregate_metrics["execution"]["portfolios"] == {"planned": 6, "run": 6, "failed": 0}
    assert summary.container_results["portfolio"].members == 7, "six and the baseline"


async def test_a_recording_is_given_beside_the_configuration(tmp_path: Path, lean: Path) -> None:
    day = lean / "crypto" / "coinbase" / "minute" / "btcusd" / "20170904_trade.zip"
    topology = create_backtest_topology({}, data=str(day))
    summary = await Pipeline.from_topology(topology, output=tmp_path).run()
    assert summary.ledger.containers["data"].sent == 1440
