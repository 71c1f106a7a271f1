"""Phases on the command line: checked with their windows, explained one by one, and a table of what became of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Penstock = Callable[..., Result]

PHASED = """\
name: phased
containers:
  data: {type: synthetic, rows: 3000, interval: 1m, seed: 3, volatility: 0.001}
  portfolio_*: {fills: {fee_bps: 1}}
parameter_space: {fast: [3, 5], slow: [20, 40]}
phases:
  - {name: train, window: {until: 2024-01-02}}
  - name: validate
    window: {from: 2024-01-02, until: 2024-01-03}
    select: {from: train, top: 2, by: total_return}
    warmup: 100 bars
    containers: {portfolio_0001: {fills: {fee_bps: 5}}}
"""


@pytest.fixture
def phased(tmp_path: Path) -> Path:
    path = tmp_path / "phased.yaml"
    path.write_text(PHASED)
    return path


def test_check_shows_each_phase_with_its_window_and_whom_it_runs(penstock: Penstock, phased: Path) -> None:
    lines = penstock("check", phased).stdout.splitlines()
    assert lines[0] == "ok: 4 containers, 4 combinations, phases train, validate"
    assert [line.strip() for line in lines[-2:]] == [
        "train     .. 2024-01-02",
        "validate  2024-01-02 .. 2024-01-03  warm-up 100 bars, top 2 of train by total_return",
    ]


def test_check_tells_what_is_wrong_with_a_phase_and_where(penstock: Penstock, phased: Path) -> None:
    phased.write_text(PHASED.replace("by: total_return", "by: totl_return").replace("from: 2024-01-02,", "from: 2024,"))
    told = penstock("check", phased)
    assert told.exit_code == 2
    assert "phased.yaml:9: phases.1.window.from: expected a time such as '2024-05-01T12:00:00Z'" in told.stderr


def test_explain_shows_a_phase_as_it_applies(penstock: Penstock, phased: Path) -> None:
    def fee(*words: str) -> list[str]:
        lines = penstock("explain", phased, *words).stdout.splitlines()
        return next(line.split() for line in lines if line.startswith("fills.fee_bps"))

    assert fee("portfolio_0001") == ["fills.fee_bps", "1", "phased.yaml:4"]
    assert fee("portfolio_0001", "--phase", "validate") == ["fills.fee_bps", "5", "phased.yaml:12"]
    assert fee("portfolio_0000", "--phase", "validate") == ["fills.fee_bps", "1", "phased.yaml:4"]
    rows = penstock("explain", phased).stdout
    assert "phases.1.select.top" in rows and "phases.1.warmup" in rows
    told = penstock("explain", phased, "--phase", "valdate")
    assert told.exit_code == 2
    assert "no phase has this name, found 'valdate'; did you mean 'validate'?" in told.stderr


def test_a_run_ends_in_a_table_of_its_phases(penstock: Penstock, phased: Path) -> None:
    told = penstock("run", phased)
    assert told.exit_code == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == "phases"
    heads = lines[1].split()
    assert heads[:4] == ["phase", "window", "portfolios", "best"] and heads[-2:] == ["in_sample", "out_of_sample"]
    train, validate = (line.split() for line in lines[3:5])
    assert train[:4] == ["train", "..", "2024-01-02", "4"] and train[-2:] == ["-", "-"]
    assert validate[:5] == ["validate", "2024-01-02", "..", "2024-01-03", "2"]
    assert all(float(word) for word in validate[-2:])
    assert "train: execution" in lines and "validate: execution" in lines
    assert "already complete" in penstock("run", phased).stdout
