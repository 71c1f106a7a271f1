"""A real walk forward, from its configuration to the page: the joined history is the one the run published."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline import Pipeline, open_run
from stages.report.examined import examine, followers
from stages.report.report import backtest_report, page_of
from stages.report.windows import Windows, windows_of

WALK = {
    "name": "walk",
    "topology": "backtest",
    "containers": {
        "data": {"type": "synthetic", "schema": "bar", "rows": 1200, "interval": "15m", "trend": 0.03, "seed": 5},
        "portfolio_*": {"strategy": {"type": "sma_cross", "quantity": 300, "short": True}},
    },
    "parameter_space": {"fast": [2, 4, 8], "slow": [12, 20]},
    "walk_forward": {"train": "4d", "test": "2d", "select": {"top": 3}},
}


@pytest.fixture(scope="module")
def phases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What each phase of the walk has left."""
    output = tmp_path_factory.mktemp("walk")
    asyncio.run(Pipeline.from_yaml(WALK, output=output).run())
    return open_run(output / "walk")


def test_the_windows_are_those_the_run_joined(phases: Any) -> None:
    examined = examine(phases)
    assert [phase.left.summary.phase for phase in examined] == [each.summary.phase for each in phases[:-1]]
    follow = followers(examined)
    assert [(before.name, after.name) for before, after in follow] == [
        (f"train_{step:03d}", f"test_{step:03d}") for step in range(len(follow))
    ]
    windows = windows_of(follow, phases)
    assert isinstance(windows, Windows) and windows.count == len(follow) >= 3
    joined = phases[-1].summary.aggregate_metrics["joined"]
    assert windows.joined == joined
    assert windows.chosen.total_return == pytest.approx(joined["total_return"])
    assert -windows.chosen.drawdown().min() == pytest.approx(joined["max_drawdown"])
    assert windows.baseline is not None, "every window has its own, stitched alike"


def test_the_page_tells_windows_selection_and_what_became_of_it(phases: Any) -> None:
    made = backtest_report(phases)
    assert made is not None
    words = dict(made.words)
    assert words["return, all windows"].startswith(
        f"{phases[-1].summary.aggregate_metrics['joined']['total_return']:.2%}"
    )
    examined = examine(phases)
    page = page_of(examined, windows_of(followers(examined), phases))
    assert [plot.name for plot in page.plots][:2] == ["stitched", "in-and-out"]
    (table,) = [each.table for each in page.sections[0].shown if each.table is not None]
    first = [cell.text for cell in table.rows[0]]
    assert first[:4] == ["train_000", "test_000", "2024-01-05 to 2024-01-07", "3"]
    assert page.facts["Window"] == examined[-1].window != ""


def test_asked_for_a_train_phase_the_page_knows_nothing_of_what_came_after(phases: Any) -> None:
    examined = examine(phases[:1])
    assert windows_of(followers(examined), phases[:1]) is None
    page = page_of(examined)
    assert page.subtitle == "Backtest, phase train_000" and page.sections[0].name == "ranking"
