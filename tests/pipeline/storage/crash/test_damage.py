"""T9: flipped bits, truncations, zero tails, pieces of other files, lines that lie: never silently wrong."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from crash_checks import Violation
from crash_disk import File, MemoryDisk, State
from crash_programs import PROGRAMS, Office, payload, perform

from pipeline.errors import DataError
from pipeline.storage.entries import Entry, encode_line
from pipeline.storage.journal import read_journal
from pipeline.storage.journal_records import Gap, JournalRecord
from pipeline.storage.manifest import manifest_name, manifest_numbers, read_manifest
from pipeline.storage.root import StorageRoot
from tests.counted import count

SOAK = "PENSTOCK_SOAK" in os.environ
FOLDER = Path("/root-of-a-disk-in-memory")
TRIALS = 250_000 if SOAK else 1_300
"""Of each program; half of them after a clean end, half after a kill."""


class Whole(NamedTuple):
    """A folder as it was before it was damaged."""

    state: State
    asked: frozenset[tuple[str, int, int]]
    records: list[tuple[str, int]]
    phases: set[str]
    files: set[str]


def whole(name: str, *, close: bool) -> Whole:
    disk = MemoryDisk(State(FOLDER))
    office: Office = perform(PROGRAMS[name], FOLDER, disk, close=close)
    for node in disk.state.nodes.values():
        if isinstance(node, File):
            node.certain, node.unsure = node.now, []
    records = [(item.container, item.gen) for item in read_journal(FOLDER / "wal", disk) if not isinstance(item, Gap)]
    committed = read_manifest(FOLDER, disk).committed
    return Whole(disk.state, frozenset(office.asked), records, set(committed.phases), set(committed.files))


def damages(state: State, chance: random.Random) -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """Ways to damage the bytes of a file, without end."""
    others = [node.now for node in state.nodes.values() if isinstance(node, File) and node.now]

    def flip(raw: bytes) -> bytes:
        at = chance.randrange(len(raw))
        return raw[:at] + bytes([raw[at] ^ (1 << chance.randrange(8))]) + raw[at + 1 :]

    def cut(raw: bytes) -> bytes:
        return raw[: chance.randrange(len(raw))]

    def zeros(raw: bytes) -> bytes:
        at = chance.randrange(len(raw))
        return raw[:at] + bytes(len(raw) - at)

    def hole(raw: bytes) -> bytes:
        at = chance.randrange(len(raw))
        length = chance.randint(1, 200)
        return raw[:at] + bytes(min(length, len(raw) - at)) + raw[at + length :]

    def longer(raw: bytes) -> bytes:
        return raw + chance.choice((bytes(4096), chance.randbytes(100), raw[: chance.randrange(len(raw)) + 1]))

    def spliced(raw: bytes) -> bytes:
        other = chance.choice(others)
        at, start = chance.randrange(len(raw)), chance.randrange(len(other))
        piece = other[start : start + chance.randint(1, 400)]
        return raw[:at] + piece + (raw[at:] if chance.random() < 0.5 else raw[at + len(piece) :])

    def repeated(raw: bytes) -> bytes:
        start = chance.randrange(len(raw))
        piece = raw[start : start + chance.randint(1, 400)]
        return raw[: start + len(piece)] + piece + raw[start + len(piece) :]

    def lines_swapped(raw: bytes) -> bytes:
        lines = raw.splitlines(keepends=True)
        if len(lines) > 1:
            one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
        return b"".join(lines)

    while True:
        way = chance.choice((flip, flip, flip, cut, zeros, hole, longer, spliced, repeated, lines_swapped))
        yield way.__name__, way


def examine(before: Whole, state: State, repair: bool, *, shortened: bool) -> str:
    """What became of a damaged folder: refused by a typed error, told, or nothing was amiss; else a `Violation`.

    A log or a manifest that was `shortened` to a whole line or record is as it was earlier: nobody can tell.
    """
    disk = MemoryDisk(state)
    try:
        root = StorageRoot.open(FOLDER, disk=disk, repair=repair)
    except DataError:
        return "refused"
    try:
        items = list(read_journal(FOLDER / "wal", disk))
        gaps = sum(isinstance(item, Gap) for item in items)
        found = [_genuine(item, before) for item in items if not isinstance(item, Gap)]
        if len(found) != len(set(found)):
            raise Violation(f"a record is there twice: {found}")
        done = root.recovered
        told = gaps or not done.is_clean or done.manifest_cut_bytes or done.journal_cut_bytes
        lost = [record for record in before.records if record not in found]
        gone = (before.phases - set(root.manifest.phases)) | (before.files - set(root.manifest.files))
        if (lost or gone) and not told and not shortened:
            raise Violation(f"lost and nobody was told: {lost} {gone}")
        return "told" if told else "nothing amiss"
    finally:
        root.close()


def _genuine(record: JournalRecord, before: Whole) -> tuple[str, int]:
    size = len(record.payload)
    asked = (record.container, record.gen, size) in before.asked
    if not asked or record.payload != payload(record.container, record.gen, size):
        raise Violation(f"a record that nobody wrote: {record}")
    return record.container, record.gen


@pytest.mark.parametrize("name", PROGRAMS)
def test_t9_a_damaged_folder_is_refused_or_told_and_never_silently_wrong(name: str) -> None:
    """E14, R-4: journal segments and manifests, damaged in ten ways, opened plainly and with `repair`."""
    outcomes = dict.fromkeys(("refused", "told", "nothing amiss"), 0)
    for close in (True, False):
        before = whole(name, close=close)
        chance = random.Random(9)
        targets = [
            node.number for node in before.state.nodes.values()
            if isinstance(node, File) and node.now and _is_ours(before.state, node.number)
        ]  # fmt: skip
        ways = damages(before.state, chance)
        for trial in range(TRIALS // 2):
            how, way = next(ways)
            state = before.state.copy()
            file = state.file(chance.choice(targets))
            was, file.now = file.now, way(file.now)
            file.certain = file.now
            try:
                shortened = was.startswith(file.now)
                outcomes[examine(before, state, repair=trial % 4 == 0, shortened=shortened)] += 1
            except Exception as error:
                raise AssertionError(f"{name}, trial {trial}, {how}: {type(error).__name__}: {error}") from error
            count("damaged folders")
    assert min(outcomes.values()) > 0, outcomes


def _is_ours(state: State, number: int) -> bool:
    paths = {path for path, content in state.tree().items() if content is not None}
    return any(state.find(FOLDER / path) is state.nodes[number] for path in paths if not path.startswith("data/"))


def test_t9_every_truncation_of_every_segment_and_manifest_is_told_or_refused() -> None:
    before = whole("files", close=True)
    for path, content in before.state.tree().items():
        if content is None or path.startswith("data/"):
            continue
        for length in range(0, len(content), 1 if SOAK else 7):
            state = before.state.copy()
            file = state.find(FOLDER / path)
            assert isinstance(file, File)
            file.now = file.certain = content[:length]
            examine(before, state, repair=False, shortened=True)
            count("damaged folders")


HOSTILE: dict[str, dict[str, Any]] = {
    "a path that leaves the folder": {"kind": "add", "file": "../../etc/passwd", "bytes": 3},
    "an absolute path": {"kind": "add", "file": "/etc/passwd", "bytes": 3},
    "a path into ourselves": {"kind": "add", "file": "MANIFEST-000001", "bytes": 3},
    "the folder itself": {"kind": "add", "file": "", "bytes": 3},
    "a path with a null character": {"kind": "add", "file": "a\0b", "bytes": 3},
    "a segment that was never there": {"kind": "add", "file": "wal/999999.seg"},
    "a segment of a negative length": {"kind": "add", "file": "wal/000001.seg", "bytes": -5},
    "a segment of a length without end": {"kind": "add", "file": "wal/000001.seg", "bytes": 1 << 62},
    "a snapshot in the middle": {"kind": "snap"},
    "a kind that is not known": {"kind": "bogus"},
    "a checkpoint outside": {"kind": "checkpoint", "phase": "train", "file": "../checkpoint", "bytes": 1},
    "a commit that never ends": {"kind": "add", "file": "data/z", "bytes": 1, "part": [1, 1000000]},
    "a generation below all": {"kind": "trim", "container": "a", "gen": -(1 << 60)},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_t9_a_line_that_lies_with_a_right_checksum_is_refused_or_told_and_touches_nothing_outside(what: str) -> None:
    disk = MemoryDisk(State(Path("/disk")))
    folder = Path("/disk/inner/root")
    for path in ("/disk/etc/passwd", "/disk/inner/checkpoint", "/disk/inner/etc/passwd"):
        disk.make_folder(Path(path).parent)
        disk.close(disk.open(Path(path), create=True))
    root = StorageRoot.open(folder, disk=disk)
    root.commit([Entry(kind="phase", phase="first")])
    seq, epoch = root.manifest.seq, root.epoch
    root.close()
    line = _line({"v": 1, "seq": seq + 1, "epoch": epoch, **HOSTILE[what]})
    path = folder / manifest_name(manifest_numbers(disk.names(folder))[-1])
    fd = disk.open(path, write=True)
    disk.write(fd, [line], disk.size(fd))
    disk.close(fd)
    outside = {path: content for path, content in disk.state.tree().items() if not path.startswith("inner/root")}
    for repair in (False, True):
        try:
            again = StorageRoot.open(folder, disk=disk, repair=repair)
        except DataError:
            continue
        assert "first" in again.manifest.phases
        list(read_journal(folder / "wal", disk))
        again.close()
    now = {path: content for path, content in disk.state.tree().items() if not path.startswith("inner/root")}
    assert now == outside, "something outside of the folder was touched"
    count("damaged folders")


def _line(fields: dict[str, Any]) -> bytes:
    from zlib import crc32

    body = msgspec.json.encode(fields)
    assert encode_line(Entry(kind="phase", phase="x")).endswith(b"\n")
    return b"%08x %b\n" % (crc32(body), body)
