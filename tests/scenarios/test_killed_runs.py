"""T2 for the whole program: `penstock run` killed at a system call, then gone on with, ends as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from whole_runs import SMALL, await_program, changed, environment, finish, left_in, start_program

from tests.counted import count

SOAK = "PENSTOCK_SOAK" in os.environ
POINTS = [("fdatasync", 1)]
"""Counted for each thread by itself."""
if SOAK:
    POINTS = [
        (call, number)
        for call in ("openat", "pwritev", "fdatasync", "fsync", "rename", "unlink", "link", "mkdir", "ftruncate")
        for number in range(1, 40)
    ]


def run_under_strace(folder: Path, call: str, number: int) -> int:
    """How the program ended: killed by the kernel at this call of one of its threads, or in its own way."""
    strace = shutil.which("strace")
    assert strace, "these tests need Debian's package strace: `make test` installs it where it may"
    done = subprocess.run(
        [strace, "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={call}",
         "-e", f"inject={call}:signal=KILL:when={number}",
         sys.executable, "-m", "pipeline", "run", "small.yaml", "--output", "out", "--checkpoint", "0.05s"],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done.returncode


@pytest.mark.parametrize(("call", "number"), POINTS)
def test_t2_a_run_that_is_killed_at_a_system_call_goes_on_to_the_same_bytes(
    call: str, number: int, tmp_path: Path
) -> None:
    """R-6: what it leaves then is what an undisturbed run leaves."""
    config = changed(SMALL, portfolio__data_flow={"mode": "hybrid", "memory_limit_mb": 0.01})
    (tmp_path / "small.yaml").write_text(json.dumps(config))
    code = run_under_strace(tmp_path, call, number)
    killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert killed or code == 0, code
    count("kills of whole runs", killed)
    told = await_program(start_program(tmp_path, "run", "small.yaml", "--output", "out", "--resume"))
    assert told[0] == 0, told
    left, wanted = left_in(tmp_path / "out"), finish(config, tmp_path / "whole")
    assert left.summary_bytes == wanted.summary_bytes
    assert sorted(left.files) == sorted(wanted.files)
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert killed or SOAK
