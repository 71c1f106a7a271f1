"""Whole files: visible when they are on disk, under a name of their own, and not before."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from faulty_disk import FaultyDisk

from pipeline.errors import DiskFull, StorageFailed
from pipeline.storage.publish import TableFile, digest_file, digest_published, publish_bytes

TABLE = pa.table({"n": list(range(1000)), "text": ["x", "y"] * 500})


def write(folder: Path, disk: FaultyDisk) -> Path:
    file = TableFile(folder, TABLE.schema, disk=disk)
    with file:
        file.write(TABLE)
        return file.publish("rows.parquet").path


def test_a_file_is_synced_before_it_has_its_name_and_the_name_after(tmp_path: Path) -> None:
    """Commit steps 1 to 4 of section 2.7."""
    disk = FaultyDisk()
    path = write(tmp_path / "data", disk)
    assert [call for call, _ in disk.steps] == ["create", "open", "sync", "rename", "sync_folder"]
    assert pq.read_table(path).equals(TABLE)
    assert os.listdir(tmp_path / "data") == ["rows.parquet"]


def test_r2_a_file_that_cannot_be_synced_is_written_once_more_under_another_name(tmp_path: Path) -> None:
    """R-2."""
    disk = FaultyDisk()
    disk.fail("sync")
    path = write(tmp_path / "data", disk)
    synced = [path for call, path in disk.steps if call == "sync"]
    assert len(synced) == len(set(synced)) == 2
    assert pq.read_table(path).equals(TABLE)
    assert os.listdir(tmp_path / "data") == ["rows.parquet"]


def test_r2_a_second_failure_leaves_nothing(tmp_path: Path) -> None:
    """R-2."""
    disk = FaultyDisk()
    disk.fail("sync", times=2)
    with pytest.raises(StorageFailed, match=r"publish .*rows.parquet: Input/output error"):
        write(tmp_path / "data", disk)
    assert os.listdir(tmp_path / "data") == []
    disk.heal()
    write(tmp_path / "data", disk)


def test_r2_what_cannot_be_read_back_as_it_was_written_is_not_published(tmp_path: Path) -> None:
    """R-2: after a failed sync the system may have dropped what it held."""
    disk = FaultyDisk()
    disk.fail("sync")
    read = disk.read
    disk.read = lambda fd, num_bytes, offset: bytes(len(read(fd, num_bytes, offset)))  # type: ignore[method-assign]
    with pytest.raises(StorageFailed, match="what had been written is not there"):
        write(tmp_path / "data", disk)
    assert os.listdir(tmp_path / "data") == []


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename", "sync_folder"])
def test_t4_a_full_disk_at_any_step_leaves_the_file_before(call: str, tmp_path: Path) -> None:
    """T4."""
    disk = FaultyDisk()
    publish_bytes(tmp_path, "state", [b"before"], disk=disk)
    disk.fail(call, error=errno.ENOSPC, times=9)
    with pytest.raises(DiskFull, match="no room"):
        publish_bytes(tmp_path, "state", [b"af", b"ter"], replace=True, disk=disk)
    assert os.listdir(tmp_path) == ["state"]
    assert (tmp_path / "state").read_bytes() in ((b"before", b"after") if call == "sync_folder" else (b"before",))
    disk.heal()
    done = publish_bytes(tmp_path, "state", [b"af", b"ter"], replace=True, disk=disk)
    assert (done.num_bytes, done.digest) == (5, xxhash.xxh3_64_intdigest(b"after"))


def test_f3_a_name_that_is_taken_is_not_overwritten(tmp_path: Path) -> None:
    """F-3."""
    publish_bytes(tmp_path, "name", [b"first"])
    with pytest.raises(FileExistsError):
        publish_bytes(tmp_path, "name", [b"second"])
    assert (tmp_path / "name").read_bytes() == b"first" and os.listdir(tmp_path) == ["name"]


def test_a_published_file_is_read_for_its_checksum_once_and_again_where_somebody_touched_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = publish_bytes(tmp_path, "name", [b"first"]).path
    read = []
    whole = digest_file
    monkeypatch.setattr("pipeline.storage.publish.digest_file", lambda path: read.append(path) or whole(path))
    assert digest_published(path) == (5, xxhash.xxh3_64_intdigest(b"first")) and not read
    path.write_bytes(b"other")
    os.utime(path, ns=(1, 1))
    assert digest_published(path) == (5, xxhash.xxh3_64_intdigest(b"other")) and read == [path]
