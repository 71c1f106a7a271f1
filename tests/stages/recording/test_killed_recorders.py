"""T2: recorders killed at any step: what they had acknowledged is in files once, and in the log; every file opens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from recordings import committed, directly, messages_of, recorded_rows, same

from pipeline.examination.places import Place
from pipeline.examination.verification import verify
from stages.messages import Messages
from stages.messages.captures import open_captures
from tests.counted import count

SOAK = "PENSTOCK_SOAK" in os.environ


RUNS: tuple[dict[str, Any], ...] = ({"roll_every": "2s"}, {"roll_rows": 900}, {})


def test_killed_anywhere_again_and_again_every_row_is_there_once(recordings: Path, tmp_path: Path) -> None:
    messages = messages_of(recordings).slice(0, 700)
    with pa.ipc.new_file(str(tmp_path / "messages"), messages.to_batch().schema) as writer:
        writer.write(messages.to_batch())
    kills = 400 if SOAK else 17
    runs = [
        {
            "folder": str(tmp_path / f"r{seed}"),
            "acks": str(tmp_path / f"acks{seed}"),
            "seed": seed,
            "settings": settings,
        }
        for seed, settings in enumerate(RUNS)
    ]
    done = subprocess.run(
        [
            sys.executable, str(Path(__file__).with_name("dying_recorder.py")),
            json.dumps({"messages": str(tmp_path / "messages"), "kills": kills, "runs": runs}),
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}, capture_output=True, text=True,
        timeout=3600 if SOAK else 600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected, killed = directly(messages), 0
    for run, ends in zip(runs, json.loads(done.stdout), strict=True):
        assert set(ends) <= {0, -signal.SIGKILL} and ends[-1] == 0, done.stderr
        killed += ends.count(-signal.SIGKILL)
        folder, acknowledged = Path(run["folder"]), np.frombuffer(Path(run["acks"]).read_bytes(), np.int64)
        assert (np.diff(acknowledged) > 0).all() and acknowledged[-1] == len(messages), "some was sent again"
        same(recorded_rows(folder), expected)
        assert list(Messages.concat(list(open_captures(folder).runs()))) == list(messages)
        assert verify(Place(folder)).bad == []
        files = set(folder.rglob("*.parquet"))
        assert files == set(committed(folder)) and not list(folder.rglob("*.tmp"))
        assert all(pq.read_metadata(path).num_rows for path in files)
    count("kills of recorders", killed)
    assert killed >= 40
