"""Every configuration that comes with the project loads, says what it claims, and runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from pipeline import Config, Registry, load_config
from pipeline.cli.program import penstock as program
from stages import SyntheticVenue

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
LIMITS = {"thousand_portfolios": 2_000, "memory_constrained": 100_000}
PHASED = ("train_validate", "walk_forward")
"""Those of several phases."""
LIVE = ("live", "record")
"""Those that follow a venue; tests/stages/live and recording run them against one on 127.0.0.1."""
SYNTHETIC = ("--set", "containers.data.type=synthetic")

Penstock = Callable[..., Result]


@pytest.fixture
def penstock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Penstock:
    """Calls the program in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> Result:
        return CliRunner().invoke(program, [str(word) for word in words], catch_exceptions=False)

    return call


def summary_of(told: Result) -> dict[str, Any]:
    assert told.exit_code == 0, told.stderr
    summary: dict[str, Any] = json.loads(told.stdout)
    return summary


def config(name: str) -> Config:
    return load_config(CONFIGS / f"{name}.yaml", registry=Registry.installed())


def test_there_are_as_many_as_the_readers_are_told_of() -> None:
    assert NAMES == [
        "backtest", "bars", "demo", "high_frequency", "live", "memory_constrained", "mixed_sweep", "record", "replay",
        "thousand_portfolios", "train_validate", "walk_forward",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_with_what_it_shows_and_how_to_run_it(name: str) -> None:
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    head = [line for line in lines[: lines.index(f"name: {name}")] if line]
    assert all(line.startswith("#") for line in head)
    assert any(f"penstock run configs/{name}.yaml" in line for line in head)


@pytest.mark.parametrize("name", NAMES)
def test_it_passes_the_check(penstock: Penstock, name: str) -> None:
    told = penstock("check", CONFIGS / f"{name}.yaml")
    assert told.exit_code == 0 and told.stdout.startswith("ok: "), told.stderr


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*PHASED, *LIVE, "replay")])
def test_it_runs(penstock: Penstock, name: str) -> None:
    limit = str(LIMITS.get(name, 20_000))
    words = SYNTHETIC if name == "backtest" else ()
    summary = summary_of(penstock("run", CONFIGS / f"{name}.yaml", "--limit", limit, "--json", *words))
    assert summary["status"] == "complete"
    assert summary["ledger"]["containers"]["data"]["sent"] == int(limit)
    if name == "bars":
        return
    count = len(config(name).parameter_space)
    assert summary["aggregate_metrics"]["execution"]["portfolios"] == {"planned": count, "run": count, "failed": 0}
    groups = [result for result in summary["container_results"].values() if result["kind"] == "group"]
    assert len(groups) == (2 if name == "mixed_sweep" else 1)
    names: list[str] = []
    for group in groups:
        path = Path(summary["folder"], summary["phase"], group["keys"]["equity"]["path"])
        names += pq.read_table(path, columns=["container"]).column("container").unique().to_pylist()
    members = sorted(found for found in names if not found.endswith("_baseline"))
    assert members == [f"portfolio_{index:04d}" for index in range(count)], "members of a group share one file"


def test_a_walk_selects_in_each_window_and_joins_what_follows(penstock: Penstock) -> None:
    told = penstock("run", CONFIGS / "walk_forward.yaml", "--output", "out")
    assert told.exit_code == 0, told.stderr
    lines = told.stdout.splitlines()
    shown = [line.split() for line in lines[3:12]]
    assert [line[0] for line in shown] == [
        *(f"{kind}_{number:03d}" for number in range(4) for kind in ("train", "test")), "report",
    ]  # fmt: skip
    assert shown[0][1:6] == ["2024-01-01", "..", "2024-03-01", "9", shown[0][5]]
    assert shown[1][1:5] == ["2024-03-02", "..", "2024-03-22", "1"]
    assert lines[13] == "report: joined"
    again = penstock("run", CONFIGS / "walk_forward.yaml", "--output", "out", "--json")
    joined = summary_of(again)["aggregate_metrics"]["joined"]
    assert (joined["objective"], joined["steps"]) == ("sharpe", 4)


def test_a_split_is_trained_validated_and_tested(penstock: Penstock) -> None:
    summary = summary_of(penstock("run", CONFIGS / "train_validate.yaml", "--json"))
    assert (summary["phase"], summary["selection"]["phase"]) == ("test", "validate")
    validate = json.loads((Path(summary["folder"]) / "validate" / "summary.json").read_text())
    assert len(validate["selection"]["portfolios"]) == 5
    assert summary["selection"]["portfolios"][0] in validate["selection"]["portfolios"]
    explained = penstock("explain", CONFIGS / "train_validate.yaml", "portfolio_0000", "--phase", "validate").stdout
    line = next(line for line in explained.splitlines() if line.startswith("fills.fee_bps"))
    assert line.split()[:2] == ["fills.fee_bps", "5.0"] or line.split()[:2] == ["fills.fee_bps", "5"]
    assert "train_validate.yaml:" in line


def test_the_demo_ranks_by_sharpe(penstock: Penstock) -> None:
    told = penstock("run", CONFIGS / "demo.yaml", "--limit", "40000")
    rows = [line.split() for line in told.stdout.splitlines() if "portfolio_0" in line]
    assert len(rows) == 12 and [row[0] for row in rows] == [str(rank) for rank in range(1, 13)]
    sharpes = [float(row[4]) for row in rows if row[4] != "-"]
    assert sharpes == sorted(sharpes, reverse=True)


def test_a_thousand_portfolios_have_five_megabytes_each() -> None:
    loaded = config("thousand_portfolios")
    assert len(loaded.parameter_space) == 1000
    policy = loaded.data_flow_of("portfolio_0999")
    assert (policy.mode, policy.memory_limit_mb, policy.persistence.on_completion) == ("hybrid", 5, True)


def test_high_frequency_flushes_small_buffers_and_keeps_features_in_memory(penstock: Penstock) -> None:
    loaded = config("high_frequency")
    assert loaded.data_flow_of("data").mode == "streaming"
    assert loaded.data_flow_of("data").streaming_settings.buffer_size == 100
    assert (loaded.data_flow_of("features").mode, loaded.data_flow_of("features").memory_limit_mb) == ("memory", 2000)
    summary = summary_of(penstock("run", CONFIGS / "high_frequency.yaml", "--limit", "10000", "--json"))
    record = json.loads((Path(summary["folder"]) / "run" / "run.json").read_text())
    assert record["containers"]["data"]["store"]["flushed_rows"] == 10_000


def test_on_a_small_machine_everything_is_hybrid_but_the_execution() -> None:
    loaded = config("memory_constrained")
    for name in ("data", "features", "portfolio_0000"):
        assert (loaded.data_flow_of(name).mode, loaded.data_flow_of(name).memory_limit_mb) == ("hybrid", 50)
    assert loaded.data_flow_of("execution").mode == "file"


def test_bars_are_written_as_parquet(penstock: Penstock) -> None:
    summary = summary_of(penstock("run", CONFIGS / "bars.yaml", "--limit", "100000", "--json"))
    for name in ("minutes", "hours"):
        table = pq.read_table(Path(summary["folder"]) / "run" / name)
        assert table.num_rows == summary["ledger"]["containers"][f"save_{name}"]["committed"] > 0
        assert {"open", "high", "low", "close", "volume"} <= set(table.column_names)


@pytest.mark.parametrize("name", ["backtest", "demo", "bars"])
def test_it_runs_on_bitcoin_minutes(penstock: Penstock, name: str, lean: Path) -> None:
    path = lean / "crypto" / "coinbase" / "minute" / "btcusd"
    words = ["--set", "containers.data.price=last"]
    summary = summary_of(penstock("run", CONFIGS / f"{name}.yaml", "--data", path, "--json", *words))
    assert summary["ledger"]["containers"]["data"]["sent"] > 1000


@pytest.mark.parametrize("name", ["backtest", "bars"])
def test_it_runs_on_euro_ticks(penstock: Penstock, name: str, lean: Path) -> None:
    path = lean / "forex" / "oanda" / "tick" / "eurusd"
    summary = summary_of(penstock("run", CONFIGS / f"{name}.yaml", "--data", path, "--json"))
    assert summary["ledger"]["containers"]["data"]["sent"] > 10_000


def test_a_made_up_venue_is_replayed_at_speed_and_leaves_the_same(penstock: Penstock) -> None:
    """A second of it takes 20 ms at the speed the file says; at any other the same comes out."""
    left = []
    for name, speed in (("fast", "50"), ("faster", "5000"), ("max", "max")):
        words = ["--set", "containers.market.seconds=10", "--set", f"containers.market.clock.speed={speed}"]
        summary = summary_of(penstock("run", CONFIGS / "replay.yaml", "--json", "--output", name, *words))
        told = summary["aggregate_metrics"]["market"]
        assert (told["venue"], told["quality"]) == ("binance_spot", {})
        assert set(told["rows"]) == {"trade", "quote", "book_delta", "book_snapshot"}
        assert summary["aggregate_metrics"]["seconds"]["late_rows"] == 0
        folder = Path(summary["folder"]) / "run"
        left.append({str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.glob("save_*/*"))})
        left[-1]["summary"] = (folder / "summary.json").read_bytes()
    assert left[0] == left[1] == left[2] and len(left[0]) > 3


def test_a_capture_takes_the_place_of_the_made_up_venue(penstock: Penstock) -> None:
    SyntheticVenue(seconds=5, seed=3).write(Path("btcusdt.txt"))
    words = ["--data", "btcusdt.txt", "--set", "containers.market.clock.speed=max"]
    summary = summary_of(penstock("run", CONFIGS / "replay.yaml", "--json", *words))
    told = summary["aggregate_metrics"]["market"]
    assert told["quality"] == {} and told["wrong_lines"] == {} and told["rows"]["trade"] > 10
