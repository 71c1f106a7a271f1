"""Runs that are killed and gone on with: nothing is lost, nothing is there twice, byte for byte."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from whole_runs import SMALL, await_program, changed, environment, finish, left_in, start_program

from pipeline.storage.manifest import read_manifest

SOAK = bool(os.environ.get("PENSTOCK_SOAK"))
KILLS = 400 if SOAK else 18


def died(folder: Path, **settings: Any) -> dict[str, Any]:
    """What `dying_runs.py` tells."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("dying_runs.py")), json.dumps(settings)],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=3600 if SOAK else 600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    told["said"] = done.stderr
    return told


@pytest.mark.parametrize("seed", [1, 2] if SOAK else [1])
def test_killed_anywhere_again_and_again_it_goes_on_and_ends_as_if_it_had_not_been(seed: int, tmp_path: Path) -> None:
    """R-6, T2: before any step that changes the folder, or at any time: summary, results and a sink's files, each byte.

    All four modes, a group, kept output, a feed in a thread and one on the loop, states and input given again.
    """
    told = died(tmp_path, seed=seed, kills=KILLS, graph="diamond", period=0.02)
    codes = [code for _, _, code in told["ends"]]
    assert told["whole"] == 0 and codes[-1] == 0, told["said"]
    assert set(codes) == {0, -signal.SIGKILL} and codes.count(-signal.SIGKILL) == KILLS, told["said"]
    assert told["different"] == []
    assert all(there == resumed for there, resumed in told["went_on"]), "from the last checkpoint that was committed"


def test_a_sweep_of_two_phases_goes_on_in_the_one_that_was_killed(tmp_path: Path) -> None:
    """R-6, T2: a selection between the phases, states of features, portfolios and the ranking."""
    kills = 100 if SOAK else 3
    told = died(tmp_path, seed=3, kills=kills, graph="sweep", period=0.05)
    codes = [code for _, _, code in told["ends"]]
    assert told["whole"] == 0 and codes[-1] == 0, told["said"]
    assert set(codes) <= {0, -signal.SIGKILL} and codes.count(-signal.SIGKILL) == kills, told["said"]
    assert told["different"] == []


@pytest.mark.parametrize(("graph", "market"), [("replayed", "made up"), ("paced", "captured")])
def test_a_replay_of_raw_messages_goes_on_with_every_kind_of_record_where_it_was(
    graph: str, market: str, tmp_path: Path, recordings: Path
) -> None:
    """R-6, T2: trades, quotes, books and bars in files; how far each kind had come says where its rows go on."""
    kills, settings = 60 if SOAK else 2, {"speed": 20}
    if market == "captured":
        with gzip.open(recordings / "hftbacktest" / "usdm" / "btcusdt_20240808.gz") as lines:
            (tmp_path / "capture").write_bytes(b"".join(islice(lines, 1000)))
        settings |= {"speed": 10, "capture": str(tmp_path / "capture")}
    told = died(tmp_path, seed=5, kills=kills, graph=graph, period=0.02, **settings)
    codes = [code for _, _, code in told["ends"]]
    assert told["whole"] == 0 and codes[-1] == 0, told["said"]
    assert set(codes) <= {0, -signal.SIGKILL} and codes.count(-signal.SIGKILL) == kills, told["said"]
    assert told["different"] == []
    assert all(there == resumed for there, resumed in told["went_on"]), "from the last checkpoint that was committed"


def rows_committed(output: Path) -> int:
    """Rows in the checkpoints of the only run below `output`, so far."""
    folders = [path for path in output.glob("*/*") if path.name != "latest"]
    return sum(entry.rows or 0 for path in folders for entry in read_manifest(path).committed.checkpoints.values())


def test_penstock_run_that_was_killed_goes_on_with_resume(tmp_path: Path) -> None:
    """R-6, T2: a process of its own, killed once a checkpoint is there; `--resume` says from where it goes on."""
    config = tmp_path / "sweep.yaml"
    config.write_text(json.dumps(changed(SMALL, data__rows=30_000, data__batch_rows=200)))
    process = start_program(tmp_path, "run", config, "--output", "results", "--checkpoint", "10ms", "--quiet")
    try:
        while process.poll() is None and not rows_committed(tmp_path / "results"):
            os.sched_yield()
    finally:
        process.send_signal(signal.SIGKILL)
        code, _, err = await_program(process)
    assert code == -signal.SIGKILL, err
    code, out, err = await_program(start_program(tmp_path, "run", config, "--output", "results", "--resume"))
    assert code == 0, err
    assert "goes on from its checkpoint: " in err
    resumed, whole = left_in(tmp_path / "results"), finish(config, tmp_path / "whole")
    rows = resumed.record["checkpoints"]["resumed_from_rows"]
    assert rows > 0 and resumed.record["checkpoints"]["began"] == f"from its checkpoint at {rows:,} rows"
    assert f": from its checkpoint at {rows:,} rows" in out
    assert resumed.summary_bytes == whole.summary_bytes
    for name in whole.files:
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    code, _, err = await_program(start_program(tmp_path, "run", config, "--resume", "--force"))
    assert code == 2 and "give one of them" in err
