"""`penstock inspect` and `penstock verify`: what they print, and with which exit code they end."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pipeline.mending.dead_letters import FOLDER
from pipeline.storage.root import StorageRoot
from tests.conftest import ROOT
from tests.pipeline.examination.looked_at import run

Penstock = Callable[..., Result]
GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("made")
    asyncio.run(run(base))
    return base / "looked"


@pytest.fixture
def looked(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "looked", symlinks=True))


@pytest.mark.parametrize("which", ["looked", "looked/latest", "looked/latest/run"])
def test_inspect_shows_holder_manifest_phases_and_files(which: str, looked: Path, penstock: Penstock) -> None:
    told = penstock("inspect", which)
    assert told.exit_code == 0, told.stderr
    assert "held by   nobody; last process " in told.stdout and "format    1, epoch 1" in told.stdout
    assert "run/containers/sums/rows.parquet" in told.stdout and "594" in told.stdout
    assert "dead letters are listed by: penstock dead-letters looked/latest" in told.stdout or which.endswith("run")


def test_inspect_gives_all_of_it_as_json(looked: Path, penstock: Penstock) -> None:
    (looked / "latest" / "mine.txt").write_text("mine")
    found = json.loads(penstock("inspect", looked, "--json").stdout)
    assert found["phases"][0]["state"] == "complete" and found["unlisted"] == ["mine.txt"]
    assert {"phase", "container", "file", "rows", "bytes", "xxh3", "there"} == set(found["files"][0])
    assert "not in the manifest: 1 files, 4 B (mine.txt)" in penstock("inspect", looked).stdout


def test_inspect_of_a_journal_and_of_a_folder_that_is_held(tmp_path: Path, penstock: Penstock) -> None:
    folder = Path(shutil.copytree(GOLDEN / "format-1", tmp_path / "golden"))
    told = penstock("inspect", folder).stdout
    assert "journal: 3 segments, 858 B" in told and "000001.seg, 0 rows (feed: 1,000)" in told
    with StorageRoot.open(folder) as root:
        with (folder / f"MANIFEST-{root._writer.number:06d}").open("ab") as file:
            file.write(b"0bad")
        told = penstock("inspect", folder).stdout
        assert "held by   process " in told and "4 bytes behind them are being written" in told
    assert "4 bytes behind them do not count" in penstock("inspect", folder).stdout


def test_verify_says_one_line_where_all_is_whole(looked: Path, penstock: Penstock) -> None:
    told = penstock("verify", "looked")
    assert told.exit_code == 0 and told.stderr == ""
    (line,) = told.stdout.splitlines()
    assert line.startswith("ok: looked/latest: 12 files, ") and "manifest lines" in line


def test_verify_lists_what_is_bad_and_what_to_try_and_ends_with_1(looked: Path, penstock: Penstock) -> None:
    run_folder = looked / "latest" / "run"
    path = run_folder / "containers" / "sums" / "rows.parquet"
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)
    (run_folder / FOLDER / "sums.seg").unlink()
    told = penstock("verify", "looked/latest")
    assert told.exit_code == 1
    lines = told.stdout.splitlines()
    gone, tried, changed, again, total = lines
    assert {gone.partition(":")[0], changed.partition(":")[0]} == {
        "run/containers/sums/rows.parquet",
        f"run/{FOLDER}/sums.seg",
    }
    assert "expected xxh3 " in told.stdout and "found no such file" in told.stdout
    assert tried.startswith("  try: run its configuration again with --force") and tried == again
    assert total.startswith("BAD: 2 things in looked/latest; read were 12 files")
    found = json.loads(penstock("verify", looked, "--json").stdout)
    assert len(found["bad"]) == 2 and set(found["bad"][0]) == {"file", "expected", "found", "try"}


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_what_cannot_be_looked_at_ends_with_2(command: str, penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for folder, says in (
        ("nowhere", "there is no folder nowhere; expected a run's folder"),
        ("photos", "photos is no folder of Penstock"),
        (str(GOLDEN / "newer"), "is of format 2, and this version of Penstock reads formats up to 1; use the version"),
    ):
        told = penstock(command, folder)
        assert told.exit_code == 2 and told.stdout == "" and says in told.stderr


def test_verify_shows_how_far_it_is_to_who_watches(
    looked: Path, penstock: Penstock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.verify.is_terminal", lambda stream: True)
    told = penstock("verify", looked)
    assert told.exit_code == 0 and "verifying" in told.stderr and told.stdout.startswith("ok: ")


def test_verify_and_inspect_say_which_folder_they_took_or_refuse(looked: Path, penstock: Penstock) -> None:
    (run_folder,) = [path for path in looked.iterdir() if not path.is_symlink()]
    (looked / "latest").unlink()
    for command in ("verify", "inspect"):
        told = penstock(command, "looked")
        assert told.exit_code == 0
        assert f"looked/{run_folder.name} (the only folder of Penstock's in looked)" in told.stdout
    shutil.copytree(run_folder, looked / "other")
    for command in ("verify", "inspect"):
        told = penstock(command, "looked")
        assert told.exit_code == 2 and told.stdout == ""
        assert f"has 2 in it; give one: looked/{run_folder.name}, looked/other" in told.stderr
    assert "looked/other has" not in penstock("dead-letters", "looked/latest").stderr
    told = penstock("dead-letters", "looked")
    assert (
        told.exit_code == 1 and f"2 runs in looked have dead letters; give one: looked/{run_folder.name}" in told.stderr
    )


def test_a_run_without_a_complete_phase_is_named_where_latest_is_asked_for(looked: Path, penstock: Penstock) -> None:
    """No phase of it has come to its end, so `latest` is not there; what is there is said."""
    (looked / "latest").unlink()
    (run_folder,) = looked.iterdir()
    for command in ("verify", "inspect", "dead-letters", "report"):
        told = penstock(command, "looked/latest")
        assert told.exit_code in (1, 2)
        assert "no run in looked has completed a phase yet; what is there of them: looked/" in told.stderr
        assert run_folder.name in told.stderr


def test_a_folder_that_is_none_of_penstocks_has_no_dead_letters_to_tell_of(penstock: Penstock) -> None:
    Path("photos").mkdir()
    told = penstock("dead-letters", "photos")
    assert told.exit_code == 1 and "photos is no folder of Penstock" in told.stderr


def test_a_manifest_that_is_no_file_is_a_folder_that_cannot_be_judged(looked: Path, penstock: Penstock) -> None:
    (path,) = (looked / "latest").glob("MANIFEST-*")
    path.unlink()
    path.mkdir()
    told = penstock("verify", "looked/latest")
    assert told.exit_code == 2 and "it is a folder, not a regular file" in told.stderr
