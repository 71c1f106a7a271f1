"""A folder held by one process: what is committed is found again, by the next process and by readers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from faulty_disk import FaultyDisk

from pipeline.errors import DiskFull, StorageFailed
from pipeline.storage.entries import Entry
from pipeline.storage.manifest import Committed, manifest_name, manifest_numbers, read_manifest
from pipeline.storage.root import StorageRoot


def put(root: Path, file: str, raw: bytes = b"rows") -> Entry:
    """A data file, and the entry that lists it."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return Entry(kind="add", file=file, bytes=len(raw), container=file.split("/")[0])


def files(state: Committed) -> list[str]:
    return sorted(state.files)


def last_manifest(root: Path) -> Path:
    return root / manifest_name(manifest_numbers(os.listdir(root))[-1])


def test_what_is_committed_is_there_for_readers_at_once_and_after_the_next_start(tmp_path: Path) -> None:
    """R-3, R-5."""
    with StorageRoot.open(tmp_path) as root:
        assert root.epoch == 1
        root.commit([put(tmp_path, "a/1.parquet"), put(tmp_path, "a/2.parquet")])
        root.commit([Entry(kind="phase", phase="train"), Entry(kind="trim", container="a", gen=7)])
        root.commit([Entry(kind="remove", file="a/1.parquet")])
        seen = read_manifest(tmp_path).committed
        assert files(seen) == ["a/2.parquet"]
    with StorageRoot.open(tmp_path) as root:
        assert root.epoch == 2
        assert files(root.manifest) == ["a/2.parquet"]
        assert list(root.manifest.phases) == ["train"] and root.manifest.trims == {"a": 7}
        assert root.recovered.is_clean and not root.recovered.removed
        assert root.manifest.files["a/2.parquet"].epoch == 1


def test_e21_a_second_process_is_refused_with_the_owners_pid_and_since_when(tmp_path: Path) -> None:
    """E21."""
    with StorageRoot.open(tmp_path), pytest.raises(StorageFailed, match=rf"in use by process {os.getpid()}, since 20"):
        StorageRoot.open(tmp_path)
    StorageRoot.open(tmp_path).close()


def test_e21_who_holds_a_folder_without_being_there_is_told_so(tmp_path: Path) -> None:
    """E21: the lock is the kernel's, whatever stands in the file."""
    gone = os.fork()
    if not gone:
        os._exit(0)
    os.waitpid(gone, 0)
    with StorageRoot.open(tmp_path):
        for owner, told in (
            (f'{{"pid": {gone}}}', rf"by process {gone} \(which has ended; one that it forked"),
            ('{"pid": 1, "since_ns": 1, "boot_id": "x"}', r"by process 1, since 1970-.* UTC \(on another machine\)"),
            ("", "by process unknown; wait"),
        ):
            (tmp_path / "LOCK").write_text(owner)
            with pytest.raises(StorageFailed, match=told):
                StorageRoot.open(tmp_path)


def test_e22_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    """E22."""
    with StorageRoot.open(tmp_path) as root:
        child = os.fork()
        if not child:
            try:
                root.commit([Entry(kind="phase", phase="forked")])
            except StorageFailed as error:
                os._exit(7 if "forked" in str(error) else 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        root.commit([Entry(kind="phase", phase="own")])
    assert list(read_manifest(tmp_path).committed.phases) == ["own"]


def test_a_closed_root_takes_no_commit(tmp_path: Path) -> None:
    root = StorageRoot.open(tmp_path)
    root.close()
    root.close()
    with pytest.raises(StorageFailed, match="is closed"):
        root.commit([Entry(kind="phase", phase="late")])


def test_a_commit_syncs_before_it_returns_and_one_without_sync_does_not(tmp_path: Path) -> None:
    """R-1."""
    disk = FaultyDisk()
    with StorageRoot.open(tmp_path, disk=disk) as root:
        before = disk.calls["sync"]
        root.commit([Entry(kind="phase", phase="a")], sync=False)
        assert disk.calls["sync"] == before
        root.commit([Entry(kind="phase", phase="b")])
        assert disk.calls["sync"] == before + 1
        root.sync()
        assert disk.calls["sync"] == before + 1, "all is on disk"
        root.commit([Entry(kind="phase", phase="c")], sync=False)
        root.sync()
        assert disk.calls["sync"] == before + 2


def test_every_truncation_of_a_manifest_ends_it_after_a_whole_commit(tmp_path: Path) -> None:
    """R-3: a commit of several lines counts whole or not at all."""
    with StorageRoot.open(tmp_path / "root") as root:
        root.commit([Entry(kind="phase", phase="a")])
        root.commit([Entry(kind="phase", phase=name) for name in "bc"])
        root.commit([Entry(kind="phase", phase="d")])
    raw = last_manifest(tmp_path / "root").read_bytes()
    lines = raw.splitlines(keepends=True)
    ends = [sum(map(len, lines[:count])) for count in (1, 2, 4)]
    seen = set()
    for length in range(ends[0], len(raw)):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / manifest_name(1)).write_bytes(raw[:length])
        assert not read_manifest(folder).damage
        with StorageRoot.open(folder) as root:
            seen.add("".join(root.manifest.phases))
            assert root.recovered.manifest_cut_bytes == length - max(end for end in ends if end <= length)
    assert seen == {"", "a", "abc"}


def test_r4_damage_in_the_middle_is_refused_and_repaired_on_demand(tmp_path: Path) -> None:
    """R-4."""
    with StorageRoot.open(tmp_path) as root:
        for name in "abcd":
            root.commit([Entry(kind="phase", phase=name)])
    path = last_manifest(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"X" + lines[2][1:], *lines[3:]]))
    with pytest.raises(StorageFailed, match=r"MANIFEST-000001 is damaged at byte \d+: .*--repair"):
        StorageRoot.open(tmp_path)
    damaged = path.read_bytes()
    with StorageRoot.open(tmp_path, repair=True) as root:
        assert list(root.manifest.phases) == ["a", "c", "d"]
        assert root.recovered.lost_lines == 1 and not root.recovered.is_clean
        [loss] = root.recovered.lost
        assert (tmp_path / loss.kept).read_bytes() == damaged
    with StorageRoot.open(tmp_path) as root:
        assert list(root.manifest.phases) == ["a", "c", "d"] and root.recovered.is_clean


def test_r2_a_failed_sync_goes_to_a_new_manifest_once(tmp_path: Path) -> None:
    """R-2: never a second sync of that file."""
    disk = FaultyDisk()
    with StorageRoot.open(tmp_path, disk=disk) as root:
        root.commit([Entry(kind="phase", phase="a")])
        disk.fail("sync", "MANIFEST-000001")
        before = len(disk.steps)
        root.commit([Entry(kind="phase", phase="b")])
        synced = [path for call, path in disk.steps[before:] if call == "sync"]
        assert [Path(path).name for path in synced] == ["MANIFEST-000001", "MANIFEST-000002.tmp"]
        assert list(root.manifest.phases) == ["a", "b"]
        disk.fail("sync", "MANIFEST", times=2)
        with pytest.raises(StorageFailed, match=r"write .*MANIFEST"):
            root.commit([Entry(kind="phase", phase="c")])
        assert list(root.manifest.phases) == ["a", "b"]
        root.commit([Entry(kind="phase", phase="d")])
    with StorageRoot.open(tmp_path) as root:
        assert list(root.manifest.phases) == ["a", "b", "d"]


def test_t4_a_full_disk_refuses_the_commit_and_takes_it_when_there_is_room(tmp_path: Path) -> None:
    """T4, R-2: half of the line was written; the file ends with a whole line all the same."""
    disk = FaultyDisk()
    with StorageRoot.open(tmp_path, disk=disk) as root:
        root.commit([Entry(kind="phase", phase="a")])
        size = last_manifest(tmp_path).stat().st_size
        disk.fail("write", "MANIFEST", errno.ENOSPC, short=20)
        with pytest.raises(DiskFull, match="no room"):
            root.commit([Entry(kind="phase", phase="b")])
        assert last_manifest(tmp_path).stat().st_size == size
        assert list(root.manifest.phases) == ["a"]
        root.commit([Entry(kind="phase", phase="b")])
    assert list(read_manifest(tmp_path).committed.phases) == ["a", "b"]


def test_a_manifest_that_has_grown_is_followed_by_another_and_two_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.manifest_writer.ROTATE_LINES", 10)
    with StorageRoot.open(tmp_path) as root:
        for number in range(55):
            root.commit([Entry(kind="trim", container="a", gen=number)])
        numbers = manifest_numbers(os.listdir(tmp_path))
        assert len(numbers) == 2 and numbers[-1] > 4
        assert read_manifest(tmp_path).committed.trims == {"a": 54} == root.manifest.trims


def test_a_file_that_is_not_as_committed_is_put_aside_and_counted(tmp_path: Path) -> None:
    """R-3."""
    with StorageRoot.open(tmp_path) as root:
        root.commit([put(tmp_path, "a/short"), put(tmp_path, "a/gone"), put(tmp_path, "a/whole")])
    (tmp_path / "a/short").write_bytes(b"r")
    (tmp_path / "a/gone").unlink()
    with StorageRoot.open(tmp_path) as root:
        lost = {loss.file: loss for loss in root.recovered.lost}
        assert set(lost) == {"a/short", "a/gone"}
        assert (tmp_path / lost["a/short"].kept).read_bytes() == b"r" and not lost["a/gone"].kept
        assert files(root.manifest) == ["a/whole"]


def test_only_our_own_unlisted_files_are_removed(tmp_path: Path) -> None:
    """R-3."""
    StorageRoot.open(tmp_path).close()
    for file in ("wal/000009.seg", "wal/notes.txt", "checkpoints/4.seg", "checkpoints/mine", "notes.txt", "a/b"):
        put(tmp_path, file)
    put(tmp_path, "MANIFEST-000007.tmp")
    put(tmp_path, "spill/1/000000.seg")
    with StorageRoot.open(tmp_path) as root:
        assert sorted(root.recovered.removed) == ["MANIFEST-000007.tmp", "checkpoints/4.seg", "wal/000009.seg"]
        assert not (tmp_path / "spill/1").exists()
        root.sweep()
        assert not os.listdir(tmp_path / "spill")
        assert root.manifest.next_segment == 10, "a number is never given twice"
    for file in ("wal/notes.txt", "checkpoints/mine", "notes.txt", "a/b"):
        assert (tmp_path / file).exists()


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StorageFailed, match=r"cannot write to .*/file.*: .*choose another with --output .*another `folder:`"
    ):
        StorageRoot.open(tmp_path / "file")
