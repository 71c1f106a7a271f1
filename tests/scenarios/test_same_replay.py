"""The same replay leaves the same bytes: in any process, at any speed, with pauses and steps, in any cut and mode."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from whole_runs import MODES, await_program, start_program, tight

from pipeline import Pipeline

FEED = {"type": "synthetic_venue", "symbols": ["BTCUSDT", "ETHUSDT"], "seconds": 8, "seed": 4, "depth": 3}
KINDS = ("trade", "quote", "book_delta", "book_snapshot")
BEGIN_NS = 1_704_067_200_000_000_000


def config(mode: str | None = None, **feed: Any) -> dict[str, Any]:
    """Trades to bars of a second and of three, quotes to bars; every kind of record and the bars to files."""
    containers: dict[str, dict[str, Any]] = {
        "market": {**FEED, **feed},
        "seconds": {"type": "bars", "inputs": ["market"], "every": "1s"},
        "threes": {"type": "bars", "inputs": ["seconds"], "every": "3s"},
        "middles": {"type": "bars", "inputs": ["market"], "every": "1s", "price": "mid"},
    }
    if mode is not None:
        for container in containers.values():
            container["data_flow"] = tight(mode)
    for name in ("seconds", "threes", "middles"):
        containers[f"save_{name}"] = {"type": "parquet", "inputs": [name], "shards": 1}
    for kind in KINDS:
        containers[f"save_{kind}"] = {"type": "parquet", "inputs": [{"from": "market", "records": kind}], "shards": 1}
    return {"name": "replayed", "containers": containers}


def left(folder: Path) -> dict[str, Any]:
    """The bytes of every file, and what the summary says that came out, whatever the configuration."""
    summary = json.loads((folder / "summary.json").read_text())
    files = {path.parent.name: path.read_bytes() for path in sorted(folder.glob("save_*/part-00.parquet"))}
    assert len(files) == 7, "each of the sinks has written"
    return {**files, "metrics": summary["aggregate_metrics"], "ledger": summary["ledger"]}


async def run_of(pipeline: Pipeline) -> dict[str, Any]:
    async with pipeline.start() as run:
        await run.finished()
    assert run.folder is not None
    return await asyncio.to_thread(left, run.folder / "run")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = asyncio.run(run_of(Pipeline.from_yaml(config(), output=tmp_path_factory.mktemp("reference"))))
    told = found["metrics"]["market"]
    assert told["quality"] == {} and all(told["rows"][kind] > 20 for kind in KINDS)
    assert found["metrics"]["seconds"]["late_rows"] == 0
    return found


def test_five_processes_with_other_hash_seeds_speeds_and_cuts_leave_the_same(
    reference: dict[str, Any], tmp_path: Path
) -> None:
    """At 50 times its speed, eight seconds take 160 ms."""
    ways = {
        "random": {},
        "1": {"clock": {"speed": 50}},
        "22": {"batch_rows": 1},
        "333": {"batch_rows": 7, "clock": {"speed": 200}},
        "4444": {"batch_rows": 65_536, "clock": {"speed": 400, "max_idle_gap": "10ms"}},
    }
    processes = []
    for seed, words in ways.items():
        (tmp_path / f"{seed}.yaml").write_text(json.dumps(config(**words)))
        processes.append(
            start_program(tmp_path, "run", f"{seed}.yaml", "--output", seed, "--quiet", PYTHONHASHSEED=seed)
        )
    told = [await_program(process) for process in processes]
    assert [code for code, _, _ in told] == [0] * 5, told
    for seed in ways:
        (folder,) = (tmp_path / seed / "replayed").glob("[0-9a-f]*/run")
        assert left(folder) == reference, seed


async def test_pauses_steps_and_changes_of_speed_change_nothing(reference: dict[str, Any], tmp_path: Path) -> None:
    async with Pipeline.from_yaml(config(batch_rows=50), output=tmp_path).start() as run:
        assert await run.step(5) >= 5
        assert await run.step(until=BEGIN_NS + 2_000_000_000) > 100 and run.replay_state == "paused"
        run.set_speed(0.1)  # not fast enough to come far, however long this moment lasts
        run.resume()
        await asyncio.sleep(0)
        run.pause()
        assert await run.step(1) >= 1
        run.set_speed(None)
        run.resume()
        await run.finished()
    assert run.folder is not None
    assert await asyncio.to_thread(left, run.folder / "run") == reference


@pytest.mark.parametrize("mode", MODES)
async def test_a_mode_with_hardly_any_memory_changes_nothing(
    mode: str, reference: dict[str, Any], tmp_path: Path
) -> None:
    assert await run_of(Pipeline.from_yaml(config(mode, batch_rows=300), output=tmp_path)) == reference


async def test_so_many_rows_are_the_same_whatever_the_cut_and_speed(tmp_path: Path) -> None:
    found = []
    for name, words in (("one", {}), ("two", {"batch_rows": 3}), ("three", {"clock": {"speed": 1000}})):
        found.append(await run_of(Pipeline.from_yaml(config(**words), output=tmp_path / name, limit=1500)))
    assert found[0]["ledger"]["containers"]["market"]["sent"] == 1500
    assert found[1] == found[0] and found[2] == found[0]
