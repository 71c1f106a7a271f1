"""When rows of a series become a file, and what happens to rows whose columns are others."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_support import HandClock, rows, settle, until

from pipeline.data import DataFlow
from pipeline.data.file import FileManager
from pipeline.data.policy import FileSettings
from pipeline.errors import SchemaMismatch
from pipeline.storage.workspace import Workspace


def make(workspace: Workspace, clock: HandClock | None = None, **settings: Any) -> FileManager:
    evolution = settings.pop("schema_evolution", "fixed")
    flow = DataFlow(mode="file", file_settings=FileSettings(**settings), schema_evolution=evolution)
    return FileManager("c", flow, workspace, clock=clock)


async def files(workspace: Workspace, call: Any = lambda path: path) -> list[Any]:
    def look() -> list[Any]:
        return [call(path) for path in sorted((workspace.folder / "store" / "c").glob("*"))]

    return await workspace.io.submit(look, look)


def rows_in(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


async def test_f1_a_part_is_rolled_by_rows_and_the_rest_when_it_is_closed(workspace: Workspace) -> None:
    manager = make(workspace, roll_rows=100)
    for start in range(0, 250, 10):
        await manager.append("s", rows(start, 10))
    await until(lambda: manager.stats().flushes == 2)
    assert await files(workspace, rows_in) == [100, 100]
    assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(250))
    await manager.close()
    assert await files(workspace, rows_in) == [100, 100, 50]


async def test_f1_a_part_is_rolled_by_bytes(workspace: Workspace) -> None:
    manager = make(workspace, roll_mb=0.01)
    for start in range(0, 5000, 500):
        await manager.append("s", rows(start, 500))
    await until(lambda: manager.stats().flushes >= 2)
    assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(5000))
    await manager.close()
    assert sum(await files(workspace, rows_in)) == 5000


async def test_f1_a_part_is_rolled_by_time(workspace: Workspace) -> None:
    clock = HandClock()
    manager = make(workspace, clock, roll_seconds=60)
    await manager.append("s", rows(0, 5))
    await settle()
    clock.advance(59)
    await settle()
    await manager.append("s", rows(5, 5))
    assert manager.stats().flushes == 0
    clock.advance(1)
    await until(lambda: manager.stats().flushes == 1)
    assert await files(workspace, rows_in) == [10]
    await manager.append("t", rows(0, 1))
    await settle()
    clock.advance(60)
    await until(lambda: manager.stats().flushes == 2)
    await manager.close()


@pytest.mark.parametrize("compression", ["snappy", "zstd"])
async def test_f2_pages_have_checksums_of_their_own_which_other_readers_may_verify(
    workspace: Workspace, compression: str
) -> None:
    manager = make(workspace, compression=compression)
    await manager.store("t", pa.table({"n": list(range(1000))}))
    (path,) = await files(workspace)

    def flip() -> None:
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 8] ^= 1
        path.write_bytes(raw)
        pq.read_table(path, page_checksum_verification=True)

    assert (await files(workspace, pq.read_table))[0].num_rows == 1000
    assert (await files(workspace, pq.read_metadata))[0].row_group(0).column(0).compression == compression.upper()
    with pytest.raises(OSError, match="CRC checksum"):
        await workspace.io.submit(flip, flip)
    await manager.close()


async def test_f4_types_that_parquet_would_lose_are_told_of_at_the_first_rows(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    manager = make(workspace)
    batch = pa.RecordBatch.from_pydict({"n": [1], "t": pa.array([1], pa.timestamp("s"))})
    with caplog.at_level(logging.WARNING):
        await manager.append("s", batch)
        await manager.append("fine", rows(0, 1))
        await manager.flush()
        await until(lambda: "would lose" in caplog.text)
    assert "'s' is written as arrow files: parquet would lose t (timestamp[s]" in caplog.text
    assert "'fine'" not in caplog.text
    assert sorted(await files(workspace, lambda path: path.suffix)) == [".arrow", ".parquet"]
    assert (await manager.retrieve("s")).schema == batch.schema
    await manager.close()


def wide(**columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: pa.array(*value) for name, value in columns.items()})


async def test_f4_rows_of_other_types_are_refused_unless_wider_ones_are_wanted(workspace: Workspace) -> None:
    manager = make(workspace)
    await manager.append("s", wide(n=([1], pa.int32())))
    with pytest.raises(SchemaMismatch, match="expected int32, found int64"):
        await manager.append("s", wide(n=([2], pa.int64())))
    assert (await manager.retrieve("s"))["n"].to_pylist() == [1]
    await manager.close()


async def test_f4_wider_rows_begin_a_file_of_their_own_and_all_are_read_as_the_widest(workspace: Workspace) -> None:
    manager = make(workspace, schema_evolution="widen")
    await manager.append("s", wide(n=([1], pa.int32())))
    await manager.append("s", wide(n=([2], pa.int16())))
    await manager.append("s", wide(n=([1 << 40], pa.int64()), x=([1.5], pa.float64())))
    await manager.append("s", wide(n=([4], pa.int32())))
    expected = pa.table({"n": [1, 2, 1 << 40, 4], "x": [None, None, 1.5, None]})
    assert manager.retrieve_nowait("s") == expected
    await manager.flush()
    assert await files(workspace, rows_in) == [2, 2], "never a mixed one"
    assert await manager.retrieve("s") == expected
    assert pa.Table.from_batches([batch async for batch in manager.iter_batches("s")]) == expected
    with pytest.raises(SchemaMismatch, match="no wider types hold both"):
        await manager.append("s", wide(n=(["text"], pa.utf8())))
    with pytest.raises(SchemaMismatch, match="does not hold all of its values"):
        await manager.append("s", wide(n=([0.5], pa.float64())))
    assert await manager.retrieve("s") == expected
    await manager.close()
