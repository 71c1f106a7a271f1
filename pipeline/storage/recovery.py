"""What is done to a folder before anything of it is used: R-3. Blocking; may be killed and done again at any point."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..errors import StorageFailed
from .disk import Disk
from .entries import Entry
from .journal_records import Survey, survey
from .manifest import (
    CHECKPOINTS,
    QUARANTINE,
    STORE,
    WAL,
    Committed,
    ManifestView,
    manifest_name,
    manifest_numbers,
    parse_manifest,
    read_manifest,
    read_whole,
    segment_file,
    segment_number,
)

Settle = Callable[[ManifestView], Sequence[Entry]]
"""What the folder's owner does before files are checked, and what it adds to what is committed."""


class Loss(msgspec.Struct, frozen=True):
    """Something that was committed and is no longer whole: how much, and where what is left of it lies."""

    file: str
    why: str
    num_bytes: int = 0
    kept: str = ""
    """Path below the root of what was put aside; empty where nothing is left."""
    key: str | bytes | None = None
    """What it was part of, as far as that is known: of a store's file once the store is open."""


@dataclass
class Recovered:
    """What recovery found and did. Nothing here after a clean end."""

    manifest_cut_bytes: int = 0
    """Of commits that a crash tore before they were acknowledged."""
    journal_cut_bytes: int = 0
    journal_cut_records: int = 0
    """Whole records among them: written, never acknowledged as durable, and behind others that are lost."""
    lost: list[Loss] = field(default_factory=list)
    lost_lines: int = 0
    """Lines of a damaged manifest, with `repair`."""
    removed: list[str] = field(default_factory=list)
    """Files of ours that nothing refers to."""

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.lost_lines)


def recover(
    folder: Path, disk: Disk, *, repair: bool = False, anew: bool = False, settle: Settle | None = None
) -> tuple[ManifestView, Recovered]:
    """Bring a folder to what is committed in it, and give that; the caller holds the lock and begins a new manifest.

    Raises `StorageFailed` for a newer format, and, unless `repair`, for a manifest with damage in the middle, or for
    none where there is a journal or a checkpoint; with `anew` too these are put aside.
    """
    done = Recovered()
    view = _manifest(folder, disk, repair, done)
    if not view.number:
        _without_manifest(folder, disk, repair or anew, done)
    if settle is not None:
        for entry in settle(view):
            view.committed.apply(msgspec.structs.replace(entry, seq=view.committed.seq, epoch=view.committed.epoch))
    ends = {
        number: _segment(folder, disk, view.committed, number, entry, done)
        for number, entry in view.committed.segments().items()
    }
    _checkpoints_without_journal(view.committed, ends, done)
    _check_files(folder, disk, view.committed, done)
    _remove_unlisted(folder, disk, view.committed, done)
    return view, done


def _manifest(folder: Path, disk: Disk, repair: bool, done: Recovered) -> ManifestView:
    view = read_manifest(folder, disk)
    if not view.number:
        return view
    if view.damage and not repair:
        raise StorageFailed(
            f"{view.damage}. What was committed before can be had back with --repair; "
            f"the damaged file is then kept in {folder / QUARANTINE}"
        )
    if view.damage:
        view = _repaired(folder, disk, view, done)  # the damaged file stays until the next manifest is in place
    else:
        done.manifest_cut_bytes = view.torn_bytes
        _settle_file(folder / manifest_name(view.number), disk, view.good_bytes)
    disk.sync_folder(folder)
    return view


def _without_manifest(folder: Path, disk: Disk, anew: bool, done: Recovered) -> None:
    """What a lost manifest listed is nobody's now, and would be removed as what a crash left behind."""
    found = {file: disk.file_bytes(folder / file) or 0 for file in _ours(folder, disk)}
    if not found:
        return
    if not anew:
        files = ", ".join(list(found)[:3]) + (", ..." if len(found) > 3 else "")
        raise StorageFailed(
            f"{folder} has {len(found):,} files of a journal and checkpoints ({files}; {sum(found.values()):,} bytes) "
            "and no MANIFEST, which says what of them counts: expected one, it was removed or has been lost. Nothing "
            "was touched. Put it back from a copy, then go on; or begin anew with --force (force=True) or --repair "
            f"(repair=True), which keeps these files in {folder / QUARANTINE}"
        )
    for file, num_bytes in found.items():
        kept = _put_aside(disk, folder, file)
        done.lost.append(Loss(file, "there is no manifest that lists it", num_bytes, kept))


def _repaired(folder: Path, disk: Disk, view: ManifestView, done: Recovered) -> ManifestView:
    """Everything that can still be read: lines before the damage, and whole lines behind it.

    Where the file does not even begin as it should, the one before it counts. The bad file is copied aside.
    """
    names = disk.names(folder)
    numbers = manifest_numbers(names)
    name = manifest_name(numbers[-1])
    kept = _aside(disk, folder, name)
    _write_copy(disk, folder / kept, read_whole(disk, folder / name))
    if not view.lines and len(numbers) > 1:
        path = folder / manifest_name(numbers[-2])
        view = parse_manifest(read_whole(disk, path), str(path))
        done.lost.append(Loss(name, "it has no valid snapshot; what it committed is lost", kept=kept))
    view.number = numbers[-1]
    lost = view.lost_lines
    if view.damage:
        done.lost.append(Loss(name, f"{view.damage}; {lost:,} lines cannot be read", view.torn_bytes, kept))
    done.lost_lines = lost
    for entry in view.later:
        view.committed.apply(entry)
    return view


class _End(NamedTuple):
    """Where a segment ends."""

    offset: int
    is_short: bool
    """Whether it has been longer for certain."""


def _segment(folder: Path, disk: Disk, committed: Committed, number: int, entry: Entry, done: Recovered) -> _End:
    """Find where a segment that was not closed ends, cut it there, and list it as closed."""
    file = segment_file(number)
    size = disk.file_bytes(folder / file)
    if size is None:
        if entry.bytes != 0:
            done.lost.append(Loss(file, "it is not there", entry.bytes or 0))
        del committed.files[file]
        return _End(0, entry.bytes != 0)
    end = entry.bytes
    if end is None or size < end:
        fd = disk.open(folder / file)
        try:
            found = survey(disk, fd, number, entry.gen or 0, size)
        finally:
            disk.close(fd)
        if end is None:
            done.journal_cut_bytes += found.cut_bytes
            done.journal_cut_records += found.cut_records
        else:
            done.lost.append(Loss(file, f"it has {size:,} bytes, not {end:,}", end - size))
        _keep_gaps(folder, disk, file, found, done)
        end = found.end
        committed.files[file] = msgspec.structs.replace(entry, bytes=end, rows=found.records, offsets=found.gens)
    _settle_file(folder / file, disk, end)
    return _End(end, entry.bytes is not None and end < entry.bytes)


def _checkpoints_without_journal(committed: Committed, ends: Mapping[int, _End], done: Recovered) -> None:
    """A checkpoint goes on with the journal up to its mark, which was on disk before it: it is void without."""
    for phase, entry in list(committed.checkpoints.items()):
        mark = entry.mark
        if mark is None:
            continue
        for number, end in ends.items():
            if (number < mark.segment and end.is_short) or (number == mark.segment and end.offset < mark.offset):
                why = f"{segment_file(number)}, which phase '{phase}' would go on with, is not whole"
                done.lost.append(Loss(entry.file or "", why, entry.bytes or 0))
                del committed.checkpoints[phase]
                break


def _keep_gaps(folder: Path, disk: Disk, file: str, found: Survey, done: Recovered) -> None:
    for gap in found.gaps:
        fd = disk.open(folder / file)
        try:
            raw = disk.read(fd, gap.num_bytes, gap.offset)
        finally:
            disk.close(fd)
        kept = _aside(disk, folder, f"{file}-{gap.offset}")
        _write_copy(disk, folder / kept, raw)
        done.lost.append(Loss(file, f"no whole record at byte {gap.offset:,}", gap.num_bytes, kept))


def _settle_file(path: Path, disk: Disk, num_bytes: int) -> None:
    """Cut the file and put it on disk: what was found in the page cache may not be there yet (R-7)."""
    fd = disk.open(path, write=True)
    try:
        if disk.size(fd) > num_bytes:
            disk.truncate(fd, num_bytes)
        disk.sync(fd)
    finally:
        disk.close(fd)


def _check_files(folder: Path, disk: Disk, committed: Committed, done: Recovered) -> None:
    """Listed files have to be there with their length; what is not as it was is put aside and counted.

    Those of a store stay listed, and are told of again, until what they held is replaced or deleted.
    """
    for entry in list(committed.listed()):
        file = entry.file
        assert file is not None
        if segment_number(file) is not None:
            continue
        size = disk.file_bytes(folder / file)
        if size == entry.bytes:
            continue
        if size is None:
            done.lost.append(Loss(file, "it is not there", entry.bytes or 0, _kept_before(disk, folder, file)))
        else:
            kept = _put_aside(disk, folder, file)
            why = f"it has {size:,} bytes, not the {entry.bytes or 0:,} it was committed with"
            done.lost.append(Loss(file, why, entry.bytes or 0, kept))
        if not file.startswith(f"{STORE}/"):
            committed.apply(Entry(kind="remove", file=file, seq=committed.seq, epoch=committed.epoch))


def _remove_unlisted(folder: Path, disk: Disk, committed: Committed, done: Recovered) -> None:
    """Segments, checkpoints and temporary files of ours that nothing refers to. Anything else stays."""
    listed = {entry.file for entry in committed.listed()}
    candidates = [name for name in disk.names(folder) if name.startswith("MANIFEST-") and name.endswith(".tmp")]
    for file in candidates + _ours(folder, disk):
        committed.saw(file)
        if file not in listed:
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(folder / file)
            done.removed.append(file)


def _ours(folder: Path, disk: Disk) -> list[str]:
    """Segments and checkpoints, listed or not."""
    found = []
    for room in (WAL, CHECKPOINTS):
        names = disk.names(folder / room)
        found += [f"{room}/{name}" for name in names if name.removesuffix(".tmp").endswith(".seg")]
    return found


def _put_aside(disk: Disk, folder: Path, file: str) -> str:
    """Move it into the quarantine; its path there."""
    kept = _aside(disk, folder, file)
    disk.make_folder((folder / kept).parent)
    disk.rename(folder / file, folder / kept)
    return kept


def _aside(disk: Disk, folder: Path, file: str) -> str:
    """A free name in the quarantine."""
    flat = file.replace("/", "_")
    taken = set(disk.names(folder / QUARANTINE))
    numbers = range(len(taken) + 1)
    return next(f"{QUARANTINE}/{name}" for number in numbers if (name := f"{number:03d}-{flat}") not in taken)


def _kept_before(disk: Disk, folder: Path, file: str) -> str:
    """Where it was put aside by an earlier recovery."""
    flat = file.replace("/", "_")
    names = sorted(name for name in disk.names(folder / QUARANTINE) if name.partition("-")[2] == flat)
    return f"{QUARANTINE}/{names[-1]}" if names else ""


def _write_copy(disk: Disk, path: Path, raw: bytes) -> None:
    disk.make_folder(path.parent)
    fd = disk.open(path, create=True)
    try:
        disk.write(fd, [raw], 0)
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.sync_folder(path.parent)
