"""The protocol with one step broken: each mutant is the real code on a disk, or with a function, that leaves it out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from crash_disk import MemoryDisk

from pipeline.storage import entries, journal, journal_records, journal_writer, manifest_writer, recovery


class NoDataSync(MemoryDisk):
    def sync(self, fd: int) -> None:
        if self._open[fd][1].suffix != ".seg":
            super().sync(fd)


class NoManifestSync(MemoryDisk):
    def sync(self, fd: int) -> None:
        if not self._open[fd][1].name.startswith("MANIFEST"):
            super().sync(fd)


class NoFolderSync(MemoryDisk):
    def sync_folder(self, path: Path) -> None:
        pass


class NoSyncAtAll(MemoryDisk):
    """What a recovery on such a disk shows is in the page cache only."""

    def sync(self, fd: int) -> None:
        pass


class RenameBeforeSync(MemoryDisk):
    """What is written under a temporary name is synced only once it has its own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._late: list[int] = []

    def sync(self, fd: int) -> None:
        number, path, _ = self._open[fd]
        if path.name.endswith(".tmp"):
            self._late.append(number)
        else:
            super().sync(fd)

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        for number in self._late:
            self._do("sync", number)
        self._late.clear()


class UnlinkFirst(MemoryDisk):
    """Earlier manifests go as soon as the next one is begun."""

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        fd = super().open(path, write=write, create=create)
        if create and path.name.startswith("MANIFEST") and path.name.endswith(".tmp"):
            for name in self.names(path.parent):
                if name.startswith("MANIFEST") and not name.endswith(".tmp"):
                    self.unlink(path.parent / name)
            self.sync_folder(path.parent)
        return fd


class ManifestBeforeData(MemoryDisk):
    """Data files reach the disk only after the commit that names them."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._late: list[int] = []

    def sync(self, fd: int) -> None:
        number, path, _ = self._open[fd]
        if path.parent.name == "data":
            self._late.append(number)
            return
        super().sync(fd)
        if path.name.startswith("MANIFEST"):
            for number in self._late:
                self._do("sync", number)
            self._late.clear()


class SyncTriedAgain(MemoryDisk):
    """A failed sync is asked for once more; the second time the system says that all is well."""

    def sync(self, fd: int) -> None:
        try:
            super().sync(fd)
        except OSError:
            super().sync(fd)


class Mutant(NamedTuple):
    disk: type[MemoryDisk] = MemoryDisk
    recovery_disk: type[MemoryDisk] | None = None
    patch: Callable[[pytest.MonkeyPatch], None] | None = None
    failing_syncs: bool = False
    """It shows only where syncs fail."""
    programs: tuple[str, ...] = ("appends", "trims", "files", "cuts")
    """Where to look for it first."""


class _Unlike(int):
    """A digest that is never another one."""

    def update(self, piece: object) -> None: ...

    def intdigest(self) -> Any:
        return self

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def _no_record_checksum(patch: pytest.MonkeyPatch) -> None:
    class Unchecked:
        xxh3_64 = xxh3_64_intdigest = staticmethod(lambda *pieces: _Unlike())

    patch.setattr(journal_records, "xxhash", Unchecked)


def _no_line_checksum(patch: pytest.MonkeyPatch) -> None:
    """Neither the checksum nor, as a whole line shows it, where a line ends."""
    patch.setattr(entries, "crc32", lambda body: 0)


def _ack_before_sync(patch: pytest.MonkeyPatch) -> None:
    append = journal.Journal.append

    def early(
        self: Any, container: str, kind: int, key: bytes, gen: int, encode: Any, durability: Any, **more: Any
    ) -> Any:
        return append(self, container, kind, key, gen, encode, "process", **more)

    patch.setattr(journal.Journal, "append", early)


def _commit_without_sync(patch: pytest.MonkeyPatch) -> None:
    commit = manifest_writer.ManifestWriter.commit
    patch.setattr(
        manifest_writer.ManifestWriter, "commit", lambda self, given, *, sync=True: commit(self, given, sync=False)
    )


def _no_tail_cut(patch: pytest.MonkeyPatch) -> None:
    survey = journal_records.survey

    def whole(disk: Any, fd: int, segment: int, epoch: int, size: int) -> Any:
        return dataclasses.replace(survey(disk, fd, segment, epoch, size), end=size)

    patch.setattr(recovery, "survey", whole)


def _segment_not_listed_first(patch: pytest.MonkeyPatch) -> None:
    """A segment comes into the manifest when it ends, not when it begins."""

    def never(self: Any, segment: Any) -> None:
        segment.listed = True
        self._root.manifest.next_segment = segment.number + 1

    patch.setattr(journal_writer.JournalWriter, "_list", never)


def _half_commits(patch: pytest.MonkeyPatch) -> None:
    encode = manifest_writer.encode_commit

    def alone(given: Sequence[Any], committed: Any, synced: int) -> Any:
        own, _ = encode(given, committed, synced)
        lines = [msgspec.structs.replace(entry, part=None) for entry in own]
        return lines, b"".join(map(entries.encode_line, lines))

    patch.setattr(manifest_writer, "encode_commit", alone)


def _unlink_before_the_manifest_knows(patch: pytest.MonkeyPatch) -> None:
    def first(self: Any, trims: Any, dead: Sequence[int]) -> None:
        for number in dead:
            self._root.disk.unlink(self._root.path / journal.segment_file(number))
        self._root.disk.sync_folder(self._root.path / "wal")
        remove(self, trims, dead)

    def remove(self: Any, trims: Any, dead: Sequence[int]) -> None:
        with contextlib.suppress(FileNotFoundError):
            original(self, trims, dead)

    original = journal.Journal._remove
    patch.setattr(journal.Journal, "_remove", first)


def _cut_without_a_commit(patch: pytest.MonkeyPatch) -> None:
    """Segments behind the mark are removed one by one and the manifest is told of none."""
    import crash_programs

    def cut(root: Any, mark: Any) -> None:
        for number in root.manifest.segments():
            if number > mark.segment:
                root.disk.unlink(root.path / journal.segment_file(number))

    patch.setattr(crash_programs, "cut_journal", cut)


def _records_of_any_place(patch: pytest.MonkeyPatch) -> None:
    """The end of a segment is where the last whole record is, whatever lies before it (R-4 the wrong way round)."""
    survey = journal_records.survey

    def to_the_last(disk: Any, fd: int, segment: int, epoch: int, size: int) -> Any:
        found = survey(disk, fd, segment, epoch, size)
        end = found.end
        for item in journal_records.walk(disk, fd, segment, epoch, size):
            if isinstance(item, journal_records.Placed):
                end = item.end
        return dataclasses.replace(found, end=end)

    patch.setattr(recovery, "survey", to_the_last)


MUTANTS: dict[str, Mutant] = {
    "no data sync": Mutant(NoDataSync),
    "no manifest sync": Mutant(NoManifestSync),
    "no sync of folders": Mutant(NoFolderSync),
    "no sync before serving after recovery": Mutant(recovery_disk=NoSyncAtAll),
    "rename before sync": Mutant(RenameBeforeSync),
    "the old manifest unlinked before the new one is there": Mutant(UnlinkFirst),
    "manifest before data": Mutant(ManifestBeforeData, programs=("files",)),
    "a failed sync tried again": Mutant(SyncTriedAgain, failing_syncs=True),
    "no checksum of records": Mutant(patch=_no_record_checksum),
    "no checksum of lines": Mutant(patch=_no_line_checksum, programs=("files",)),
    "acknowledged before the sync": Mutant(patch=_ack_before_sync),
    "committed without the sync": Mutant(patch=_commit_without_sync),
    "a torn tail is kept": Mutant(patch=_no_tail_cut),
    "a segment is listed when it ends": Mutant(patch=_segment_not_listed_first),
    "half a commit counts": Mutant(patch=_half_commits, programs=("files",)),
    "a segment removed before the manifest knows": Mutant(patch=_unlink_before_the_manifest_knows, programs=("trims",)),
    "a cut without a commit": Mutant(patch=_cut_without_a_commit, programs=("cuts",)),
    "whole records behind a hole count": Mutant(patch=_records_of_any_place),
}
