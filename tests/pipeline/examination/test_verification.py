"""Verification: whatever bit changes is found and named, what is whole is never called bad."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import stores_child

import pipeline.examination.inspection
import pipeline.examination.verification
from pipeline.errors import InputError, StorageFailed
from pipeline.examination.places import Place, locate
from pipeline.examination.verification import bytes_to_verify, verify
from pipeline.examination.verified import Verified
from pipeline.mending.dead_letters import DeadLetter, DeadLetterFile
from pipeline.storage.entries import Entry
from pipeline.storage.executor import IoExecutor
from pipeline.storage.lock import LOCK
from pipeline.storage.manifest import manifest_numbers, read_manifest
from pipeline.storage.root import StorageRoot
from tests.conftest import ROOT
from tests.counted import count
from tests.pipeline.examination.looked_at import run, store

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of every kind, to be copied or read: they are made once."""
    base = tmp_path_factory.mktemp("kept")
    asyncio.run(run(base / "runs", times=2))
    asyncio.run(store(base / "stores"))
    asyncio.run(store(base / "stores", numbers=range(30, 50)))
    shutil.copytree(GOLDEN / "format-1", base / "golden")
    return {
        "run": (base / "runs" / "looked" / "latest").resolve(),
        "stores": base / "stores",
        "golden": base / "golden",
    }


@pytest.fixture
def ran(kept: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept["run"], tmp_path / "ran"))


def files_of(folder: Path) -> list[Path]:
    """All but the lock, which nothing rests on: it is the kernel's, and what stands in it is for messages."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != LOCK]


def named(done: Verified) -> list[str]:
    return [bad.file for bad in done.bad]


def test_whole_folders_are_whole_and_everything_in_them_was_read(kept: dict[str, Path]) -> None:
    """R-5."""
    done = verify(Place(kept["run"]))
    assert not done.bad and not done.notes
    listed = [path for path in files_of(kept["run"]) if not path.name.startswith("MANIFEST")]
    assert done.files == len(listed) > 6 and done.parquet_files >= 3
    assert done.num_bytes == sum(path.stat().st_size for path in listed) == bytes_to_verify(Place(kept["run"]))
    assert done.held_by is not None and not done.held_by.holds and done.held_by.pid == os.getpid()
    stores = verify(Place(kept["stores"]))
    assert not stores.bad and stores.records >= 100 and stores.segments == 2
    golden = verify(Place(kept["golden"]))
    assert not golden.bad and (golden.checkpoints, golden.records) == (1, 6)


def flips(raw: bytes, name: str) -> Iterator[tuple[int, int]]:
    """Places and bits: the ends, and some by chance; every line of a manifest has its share."""
    chance = random.Random(name)
    yield 0, 0
    yield len(raw) - 1, 7
    for _ in range(60 if name.startswith("MANIFEST") else 14):
        yield chance.randrange(len(raw)), chance.randrange(8)


@pytest.mark.parametrize("kind", ["run", "stores", "golden"])
def test_t9_a_flipped_bit_of_any_file_is_found_and_named(kind: str, kept: dict[str, Path], tmp_path: Path) -> None:
    """T9: of every file of a folder in turn, manifests, journal, checkpoint, summary, data and dead letters."""
    folder = Path(shutil.copytree(kept[kind], tmp_path / kind))
    for path in files_of(folder):
        raw = path.read_bytes()
        file = path.relative_to(folder).as_posix()
        for at, bit in flips(raw, path.name):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :])
            done = verify(Place(folder))
            assert file in named(done), (file, at, bit)
            assert all(bad.expected and bad.found and bad.try_ for bad in done.bad)
            count("flips found by verify")
        path.write_bytes(raw)
    assert not verify(Place(folder)).bad


@pytest.mark.parametrize("kind", ["run", "stores", "golden"])
def test_t9_files_cut_off_or_gone_are_found_and_named(kind: str, kept: dict[str, Path], tmp_path: Path) -> None:
    """T9. A manifest that ends between two commits says less, and nobody can tell: it is cut within a line here."""
    folder = Path(shutil.copytree(kept[kind], tmp_path / kind))
    last = max(manifest_numbers(os.listdir(folder)))
    unsure = {f"wal/{number:06d}.seg" for number, entry in read_manifest(folder).committed.segments().items()
              if entry.bytes is None}  # fmt: skip
    for path in files_of(folder):
        raw = path.read_bytes()
        file = path.relative_to(folder).as_posix()
        for length in (len(raw) - 1, len(raw) // 2 + 1):
            path.write_bytes(raw[:length])
            assert file in named(verify(Place(folder))), (file, length)
        path.unlink()
        done = named(verify(Place(folder)))
        if not path.name.startswith("MANIFEST"):
            assert file in done or (file in unsure and not raw)
        elif path.name == f"MANIFEST-{last:06d}" and (folder / LOCK).exists():
            assert path.name in done or "MANIFEST" in done
        path.write_bytes(raw)


def test_an_extra_file_is_nobodys_business(ran: Path) -> None:
    (ran / "run" / "notes.txt").write_text("mine")
    (ran / "report.html").write_text("mine")
    assert not verify(Place(ran)).bad


def test_bytes_behind_a_manifest_are_bad_where_nobody_writes_it(ran: Path) -> None:
    """R-3: a writer at work has a line half written; a crash leaves one, and so does damage."""
    number = read_manifest(ran).number
    with (ran / f"MANIFEST-{number:06d}").open("ab") as file:
        file.write(b'0badc0de {"v":1,')
    (bad,) = verify(Place(ran)).bad
    assert "16 bytes behind them" in bad.found and "--resume" in bad.try_
    with StorageRoot.open(ran) as root:
        with (ran / f"MANIFEST-{root._writer.number:06d}").open("ab") as file:
            file.write(b'0badc0de {"v":1,')
        done = verify(Place(ran))
        assert not done.bad and done.held_by is not None and done.held_by.holds


def test_what_a_writer_has_half_written_to_the_journal_is_no_damage(kept: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(kept["golden"], tmp_path / "golden"))
    with StorageRoot.open(folder) as root:
        root.commit([Entry(kind="add", file="wal/000009.seg", gen=root.epoch)])
        raw = (folder / "wal" / "000003.seg").read_bytes()
        (folder / "wal" / "000009.seg").write_bytes(raw[:40])
        assert not verify(Place(folder)).bad
    assert named(verify(Place(folder))) == ["wal/000009.seg"]


def test_a_manifest_of_which_the_quarantine_has_a_copy_is_known_to_be_bad(ran: Path) -> None:
    number = read_manifest(ran).number
    path = ran / f"MANIFEST-{number:06d}"
    raw = path.read_bytes()
    path.write_bytes(raw[:300] + b"!" + raw[301:])
    assert named(verify(Place(ran))) == [path.name]
    with StorageRoot.open(ran, repair=True):
        pass
    assert path.name not in named(verify(Place(ran)))


def test_r5_a_file_that_goes_because_it_is_not_listed_any_more_is_not_missed(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-5: between the manifest's reading and the file's, a phase is removed, as --force of another run does."""
    examine = pipeline.examination.verification.examine
    seen = []

    def slowly(root: Path, entry: Entry, *rest: object) -> object:
        seen.append(entry.file)
        if len(seen) == 2:
            with StorageRoot.open(ran) as held:
                held.commit([Entry(kind="remove", phase="run")])
                shutil.rmtree(ran / "run")
        return examine(root, entry, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline.examination.verification, "examine", slowly)
    done = verify(Place(ran))
    assert not done.bad and done.files == 1 and len(seen) > 3


def test_a_result_that_waits_for_a_new_one_is_looked_for_where_it_waits(ran: Path) -> None:
    """A phase that is run again: its complete result lies under another name until the new one is complete."""
    seq = read_manifest(ran).committed.phases["run"].seq
    (ran / "run").rename(ran / f".run.complete-{seq}")
    (ran / "run").mkdir()
    assert not verify(Place(ran)).bad
    next((ran / f".run.complete-{seq}").rglob("*.parquet")).unlink()
    assert len(verify(Place(ran)).bad) == 1


async def test_dead_letters_of_a_phase_under_way_are_read(tmp_path: Path) -> None:
    """Nothing lists them yet: damage in the middle is found at any time, at the end where nobody writes."""
    root = StorageRoot.open(tmp_path)
    io = IoExecutor(1)
    file = DeadLetterFile(tmp_path / "run", "sums", io)
    for number in range(3):
        await file.add([DeadLetter(container="sums", value={"n": number}, error="no", attempts=1, time_ns=number)])
    await io.close()
    raw = file.path.read_bytes()

    def look() -> Verified:
        return verify(Place(tmp_path))

    def write(data: bytes) -> None:
        file.path.write_bytes(data)

    done = await asyncio.to_thread(look)
    assert (done.letters, done.bad) == (3, [])
    await asyncio.to_thread(write, raw[:-3])
    assert not (await asyncio.to_thread(look)).bad, "it is being written"
    await asyncio.to_thread(write, raw[:60] + bytes([raw[60] ^ 1]) + raw[61:])
    assert named(await asyncio.to_thread(look)) == ["run/dead_letters/sums.seg"]
    await asyncio.to_thread(root.close)
    await asyncio.to_thread(write, raw[:-3])
    assert named(await asyncio.to_thread(look)) == ["run/dead_letters/sums.seg"]


def test_progress_comes_to_all_that_is_to_be_read(kept: dict[str, Path]) -> None:
    for folder in kept.values():
        told: list[int] = []
        verify(Place(folder), told.append)
        assert sum(told) == bytes_to_verify(Place(folder)) > 0


def test_many_missing_files_are_told_with_few_looks_at_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What costs a look for each of them takes minutes where a folder with thousands of files has gone."""
    with StorageRoot.open(tmp_path) as root:
        root.commit([Entry(kind="add", phase="run", file=f"run/{n}.bin", bytes=9, xxh3="0" * 16) for n in range(200)])
    looks: list[Path] = []
    read = pipeline.examination.verification.read_manifest
    monkeypatch.setattr(
        pipeline.examination.verification, "read_manifest", lambda root: (looks.append(root), read(root))[1]
    )
    assert len(verify(Place(tmp_path)).bad) == 200 and len(looks) < 5


def test_one_phase_is_read_alone(ran: Path) -> None:
    shutil.copytree(ran / "run", ran / "other")
    with StorageRoot.open(ran) as root:
        raw = (ran / "other" / "summary.json").stat().st_size
        root.commit([Entry(kind="add", phase="other", file="other/summary.json", bytes=raw, xxh3="0" * 16)])
    assert named(verify(Place(ran))) == ["other/summary.json"]
    assert not verify(locate(ran / "run")).bad
    assert named(verify(locate(ran / "other"))) == ["other/summary.json"]


def test_a_folder_from_before_the_manifest_is_compared_by_length_and_says_what_it_cannot(ran: Path) -> None:
    for path in ran.glob("MANIFEST-*"):
        path.unlink()
    (ran / LOCK).write_text("4711\n")
    done = verify(locate(ran))
    assert not done.bad and done.files == done.without_checksum > 4
    assert len(done.notes) == 1 and "other changes cannot be found" in done.notes[0]
    path = next((ran / "run" / "saved").rglob("*.parquet"), None) or next((ran / "run").rglob("*.parquet"))
    raw = path.read_bytes()
    middle = len(raw) // 4
    path.write_bytes(raw[:middle] + bytes([raw[middle] ^ 16]) + raw[middle + 1 :])
    (bad,) = verify(locate(ran)).bad
    assert "row group" in bad.found or "footer" in bad.found
    path.write_bytes(raw[:-1])
    (bad,) = verify(locate(ran)).bad
    assert bad.expected == f"{len(raw):,} bytes"
    (ran / "failed").mkdir()
    (ran / "failed" / "run.json").write_text('{"status": "failed"}')
    (ran / "run" / "summary.json").write_text("{")
    path.write_bytes(raw)
    assert named(verify(Place(ran))) == ["run/summary.json"]


def test_which_folder_is_meant(kept: dict[str, Path], tmp_path: Path) -> None:
    run_folder = kept["run"]
    assert locate(run_folder) == Place(run_folder)
    assert locate(run_folder / "run") == Place(run_folder, "run")
    assert locate(kept["stores"] / "wal") == Place(kept["stores"])
    assert locate(run_folder.parent).root.resolve() == run_folder
    moved = tmp_path / "name"
    shutil.copytree(run_folder, moved / "abc")
    assert locate(moved) == Place(moved / "abc", why=f"the only folder of Penstock's in {moved}")
    shutil.copytree(run_folder, moved / "def")
    with pytest.raises(InputError, match=r"has 2 in it; give one: .*abc, .*def$"):
        locate(moved)
    (moved / "latest").symlink_to("def")
    assert locate(moved) == Place(moved / "latest")
    with pytest.raises(InputError, match=r"has 1 in it; give one: .*name/latest$"):
        locate(tmp_path)
    (tmp_path / "foreign").mkdir()
    with pytest.raises(InputError, match="no folder of Penstock"):
        locate(tmp_path / "foreign")
    (tmp_path / "foreign" / "latest").mkdir()
    (moved / "abc" / "photos").mkdir()
    with pytest.raises(InputError, match=r"photos holds nothing of a phase; .* has run"):
        locate(moved / "abc" / "photos")
    with pytest.raises(InputError, match="there is no folder"):
        locate(tmp_path / "nowhere")
    with pytest.raises(StorageFailed, match="is of format 2, and this version of Penstock reads formats up to 1"):
        verify(Place(GOLDEN / "newer"))


WATCHED = """\
import os, sys
from pathlib import Path
from pipeline.examination.inspection import inspect
from pipeline.examination.places import locate
from pipeline.examination.verification import verify

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.utime", "os.symlink",
             "os.link", "fcntl.flock", "fcntl.lockf", "fcntl.fcntl", "subprocess.Popen")

def hook(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & WRITES:
        os._exit(90)
    if event in FORBIDDEN:
        os._exit(91)

sys.addaudithook(hook)
for folder in sys.argv[1:]:
    place = locate(Path(folder))
    found = inspect(place)
    done = verify(place)
    print(len(done.bad), len(found.files) + done.records > 5, flush=True)
"""


def state_of(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every name with its inode, length and times of change."""
    return {
        str(path): (found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        for path in [folder, *folder.rglob("*")]
        if (found := path.lstat())
    }


def test_nothing_is_opened_for_writing_locked_or_changed(kept: dict[str, Path], tmp_path: Path) -> None:
    """R-5, in folders without the right to write; the interpreter itself would end the process at the first try."""
    folders = [Path(shutil.copytree(path, tmp_path / kind)) for kind, path in kept.items()]
    for path in sorted(tmp_path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = state_of(tmp_path)
    try:
        told = subprocess.run(
            [sys.executable, "-B", "-c", WATCHED, *map(str, folders)], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert (told.returncode, told.stdout) == (0, "0 True\n" * 3), told.stderr
        assert state_of(tmp_path) == before
    finally:
        for path in sorted(tmp_path.rglob("*")):
            path.chmod(0o755)


def test_r5_beside_stores_that_are_written_there_is_no_false_alarm(tmp_path: Path) -> None:
    """R-5: journal, its segments and the manifest grow and go meanwhile."""
    folder = tmp_path / "stores"
    command = [sys.executable, stores_child.__file__, str(folder), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        records = []
        for _ in range(25):
            for _ in range(10):
                child.stdout.readline()
            done = verify(locate(folder))
            assert not done.bad, done.bad
            assert done.held_by is not None and done.held_by.holds and done.held_by.pid == child.pid
            records.append(done.records)
            count("verifications beside a writer")
        child.kill()
        child.stdout.read()
    assert records[-1] > records[0] > 0
    done = verify(locate(folder))
    assert done.held_by is not None and not done.held_by.holds


RUNS = """\
import asyncio, sys
from pathlib import Path
from tests.pipeline.examination.looked_at import run
asyncio.run(run(Path(sys.argv[1]), times=1, rows=400))
print("begun", flush=True)
while not Path(sys.argv[2]).exists():
    asyncio.run(run(Path(sys.argv[1]), times=2, rows=600, checkpoint_seconds=0.01))
"""


def test_r5_beside_runs_in_the_same_folder_there_is_no_false_alarm(tmp_path: Path) -> None:
    """R-5: results put aside and replaced, checkpoints, a journal that begins and goes, dead letters, new epochs."""
    with subprocess.Popen(
        [sys.executable, "-c", RUNS, str(tmp_path), str(tmp_path / "enough")], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        looks = 0
        while child.poll() is None:
            done = verify(locate(tmp_path / "looked"))
            assert not done.bad, done.bad
            pipeline.examination.inspection.inspect(locate(tmp_path / "looked"))
            looks += 1
            if looks == 4:
                (tmp_path / "enough").touch()
            count("verifications beside a writer")
    assert child.returncode == 0 and looks > 3
    done = verify(locate(tmp_path / "looked"))
    assert not done.bad and done.files > 6
