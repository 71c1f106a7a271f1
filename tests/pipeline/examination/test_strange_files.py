"""What is in the place of a file and is none: it is named, and never waited for."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from pipeline.errors import StorageFailed
from pipeline.examination.inspection import inspect
from pipeline.examination.places import Place
from pipeline.examination.verification import verify
from pipeline.mending.dead_letters import FOLDER, DeadLetters
from pipeline.storage.entries import Entry
from pipeline.storage.lock import LOCK
from pipeline.storage.manifest import manifest_name, parse_manifest, read_manifest
from pipeline.storage.root import StorageRoot
from tests.pipeline.examination.looked_at import run, store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("made")
    asyncio.run(run(base))
    asyncio.run(store(base / "stores"))
    return base


@pytest.fixture
def ran(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree((made / "looked" / "latest").resolve(), tmp_path / "ran"))


@pytest.fixture
def stores(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "stores", tmp_path / "stores"))


def put(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_bad_and_is_not_waited_for(kind: str, ran: Path, stores: Path) -> None:
    """R-5: a pipe without a writer, and a device without an end, in the place of every kind of file."""
    for name in ("run/summary.json", "run/run.json", "run/containers/sums/rows.parquet", f"run/{FOLDER}/sums.seg"):
        put(ran / name, kind)
        (bad,) = [bad for bad in verify(Place(ran)).bad if bad.file == name]
        assert f"a {kind}, not a regular file" in bad.found
    assert inspect(Place(ran)).phases[0].phase == "run"
    segment = next((stores / "wal").iterdir())
    put(segment, kind)
    (bad,) = verify(Place(stores)).bad
    assert bad.file == f"wal/{segment.name}" and f"a {kind}, not a regular file" in bad.found
    assert inspect(Place(stores)).segments == 0


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_dead_letters_that_nothing_lists_yet_and_are_no_file_are_bad(kind: str, tmp_path: Path) -> None:
    StorageRoot.open(tmp_path).close()
    path = tmp_path / "run" / FOLDER / "sums.seg"
    path.parent.mkdir(parents=True)
    path.touch()
    put(path, kind)
    (bad,) = verify(Place(tmp_path)).bad
    assert bad.file == f"run/{FOLDER}/sums.seg" and "not a regular file" in bad.found
    assert inspect(Place(tmp_path)).phases[0].dead_letters == 0
    with pytest.raises(StorageFailed, match="not a regular file"):
        list(DeadLetters(tmp_path / "run"))


def test_a_manifest_that_has_grown_by_zeros_is_read_quickly_and_is_bad(ran: Path) -> None:
    """R-3: 3 GB of zeros, then a line: neither is held in memory, and what was whole before counts."""
    path = ran / manifest_name(read_manifest(ran).number)
    whole = read_manifest(ran)
    with path.open("ab") as file:
        file.truncate(3 << 30)
    view = read_manifest(ran)
    assert (view.good_bytes, view.lines) == (whole.good_bytes, whole.lines)
    assert view.torn_bytes == (3 << 30) - whole.good_bytes and not view.damage
    (bad,) = verify(Place(ran)).bad
    assert bad.file == path.name and f"{view.torn_bytes:,} bytes behind them that are none" in bad.found


@pytest.mark.parametrize("at", [1, 2, 3])
def test_zeros_in_the_midst_of_a_manifest_are_what_they_were(at: int, ran: Path) -> None:
    """R-4: lines behind them are found, and every length counts the zeros that were passed over."""
    path = ran / manifest_name(read_manifest(ran).number)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:at]) + bytes(20 << 20) + b"\n" + b"".join(lines[at + 1 :]) + bytes(9 << 20))
    view, expected = read_manifest(ran), parse_manifest(path.read_bytes(), str(path))
    expected.number = view.number
    assert view == expected and view.later


def test_a_lock_with_a_damaged_byte_or_of_gigabytes_says_nothing_and_breaks_nothing(ran: Path) -> None:
    path = ran / LOCK
    raw = path.read_bytes()
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes([raw[at] | 0x80]) + raw[at + 1 :])
        assert not verify(Place(ran)).bad
        assert inspect(Place(ran)).phases
    with path.open("ab") as file:
        file.truncate(3 << 30)
    assert not verify(Place(ran)).bad
    put(path, "pipe")
    assert not verify(Place(ran)).bad and inspect(Place(ran)).held_by is None


def test_a_file_that_has_grown_is_bad_by_its_length_and_is_not_read(ran: Path) -> None:
    path = ran / "run" / "containers" / "sums" / "rows.parquet"
    with path.open("ab") as file:
        file.truncate(1 << 40)
    (bad,) = verify(Place(ran)).bad
    assert bad.found == f"{1 << 40:,} bytes"


def test_bytes_behind_a_segment_that_was_closed_are_bad_where_nobody_writes(stores: Path) -> None:
    """R-3: opening cuts them off, so that they are bad from then on alone."""
    segment = sorted((stores / "wal").iterdir())[0]
    StorageRoot.open(stores).close()
    whole = segment.read_bytes()
    segment.write_bytes(whole + b"ab")
    (bad,) = verify(Place(stores)).bad
    assert bad.file == f"wal/{segment.name}" and "2 bytes behind them that are no record" in bad.found
    StorageRoot.open(stores).close()
    assert segment.read_bytes() == whole and not verify(Place(stores)).bad


def test_of_a_segment_that_is_gone_nobody_says_that_it_was_empty(stores: Path) -> None:
    """It was being written when its process ended, so that its length is not listed."""
    with StorageRoot.open(stores) as root:
        root.commit([Entry(kind="add", file="wal/000099.seg", gen=root.epoch)])
    (bad,) = verify(Place(stores)).bad
    assert bad.file == "wal/000099.seg" and bad.found == "no such file"
    assert "0 bytes" not in bad.expected and "how long it was is not known" in bad.expected
