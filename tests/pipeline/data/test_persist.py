"""Persisting: equal bytes in every mode, one file for a thousand members, memory bounded."""

from __future__ import annotations

import asyncio
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data import DataFlow, MemberStores, build_manager, persist, persist_members
from pipeline.data.persisting import GROUP_ROWS
from pipeline.errors import DiskFull, SchemaMismatch
from pipeline.storage.publish import TableFile
from pipeline.storage.workspace import Workspace
from pipeline.testing.managers import sample_values

FLOW = DataFlow()


class Result(msgspec.Struct):
    sharpe: float
    curve: list[int]


async def test_every_mode_leaves_the_same_bytes(workspace: Workspace, tmp_path: Path) -> None:
    found = {}
    for mode in ("memory", "streaming", "file", "hybrid"):
        manager = build_manager("m", DataFlow(mode=mode, memory_limit_mb=200 if mode == "memory" else 0.3), workspace)
        for key, value in sample_values().items():
            await manager.store(key, value)
        rng = np.random.default_rng(1)
        for size in [1] * 70 + [5000, 300, 30_000, 7, 250_000]:
            words = pa.array(rng.integers(0, 9, size).astype(str)).dictionary_encode()
            await manager.append("s", pa.RecordBatch.from_pydict({"n": rng.random(size), "w": words}))
        files = await persist(manager, tmp_path / mode, workspace, FLOW)
        assert list(files) == list(manager.keys())
        found[mode] = {path.name: path.read_bytes() for path in (tmp_path / mode).iterdir()}
        assert all(file.bytes == len(found[mode][file.path.name]) for file in files.values())
        assert files["s"].rows == pq.read_metadata(files["s"].path).num_rows == 285_377
        await manager.close()
    for mode, files in found.items():
        assert files.keys() == found["memory"].keys()
        assert [name for name in files if files[name] != found["memory"][name]] == [], mode


async def test_what_is_no_table_becomes_one(workspace: Workspace, tmp_path: Path) -> None:
    manager = build_manager("m", DataFlow(), workspace)
    values = {
        "struct": (Result(1.5, [1, 2]), [{"sharpe": 1.5, "curve": "[1,2]"}]),
        "dict": ({"a": 1, "b": {"c": None}, "d": Decimal("1.5")}, [{"a": 1, "b": '{"c":null}', "d": Decimal("1.5")}]),
        "rows": ([{"a": 1}, {"a": 2, "b": "x"}], [{"a": 1, "b": None}, {"a": 2, "b": "x"}]),
        "array": (np.array([1.5, 2.5]), [{"value": 1.5}, {"value": 2.5}]),
        "text": ("text", [{"value": "text"}]),
        "mixed": ([1, "a"], [{"value": "1"}, {"value": '"a"'}]),
    }
    for key, (value, _) in values.items():
        await manager.store(key, value)
    files = await persist(manager, tmp_path, workspace, FLOW)
    for key, (_, rows) in values.items():
        assert pq.read_table(files[key].path).to_pylist() == rows
        assert pq.read_schema(files[key].path).metadata[b"penstock.key"] == key.encode()
    await manager.close()


async def test_a_thousand_members_share_a_file_sorted_by_name(workspace: Workspace, tmp_path: Path) -> None:
    stores = MemberStores("g", lambda member: DataFlow(mode="hybrid", memory_limit_mb=0.01), workspace)
    for n in reversed(range(1000)):
        await stores.store(f"p{n:04}", "metrics", {"sharpe": 1.5 if n % 2 else 1})
        await stores.append(f"p{n:04}", "equity", pa.RecordBatch.from_pydict({"e": np.full(400, n)}))
    files = await persist_members(stores, tmp_path, workspace, FLOW)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["equity.parquet", "metrics.parquet"]
    equity = pq.read_table(files["equity"].path)
    assert equity.column_names == ["container", "e"]
    assert equity["container"].to_pylist() == [f"p{n:04}" for n in range(1000) for _ in range(400)]
    assert equity["e"].to_pylist() == [n for n in range(1000) for _ in range(400)]
    assert pq.ParquetFile(files["equity"].path).num_row_groups == -(-400_000 // GROUP_ROWS)
    assert pq.read_table(files["metrics"].path)["sharpe"].to_pylist() == [1.0, 1.5] * 500
    await stores.close()


async def test_members_without_a_common_type_are_named(workspace: Workspace, tmp_path: Path) -> None:
    stores = MemberStores("g", lambda member: DataFlow(), workspace)
    await stores.append("a", "k", [{"x": 1.5}])
    await stores.append("b", "k", [{"x": b"bytes"}])
    with pytest.raises(SchemaMismatch, match="'b'"):
        await persist_members(stores, tmp_path, workspace, FLOW)
    await stores.close()


async def test_a_series_far_larger_than_the_budget_is_streamed(workspace: Workspace, tmp_path: Path) -> None:
    manager = build_manager("m", DataFlow(mode="hybrid", memory_limit_mb=1), workspace)
    for n in range(40):
        await manager.append("s", pa.RecordBatch.from_pydict({"n": np.full(100_000, n)}))
    workspace.loan_limit_bytes = 4 << 20
    files = await persist(manager, tmp_path, workspace, FLOW)
    assert files["s"].rows == 4_000_000
    assert workspace.loaned_peak_bytes <= 4 << 20
    await manager.close()


async def test_a_full_disk_leaves_no_partial_file(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    manager = build_manager("m", DataFlow(), workspace)
    await manager.store("k", {"a": 1})
    monkeypatch.setattr("pipeline.storage.publish.sync_file", full)
    with pytest.raises(DiskFull):
        await persist(manager, tmp_path / "out", workspace, FLOW)
    assert list((tmp_path / "out").iterdir()) == []
    await manager.close()


async def test_a_write_that_is_cancelled_while_its_file_is_made_leaves_none_behind(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    making, go_on = threading.Event(), threading.Event()

    class Slow(TableFile):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            making.set()
            go_on.wait()

    monkeypatch.setattr(sys.modules["pipeline.data.persisting"], "TableFile", Slow)
    stores = MemberStores("g", lambda member: DataFlow(), workspace)
    await stores.append_rows("x", ["a"], np.array([0, 1]), pa.record_batch({"x": [1.0]}))
    folder = workspace.folder / "left"
    writing = asyncio.ensure_future(persist_members(stores, folder, workspace, DataFlow()))
    while not making.is_set():
        await asyncio.sleep(0)
    assert list(folder.iterdir()), "the file is there, under a name of its own"
    writing.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert list(folder.iterdir()) == []
    await stores.close()
