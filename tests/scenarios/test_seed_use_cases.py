"""Each YAML block and use case of the founding document runs from beginning to end and does what its comments say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from whole_runs import Left, assert_books_balance, finish

from tests.seed_blocks import CONSTRAINED, HIGH_FREQUENCY, OPTIMIZATION, OVERVIEW

MIB = 1 << 20

BLOCKS = {
    "overview": OVERVIEW, "optimization": OPTIMIZATION, "high frequency": HIGH_FREQUENCY, "constrained": CONSTRAINED,
}  # fmt: skip
BARS = {"type": "synthetic", "rows": 2500, "volatility": 0.002, "trend": 0.05, "seed": 5}


def with_data(block: str, feed: Mapping[str, Any] = BARS, **more: Any) -> dict[str, Any]:
    """The block as it is printed, with a market that is made up where it names none, and further settings."""
    config: dict[str, Any] = yaml.safe_load(block)
    config["containers"]["data"] = {**config["containers"].get("data", {}), **feed}
    return config | more


def mode_and_limit(left: Left, name: str) -> tuple[str, int | None]:
    row = left.container(name)
    return row["mode"], row["limit_bytes"]


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_every_block_runs_to_its_end(block: str, tmp_path: Path) -> None:
    left = finish(with_data(block), tmp_path)
    assert left.summary["status"] == "complete"
    assert_books_balance(left.summary)
    assert set(left.summary["container_results"]) == {"data", "features", "portfolio", "execution"}
    assert left.summary["aggregate_metrics"]["portfolio"]["fills"] > 10
    assert left.files["containers/execution/ranking.parquet"].column("baseline").to_pylist() == [False, True]


def test_all_blocks_give_the_same_results(tmp_path: Path) -> None:
    """They differ in where data lies, so not a byte of the summaries may."""
    summaries = {finish(with_data(block), tmp_path / name).summary_bytes for name, block in BLOCKS.items()}
    assert len(summaries) == 1


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_every_block_runs_as_yaml_with_the_recording_given_beside_it(block: str, tmp_path: Path, lean: Path) -> None:
    recording = lean / "crypto" / "coinbase" / "minute" / "btcusd" / "20170903_trade.zip"
    left = finish(block, tmp_path, data=recording)
    assert left.summary["ledger"]["containers"]["data"]["sent"] == 1440
    assert_books_balance(left.summary)


def test_the_overview_gives_each_container_its_own_mode(tmp_path: Path) -> None:
    left = finish(with_data(OVERVIEW, {**BARS, "batch_rows": 400}), tmp_path)
    assert left.container("data")["mode"] == "streaming"
    assert left.record["containers"]["data"]["store"]["flushed_rows"] == 2500, "market data is streamed away"
    assert left.container("data")["flushes"] == 3, "a thousand rows are a full buffer"
    assert mode_and_limit(left, "features") == ("hybrid", 500 * MIB)
    assert {(row["mode"], row["limit_bytes"]) for row in left.members} == {("memory", 50 * MIB)}
    assert left.container("execution")["mode"] == "file"
    assert left.files["containers/portfolio/equity.parquet"].num_rows > 0, "saved when done"


def test_a_thousand_portfolios_have_five_megabytes_each(tmp_path: Path) -> None:
    space = {"fast": {"start": 2, "stop": 40, "step": 2}, "slow": {"start": 50, "stop": 295, "step": 5}}
    left = finish(with_data(OPTIMIZATION, parameter_space=space), tmp_path)
    assert len(left.members) == 1001, "and the baseline"
    assert {(row["mode"], row["limit_bytes"]) for row in left.members} == {("hybrid", 5 * MIB)}
    assert all(row["peak_bytes"] <= 5 * MIB for row in left.members)
    ranking = left.files["containers/execution/ranking.parquet"]
    assert len(set(ranking.column("parameters").to_pylist())) == 1001
    saved = left.files["containers/portfolio/statistics.parquet"]
    names = [f"portfolio_{index:04d}" for index in range(1000)]
    assert saved.column("container").to_pylist() == [*names, "portfolio_baseline"]


def test_the_optimization_without_a_wildcard_of_its_own_takes_the_small_profile(tmp_path: Path) -> None:
    """Many portfolios get a hybrid manager of ten megabytes each, a few a hundred in memory."""
    many = finish(
        {"containers": {"data": BARS}, "parameter_space": {"fast": [2, 4], "slow": [20, 30]}}, tmp_path / "many"
    )
    assert {(row["mode"], row["limit_bytes"]) for row in many.members} == {("hybrid", 10 * MIB)}
    few = finish({"containers": {"data": BARS}}, tmp_path / "few")
    assert {(row["mode"], row["limit_bytes"]) for row in few.members} == {("memory", 100 * MIB)}


def test_high_frequency_data_is_flushed_in_small_buffers_and_features_stay_in_memory(tmp_path: Path) -> None:
    ticks = {**BARS, "schema": "trade", "interval": "5s", "batch_rows": 50}
    config = with_data(HIGH_FREQUENCY, ticks)
    config["containers"]["features"]["bars"] = "1m"
    left = finish(config, tmp_path)
    assert left.container("data")["flushes"] >= 2500 // 100
    assert left.container("data")["peak_bytes"] < MIB, "a buffer of a hundred rows is all it holds"
    assert mode_and_limit(left, "features") == ("memory", 2000 * MIB)
    assert left.container("features")["disk_bytes"] == 0


def test_on_a_small_machine_everything_is_hybrid_but_the_aggregation(tmp_path: Path) -> None:
    left = finish(with_data(CONSTRAINED), tmp_path)
    for name in ("data", "features", "portfolio_0000"):
        assert mode_and_limit(left, name) == ("hybrid", 50 * MIB)
    assert left.container("execution")["mode"] == "file"
    assert left.container("execution")["disk_bytes"] > 0


def test_modes_mix_within_one_workflow_and_exact_names_beat_wildcards(tmp_path: Path) -> None:
    config = with_data(OPTIMIZATION, parameter_space={"fast": [2, 4, 6], "slow": [20, 30]})
    config["containers"]["portfolio_0002"] = {"data_flow": {"mode": "memory", "memory_limit_mb": 1}}
    config["containers"]["portfolio_*5"] = {"data_flow": {"mode": "file"}}
    left = finish(config, tmp_path)
    modes = {row["name"]: row["mode"] for row in left.members}
    assert modes == {
        "portfolio_0000": "hybrid", "portfolio_0001": "hybrid", "portfolio_0002": "memory",
        "portfolio_0003": "hybrid", "portfolio_0004": "hybrid", "portfolio_0005": "file",
            "portfolio_baseline": "hybrid",
    }  # fmt: skip
    assert left.container("portfolio_0002")["limit_bytes"] == MIB
    plain = finish(with_data(OPTIMIZATION, parameter_space={"fast": [2, 4, 6], "slow": [20, 30]}), tmp_path / "plain")
    assert left.summary_bytes == plain.summary_bytes


def test_the_phase_summary_refers_to_the_containers_results(tmp_path: Path) -> None:
    """`container_results` and `aggregate_metrics`, as the sequencer of the document saves them."""
    left = finish(with_data(OVERVIEW, phases=[{"name": "optimize"}]), tmp_path)
    assert left.folder.name == "optimize"
    assert {"container_results", "aggregate_metrics"} <= set(left.summary)
    for result in left.summary["container_results"].values():
        for key in result["keys"].values():
            assert (left.folder / key["path"]).is_file() and not Path(key["path"]).is_absolute()
