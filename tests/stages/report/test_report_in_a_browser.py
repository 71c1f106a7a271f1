"""The page in a real browser: drawn without an error, without a request, on a desktop and on a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browser import open_pages
from made_runs import MadeRun, grid

from pipeline import open_run
from stages.report.report import backtest_report

HOSTILE = """</script><b class="injected">x</b><img src=x onerror="document.documentElement.dataset.error='run'">'"&"""
DESKTOP, PHONE = 1280, 390


def written(folder: Path, phase: str | None = None) -> Path:
    made = backtest_report(open_run(folder, phase))
    assert made is not None
    page = folder / f"{phase}.html"
    page.write_text(made.html)
    return page


def walk_forward(folder: Path) -> Path:
    """Two searches, each followed by a window of its best five."""
    run = MadeRun(folder, name=f"walk {HOSTILE}")
    space = grid(quantity=[1.0], fast=[5, 10, 20], slow=[30, 60, 90], kind=["a", HOSTILE])
    for k in range(2):
        run.phase(f"train_{k}", space, seed=k, first_day=60 * k, errors={3: HOSTILE}, idle=[4], strategy=HOSTILE)
        best = [row for row in run.rankings[f"train_{k}"].slice(0, 6).to_pylist() if not row["baseline"]][:5]
        run.phase(
            f"test_{k}", [json.loads(row["parameters"]) for row in best], names=[row["container"] for row in best],
            seed=9 + k, days=60, first_day=200 + 60 * k, earlier=f"train_{k}", strategy=HOSTILE,
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of each page, from one start of the browser."""
    folder = tmp_path_factory.mktemp("pages")
    many = MadeRun(folder / "many")
    many.phase("optimize", grid(fast=range(5, 105), slow=range(110, 160)), days=40)
    nobody = MadeRun(folder / "nobody")
    nobody.phase("run", grid(fast=[1]), errors={0: "boom"}, baseline=False)
    alone = MadeRun(folder / "alone")
    alone.phase("run", grid(fast=[1]), objective="max_drawdown", baseline=False)
    walk = written(walk_forward(folder / "walk"))
    pages = {
        "walk": (walk, DESKTOP),
        "walk on a phone": (walk, PHONE),
        "search": (written(folder / "walk", "train_0"), DESKTOP),
        "many on a phone": (written(folder / "many"), PHONE),
        "nobody on a phone": (written(folder / "nobody"), PHONE),
        "alone on a phone": (written(folder / "alone"), PHONE),
    }
    return dict(zip(pages, open_pages(list(pages.values()), folder), strict=True))


def test_every_plot_is_drawn_and_nothing_fails(seen: dict[str, dict[str, Any]]) -> None:
    plots = {name: [plot["name"] for plot in page["plots"]] for name, page in seen.items()}
    assert plots == {
        "walk": ["stitched", "in-and-out", "equity", "drawdown", "landscape", "spread"],
        "walk on a phone": ["stitched", "in-and-out", "equity", "drawdown", "landscape", "spread"],
        "search": ["equity", "drawdown", "landscape", "spread"],
        "many on a phone": ["equity", "drawdown", "landscape", "spread"],
        "nobody on a phone": [],
        "alone on a phone": ["equity", "drawdown", "spread"],
    }
    for name, page in seen.items():
        assert page["error"] is None, name
        assert page["drawn"] == len(page["plots"]), name
        for plot in page["plots"]:
            assert plot["svg"] > 0 and plot["marks"] > 0, (name, plot)


def test_nothing_is_wider_than_its_screen(seen: dict[str, dict[str, Any]]) -> None:
    for name, page in seen.items():
        assert page["width"] == (PHONE if "phone" in name else DESKTOP), name
        assert page["overflow"] <= 0, name
        for plot in page["plots"]:
            assert plot["width"] <= page["width"] and plot["widest"] <= plot["width"], (name, plot)


def test_nothing_is_asked_of_the_network(seen: dict[str, dict[str, Any]]) -> None:
    assert all(page["requests"] == [] for page in seen.values())


def test_names_and_parameters_are_text_whatever_they_hold(seen: dict[str, dict[str, Any]]) -> None:
    assert all(page["injected"] == 0 for page in seen.values())
    assert HOSTILE in seen["walk"]["title"]


def test_a_click_sorts_the_ranking_and_another_turns_it_round(seen: dict[str, dict[str, Any]]) -> None:
    page = seen["search"]
    shown = [float(text) for text in page["descending"] if text != "–"]
    assert len(page["descending"]) == 19, "eighteen and the baseline"
    assert shown == sorted(shown, reverse=True) and len(set(shown)) > 10
    assert page["descending"][-2:] == page["ascending"][-2:] == ["–", "–"], "one idle, one failed: last either way"
    assert [float(text) for text in page["ascending"][:-2]] == shown[::-1]


def test_a_page_of_thousands_is_bounded(seen: dict[str, dict[str, Any]]) -> None:
    assert len(seen["many on a phone"]["rows"]) == 51, "fifty and the baseline"
