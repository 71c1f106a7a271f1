"""The same replay leaves the same bytes: in any process, at any speed, with pauses and steps, in any cut and mode."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
from replayed import KINDS, config, hash_of, left, market_of, run_of
from whole_runs import MODES, environment

from pipeline import Pipeline

BEGIN_NS = 1_704_067_200_000_000_000


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = asyncio.run(run_of(Pipeline.from_yaml(config(), output=tmp_path_factory.mktemp("reference"))))
    told = found["metrics"]["market"]
    assert told["quality"] == {} and all(told["rows"][kind] > 20 for kind in KINDS)
    assert found["metrics"]["seconds"]["late_rows"] == 0
    return found


MARKETS = ("captured", "made_up")
WAYS = list(product(MODES, (1, 7, 65_536), ("max", 50, 1)))
"""Each mode with hardly any memory, so many messages at a time, at a speed, at 1 with steps and pauses: 36."""
PROCESSES = 20


def ways_of(process: int) -> list[tuple[str, str, str, int, str | int]]:
    """One of each market; the processes share out all ways."""
    found = (WAYS[7 * (process + 16 * which) % len(WAYS)] for which in range(len(MARKETS)))
    return [(f"{market}-{process}", market, *way) for market, way in zip(MARKETS, found, strict=True)]


def test_the_processes_share_out_all_ways() -> None:
    tried = {way for process in range(PROCESSES) for _, _, *way in map(tuple, ways_of(process)) for way in [tuple(way)]}
    assert tried == set(WAYS)


def test_twenty_processes_with_random_hash_seeds_leave_the_same_of_a_capture_and_of_a_made_up_venue(
    recordings: Path, tmp_path: Path
) -> None:
    """Two at a time, of which each replays both: some 300 messages with a thousand levels a side, one second."""
    with gzip.open(recordings / "hftbacktest" / "usdm" / "btcusdt_20240808.gz") as lines:
        (tmp_path / "capture").write_bytes(b"".join(islice(lines, 320)))
    wanted = {}
    for market in MARKETS:
        made = config(**market_of(market, str(tmp_path / "capture")))
        found = asyncio.run(run_of(Pipeline.from_yaml(made, output=tmp_path / market)))
        told = found["metrics"]["market"]
        assert told["quality"] == {} and all(told["rows"][kind] > 10 for kind in KINDS)
        wanted[market] = hash_of(found)
    seeds = random.Random(5).sample(range(2**32), PROCESSES)

    def ended(process: int) -> dict[str, str]:
        said = {"capture": str(tmp_path / "capture"), "output": str(tmp_path), "ways": ways_of(process)}
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("replayed.py")), json.dumps(said)],
            env=environment(PYTHONHASHSEED=str(seeds[process])), capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        hashes: dict[str, str] = json.loads(done.stdout)
        return hashes

    with ThreadPoolExecutor(2) as threads:
        for hashes in threads.map(ended, range(PROCESSES)):
            for name, found_hash in hashes.items():
                assert found_hash == wanted[name.partition("-")[0]], name


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
