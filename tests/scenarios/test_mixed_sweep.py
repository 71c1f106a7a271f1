"""Several strategies in one sweep: a group for each, members numbered through, and figures as if each ran alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipeline import Pipeline, open_results
from pipeline.cli.program import penstock as program

CONTAINERS: dict[str, Any] = {
    "data": {"type": "synthetic", "rows": 1500, "interval": "5m", "seed": 3, "volatility": 0.002},
    "portfolio_*": {"strategy": {"quantity": 100}, "fills": {"fee_bps": 1}, "data_flow": {"mode": "hybrid"}},
    "portfolio_0003": {"data_flow": {"mode": "memory", "memory_limit_mb": 7}},
}
SPACE: list[dict[str, Any]] = [
    {"strategy": "sma_cross", "fast": [3, 5, 20], "slow": [10, 20], "where": "fast < slow"},
    {
        "strategy": {"type": "ema_cross", "skip_single_price": True},
        "fast": {"low": 2, "high": 20},
        "slow": {"low": 20, "high": 90, "scale": "log"},
        "fills.slippage_bps": [0, 2],
        "where": "slow >= 3 * fast",
        "sample": {"method": "latin_hypercube", "size": 5, "seed": 7},
    },
]
CONFIG = {"name": "mixed", "containers": CONTAINERS, "parameter_space": SPACE}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a run, and what `retrieve` gave of two members after it."""
    output = tmp_path_factory.mktemp("mixed")

    async def main() -> tuple[Path, Any]:
        async with Pipeline.from_yaml(CONFIG, output=output).start() as run:
            await run.finished()
            assert run.folder is not None
            got = [await run.retrieve(name, "equity") for name in ("portfolio_0003", "portfolio_0005")]
        return run.folder, got

    return asyncio.run(main())


def test_each_strategy_is_a_group_and_one_ranking_holds_them_all(mixed: tuple[Path, Any]) -> None:
    results = open_results(mixed[0])
    groups = {name: result for name, result in results.summary.container_results.items() if result.kind == "group"}
    assert list(groups) == ["portfolio_sma_cross", "portfolio_ema_cross"]
    ranking = [row for row in results["execution"]["ranking"].to_pylist() if not row["baseline"]]
    assert sorted(row["container"] for row in ranking) == [f"portfolio_{number:04d}" for number in range(9)]
    by_name = {row["container"]: (row["strategy"], json.loads(row["parameters"])) for row in ranking}
    assert by_name["portfolio_0000"][0] == "SmaCross" and by_name["portfolio_0004"][0] == "EmaCross"
    assert {by_name[f"portfolio_{number:04d}"][1]["slow"] for number in range(4)} == {10, 20}
    for number in range(4, 9):
        parameters = by_name[f"portfolio_{number:04d}"][1]
        assert parameters["slow"] >= 3 * parameters["fast"] and parameters["fills.fee_bps"] == 1
        assert parameters["quantity"] == 100 and parameters.get("fills.slippage_bps", 0) in (0, 2)


def test_members_are_found_whatever_group_they_are_of(mixed: tuple[Path, Any]) -> None:
    folder, got = mixed
    results = open_results(folder)
    for name, equity in zip(("portfolio_0003", "portfolio_0005"), got, strict=True):
        assert results[name]["equity"].equals(equity) and equity.num_rows > 0
    assert results["portfolio_0002"]["fills"].num_rows > 0
    with pytest.raises(KeyError, match="'portfolio_0009' has left nothing"):
        results["portfolio_0009"]


def test_a_member_of_any_group_keeps_its_own_policy(mixed: tuple[Path, Any]) -> None:
    rows = pq.read_table(mixed[0] / "run" / "containers.parquet").to_pylist()
    found = {row["name"]: (row["group"], row["mode"], row["limit_bytes"]) for row in rows}
    assert found["portfolio_0003"] == ("portfolio_sma_cross", "memory", 7 << 20)
    assert found["portfolio_0002"] == ("portfolio_sma_cross", "hybrid", 10 << 20)
    assert found["portfolio_0004"] == ("portfolio_ema_cross", "hybrid", 10 << 20)


@pytest.mark.parametrize("name", ["portfolio_0002", "portfolio_0008"])
def test_a_member_is_what_it_would_be_alone(mixed: tuple[Path, Any], tmp_path: Path, name: str) -> None:
    member = open_results(mixed[0])[name]
    told = member["statistics"].to_pylist()[0]
    parameters = json.loads(told["parameters"]) if isinstance(told["parameters"], str) else dict(told["parameters"])
    fills = {key.removeprefix("fills."): parameters.pop(key) for key in list(parameters) if "." in key}
    kind = "sma_cross" if told["strategy"] == "SmaCross" else "ema_cross"
    alone = {
        "data": CONTAINERS["data"],
        "portfolio_*": {"strategy": {"type": kind, **parameters}, "fills": fills},
    }

    async def main() -> Path:
        pipeline = Pipeline.from_yaml({"name": "alone", "containers": alone}, output=tmp_path)
        async with pipeline.start() as run:
            await run.finished()
            assert run.folder is not None
        return run.folder

    other = open_results(asyncio.run(main()))["portfolio_0000"]
    assert other["equity"].equals(member["equity"]) and other["fills"].equals(member["fills"])


def test_the_command_line_plans_checks_and_explains_it_without_numba(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(json.dumps(CONFIG))
    code = (
        "import sys; from click.testing import CliRunner; from pipeline.cli.program import penstock\n"
        "for words in (['plan'], ['check'], ['explain', 'portfolio_0007']):\n"
        f"    words.insert(1, {str(path)!r})\n"
        "    told = CliRunner().invoke(penstock, words, catch_exceptions=False)\n"
        "    assert told.exit_code == 0, told.output\n"
        "    print(told.stdout)\n"
        "assert 'numba' not in sys.modules"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "portfolio_ema_cross" in told and "strategy.slow" in told and "latin_hypercube" in told


def test_a_plan_in_json_is_complete_and_a_refusal_ends_with_two(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(json.dumps(CONFIG))

    def plan(*words: str) -> Any:
        return CliRunner().invoke(program, ["plan", str(path), *words], catch_exceptions=False)

    made = json.loads(plan("--json").stdout)
    assert made["combinations"] == 9 and [each["combinations"] for each in made["blocks"]] == [4, 5]
    assert [each["members"] for each in made["containers"]] == [0, 0, 4, 5, 0]
    features = next(each for each in made["containers"] if each["name"] == "features")
    assert "sma_3" in features["facts"]["features"]
    assert made["totals"]["ceiling_bytes"] > made["edges_bytes"] > 0
    path.write_text(json.dumps(CONFIG | {"containers": {"data": CONTAINERS["data"]}}))
    told = plan("--set", "parameter_space.0.fast={start: 1, stop: 1000000000}", "--set", "parameter_space.0.where=[]")
    assert told.exit_code == 2 and "2,000,000,005" in told.stdout
    assert "found 2,000,000,005; add `sample: {size: 1000}`" in told.stderr
    told = plan("--set", "process_memory_mb=0.001", "--json")
    assert told.exit_code == 2 and json.loads(told.stdout)["refusals"]
