"""`process_memory_mb`: one pool for everything containers keep, whatever their own limits add up to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from whole_runs import SMALL, Left, await_program, changed, finish, left_in, start_program

from pipeline import Pipeline
from pipeline.errors import PhaseFailed

MB = 1 << 20
SOAK = "PENSTOCK_SOAK" in os.environ
FAST, SLOW = (50, 100) if SOAK else (25, 100)
"""Pairs of averages: 5,000 portfolios in `make soak`, half of them in `make test`."""
BARS = 6767
POOL_MB = 512 if SOAK else 256
"""As much per portfolio in both."""
TINY_MB = 0.1
"""A quarter of what the nine portfolios and their bars take when they may."""


def sweep(fast: int, slow: int, **settings: Any) -> Mapping[str, Any]:
    """Portfolios of ten megabytes each over one recording of minutes."""
    return {
        "name": "sweep",
        "topology": "backtest",
        **settings,
        "containers": {
            "data": {
                "type": "synthetic", "schema": "bar", "rows": BARS, "interval": "1m", "volatility": 0.001,
                "trend": 0.02, "seed": 11,
            },
            "portfolio_*": {
                "strategy": {"type": "sma_cross", "quantity": 500},
                "fills": {"at": "next_open", "fee_bps": 1, "slippage_bps": 1},
                "data_flow": {"mode": "hybrid", "memory_limit_mb": 10},
            },
            "execution": {"objective": "sharpe"},
        },
        "parameter_space": {
            "fast": {"start": 2, "stop": 1 + fast, "step": 1},
            "slow": {"start": 52, "stop": 51 + slow, "step": 1},
        },
    }  # fmt: skip


def run_alone(folder: Path, config: Mapping[str, Any]) -> Left:
    """In a process of its own, of which the peak memory is the run's."""
    folder.mkdir()
    (folder / "run.yaml").write_text(yaml.safe_dump(dict(config)))
    told = await_program(start_program(folder, "run", "run.yaml", "--output", "out", "--json"))
    assert told[0] == 0, told
    return left_in(folder / "out")


@pytest.fixture(scope="module")
def thousands(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return run_alone(tmp_path_factory.mktemp("pool") / "run", sweep(FAST, SLOW, process_memory_mb=POOL_MB))


def test_thousands_of_portfolios_run_within_the_pool_and_the_process_is_hardly_larger(
    thousands: Left, tmp_path: Path
) -> None:
    """Their own limits add up to far above the pool. An empty process is one that runs a single portfolio."""
    empty = run_alone(tmp_path / "one", sweep(1, 1)).record["process_peak_rss_bytes"]
    members = [row for row in thousands.members if row["name"] != "portfolio_baseline"]
    assert len(members) == FAST * SLOW
    assert sum(row["limit_bytes"] for row in members) == FAST * SLOW * 10 * MB > 90 * POOL_MB * MB
    pool = thousands.record["pool"]
    assert pool["limit_bytes"] == POOL_MB * MB
    assert 0 < pool["peak_bytes"] <= pool["limit_bytes"]
    assert thousands.summary["aggregate_metrics"]["execution"]["portfolios"]["run"] == FAST * SLOW
    assert thousands.record["process_peak_rss_bytes"] < POOL_MB * MB + empty


def test_a_tiny_pool_spills_and_leaves_the_same_bytes(tmp_path: Path) -> None:
    plain = finish(SMALL, tmp_path / "plain")
    assert plain.record["pool"]["limit_bytes"] > 1000 * TINY_MB * MB, "a share of what the machine has"
    config = changed(SMALL, all__data_flow={"mode": "hybrid", "memory_limit_mb": 10}, data__batch_rows=100)
    for name, size in (("large", 512), ("tiny", TINY_MB)):
        left = finish({**config, "process_memory_mb": size}, tmp_path / name)
        pool = left.record["pool"]
        assert 0 < pool["peak_bytes"] <= pool["limit_bytes"] == int(size * MB)
        assert (pool["spills"] > 0) == (name == "tiny")
        spilled = sum(each["store"]["evictions"] for each in left.record["containers"].values())
        assert spilled >= pool["spills"]
        assert left.summary_bytes == plain.summary_bytes
        for path, table in plain.files.items():
            if not path.endswith("/output.parquet"):
                assert left.files[path].equals(table), path


def test_what_cannot_spill_fails_with_an_error_that_names_the_pool(tmp_path: Path) -> None:
    config = changed(SMALL, all__data_flow={"mode": "memory", "memory_limit_mb": 50}, data__batch_rows=100)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**config, "process_memory_mb": TINY_MB}))
    code, _, told = await_program(start_program(tmp_path, "run", "run.yaml", "--output", "out"))
    assert code == 1
    assert "process_memory_mb" in told and "most is held by" in told
    assert "hybrid" in told


def test_a5_events_of_a_tiny_pool_are_in_the_record_in_their_order_and_also_of_a_run_that_fails(tmp_path: Path) -> None:
    hybrid = changed(SMALL, all__data_flow={"mode": "hybrid", "memory_limit_mb": 10}, data__batch_rows=100)
    pool = finish({**hybrid, "process_memory_mb": TINY_MB}, tmp_path / "tiny").record["pool"]
    kinds = [event["kind"] for event in pool["events"]]
    assert kinds[0] == "spill" and pool["event_counts"]["spill"] >= 1
    for before, after in pairwise(kinds):
        assert after in {
            "spill": ("throttle", "spill_over"), "throttle": ("throttle_over", "fail"),
            "throttle_over": ("throttle", "spill_over"), "spill_over": ("spill", "throttle"),
        }[before]  # fmt: skip
    assert all(event["container"] and event["bytes"] > 0 for event in pool["events"])
    memory = changed(SMALL, all__data_flow={"mode": "memory", "memory_limit_mb": 50}, data__batch_rows=100)
    with pytest.raises(PhaseFailed):
        finish({**memory, "process_memory_mb": TINY_MB}, tmp_path / "failed")
    (path,) = [path for path in (tmp_path / "failed").rglob("run.json") if "latest" not in path.parts]
    pool = json.loads(path.read_bytes())["pool"]
    assert pool["event_counts"]["fail"] >= 1
    assert [event["kind"] for event in pool["events"]].index("throttle") < len(pool["events"]) - 1


async def test_a4_the_feeds_pause_and_then_a_container_fails_by_the_memory_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where the process is the run's own. The process pretends to be too large from the first sample on."""
    monkeypatch.setattr("pipeline.engines.resident.FAIL_SECONDS", 0.1)
    monkeypatch.setattr("pipeline.engines.resident.SAMPLE_SECONDS", 0.01)
    monkeypatch.setattr("pipeline.machine.Resident.__call__", lambda self: 10**15)
    config = changed(SMALL, data__rows=10_000_000, data__batch_rows=1000)
    pipeline = Pipeline.from_yaml(config, output=tmp_path / "own")
    run = pipeline.start(owns_process=True)
    with pytest.raises(PhaseFailed, match=r"above 95% of the memory it may have .* the pool \(process_memory_mb\)"):
        async with run:
            await run.finished()
    (path,) = [path for path in (tmp_path / "own").rglob("run.json") if "latest" not in path.parts]
    pool = json.loads(path.read_bytes())["pool"]
    assert [event["kind"] for event in pool["events"]] == ["resident_spill", "resident_pause", "resident_fail"]
    assert pool["resident_peak_bytes"] == 10**15
    embedded = Pipeline.from_yaml(SMALL, output=tmp_path / "embedded")
    async with embedded.start() as run:
        await run.finished()
