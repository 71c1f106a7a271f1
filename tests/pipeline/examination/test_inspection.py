"""Inspection: what a folder holds, told as it is, while it is written too."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from pipeline.errors import StorageFailed
from pipeline.examination.inspection import inspect
from pipeline.examination.places import Place, locate
from pipeline.storage.entries import Entry
from pipeline.storage.holder import holder_of, is_held
from pipeline.storage.journal_records import GROUP
from pipeline.storage.lock import LOCK, FolderLock
from pipeline.storage.manifest import read_manifest
from pipeline.storage.root import StorageRoot
from tests.conftest import ROOT
from tests.pipeline.examination.looked_at import run, store

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("made")
    asyncio.run(run(base))
    return (base / "looked" / "latest").resolve()


@pytest.fixture
def ran(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "ran"))


def test_a_run_is_told_by_phase_container_and_file(made: Path) -> None:
    found = inspect(Place(made))
    (phase,) = found.phases
    assert (phase.phase, phase.state, phase.files, phase.dead_letters) == ("run", "complete", len(found.files), 6)
    assert phase.num_bytes == sum((made / file.file).stat().st_size for file in found.files)
    files = {file.file: file for file in found.files}
    assert (files["run/containers/sums/rows.parquet"].container, files["run/containers/sums/rows.parquet"].rows) == (
        "sums",
        594,
    )
    assert files["run/dead_letters/sums.seg"].container == "sums"
    assert all(file.there and file.xxh3 and len(file.xxh3) == 16 for file in found.files)
    assert (found.format, found.epoch, found.manifest, found.damage, found.manifest_tail_bytes) == (1, 1, 1, "", 0)
    assert found.unlisted_files == found.spill_bytes == found.segments == 0 and not found.quarantine


async def test_live_and_dead_bytes_of_the_journal_are_told_by_container(tmp_path: Path) -> None:
    folder = await store(tmp_path / "stores")

    def look() -> None:
        found = inspect(Place(folder))
        assert found.segments == 1 and not found.phases and not found.files
        shares = {share.container: share for share in found.journal}
        assert set(shares) == {"other", "quotes"}
        assert sum(share.live_records + share.dead_records for share in found.journal) == 60
        all_bytes = sum(share.live_bytes + share.dead_bytes for share in found.journal)
        assert 0.7 * found.journal_bytes < all_bytes < found.journal_bytes, f"what is not theirs is of kind {GROUP}"

    await asyncio.to_thread(look)


def test_what_is_trimmed_is_dead_and_a_checkpoint_has_its_rows_and_offsets() -> None:
    found = inspect(Place(GOLDEN / "format-1"))
    one = next(share for share in found.journal if share.container == "container 1")
    assert (one.live_records, one.dead_records) == (1, 2) and one.dead_bytes > one.live_bytes
    states = {phase.phase: phase for phase in found.phases}
    assert states["train"].state == "complete" and states["run"].state == "not complete"
    assert (states["run"].checkpoint, states["run"].offsets) == ("checkpoints/000001.seg", {"feed": 1000})


def test_who_holds_it_is_known_without_touching_the_lock(ran: Path) -> None:
    before = holder_of(ran)
    assert before is not None and not before.holds and str(before).startswith(f"nobody; last process {os.getpid()}")
    with StorageRoot.open(ran) as root:
        holder = inspect(Place(ran)).held_by
        assert holder is not None and holder.holds and (holder.pid, holder.epoch) == (os.getpid(), root.epoch)
        assert str(holder).startswith(f"process {os.getpid()}, since 2")
        with (ran / f"MANIFEST-{root._writer.number:06d}").open("ab") as file:
            file.write(b"0badc0de")
        found = inspect(Place(ran))
        assert found.damage == "" and found.manifest_tail_bytes == 8
    assert not is_held(ran) and inspect(Place(ran)).manifest_tail_bytes == 8


def test_a_lock_that_is_held_by_another_file_of_the_same_name_is_not_ours(ran: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    lock = FolderLock(other)
    lock.take()
    assert is_held(other) and not is_held(ran)
    lock.release()
    assert not is_held(other)
    (other / LOCK).unlink()
    assert holder_of(other) is None


def test_a_holder_from_before_the_machine_was_started_again_is_told_as_such(ran: Path) -> None:
    raw = (ran / LOCK).read_text()
    boot = raw.split('"boot_id":"')[1].split('"')[0]
    (ran / LOCK).write_text(raw.replace(boot, "another"))
    holder = holder_of(ran)
    assert holder is not None and not holder.here and "on another machine or before a restart" in str(holder)


def test_files_of_the_users_own_are_just_counted(ran: Path) -> None:
    (ran / "report.html").write_text("12345")
    (ran / "run" / "notes.txt").write_text("123")
    found = inspect(Place(ran))
    assert (found.unlisted_files, found.unlisted_bytes) == (2, 8)
    assert found.unlisted == ["report.html", "run/notes.txt"]
    assert inspect(locate(ran / "run")).unlisted == ["run/notes.txt"]


def test_the_quarantine_says_what_lies_there_and_how_much_was_lost(ran: Path) -> None:
    """R-4: a manifest with a bad line in the middle, a file of another length."""
    with StorageRoot.open(ran) as root:
        for gen in range(3):
            root.commit([Entry(kind="trim", container="x", gen=gen)])
    path = ran / f"MANIFEST-{read_manifest(ran).number:06d}"
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b"x", b"y")
    path.write_bytes(b"\n".join(lines))
    (ran / "run" / "containers.parquet").write_bytes(b"too short")
    with StorageRoot.open(ran, repair=True):
        pass
    kept = {one.file.partition("-")[2]: one for one in inspect(Place(ran)).quarantine}
    assert kept[path.name].lost_lines == 1 and "1 lines could not be read" in kept[path.name].why
    assert kept["run_containers.parquet"].num_bytes == 9 and "length" in kept["run_containers.parquet"].why


def test_a_piece_of_the_journal_in_the_quarantine_is_told_with_its_place(tmp_path: Path) -> None:
    """R-4."""
    folder = Path(shutil.copytree(GOLDEN / "format-1", tmp_path / "golden"))
    (folder / "quarantine").mkdir()
    (folder / "quarantine" / "000-wal_000002.seg-123").write_bytes(b"12")
    (kept,) = inspect(Place(folder)).quarantine
    assert (kept.why, kept.num_bytes) == ("no whole record, at byte 123 of wal/000002.seg", 2)


def test_a_complete_result_that_waits_is_told_while_the_phase_runs_again(ran: Path) -> None:
    seq = read_manifest(ran).committed.phases["run"].seq
    with StorageRoot.open(ran):
        (ran / "run").rename(ran / f".run.complete-{seq}")
        (ran / "run").mkdir()
        found = inspect(Place(ran))
        assert found.phases[0].state == "complete; is being run again"
        assert all(file.there for file in found.files) and not found.unlisted_files


def test_a_folder_from_before_the_manifest_is_told_by_what_it_recorded(ran: Path) -> None:
    (ran / "MANIFEST-000001").unlink()
    (ran / LOCK).write_text("4711\n")
    found = inspect(Place(ran))
    assert (found.format, found.manifest, found.phases[0].state) == (None, 0, "complete")
    assert len(found.files) > 5 and all(file.there and file.xxh3 is None for file in found.files)
    assert not found.unlisted_files


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(StorageFailed, match="is of format 2"):
        inspect(Place(GOLDEN / "newer"))
