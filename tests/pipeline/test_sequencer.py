"""Phases in order, each awaited to its end and published whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline import Batch, PhaseFailed, Pipeline, Registry, Stage, StorageFailed, TopologyBuilder
from pipeline.folder import RunFolder
from pipeline.plans import PhasePlan, RunPlan
from pipeline.testing import ListFeed, ListSink, Mark

SWEEP = """
name: two
containers:
  data: {type: synthetic, rows: 500}
phases:
  - {name: first}
  - {name: second, needs: [first]}
"""


def plan(folder: Path, *phases: PhasePlan) -> Pipeline:
    return Pipeline(RunPlan(name="phased", phases=phases, output=folder))


def topology(items: list[Any], into: list[Batch]) -> Any:
    return TopologyBuilder().add("data", ListFeed(items=items)).add("sink", ListSink(into=into), ["data"]).build()


async def test_phases_run_in_order_and_each_leaves_its_three_files(tmp_path: Path) -> None:
    pipeline = Pipeline.from_yaml(SWEEP, output=tmp_path)
    async with pipeline.start() as run:
        summary = await run.finished()
    assert summary.phase == "second"
    assert list(run.summaries) == ["first", "second"]
    assert run.folder is not None
    for phase in ("first", "second"):
        folder = run.folder / phase
        assert json.loads((folder / "summary.json").read_text())["phase"] == phase
        assert json.loads((folder / "run.json").read_text())["status"] == "complete"
        names = pq.read_table(folder / "containers.parquet").column("name").to_pylist()
        assert names == ["data", "features", "portfolio", "portfolio_0000", "portfolio_baseline", "execution"]
    assert not list(run.folder.rglob("*.tmp"))


async def test_a_failed_phase_keeps_later_ones_from_starting(tmp_path: Path) -> None:
    into: list[Batch] = []
    pipeline = plan(
        tmp_path,
        PhasePlan("first", topology([{"n": [1]}, Mark.ABORT], [])),
        PhasePlan("second", topology([{"n": [2]}], into), needs=["first"]),
    )
    async with pipeline.start() as run:
        with pytest.raises(PhaseFailed, match="phase 'first' failed"):
            await run.finished()
    assert into == []
    assert run.summaries == {}
    assert run.folder is not None
    assert not (run.folder / "second").exists()


async def test_a_phase_whose_dependency_is_missing_fails(tmp_path: Path) -> None:
    pipeline = plan(tmp_path, PhasePlan("second", topology([{"n": [2]}], []), needs=["first"]))
    with pytest.raises(PhaseFailed, match="it needs phase 'first'"):
        await pipeline.run()


async def test_a_complete_phase_is_not_run_again_unless_forced(tmp_path: Path) -> None:
    pipeline = Pipeline.from_yaml(SWEEP, output=tmp_path)
    first = await pipeline.run()
    async with pipeline.start(force=False) as run:
        assert await run.finished() == first
        assert list(run.skipped) == ["first", "second"]
    async with pipeline.start() as run:
        assert await run.finished() == first
        assert list(run.skipped) == []


async def test_another_configuration_is_another_folder_and_the_latest_link_follows(tmp_path: Path) -> None:
    async with Pipeline.from_yaml(SWEEP, output=tmp_path).start() as one:
        await one.finished()
    async with Pipeline.from_yaml(SWEEP, output=tmp_path, overrides=["seed=2"]).start() as other:
        await other.finished()
    assert one.folder != other.folder
    assert other.folder is not None
    assert (tmp_path / "two" / "latest").resolve() == other.folder.resolve()


async def test_a_folder_in_use_is_refused_with_the_owner_named(tmp_path: Path) -> None:
    pipeline = Pipeline.from_yaml(SWEEP, output=tmp_path)
    async with pipeline.start() as run:
        with pytest.raises(PhaseFailed, match="is in use by process"):
            await pipeline.run()
        await run.finished()


def test_an_output_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("not a folder")
    with pytest.raises(StorageFailed, match=r"cannot write to .*; choose another with --output"):
        RunFolder(tmp_path / "results", "a", "b").open()


async def test_the_order_of_phases_is_checked_before_anything_runs() -> None:
    wrong = SWEEP.replace("needs: [first]", "needs: [third]")
    with pytest.raises(Exception, match="third"):
        Pipeline.from_yaml(wrong, registry=Registry.installed())


def test_stage_is_exported_for_authors() -> None:
    assert Stage.__struct_config__.frozen
