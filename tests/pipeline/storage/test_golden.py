"""Folders that earlier versions have left, and one that a later version has left: T13."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline import StorageFailed, open_run
from pipeline.folder import RunFolder
from pipeline.storage.entries import FORMAT
from pipeline.storage.manifest import read_manifest
from pipeline.storage.root import StorageRoot
from tests.golden.make import HERE, told

VERSIONS = sorted(path.name for path in HERE.glob("format-*") if path.is_dir())


def copied(name: str, to: Path) -> Path:
    return Path(shutil.copytree(HERE / name, to / name))


def test_t13_there_is_a_golden_folder_of_this_version() -> None:
    """T13. Where this fails: `python -m tests.golden.make`, and keep those of the versions before."""
    assert f"format-{FORMAT}" in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_t13_a_folder_of_every_version_says_what_it_said_then(version: str, tmp_path: Path) -> None:
    """T13: read in place, read after recovery, and after another recovery."""
    wanted = json.loads((HERE / f"{version}.json").read_text())
    assert told(HERE / version) == wanted
    folder = copied(version, tmp_path)
    for _ in range(2):
        with StorageRoot.open(folder) as root:
            assert root.recovered.is_clean
        assert told(folder) == wanted


def test_t13_a_folder_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """T13: by who would write, by who reads, and by who repairs."""
    folder = copied("newer", tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    told_so = rf"is of format {FORMAT + 1}, and this version of Penstock reads formats up to {FORMAT}; use the version"
    for repair in (False, True):
        with pytest.raises(StorageFailed, match=told_so):
            StorageRoot.open(folder, repair=repair)
    with pytest.raises(StorageFailed, match=told_so):
        read_manifest(folder)
    with pytest.raises(StorageFailed, match=told_so):
        open_run(folder)
    (folder / "LOCK").unlink()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    run = RunFolder(tmp_path, "newer", ".")
    with pytest.raises(StorageFailed, match=told_so):
        run.open()
