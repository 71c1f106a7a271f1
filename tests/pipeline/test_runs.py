"""A whole run is read from any of its folders, phase by phase, in the order they ran."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline import InputError, PhaseResults, Pipeline, open_results, open_run
from pipeline.clock import SystemClock

SUMMARY = {
    "format": 1, "name": "small", "status": "complete", "container_results": {}, "aggregate_metrics": {},
    "ledger": {"edges": [], "containers": {}}, "hashes": {},
}  # fmt: skip


def phase(run: Path, name: str, started_ns: int | None, folder: str | None = None) -> Path:
    """The folder of a complete phase; without a start there is no `run.json`."""
    path = run / (folder or name)
    path.mkdir(parents=True)
    (path / "summary.json").write_text(json.dumps({**SUMMARY, "phase": name}))
    if started_ns is not None:
        (path / "run.json").write_text(json.dumps({"started_ns": started_ns}))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three phases that ran in another order than that of their names, and what a broken try leaves beside them."""
    folder = tmp_path / "results" / "small" / "abc"
    for started, name in enumerate(("train", "validate", "report"), 1):
        phase(folder, name, started)
    phase(folder, "train", 9, ".train.complete")
    (folder / "validate.failed").mkdir()
    (folder.parent / "latest").symlink_to("abc")
    return folder


def names(phases: list[PhaseResults]) -> list[str]:
    return [each.summary.phase for each in phases]


def test_phases_come_in_the_order_they_ran(run: Path) -> None:
    for path in (run, run.parent, run.parent / "latest", str(run)):
        assert names(list(open_run(path))) == ["train", "validate", "report"]


def test_a_phase_asked_for_comes_last(run: Path) -> None:
    assert names(list(open_run(run, "validate"))) == ["train", "validate"]
    assert names(list(open_run(run / "validate"))) == ["train", "validate"]
    assert names(list(open_run(run / "train"))) == ["train"]


def test_a_phase_folder_can_be_named_from_within(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "validate")
    assert names(list(open_run("."))) == ["train", "validate"]


def test_without_a_record_the_order_is_that_of_the_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        phase(tmp_path, name, None)
    found = open_run(tmp_path)
    assert names(list(found)) == ["a", "b"] and found[0].record == {}


def test_what_cannot_be_read_says_what_was_expected(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere; expected a run's folder"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no phase summary"):
        open_run(tmp_path)
    with pytest.raises(InputError, match="no complete phase 'trial'; it has train, validate, report"):
        open_run(run, "trial")
    (run / "train" / "summary.json").write_text("{")
    assert names(list(open_run(run))) == ["validate", "report"]
    with pytest.raises(InputError, match=r"train/summary.json is damaged"):
        open_run(run, "train")


def test_a_last_phase_that_is_damaged_is_told_and_not_left_out(run: Path) -> None:
    (run / "report" / "summary.json").write_text("{")
    for path in (run, run.parent):
        with pytest.raises(InputError, match=r"report/summary.json is damaged, .* or look at another phase"):
            open_run(path)
    assert names(list(open_run(run, "validate"))) == ["train", "validate"]


class SteppingBack(SystemClock):
    """A wall clock that is set back by an hour each time it is looked at, as by a bad time server."""

    hours = 500_000

    def now_ns(self) -> int:
        self.hours -= 1
        return self.hours * 3_600_000_000_000


async def test_phases_keep_their_order_where_the_clock_steps_back(tmp_path: Path) -> None:
    """E22: what was committed later is later, whatever time it was; times of files are no better than the clock."""
    containers = {
        "data": {"type": "synthetic", "schema": "trade", "rows": 300},
        "bars": {"type": "bars", "every": "1m", "inputs": ["data"]},
    }
    phases = [{"name": name} for name in ("z_first", "m_second", "a_third")]
    pipeline = Pipeline.from_yaml({"name": "back", "containers": containers, "phases": phases}, output=tmp_path)
    await Pipeline(pipeline.plan, SteppingBack()).run()
    for hours, name in enumerate(("a_third", "m_second", "z_first"), 100):
        os.utime(tmp_path / "back" / "latest" / name / "summary.json", (hours * 3600, hours * 3600))
    assert names(list(open_run(tmp_path / "back"))) == ["z_first", "m_second", "a_third"]
    assert open_results(tmp_path / "back").summary.phase == "a_third"
