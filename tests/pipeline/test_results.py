"""What a run has left is read from any of its folders, by container, group or member."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline import (
    Batch,
    Context,
    DataFlow,
    InputError,
    Pipeline,
    Result,
    Stage,
    TopologyBuilder,
    Transform,
    load_summary,
    open_results,
)
from pipeline.testing import ListFeed


class Counted(Stage, frozen=True):
    """Keeps its rows under the name of each of its members, or under none."""

    factor: int = 1

    @property
    def groups(self) -> bool:
        return True

    def build(self, context: Context) -> Transform:
        return Counts({"": self})

    def build_group(self, members: Any, context: Context) -> Transform:
        return Counts(members)


class Counts(Transform):
    def __init__(self, members: Any) -> None:
        self.members = members

    def on_batch(self, batch: Batch) -> Any:
        for name, recipe in self.members.items():
            numbers = [n * recipe.factor for n in batch.columns.column("n").to_pylist()]
            yield Result("numbers", Batch.from_pydict({"n": numbers}).columns, append=True, member=name)

    def on_end(self) -> Any:
        for name, recipe in self.members.items():
            yield Result("total", {"factor": recipe.factor}, member=name)
            if recipe.factor == 3:
                yield Result("three", {"is": True}, member=name)


def leave(output: Path, factor: int = 1, **words: Any) -> Path:
    """A run with a container and a group of three; its folder."""
    builder = TopologyBuilder()
    builder.add("data", ListFeed(items=[{"ts_event": [1, 2], "n": [1, 2]}, {"ts_event": [3], "n": [3]}]), **words)
    builder.add("single", Counted(factor=factor), ["data"])
    members = {f"m_{index}": Counted(factor=index) for index in (1, 2, 3)}
    builder.add("m", Counted(), ["data"], members=members, pattern="m_*")

    async def main() -> Path:
        async with Pipeline.from_topology(builder.build(), name="left", output=output).start() as run:
            await run.finished()
        assert run.folder is not None
        return run.folder

    return asyncio.run(main())


def test_the_runs_folder_the_phases_folder_and_latest_open_the_same(tmp_path: Path) -> None:
    folder = leave(tmp_path)
    for place in (folder, folder / "run", tmp_path / "left", tmp_path / "left" / "latest", str(folder)):
        results = open_results(place)
        assert results["single"]["numbers"].column("n").to_pylist() == [1, 2, 3]
        assert results.summary.status == "complete"
    assert open_results(folder, "run").folder == folder / "run"


def test_latest_is_the_last_that_completed(tmp_path: Path) -> None:
    first, second = leave(tmp_path, 1), leave(tmp_path, 5)
    assert first != second
    assert open_results(tmp_path / "left")["single"]["numbers"].column("n").to_pylist() == [5, 10, 15]
    assert open_results(first)["single"]["numbers"].column("n").to_pylist() == [1, 2, 3]


def test_a_member_sees_its_own_rows_and_the_group_all(tmp_path: Path) -> None:
    results = open_results(leave(tmp_path))
    assert results["m_2"]["numbers"].to_pydict() == {"n": [2, 4, 6]}
    assert results["m_3"]["total"].to_pylist() == [{"factor": 3}]
    whole = results["m"]["numbers"]
    assert whole.column("container").to_pylist() == ["m_1"] * 3 + ["m_2"] * 3 + ["m_3"] * 3
    assert whole.column("n").to_pylist() == [1, 2, 3, 2, 4, 6, 3, 6, 9]


def test_results_are_a_mapping(tmp_path: Path) -> None:
    single = open_results(leave(tmp_path))["single"]
    assert sorted(single) == ["numbers", "total"] and len(single) == 2
    assert {key: table.num_rows for key, table in single.items()} == {"numbers": 3, "total": 1}


def test_kept_output_is_among_the_results(tmp_path: Path) -> None:
    folder = leave(tmp_path, data_flow=DataFlow(mode="file"))
    assert open_results(folder)["data"]["output"].column("n").to_pylist() == [1, 2, 3]


def test_what_is_missing_is_told_with_what_there_is(tmp_path: Path) -> None:
    results = open_results(leave(tmp_path))
    with pytest.raises(KeyError, match=r"'none' has left nothing in .*; there are data, single, m"):
        results["none"]
    with pytest.raises(KeyError, match="'m_4' has left nothing"):
        results["m_4"]
    with pytest.raises(KeyError, match="'single' has persisted no 'fills'; it has numbers, total"):
        results["single"]["fills"]
    with pytest.raises(KeyError, match="it has nothing"):
        results["data"]["output"]


def test_what_is_no_folder_of_results_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        open_results(tmp_path / "none")
    with pytest.raises(InputError, match="holds no phase summary; expected a run's folder"):
        open_results(tmp_path)
    folder = leave(tmp_path)
    with pytest.raises(InputError, match="holds no phase summary"):
        open_results(folder, "optimize")


def test_a_summary_that_is_damaged_is_not_taken_for_one(tmp_path: Path) -> None:
    folder = leave(tmp_path)
    whole = (folder / "run" / "summary.json").read_bytes()
    (folder / "run" / "summary.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="holds no phase summary"):
        open_results(folder / "run")


def test_results_can_be_moved(tmp_path: Path) -> None:
    """Paths in a summary are relative."""
    folder = leave(tmp_path / "here")
    os.rename(folder, tmp_path / "moved")
    assert open_results(tmp_path / "moved")["m_1"]["numbers"].num_rows == 3


async def test_a_summary_can_be_read_without_blocking_the_loop(tmp_path: Path) -> None:
    folder = await asyncio.to_thread(leave, tmp_path)
    phase = next(folder.rglob("summary.json")).parent
    summary = await load_summary(phase)
    assert summary == open_results(phase).summary
    with pytest.raises(InputError, match="a phase that has not completed has no summary"):
        await load_summary(tmp_path)
    (phase / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="is no summary of this version"):
        await load_summary(phase)
