"""The file manager: whole files, names of their own, nothing lost when the disk refuses."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_support import batch, rows, until

from pipeline.data import DataFlow
from pipeline.data.file import FileManager
from pipeline.data.policy import FileSettings
from pipeline.errors import CorruptEntry, DiskFull
from pipeline.storage.publish import WholeFile
from pipeline.storage.workspace import Workspace


def make(workspace: Workspace, mb: float = 1, **settings: str) -> FileManager:
    return FileManager(
        "f", DataFlow(mode="file", memory_limit_mb=mb, file_settings=FileSettings(**settings)), workspace
    )


def files(workspace: Workspace) -> list[Path]:
    return sorted((workspace.folder / "store" / "f").iterdir())


@pytest.mark.parametrize("compression", ["snappy", "zstd", "lz4", "gzip", "none"])
@pytest.mark.parametrize("format", ["parquet", "arrow"])
async def test_files_are_in_the_format_and_compression_that_are_set(
    workspace: Workspace, format: str, compression: str
) -> None:
    manager = make(workspace, format=format, compression=compression)
    await manager.store("k", batch(1))
    [path] = files(workspace)
    assert path.suffix == f".{format}"
    if format == "parquet":
        found = pq.ParquetFile(path).metadata.row_group(0).column(0).compression
        assert found == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())
    assert (await manager.retrieve("k")).equals(batch(1))
    await manager.close()


async def test_what_parquet_would_change_becomes_an_arrow_file(workspace: Workspace) -> None:
    manager = make(workspace)
    values = {
        "seconds": pa.table({"t": pa.array([1, 2], pa.timestamp("s"))}),
        "narrow": pa.table(
            {"d": pa.array(["a", "b", "a"]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.utf8()))}
        ),
        "no columns": pa.table({}),
    }
    for key, value in values.items():
        await manager.store(key, value)
        found = await manager.retrieve(key)
        assert found.equals(value)
        assert found.schema.equals(value.schema, check_metadata=True)
    await manager.close()


async def test_files_are_never_overwritten_and_replaced_ones_are_removed(workspace: Workspace) -> None:
    first, second = make(workspace), make(workspace)
    await first.store("k", 1)
    await second.store("k", 2)
    assert len(files(workspace)) == 2
    await first.store("k", 3)
    await until(lambda: len(files(workspace)) == 2)
    assert (await first.retrieve("k"), await second.retrieve("k")) == (3, 2)
    await first.close()
    await second.close()


async def test_appended_rows_become_parts_within_the_budget(workspace: Workspace) -> None:
    manager = make(workspace, 0.25)
    for start in range(0, 100_000, 1000):
        await manager.append("s", rows(start, 1000))
    assert manager.stats().peak_bytes <= manager.stats().limit_bytes
    await manager.append("s", rows(100_000, 100_000))
    assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(200_000))
    streamed = [n async for piece in manager.iter_batches("s") for n in piece["n"].to_pylist()]
    assert streamed == list(range(200_000))
    await manager.flush()
    assert manager.stats().charged_bytes == 0
    assert 2 < len(files(workspace)) < 50
    await manager.close()


async def test_nothing_partial_is_left_and_rows_stay_in_memory_when_the_disk_is_full(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make(workspace)
    await manager.append("s", rows(0, 10))

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.storage.publish.sync_file", full)
        with pytest.raises(DiskFull):
            await manager.flush()
        with pytest.raises(DiskFull):
            await manager.store("v", batch(1))
        assert files(workspace) == []
        assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(10))
        assert list(manager.keys()) == ["s"]
    await manager.append("s", rows(10, 10))
    await manager.flush()
    assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(20))
    await manager.close()


@pytest.mark.parametrize("format", ["parquet", "arrow"])
@pytest.mark.parametrize("value", [pa.table({"n": np.arange(1000)}), {"a": [1, 2, 3]}], ids=["table", "record"])
async def test_no_single_flipped_bit_goes_unnoticed(workspace: Workspace, format: str, value: object) -> None:
    manager = make(workspace, format=format)
    await manager.store("k", value)
    [path] = files(workspace)
    raw = path.read_bytes()
    for at in np.linspace(0, len(raw) - 1, 40).astype(int):
        damaged = bytearray(raw)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(CorruptEntry):
            await manager.retrieve("k")
    path.write_bytes(raw[:-7])
    with pytest.raises(CorruptEntry):
        await manager.retrieve("k")
    path.unlink()
    with pytest.raises(CorruptEntry):
        await manager.retrieve("k")
    await manager.close()


async def test_a_reader_of_a_replaced_series_reads_what_it_began(workspace: Workspace) -> None:
    manager = make(workspace)
    for start in range(0, 100, 10):
        await manager.append("s", rows(start, 10))
        await manager.flush()
    reader = manager.iter_batches("s")
    seen = (await anext(reader))["n"].to_pylist()
    await manager.store("s", "replaced")
    seen += [n async for piece in reader for n in piece["n"].to_pylist()]
    assert seen == list(range(100))
    await until(lambda: len(files(workspace)) == 1)
    await manager.close()


def test_a_file_that_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    with WholeFile(tmp_path) as file:
        file.path.write_bytes(b"half")
    assert list(tmp_path.iterdir()) == []
