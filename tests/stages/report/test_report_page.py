"""What the page says: the figures at its top, the doubts, what is bounded, and what it makes of phases in a row."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import MadeRun, grid

from pipeline import InputError, PenstockError, Report, open_run
from stages.report.curves import MOST_POINTS, Curve, stitched
from stages.report.drawing import MOST_MARKS, in_and_out_plot
from stages.report.examined import Examined, examine, followers, search_of
from stages.report.page import Page, Section, embedded
from stages.report.report import backtest_report, page_of
from stages.report.windows import windows_of

SPACE = grid(fast=[5, 10, 20], slow=[30, 60, 90])


def page_at(folder: Path, phase: str | None = None) -> Page:
    phases = open_run(folder, phase)
    examined = examine(phases)
    return page_of(examined, windows_of(followers(examined), phases))


def report_at(folder: Path) -> Report:
    made = backtest_report(open_run(folder))
    assert made is not None
    return made


def section(page: Page, name: str) -> Section:
    return next(each for each in page.sections if each.name == name)


def headline(page: Page) -> dict[str, str]:
    return {figure.label: figure.value for figure in page.headline}


def heads(page: Page) -> list[str]:
    return [doubt.head for doubt in page.doubts]


def walk(folder: Path, windows: int = 3, days: int = 60) -> MadeRun:
    """Searches of 200 days, each followed by the `days` after it with the best four, under names of their own."""
    run = MadeRun(folder)
    for k in range(windows):
        run.phase(f"train_{k}", SPACE, seed=k, first_day=60 * k)
        best = [row for row in run.rankings[f"train_{k}"].slice(0, 5).to_pylist() if not row["baseline"]][:4]
        run.phase(
            f"test_{k}", [json.loads(row["parameters"]) for row in best],
            seed=90 + k, days=days, first_day=200 + 60 * k, earlier=f"train_{k}",
        )  # fmt: skip
    return run


def test_the_top_tells_the_best_against_the_baseline_and_out_of_how_many(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.phase("optimize", SPACE, errors={2: "boom"}, idle=[4])
    page = page_at(tmp_path)
    best = run.rankings["optimize"].slice(0, 1).to_pylist()[0]
    assert page.chosen == best["container"]
    assert page.parameters == {"strategy": "SmaCross", **{k: str(v) for k, v in json.loads(best["parameters"]).items()}}
    told = headline(page)
    assert list(told) == ["Sharpe", "Baseline", "Total return", "Largest drawdown", "Trials", "Deflated Sharpe"]
    assert (told["Sharpe"], told["Trials"]) == (f"{best['sharpe']:.3f}", "9")
    assert [each.name for each in page.sections] == [
        *("ranking", "equity", "parameters", "spread", "statistics", "failures", "ledger", "measured", "hashes"),
    ]


def test_doubts_are_told_with_their_figures(tmp_path: Path) -> None:
    MadeRun(tmp_path).phase("optimize", SPACE, errors={2: "boom"}, idle=[4], days=40, status="interrupted")
    page = page_at(tmp_path)
    assert {"Interrupted", "Failures", "Undefined", "In sample only", "Few returns"} <= set(heads(page))
    assert page.facts["Status"] == "interrupted"
    told = {doubt.head: doubt.sentence for doubt in page.doubts}
    assert told["Failures"].startswith("1 of 9 portfolios")
    assert told["Undefined"].startswith("1 of 8 portfolios have no sharpe")


def test_luck_is_doubted_below_ninety_five_percent(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.phase("optimize", SPACE)
    deflated = examine(open_run(tmp_path))[0].figures["selection"]["deflated_sharpe"]
    assert ("It may be luck" in heads(page_at(tmp_path))) == (deflated < 0.95)
    assert next(figure.state for figure in page_at(tmp_path).headline if figure.label == "Deflated Sharpe") == (
        "doubtful" if deflated < 0.95 else ""
    )


def test_a_baseline_that_is_better_is_a_doubt(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.phase("optimize", SPACE, objective="volatility_ann")
    page = page_at(tmp_path)
    assert "No better than holding" not in heads(page), "less of it is better, and the portfolios hold less"
    run.phase("worse", SPACE, seed=4, objective="volatility_ann")
    phases = examine(open_run(tmp_path))
    rows = phases[-1].rows
    rows.sort(key=lambda row: not row["baseline"])
    rows[0]["volatility_ann"] = 1e-6
    assert "No better than holding" in heads(page_of(phases))


def test_a_phase_that_selects_is_shown_with_what_it_selected_from(tmp_path: Path) -> None:
    run = walk(tmp_path, windows=1)
    page = page_at(tmp_path)
    chosen = run.rankings["train_0"].slice(0, 1).to_pylist()[0]
    assert page.parameters["fast"] == str(json.loads(chosen["parameters"])["fast"]), "the best of the search"
    assert page.headline[0].note.startswith("out of sample; ") and page.headline[0].note.endswith(" in train_0")
    assert "In sample only" not in heads(page)
    assert page.sections[0].name == "out-of-sample"
    (table,) = [each.table for each in section(page, "out-of-sample").shown if each.table]
    assert len(table.rows) == 1
    assert section(page, "parameters").shown[0].caption.startswith("Sharpe of SmaCross in train_0 by fast and slow.")
    assert "stitched" not in [plot.name for plot in page.plots], "one window is no walk"


def test_windows_in_a_row_are_one_curve(tmp_path: Path) -> None:
    run = walk(tmp_path)
    page = page_at(tmp_path)
    (plot,) = [plot for plot in page.plots if plot.name == "stitched"]
    mine, held = plot.figure["data"]
    assert len(mine["x"]) == len(held["x"]) == 180 and mine["x"] == sorted(mine["x"])
    grown = 1.0
    for k in range(3):
        best = run.rankings[f"train_{k}"].slice(0, 1).to_pylist()[0]["parameters"]
        rows = run.rankings[f"test_{k}"].to_pylist()
        (row,) = [row for row in rows if row["parameters"] == best and not row["baseline"]]
        grown *= 1 + row["total_return"]
    assert mine["y"][-1] == pytest.approx(grown)
    assert headline(page)["Return, all windows"] == f"{grown - 1:.2%}"
    assert headline(page)["Trials"] == "9"


def test_windows_that_overlap_are_no_single_story(tmp_path: Path) -> None:
    walk(tmp_path, days=61)
    page = page_at(tmp_path)
    assert "stitched" not in [plot.name for plot in page.plots]
    assert "in-and-out" in [plot.name for plot in page.plots]


def test_an_earlier_phase_can_be_asked_for(tmp_path: Path) -> None:
    walk(tmp_path)
    page = page_at(tmp_path, "train_1")
    assert page.subtitle == "Backtest, phase train_1"
    assert headline(page)["Sharpe"]


def test_windows_and_selections_of_a_summary_are_told_where_it_has_them(tmp_path: Path) -> None:
    @dataclass
    class Told:
        phase: str
        window: Any = None
        selection: Any = None

    class Left:
        def __init__(self, summary: Told) -> None:
            self.summary = summary

    def phase(name: str, **more: Any) -> Examined:
        left: Any = Left(Told(name, **more))
        return Examined(left, "execution", {"objective": "sharpe", "earlier": {"other": None}})

    days = {"from": "2024-01-01T00:00:00Z", "until": 1_709_251_200_000_000_000, "warmup_from": None}
    train, test, final = phase("train"), phase("test", window=days, selection={"phase": "train", "top": 3}), phase("x")
    assert test.window == "2024-01-01 to 2024-03-01" and train.window == ""
    assert (test.parent, final.parent) == ("train", "other")
    assert phase("y", window={"from": "2024-01-01T09:30:00+00:00"}).window == "from 2024-01-01 09:30"
    assert search_of(test, [train, test]) is train
    assert search_of(final, [train, test, final]) is final, "a phase that is not there cannot be shown"
    assert followers([train, test, final]) == [(train, test)]


def test_without_kept_equity_the_page_says_so(tmp_path: Path) -> None:
    MadeRun(tmp_path).phase("run", SPACE, keep_equity=False)
    equity = section(page_at(tmp_path), "equity")
    assert "No equity was kept" in equity.intro and not equity.shown


def test_a_ranking_that_was_not_kept_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    folder = MadeRun(tmp_path).phase("run", SPACE)
    summary = json.loads((folder / "summary.json").read_text())
    summary["container_results"]["execution"]["keys"]["ranking"]["path"] = None
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"phase 'run' has not kept its ranking; .*on_completion: true"):
        backtest_report(open_run(tmp_path))


def test_a_run_without_portfolios_is_not_for_this_report(tmp_path: Path) -> None:
    folder = MadeRun(tmp_path).phase("run", SPACE)
    summary = json.loads((folder / "summary.json").read_text())
    summary["aggregate_metrics"] = {"bars": {"bars": 7}}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert backtest_report(open_run(tmp_path)) is None


def test_the_terminal_is_told_the_head_of_the_ranking_with_the_baseline(tmp_path: Path) -> None:
    MadeRun(tmp_path).phase("optimize", grid(fast=range(40)))
    made = report_at(tmp_path)
    assert made.title == "made: optimize"
    ranks = made.table.column("rank").to_pylist()
    assert [rank for rank in ranks if rank is not None] == list(range(1, 11)) and ranks.count(None) == 1
    assert dict(made.words)["trials"].startswith("40  portfolios in optimize")


def test_the_page_is_the_same_bytes_each_time_and_holds_the_library_once(tmp_path: Path) -> None:
    MadeRun(tmp_path).phase("optimize", SPACE)
    first, second = report_at(tmp_path).html, report_at(tmp_path).html
    assert first == second
    assert first.count("plotly.js v") == 1
    assert not re.search(r"""(src|href)=["']https?:""", first.replace(_library(first), ""))


def _library(page: str) -> str:
    return max(re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL), key=len)


def test_a_page_without_plots_does_without_the_library(tmp_path: Path) -> None:
    MadeRun(tmp_path).phase("run", grid(fast=[1]), errors={0: "boom"}, baseline=False)
    assert len(report_at(tmp_path).html) < 50_000


def test_what_is_embedded_cannot_end_its_element() -> None:
    hostile = {"name": "</script><!-- & \u2028 é"}
    text = embedded(hostile)
    assert "<" not in text and "&" not in text and "\u2028" not in text
    assert json.loads(text) == hostile
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded(float("nan"))


def test_points_and_curves_are_bounded(tmp_path: Path) -> None:
    times = np.arange(50_000).astype("datetime64[s]").astype("datetime64[ns]")
    curve = Curve(times, np.linspace(1, 2, 50_000), 1.0)
    shown = curve.thinned()
    assert len(shown) == MOST_POINTS and shown[0] == 0 and shown[-1] == 49_999
    many = [(float(n), float(n), "p") for n in range(5 * MOST_MARKS)]
    assert len(in_and_out_plot(many[::5], [], "sharpe").figure["data"][1]["x"]) == MOST_MARKS


def test_curves_are_stitched_by_growth_not_by_level() -> None:
    def curve(first: int, levels: list[float], start: float) -> Curve:
        times = np.datetime64("2024-01-01", "ns") + np.timedelta64(1, "D") * np.arange(first, first + len(levels))
        return Curve(times, np.array(levels), start)

    early, late = curve(0, [110.0, 120.0], 100.0), curve(2, [900.0, 1100.0], 1000.0)
    for order in ([early, late], [late, early]):
        whole = stitched(order)
        assert whole is not None
        assert whole.equity.tolist() == pytest.approx([110.0, 120.0, 108.0, 132.0])
        assert whole.total_return == pytest.approx(0.32)
        assert whole.drawdown().tolist() == pytest.approx([0, 0, -0.1, 0])
    assert stitched([early]) is None and stitched([]) is None
    assert stitched([early, curve(1, [1.0], 1.0)]) is None


def test_the_first_fall_is_from_the_start() -> None:
    curve = Curve(np.array(["2024-01-01"], "datetime64[ns]"), np.array([80.0]), 100.0)
    assert curve.drawdown().tolist() == pytest.approx([-0.2])


@pytest.mark.parametrize("library", ["plotly.graph_objects", "jinja2"])
def test_a_missing_library_is_told_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    MadeRun(tmp_path).phase("optimize", SPACE)
    plotly = importlib.import_module("plotly")
    modules: Mapping[str, Any] = {library: None}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    if library == "plotly.graph_objects":
        monkeypatch.delitem(vars(plotly), "graph_objects", raising=False)
    with pytest.raises(PenstockError, match=r"needs plotly and jinja2 .*pip install 'penstock\[report\]'"):
        backtest_report(open_run(tmp_path))
