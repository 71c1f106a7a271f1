"""Rows of many members kept together: the same answers, bytes and limits as a manager for each member."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data import DataFlow, MemberStores, build_manager, persist_members
from pipeline.data.shared_rows import BLOCK_MEMBERS
from pipeline.errors import BudgetExceeded, SchemaMismatch, StorageFailed
from pipeline.pool import Pool
from pipeline.storage.workspace import Workspace

HYBRID = DataFlow(mode="hybrid", memory_limit_mb=0.004)


def portion(random: np.random.Generator, names: list[str], most: int = 40) -> tuple[list[str], Any, pa.RecordBatch]:
    """Rows for some of the members, in any order."""
    chosen = [str(name) for name in random.permutation(names)[: random.integers(1, len(names) + 1)]]
    offsets = np.append(0, np.cumsum(random.integers(0, most, len(chosen))))
    rows = int(offsets[-1])
    words = pa.array(random.choice(["a", "b", "c"], rows).tolist(), pa.utf8())
    columns = {"x": random.normal(size=rows), "n": random.integers(0, 9, rows), "word": words}
    return chosen, offsets, pa.record_batch(columns)


def expected(portions: list[tuple[list[str], Any, pa.RecordBatch]]) -> dict[str, pa.Table]:
    held: dict[str, list[pa.RecordBatch]] = {}
    for names, offsets, columns in portions:
        for i, name in enumerate(names):
            held.setdefault(name, []).append(columns.slice(int(offsets[i]), int(offsets[i + 1] - offsets[i])))
    return {name: pa.Table.from_batches(batches) for name, batches in held.items()}


@pytest.mark.parametrize("seed", range(4))
async def test_members_read_what_was_appended_whether_it_is_in_memory_or_on_disk(
    workspace: Workspace, seed: int
) -> None:
    random = np.random.default_rng(seed)
    names = [f"m{n:03d}" for n in range(int(random.integers(1, 2 * BLOCK_MEMBERS + 9)))]
    stores = MemberStores("group", lambda member: HYBRID, workspace)
    portions = [portion(random, names) for _ in range(40)]
    for some, offsets, columns in portions:
        await stores.append_rows("x", some, offsets, columns)
        stats = stores.member_stats().values()
        assert all(each.charged_bytes <= HYBRID.memory_limit_bytes for each in stats)
        assert all(each.peak_bytes <= HYBRID.memory_limit_bytes for each in stats)
    assert stores.stats().evictions > 0
    for name, table in expected(portions).items():
        assert (await stores.retrieve(name, "x")).equals(table)
        assert stores.keys(name) == ["x"]
    await stores.close()


async def test_a_member_that_keeps_something_by_itself_goes_on_with_a_manager_of_its_own(workspace: Workspace) -> None:
    random = np.random.default_rng(5)
    names = [f"m{n}" for n in range(20)]
    stores = MemberStores("group", lambda member: HYBRID, workspace)
    portions = [portion(random, names) for _ in range(30)]
    for turn, (some, offsets, columns) in enumerate(portions):
        await stores.append_rows("x", some, offsets, columns)
        if turn == 15:
            await stores.store("m3", "note", b"text")
    for name, table in expected(portions).items():
        assert (await stores.retrieve(name, "x")).combine_chunks().equals(table.combine_chunks())
    assert await stores.retrieve("m3", "note") == b"text"
    assert set(stores.keys("m3")) == {"x", "note"}
    await stores.delete("m4", "x")
    assert stores.keys("m4") == []
    await stores.close()


async def test_the_file_and_its_hash_are_the_same_however_rows_were_kept(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    names = [f"m{n:03d}" for n in random.permutation(150)]
    portions = [portion(random, names) for _ in range(12)]
    held = expected(portions)
    in_order = [table.append_column("container", pa.array([name] * table.num_rows)) for name, table in held.items()]
    wanted = pa.concat_tables(in_order).take(
        np.argsort(np.repeat(list(held), [table.num_rows for table in held.values()]), kind="stable")
    )
    left = []
    for number, alone in enumerate(([], ["m007"], names)):
        workspace = Workspace(tmp_path / str(number))
        flows = {name: DataFlow(mode="file") for name in alone}
        stores = MemberStores("group", lambda member, flows=flows: flows.get(member, HYBRID), workspace)
        for some, offsets, columns in portions:
            await stores.append_rows("x", some, offsets, columns)
        persisted = (await persist_members(stores, workspace.folder / "left", workspace, DataFlow()))["x"]
        await stores.close()
        await workspace.close()
        assert persisted.path is not None
        assert pq.read_table(persisted.path).select(wanted.column_names).to_pylist() == wanted.to_pylist()
        left.append((persisted.hash, persisted.rows, persisted.path.read_bytes()))
    assert left[0] == left[1] == left[2]


async def test_the_file_is_the_same_whether_long_runs_are_passed_on_or_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(9)
    names = [f"m{n}" for n in range(150)]
    portions = [portion(random, names, 300) for _ in range(5)]
    left = []
    for rows in (1, 1 << 30):
        monkeypatch.setattr("pipeline.data.chunks.LONG_RUN", rows)
        workspace = Workspace(tmp_path / str(rows))
        stores = MemberStores("group", lambda member: HYBRID, workspace)
        for some, offsets, columns in portions:
            await stores.append_rows("x", some, offsets, columns)
        persisted = (await persist_members(stores, workspace.folder / "left", workspace, DataFlow()))["x"]
        await stores.close()
        await workspace.close()
        assert persisted.path is not None
        left.append((persisted.hash, persisted.rows, persisted.path.read_bytes()))
    assert left[0] == left[1]
    owners = pq.read_table(tmp_path / "1" / "left" / "x.parquet").column("container").to_pylist()
    assert owners == sorted(owners)


async def test_a_member_in_mode_memory_is_refused_what_its_limit_forbids(workspace: Workspace) -> None:
    stores = MemberStores("group", lambda member: DataFlow(memory_limit_mb=0.001), workspace)
    few = pa.record_batch({"x": np.zeros(100)})
    await stores.append_rows("x", ["a", "b"], np.array([0, 50, 100]), few)
    with pytest.raises(BudgetExceeded, match="b: 'x' needs 800 bytes more"):
        await stores.append_rows("x", ["b", "c"], np.array([0, 100, 100]), few)
    assert (await stores.retrieve("b", "x")).num_rows == 50
    await stores.close()


async def test_rows_larger_than_a_members_whole_budget_go_straight_to_disk(workspace: Workspace) -> None:
    stores = MemberStores("group", lambda member: HYBRID, workspace)
    await stores.append_rows(
        "x", ["a", "b"], np.array([0, 10_000, 10_001]), pa.record_batch({"x": np.arange(10_001.0)})
    )
    assert (await stores.retrieve("a", "x"))["x"].to_numpy()[-1] == 9_999.0
    assert stores.stats().charged_bytes == stores.stats().peak_bytes == 0
    await stores.close()


async def test_a_key_has_the_same_columns_for_all(workspace: Workspace) -> None:
    stores = MemberStores("group", lambda member: HYBRID, workspace)
    await stores.append_rows("x", ["a"], np.array([0, 1]), pa.record_batch({"x": [1.0]}))
    with pytest.raises(SchemaMismatch, match="expected 'x' to have the columns it had before"):
        await stores.append_rows("x", ["a"], np.array([0, 1]), pa.record_batch({"y": [1.0]}))
    await stores.close()


async def test_the_pool_of_the_process_is_never_exceeded_by_groups_and_managers_together(tmp_path: Path) -> None:
    pool = Pool(1 << 16)
    workspace = Workspace(tmp_path, pool=pool)
    flow = DataFlow(mode="hybrid", memory_limit_mb=1)
    random = np.random.default_rng(3)
    names = [f"m{n:03d}" for n in range(200)]
    groups = [MemberStores(f"g{n}", lambda member: flow, workspace) for n in range(2)]
    alone = build_manager("alone", flow, workspace)
    given: list[list[Any]] = [[], []]
    for turn in range(60):
        which = turn % 2
        given[which].append(portion(random, names, 12))
        await groups[which].append_rows("x", *given[which][-1])
        await alone.append("x", pa.record_batch({"x": random.normal(size=300)}))
        assert pool.charged <= pool.limit
    assert pool.peak <= pool.limit
    assert pool.spills > 0
    for group, portions in zip(groups, given, strict=True):
        for name, table in expected(portions).items():
            assert (await group.retrieve(name, "x")).combine_chunks().equals(table.combine_chunks())
    assert (await alone.retrieve("x")).num_rows == 60 * 300
    for store in (*groups, alone):
        await store.close()
    assert pool.charged == 0
    await workspace.close()


async def test_rows_stay_in_memory_while_the_disk_refuses_them_and_there_is_room(workspace: Workspace) -> None:
    stores = MemberStores("group", lambda member: DataFlow(mode="hybrid", memory_limit_mb=0.01), workspace)
    workspace.folder.mkdir(parents=True)
    (workspace.folder / "spill").write_text("in the way")
    rows = pa.record_batch({"x": np.zeros(1230)})
    await stores.append_rows("x", ["a"], np.array([0, 1230]), rows)
    await stores.append_rows("x", ["a"], np.array([0, 10]), rows.slice(0, 10))
    with pytest.raises(StorageFailed):
        await stores.append_rows("x", ["a"], np.array([0, 1000]), rows.slice(0, 1000))
    assert (await stores.retrieve("a", "x")).num_rows == 1240
    (workspace.folder / "spill").unlink()
    await stores.close()
