"""A run's folder: a phase counts once its entry is committed, whatever a crash leaves beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import xxhash

from pipeline import InputError, StorageFailed, load_summary, open_results, open_run
from pipeline.folder import RunFolder
from pipeline.storage.disk import RealDisk
from pipeline.storage.entries import Entry
from pipeline.storage.manifest import read_manifest
from pipeline.summary import Ledger, PhaseSummary


def summary(phase: str, status: str = "complete") -> PhaseSummary:
    return PhaseSummary(
        format=1, name="small", phase=phase, status=status, container_results={}, aggregate_metrics={},
        ledger=Ledger(edges=[], containers={}), hashes={},
    )  # fmt: skip


def publish(folder: RunFolder, phase: str, text: str = "rows", status: str = "complete") -> None:
    """Run a phase: one file, deep below."""
    path = folder.begin_phase(phase)
    (path / "containers" / "data").mkdir(parents=True)
    (path / "containers" / "data" / "rows.txt").write_text(text)
    folder.publish(phase, summary(phase, status), {"started_ns": 1}, pa.table({"name": ["data"]}))
    folder.end_phase(phase)


def opened(path: Path, disk: Any = None, **words: bool) -> RunFolder:
    folder = RunFolder(path, "small", "abc", **({} if disk is None else {"disk": disk}))
    folder.open(**words)
    return folder


def rows(folder: RunFolder, phase: str = "run") -> str:
    return (folder.phase(phase) / "containers/data/rows.txt").read_text()


class Killed(BaseException):
    """Stands for the end of the process."""


class MortalDisk(RealDisk):
    """Dies at the sync of the manifest that follows `arm`, before or after it."""

    def __init__(self) -> None:
        self.armed = ""

    def sync(self, fd: int) -> None:
        hit = self.armed and "MANIFEST" in os.readlink(f"/proc/self/fd/{fd}")
        if hit and self.armed == "before":
            os.ftruncate(fd, os.fstat(fd).st_size - 1)  # what was written last is torn
            raise Killed
        super().sync(fd)
        if hit:
            raise Killed


def killed(folder: RunFolder) -> None:
    """What is left of a process: nothing but its files."""
    folder.close()


def test_f5_every_file_of_a_phase_is_committed_with_its_checksum(tmp_path: Path) -> None:
    """F-5, R-6."""
    folder = opened(tmp_path)
    assert folder.completed("run") is None
    publish(folder, "run")
    assert folder.completed("run") is not None and folder.damage("run") == ""
    view = read_manifest(folder.path)
    listed = {entry.file: entry for entry in view.committed.files.values()}
    assert set(listed) == {
        f"run/{name}" for name in ("summary.json", "run.json", "containers.parquet", "containers/data/rows.txt")
    }
    for file, entry in listed.items():
        raw = (folder.path / str(file)).read_bytes()
        assert (entry.bytes, entry.xxh3) == (len(raw), f"{xxhash.xxh3_64_intdigest(raw):016x}")
    folder.close()
    again = opened(tmp_path)
    assert again.completed("run") is not None
    again.close()


def test_r5_a_summary_whose_commit_was_torn_is_none_for_anybody(tmp_path: Path) -> None:
    """R-5: its files are there, whole, and do not count."""
    disk = MortalDisk()
    folder = opened(tmp_path, disk)
    publish(folder, "train")
    path = folder.begin_phase("run")
    disk.armed = "before"
    unlink, disk.unlink = disk.unlink, lambda path: None  # type: ignore[method-assign]
    with pytest.raises(Killed):
        folder.publish("run", summary("run"), {}, pa.table({"name": ["data"]}))
    disk.unlink = unlink  # type: ignore[method-assign]
    killed(folder)
    assert (path / "summary.json").is_file()
    assert [results.folder.name for results in open_run(folder.path)] == ["train"]
    assert open_results(folder.path).folder.name == "train"
    with pytest.raises(InputError):
        open_results(path)
    folder = opened(tmp_path)
    assert folder.completed("run") is None and folder.completed("train") is not None
    folder.close()


async def test_a_summary_that_is_not_committed_is_not_loaded(tmp_path: Path) -> None:
    """R-5, for services that watch what others publish."""
    folder = opened(tmp_path)
    publish(folder, "run")
    assert (await load_summary(folder.phase("run"))).phase == "run"
    shutil.copytree(folder.phase("run"), folder.phase("other"))
    with pytest.raises(InputError, match="has not completed"):
        await load_summary(folder.phase("other"))
    shutil.move(folder.phase("other"), tmp_path / "copy" / "other")
    assert (await load_summary(tmp_path / "copy" / "other")).phase == "run", "a copy is taken at its word"
    folder.close()


@pytest.mark.parametrize("moment", ["begun", "before", "after"])
def test_a_run_again_that_is_killed_leaves_the_result_before_or_the_one_after(moment: str, tmp_path: Path) -> None:
    disk = MortalDisk()
    folder = opened(tmp_path, disk)
    publish(folder, "run", "old")
    path = folder.begin_phase("run")
    (path / "containers/data").mkdir(parents=True)
    (path / "containers/data/rows.txt").write_text("fresh")
    disk.armed = "" if moment == "begun" else moment
    if moment != "begun":
        with pytest.raises(Killed):
            folder.publish("run", summary("run"), {}, pa.table({"name": ["data"]}))
        if moment == "after":
            (path / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary("run"))) + b"\n")
    killed(folder)
    folder = opened(tmp_path)
    assert folder.completed("run") is not None
    assert rows(folder) == ("fresh" if moment == "after" else "old")
    assert not list(folder.path.glob(".*.complete*"))
    if moment != "after":
        assert folder.root is not None and folder.root.recovered.is_clean
        assert folder.damage("run") == ""
    folder.close()


def test_a_run_again_that_is_interrupted_leaves_the_complete_result(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    publish(folder, "run", "old")
    publish(folder, "run", "part", "interrupted")
    assert rows(folder) == "old" and folder.completed("run") is not None and folder.damage("run") == ""
    publish(folder, "run", "new")
    assert rows(folder) == "new" and folder.damage("run") == ""
    folder.close()
    folder = opened(tmp_path)
    assert folder.root is not None and folder.root.recovered.is_clean
    folder.close()


def test_an_interrupted_phase_can_be_read_and_is_not_complete(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    publish(folder, "run", status="interrupted")
    assert folder.completed("run") is None
    assert open_run(folder.path)[0].summary.status == "interrupted"
    folder.close()


def test_t13_a_folder_from_before_the_manifest_is_taken_over_with_its_complete_phases(tmp_path: Path) -> None:
    """T13."""
    folder = opened(tmp_path)
    publish(folder, "train")
    publish(folder, "run", status="interrupted")
    folder.close()
    for path in folder.path.glob("MANIFEST-*"):
        path.unlink()
    (folder.path / "LOCK").write_text("4711\n")
    shutil.move(folder.phase("train"), folder.path / ".train.complete")
    assert not read_manifest(folder.path).number
    folder = opened(tmp_path)
    assert folder.completed("train") is not None and folder.completed("run") is None
    folder.close()
    (folder.phase("train") / "containers/data/rows.txt").unlink()
    folder = opened(tmp_path)
    assert folder.damage("train") == "containers/data/rows.txt was found damaged: it is not there"
    folder.close()


def test_a_phase_that_begins_anew_gives_up_its_journal_and_its_checkpoint(tmp_path: Path) -> None:
    """R-6."""
    folder = opened(tmp_path)
    assert folder.root is not None
    for file in ("wal/000001.seg", "checkpoints/000001.seg"):
        (folder.path / file).parent.mkdir()
        (folder.path / file).write_bytes(b"")
    folder.root.commit(
        [
            Entry(kind="add", file="wal/000001.seg", bytes=0, gen=1),
            Entry(kind="checkpoint", phase="run", file="checkpoints/000001.seg", bytes=0),
        ]
    )
    folder.begin_phase("run")
    assert not folder.root.manifest.checkpoints and not folder.root.manifest.segments()
    assert not list(folder.path.glob("*/*.seg"))
    folder.close()


def test_a_commit_that_fails_leaves_no_summary(tmp_path: Path) -> None:
    """R-1."""
    disk = RealDisk()
    folder = opened(tmp_path, disk)
    folder.begin_phase("run")

    def broken(fd: int) -> None:
        if "MANIFEST" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(5, "Input/output error")

    disk.sync = broken  # type: ignore[method-assign]
    with pytest.raises(StorageFailed, match="Input/output error"):
        folder.publish("run", summary("run"), {}, pa.table({"name": ["data"]}))
    assert folder.completed("run") is None and not (folder.phase("run") / "summary.json").exists()
    folder.close()
