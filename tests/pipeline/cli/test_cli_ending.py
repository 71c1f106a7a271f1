"""The last line of a run works as it is printed, in whatever folder and environment."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.program import penstock
from tests.patience import SECONDS

CONFIG = """\
name: small
topology: backtest
containers:
  data: {type: synthetic, rows: 400}
  portfolio_*: {data_flow: {persistence: {on_completion: true}}}
"""


@pytest.mark.parametrize("python", ["elsewhere", "below", "on the path"])
@pytest.mark.parametrize("folder", ["plain", 'it\'s a "folder" with spaces'])
def test_the_line_that_says_where_to_look_runs_in_a_shell(
    python: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / folder
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "small.yaml").write_text(CONFIG)
    if python == "below":
        below = here / ".venv" / "bin" / "python"
        below.parent.mkdir(parents=True)
        below.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        below.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(below))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) if python == "on the path" else "/usr/bin:/bin")
    told = CliRunner().invoke(penstock, ["run", "small.yaml"], catch_exceptions=False)
    line = told.stdout.splitlines()[-1].removeprefix("look at them ").strip()
    begins = {"elsewhere": shlex.quote(sys.executable), "below": ".venv/bin/python", "on the path": "python"}
    if python != "on the path" or shutil.which("python") == sys.executable:
        assert line.startswith(f"{begins[python]} -c ")
    shown = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("pyarrow.Table")
