"""`penstock report`: where the page goes, what is printed, and what is said where there is nothing to show."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pipeline import InputError, Registry, Report, open_run
from pipeline.cli.report import made_of, write_whole

Penstock = Callable[..., Result]

SWEEP = """\
name: small
topology: backtest
containers:
  data: {type: synthetic, rows: 3000, seed: 1}
parameter_space:
  fast: [5, 10]
  slow: [20, 40]
"""
SHOWN = """\
name: shown
containers:
  data: {type: synthetic, rows: 50}
  show: {type: console, inputs: [data]}
"""


@pytest.fixture
def swept(penstock: Penstock, tmp_path: Path) -> Path:
    """`results/small`, of a run that has ended."""
    (tmp_path / "small.yaml").write_text(SWEEP)
    told = penstock("run", "small.yaml", "--quiet")
    assert told.exit_code == 0, told.stderr
    return tmp_path / "results" / "small"


def test_the_page_lies_in_the_runs_folder_and_the_table_is_printed(penstock: Penstock, swept: Path) -> None:
    for folder in (swept, swept / "latest", swept / "latest" / "run"):
        told = penstock("report", folder)
        assert told.exit_code == 0, told.stderr
        page = swept / "latest" / "report.html"
        assert page.is_file() and "<!doctype html>" in page.read_text()[:500]
        page.unlink()
        lines = told.stdout.splitlines()
        assert lines[0] == "small: run" and "portfolio_000" in told.stdout
        assert lines[-1].split() == ["page", "results/small/latest/report.html"]
    assert not list((swept / "latest").glob(".*.tmp"))


def test_the_page_goes_where_it_is_asked_to(penstock: Penstock, swept: Path, tmp_path: Path) -> None:
    told = penstock("report", swept, "--output", "pages/mine.html", "--phase", "run")
    assert told.exit_code == 0, told.stderr
    assert (tmp_path / "pages" / "mine.html").is_file()
    assert told.stdout.splitlines()[-1].endswith("pages/mine.html")


def test_a_run_is_as_complete_as_before_it_was_reported_on(penstock: Penstock, swept: Path) -> None:
    assert penstock("report", swept).exit_code == 0
    assert penstock("run", "small.yaml", "--quiet").stdout.startswith("already complete")


def test_r4_a_damaged_manifest_is_refused_and_opened_with_repair(penstock: Penstock, swept: Path) -> None:
    """R-4: nothing is lost silently."""
    folder = (swept / "latest").resolve()
    manifest = max(folder.glob("MANIFEST-*"))
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join([lines[0], b"x" + lines[1][1:], *lines[2:], b"x" * 9 + b"\n"]))
    assert penstock("run", "small.yaml").exit_code == 0, "a single commit that is bad at its end was never acknowledged"
    manifest = max(folder.glob("MANIFEST-*"))
    lines = manifest.read_bytes().splitlines(keepends=True)
    damaged = b"x" + lines[0][1:]
    manifest.write_bytes(b"".join([damaged, *lines[1:]]))
    told = penstock("run", "small.yaml")
    assert told.exit_code == 1 and "does not begin with a valid snapshot" in told.stderr and "--repair" in told.stderr
    told = penstock("run", "small.yaml", "--repair")
    assert told.exit_code == 0 and "is lost: " in told.stderr
    assert any(path.read_bytes().startswith(damaged) for path in (folder / "quarantine").iterdir())
    assert "already complete" in penstock("run", "small.yaml").stdout


def test_a_damaged_result_is_told_by_name_and_made_again(penstock: Penstock, swept: Path) -> None:
    kept = swept / "latest" / "run" / "containers" / "portfolio" / "equity.parquet"
    whole = kept.read_bytes()
    for damage in (lambda: kept.write_text("x\n"), kept.unlink):
        damage()
        told = penstock("report", swept)
        assert told.exit_code == 1 and "equity.parquet" in told.stderr and "with --force" in told.stderr
        told = penstock("run", "small.yaml")
        assert told.exit_code == 0 and "already complete" not in told.stdout
        assert "phase 'run' has been complete, but containers/portfolio/equity.parquet" in told.stderr
        assert kept.read_bytes() == whole
    (swept / "latest" / "run" / "run.json").write_text("{")
    told = penstock("run", "small.yaml")
    assert "phase 'run' has been complete, but run.json was found damaged" in told.stderr


def test_what_is_not_there_ends_with_1_and_a_sentence(penstock: Penstock, swept: Path) -> None:
    told = penstock("report", "nowhere")
    assert told.exit_code == 1 and "error: there is no folder nowhere" in told.stderr
    told = penstock("report", swept, "--phase", "trial")
    assert told.exit_code == 1 and "no complete phase 'trial'; it has run" in told.stderr


def test_a_missing_library_ends_with_1_and_what_to_install(
    penstock: Penstock, swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    if "plotly" in sys.modules:
        monkeypatch.delattr(sys.modules["plotly"], "graph_objects", raising=False)
    told = penstock("report", swept)
    assert told.exit_code == 1 and "pip install 'penstock[report]'" in told.stderr
    assert not (swept / "latest" / "report.html").exists()


def test_a_run_nobody_knows_to_report_on_is_told(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "shown.yaml").write_text(SHOWN)
    assert penstock("run", "shown.yaml", "--quiet").exit_code == 0
    told = penstock("report", "results/shown")
    assert told.exit_code == 1
    assert "no report knows what to say of phase 'run'" in told.stderr and "reports on: backtest" in told.stderr


def test_the_first_report_that_knows_the_run_makes_the_page(swept: Path) -> None:
    registry = Registry()
    phases = open_run(swept)
    with pytest.raises(InputError, match="there are reports on: nothing"):
        made_of(phases, registry)
    made = Report("<html>", open_run(swept)[0]["execution"]["ranking"])
    registry.add_report("b", lambda phases: made)
    registry.add_report("a", lambda phases: None)
    registry.add_report("c", lambda phases: pytest.fail("another has made it"))
    assert made_of(phases, registry) is made


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_whole(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
