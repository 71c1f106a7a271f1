"""T2: processes killed at the N-th system call or operation; what they had acknowledged is there, whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nursery import payload

from pipeline.storage.journal import read_journal
from pipeline.storage.journal_records import JournalRecord
from pipeline.storage.publish import digest_file
from pipeline.storage.root import StorageRoot
from tests.counted import count
from tests.patience import SECONDS

SOAK = "PENSTOCK_SOAK" in os.environ
CALLS = (
    "openat",
    "pwritev",
    "pwrite64",
    "fdatasync",
    "fsync",
    "rename",
    "unlink",
    "ftruncate",
    "link",
    "mkdir",
    "flock",
)


class Nursery:
    """Children to be killed, in folders of their own; see nursery.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children = 0
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )  # fmt: skip

    def raise_one(self, *where: str, root: Path | None = None) -> tuple[Path, Path, int]:
        """A child that lives until it is killed there: its folder, its acknowledgements, how it ended."""
        self.children += 1
        root = root or self.folder / f"root-{self.children}"
        acks = self.folder / f"acks-{self.children}"
        pid = int(self._ask("\t".join([str(root), str(acks), *where[:1], *where[1:]])))
        if where[0] == "strace":
            tracer = _trace(pid, *where[1:])
            self._tell("go")
            code = self._read()
            _, words = tracer.communicate(timeout=SECONDS)
            assert tracer.returncode in (0, -signal.SIGKILL), words
        else:
            code = self._read()
        return root, acks, int(code)

    def kill_one(self, acknowledged: int) -> tuple[Path, Path, int]:
        """A child that is killed from outside once it has acknowledged so many bytes' worth, or ends before."""
        self.children += 1
        root, acks = self.folder / f"root-{self.children}", self.folder / f"acks-{self.children}"
        pid = int(self._ask("\t".join([str(root), str(acks), str(1 << 60), "never"])))
        while not acks.exists() or acks.stat().st_size < acknowledged:
            os.sched_yield()
            if _has_ended(pid):
                break
        else:
            os.kill(pid, signal.SIGKILL)
        return root, acks, int(self._read())

    def close(self) -> str:
        assert self._process.stdin is not None
        _, err = self._process.communicate(timeout=SECONDS)
        return err

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery has died"
        return line

    def _ask(self, line: str) -> str:
        self._tell(line)
        return self._read()


def _has_ended(pid: int) -> bool:
    """Its parent has yet to be told, or has been."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _trace(pid: int, call: str, number: str) -> subprocess.Popen[str]:
    """strace attached to the child and to every thread it will have."""
    strace = shutil.which("strace")
    assert strace, "these tests need Debian's package strace: `make test` installs it where it may"
    tracer = subprocess.Popen(
        [strace, "-f", "-p", str(pid), "-o", "/dev/null", "-e", f"trace={call}",
         "-e", f"inject={call}:signal=KILL:when={number}"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    assert "attached" in line, f"strace cannot trace a process here: {line}{tracer.stderr.read()}"
    return tracer


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    err = nursery.close()
    assert not err.strip(), err


def examine(root: Path, acks: Path) -> None:
    """A kill takes nothing that was acknowledged, and leaves nothing in part."""
    lines = [line.split() for line in acks.read_text().splitlines()] if acks.exists() else []
    with StorageRoot.open(root) as opened:
        assert opened.recovered.is_clean, opened.recovered
        found: dict[str, list[int]] = {"a": [], "b": [], "c": []}
        for record in read_journal(root / "wal"):
            assert isinstance(record, JournalRecord), record
            assert record.payload == payload(record.container, record.gen), f"a partial record: {record.container}"
            found[record.container].append(record.gen)
        assert all(gens == sorted(set(gens)) for gens in found.values()), found
        trims = {line[1]: int(line[2]) for line in lines if line[0] == "trim"}
        for what, *about in lines:
            if what == "record":
                container, gen = about[0], int(about[1])
                assert gen in found[container] or gen <= trims.get(container, -1), f"{container} {gen} is lost"
            elif what == "phase":
                assert f"phase {about[0]}" in opened.manifest.phases, f"phase {about[0]} is lost"
                assert f"data/{about[0]}" in opened.manifest.files
        for file, entry in opened.manifest.files.items():
            if not file.startswith("wal/"):
                assert digest_file(root / file) == (entry.bytes, int(entry.xxh3 or "", 16)), f"{file} is not whole"
        assert {path.name for path in (root / "wal").glob("*")} == {
            file.removeprefix("wal/") for file in opened.manifest.files if file.startswith("wal/")
        }


def test_t2_killed_before_after_or_in_any_operation_on_the_disk_nothing_acknowledged_is_lost(nursery: Nursery) -> None:
    """R-1, R-3, R-5: a child kills itself at each operation in turn; every third folder is gone on with."""
    chance = random.Random(2)
    killed = 0
    root: Path | None = None
    for number in range(1, 1000):
        moments = ("before", "after", "half") if SOAK else (chance.choice(("before", "after", "half")),)
        codes = []
        for moment in moments:
            root, acks, code = nursery.raise_one(str(number), moment, root=root if number % 3 else None)
            examine(root, acks)
            codes.append(code)
        killed += codes.count(-signal.SIGKILL)
        if set(codes) == {0}:
            break
        assert set(codes) <= {-signal.SIGKILL, 0}
    count("kills", killed)
    assert killed > 60


def test_t2_killed_at_a_system_call_nothing_acknowledged_is_lost(nursery: Nursery) -> None:
    """40 points: N-th calls of each kind, counted by the kernel, for each of the threads that make them."""
    killed = 0
    for call in CALLS:
        for number in range(1, 60 if SOAK else 12):
            root, acks, code = nursery.raise_one("strace", call, str(number))
            assert code in (-signal.SIGKILL, 0), f"{call} {number}"
            examine(root, acks)
            killed += code == -signal.SIGKILL
            if code == 0:
                break
    count("kills by strace", killed)
    assert killed >= 40 or SOAK, killed


def test_t2_killed_from_outside_at_any_time_nothing_acknowledged_is_lost(nursery: Nursery) -> None:
    chance = random.Random(3)
    killed = 0
    for _ in range(10_000 if SOAK else 12):
        root, acks, code = nursery.kill_one(chance.randrange(0, 450))
        examine(root, acks)
        killed += code == -signal.SIGKILL
        shutil.rmtree(root)
    count("kills", killed)
    assert killed > 0
