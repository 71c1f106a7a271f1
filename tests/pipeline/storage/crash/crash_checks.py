"""What has to be so after a crash and the recovery that follows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import xxhash
from crash_disk import MemoryDisk
from crash_programs import Promise, payload
from crash_states import Crash

from pipeline.storage.entries import Entry
from pipeline.storage.journal import read_journal
from pipeline.storage.journal_records import Gap, JournalRecord
from pipeline.storage.manifest import segment_number
from pipeline.storage.root import StorageRoot


class Violation(AssertionError):
    """A promise was broken, or something is there that nobody has ever written."""


class Shown(NamedTuple):
    """What a folder shows after recovery; two of one folder compare equal where nothing has changed."""

    records: tuple[tuple[str, int, int], ...]
    """Container, generation and length of each, in order."""
    files: frozenset[str]
    phases: frozenset[str]
    checkpoints: frozenset[tuple[str, str | None]]


def recovered(disk: MemoryDisk, folder: Path, *, clean: bool = True) -> Shown:
    """Open the folder, look at everything in it, and leave it as if killed then.

    After a crash alone nothing may be reported as lost. Where the disk had failed before, bytes that it had taken and
    then did not sync may be: they are told, and nobody was promised them.
    """
    try:
        root = StorageRoot.open(folder, disk=disk)
    except Exception as error:
        raise Violation(f"the folder does not open: {type(error).__name__}: {error}") from error
    try:
        if clean and not root.recovered.is_clean:
            raise Violation(f"a crash is reported as a loss of what was acknowledged: {root.recovered}")
        return show(root, disk, gaps=not clean)
    finally:
        root.close()


def show(root: StorageRoot, disk: MemoryDisk, *, gaps: bool = False) -> Shown:
    """Everything a folder shows, each byte of it compared with what was written."""
    records = []
    for item in read_journal(root.path / "wal", disk):
        if isinstance(item, Gap):
            if gaps:
                continue
            raise Violation(f"a gap in the journal: {item}")
        records.append(_whole(item))
    committed = root.manifest
    for entry in committed.listed():
        _check_file(entry, root.path, disk)
    listed = {file for file in committed.files if segment_number(file) is not None}
    there = {f"wal/{name}" for name in disk.names(root.path / "wal")}
    if there != listed:
        raise Violation(f"listed segments {sorted(listed)}, found {sorted(there)}")
    if any(name.endswith(".tmp") for name in disk.names(root.path)):
        raise Violation("a temporary file of ours is left")
    return Shown(
        tuple(records),
        frozenset(file for file in committed.files if segment_number(file) is None),
        frozenset(committed.phases),
        frozenset((phase, entry.file) for phase, entry in committed.checkpoints.items()),
    )


def _whole(record: JournalRecord) -> tuple[str, int, int]:
    size = len(record.payload)
    if record.payload != payload(record.container, record.gen, size) or record.key != f"key {record.gen}".encode():
        raise Violation(f"a record that nobody wrote, or part of one: {record}")
    return record.container, record.gen, size


def _check_file(entry: Entry, folder: Path, disk: MemoryDisk) -> None:
    assert entry.file is not None
    if segment_number(entry.file) is not None:
        return
    fd = disk.open(folder / entry.file)
    content = disk.read(fd, disk.size(fd), 0)
    disk.close(fd)
    if len(content) != entry.bytes or f"{xxhash.xxh3_64_intdigest(content):016x}" != entry.xxh3:
        raise Violation(f"{entry.file} was committed and is not as it was")


def check(crash: Crash, shown: Shown, written: frozenset[tuple[str, int, int]]) -> None:
    """Every promise that survives this kind of crash is kept, and nothing is there that was not asked for."""
    _check_order(shown, written)
    promises = [promise for promise in crash.acked if isinstance(promise, Promise)]
    trimmed = {about[0]: about[1] for what, about, _ in promises if what == "trim"}
    kept = [promise for promise in promises if promise.survives == "power" or crash.kind == promise.survives]
    records = set(shown.records)
    cut_begun = any(promise.what == "cut begun" for promise in promises)
    for number, promise in enumerate(promises):
        if promise not in kept:
            continue
        if promise.what == "record":
            container, gen, _ = promise.about
            later = promises[number + 1 :]
            if gen <= trimmed.get(container, -1) or (cut_begun and _is_cut(promise, later)):
                continue
            if promise.about not in records:
                raise Violation(f"{promise} was acknowledged and is lost")
        elif promise.what == "cut":
            lost = [record for record in records if record[0] == "b"]
            if lost:
                raise Violation(f"records behind a cut have come back: {lost}")
        elif promise.what == "commit":
            _check_commit(promise, promises[number + 1 :], shown)
        elif promise.what == "seen":
            _check_seen(promise.about[0], shown, trimmed)
    _check_atomic(shown)


def _is_cut(promise: Promise, later: Sequence[Promise]) -> bool:
    """Whether a cut that began afterwards may have taken the record."""
    return promise.about[0] == "b" and any(each.what == "cut begun" for each in later)


def _check_order(shown: Shown, written: frozenset[tuple[str, int, int]]) -> None:
    last: dict[str, int] = {}
    for container, gen, size in shown.records:
        if gen <= last.get(container, -1):
            raise Violation(f"record {gen} of {container} is there twice, or out of order: {shown.records}")
        last[container] = gen
        if (container, gen, size) not in written:
            raise Violation(f"record {gen} of {container} was never asked for")


def _check_commit(promise: Promise, later: Sequence[Promise], shown: Shown) -> None:
    replaced = {about for each in later if each.what == "commit" for about in each.about}
    for kind, file, phase in promise.about:
        gone = ("remove", file, None)
        if kind == "add" and file not in shown.files and gone not in replaced and "removing" not in shown.phases:
            if not _may_be_removed(str(file)):
                raise Violation(f"{file} was committed and is not listed")
        elif kind == "phase" and phase not in shown.phases:
            raise Violation(f"phase {phase} was complete and is not")
        elif kind == "checkpoint" and phase not in shown.phases and phase not in dict(shown.checkpoints):
            raise Violation(f"the checkpoint of {phase} is lost")


def _may_be_removed(file: str) -> bool:
    """The one file that the program removes without being told so by a sync."""
    return file == "data/1-x.parquet"


def _check_atomic(shown: Shown) -> None:
    """Both parts of a number were one commit."""
    for number in range(4):
        parts = {part for part in "xy" if f"data/{number}-{part}.parquet" in shown.files}
        if len(parts) == 1 and parts != {"y"}:
            raise Violation(f"half of a commit is there: {sorted(shown.files)}")
        if parts == {"y"} and number != 1:
            raise Violation(f"half of a commit is there: {sorted(shown.files)}")


def _check_seen(seen: Shown, shown: Shown, trimmed: dict[str, int]) -> None:
    """R-7: what was shown once is there for ever, though the machine may lose its power behind that."""
    lost = [record for record in seen.records if record not in shown.records and record[1] > trimmed.get(record[0], -1)]
    if lost:
        raise Violation(f"records were shown after a recovery and are lost: {lost}")
    if not seen.files <= shown.files or not seen.phases <= shown.phases:
        raise Violation("files or phases were shown after a recovery and are lost")
