"""What a run has left is read from any of its folders, by container, group or member."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
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
from pipeline.results import MemberFile
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


def test_members_are_gone_through_in_order_and_keys_are_attributes(tmp_path: Path) -> None:
    results = open_results(leave(tmp_path))
    members = results.members("m")
    assert list(members) == ["m_1", "m_2", "m_3"] and len(members) == 3 and list(results.members()) == list(members)
    assert {name: member.total.column("factor").to_pylist() for name, member in members.items()} == {
        "m_1": [1], "m_2": [2], "m_3": [3],
    }  # fmt: skip
    assert results["m_2"].numbers.equals(results["m_2"]["numbers"])
    assert list(results.members("single")) == []
    assert results.all("total").to_pydict() == {"container": ["m_1", "m_2", "m_3"], "factor": [1, 2, 3]}
    assert results["m_1"]["three"].num_rows == 0 and results["m_3"]["three"].num_rows == 1
    with pytest.raises(AttributeError, match=r"'m_2' has persisted no 'number'; .* did you mean 'numbers'"):
        results["m_2"].number
    with pytest.raises(KeyError, match="did you mean 'single'"):
        results.members("singl")
    with pytest.raises(KeyError, match="'single' has left nothing"):
        members["single"]
    with pytest.raises(KeyError, match="no group has persisted 'equity'; they have numbers, three, total"):
        results.all("equity")


def test_a_member_is_found_by_its_group_whatever_it_is_called(tmp_path: Path) -> None:
    builder = TopologyBuilder()
    builder.add("data", ListFeed(items=[{"ts_event": [1, 2], "n": [1, 2]}]))
    builder.add("m", Counted(), ["data"], members={"m_fast_1": Counted(factor=5)}, pattern="m_*")
    builder.add("m_fast", Counted(), ["data"], members={"odd": Counted(factor=7)}, pattern="m_fast_*")
    asyncio.run(Pipeline.from_topology(builder.build(), name="left", output=tmp_path).run())
    results = open_results(tmp_path / "left")
    assert results["m_fast_1"]["numbers"].to_pydict() == {"n": [5, 10]}
    assert results["odd"]["numbers"].to_pydict() == {"n": [7, 14]}


def test_only_row_groups_that_can_hold_a_member_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"p_{number:04d}" for number in range(400) for _ in range(number % 5)]
    table = pa.table({"container": names, "n": range(len(names))})
    pq.write_table(table, tmp_path / "n.parquet", row_group_size=64)
    read: list[int] = []
    whole = pq.ParquetFile.read_row_group

    def counted(file: Any, number: int) -> Any:
        read.append(number)
        return whole(file, number)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    file = MemberFile(tmp_path / "n.parquet")
    for number in range(400):
        name = f"p_{number:04d}"
        wanted = [row for row, of in enumerate(names) if of == name]
        assert file.rows_of(name).to_pydict() == {"n": wanted}
    assert len(read) < 2 * file._metadata.num_row_groups, "members in order are read once, but for those on a border"
    assert MemberFile(tmp_path / "n.parquet").rows_of("p_0042").num_rows == 2 and len(set(read[-1:])) == 1
    assert file.rows_of("q").num_rows == 0 and file.rows_of("").schema.names == ["n"]


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
    with pytest.raises(KeyError, match=r"'m_4' has left nothing.*members of m are m_1 to m_3; did you mean 'm_3'"):
        results["m_4"]
    with pytest.raises(KeyError, match="it has numbers, total; did you mean 'numbers'"):
        results["single"]["number"]
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
    for path in (folder, folder / "run"):
        with pytest.raises(InputError, match=r"run/summary.json is damaged, .*; run its configuration again"):
            open_results(path)


def test_a_file_that_is_gone_or_damaged_is_told_by_name(tmp_path: Path) -> None:
    folder = leave(tmp_path)
    for container, asked in (("single", ["single"]), ("m", ["m", "m_2"])):
        path = folder / "run" / "containers" / container / "numbers.parquet"
        assert path.is_file()
        path.write_bytes(b"x\n")
        for name in asked:
            with pytest.raises(InputError, match=r"numbers.parquet cannot be read: .*; run its configuration again"):
                open_results(folder)[name]["numbers"]
        path.unlink()
        for name in asked:
            with pytest.raises(InputError, match=r"numbers.parquet is gone; run its configuration again, with --force"):
                open_results(folder)[name]["numbers"]
    with pytest.raises(InputError, match=r"numbers.parquet is gone"):
        open_results(folder).all("numbers")


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
