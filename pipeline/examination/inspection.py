"""What a folder holds: who has it, what is committed, what lives in the journal, what was put aside; read only."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ..folder import RUN, SUMMARY, read_record
from ..mending.dead_letters import FOLDER as LETTERS
from ..mending.dead_letters import SUFFIX
from ..recording import CONTAINER as RECORDING
from ..storage.disk import DISK, open_regular
from ..storage.entries import FORMAT, Entry
from ..storage.holder import Holder, holder_of
from ..storage.journal_records import GROUP, Gap, walk
from ..storage.lock import LOCK
from ..storage.manifest import (
    QUARANTINE,
    SPILL,
    Committed,
    ManifestView,
    manifest_name,
    read_manifest,
    segment_number,
    view_manifest,
)
from ..storage.segments import scan
from .places import OWN, Place, lies_in, phase_folders, recorded_sizes

_ASIDE: Final = re.compile(r"\d{3,}-(.+)")
_PIECE: Final = re.compile(r"wal_(\d{6,})\.seg-(\d+)")
_ENTRIES: Final = 200
"""Names of files that are not listed, which are told one by one."""


class CommittedFile(msgspec.Struct, kw_only=True):
    """A file that is listed."""

    phase: str | None
    container: str | None
    file: str
    rows: int | None
    num_bytes: int | None = msgspec.field(name="bytes")
    xxh3: str | None
    there: bool
    """Whether a file of that length is where it should be; `verify` looks into it."""


class PhaseState(msgspec.Struct, kw_only=True):
    """A phase, and what it can go on from."""

    phase: str
    state: str
    files: int
    num_bytes: int = msgspec.field(name="bytes")
    checkpoint: str | None = None
    checkpoint_rows: int | None = None
    offsets: dict[str, int] = msgspec.field(default_factory=dict)
    """Rows that each feed had sent at its checkpoint."""
    dead_letters: int = 0


class JournalShare(msgspec.Struct, kw_only=True):
    """What one container has in the journal."""

    container: str
    live_records: int = 0
    live_bytes: int = 0
    dead_records: int = 0
    dead_bytes: int = 0


class Quarantined(msgspec.Struct, kw_only=True):
    """Something that was put aside because it was not as it had been committed."""

    file: str
    num_bytes: int = msgspec.field(name="bytes")
    why: str
    lost_lines: int | None = None
    """Of a manifest: lines that could not be read."""


class Inspection(msgspec.Struct, kw_only=True):
    """All that `penstock inspect` tells."""

    folder: str
    phase: str | None
    why: str = ""
    """Where another folder was given: how it leads to this one."""
    held_by: Holder | None
    format: int | None
    """None: from before there was a manifest."""
    epoch: int
    manifest: int
    manifest_lines: int
    manifest_bytes: int
    manifest_tail_bytes: int
    """Behind the last whole commit: being written now, or torn."""
    damage: str
    phases: list[PhaseState]
    files: list[CommittedFile]
    segments: int = 0
    journal_bytes: int = 0
    journal_lost_bytes: int = 0
    """No whole records, with whole ones behind them."""
    journal: list[JournalShare] = msgspec.field(default_factory=list)
    spill_bytes: int = 0
    quarantine: list[Quarantined] = msgspec.field(default_factory=list)
    unlisted_files: int = 0
    unlisted_bytes: int = 0
    unlisted: list[str] = msgspec.field(default_factory=list)
    """The first of them by name."""


def inspect(place: Place) -> Inspection:
    """Look at a folder, or at one phase of it. Blocks; takes no lock, writes nothing, does not look into data files.

    Raises `StorageFailed` for a newer format.
    """
    root, phase, why = place
    holder = holder_of(root)
    view = read_manifest(root)
    committed = view.committed
    files = list(_files(root, view, phase))
    found = Inspection(
        folder=str(root), phase=phase, why=why, held_by=holder, format=FORMAT if view.number else None,
        epoch=committed.epoch,
        manifest=view.number, manifest_lines=view.lines, manifest_bytes=view.good_bytes,
        manifest_tail_bytes=view.torn_bytes, damage=view.damage, files=files,
        phases=list(_phases(root, view, files, holder, phase)),
    )  # fmt: skip
    if phase is None or phase not in committed.phases:
        _journal(root, committed, found)
    found.spill_bytes = sum(size for _, size in _walk(root / SPILL))
    found.quarantine = list(_quarantine(root))
    _unlisted(root, view, found)
    return found


def _files(root: Path, view: ManifestView, phase: str | None) -> Iterator[CommittedFile]:
    committed = view.committed
    entries = [entry for entry in committed.files.values() if segment_number(entry.file or "") is None]
    if not view.number:
        for folder in phase_folders(root):
            entries += [
                Entry(kind="add", phase=folder.name, file=f"{folder.name}/{file}", bytes=num_bytes)
                for file, num_bytes in recorded_sizes(folder)
            ]
    for entry in entries:
        if phase is not None and entry.phase != phase:
            continue
        assert entry.file is not None
        path = lies_in(root, entry, committed)
        yield CommittedFile(
            phase=entry.phase, container=entry.container or _container(entry.file), file=entry.file,
            rows=entry.rows if entry.rows is not None else _rows(path), num_bytes=entry.bytes, xxh3=entry.xxh3,
            there=DISK.file_bytes(path) == entry.bytes,
        )  # fmt: skip


def _container(file: str) -> str | None:
    """Of `<phase>/containers/<container>/...` and `<phase>/dead_letters/<container>.seg`."""
    parts = file.split("/")
    if len(parts) > 3 and parts[1] == "containers":
        return parts[2]
    if len(parts) == 3 and parts[1] == LETTERS:
        return parts[2].removesuffix(SUFFIX)
    return None


def _rows(path: Path) -> int | None:
    """Rows of a parquet file as its footer says; None for others and for one that cannot be read."""
    if path.suffix != ".parquet" or not path.is_file():
        return None
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException, ValueError):
        return None


def _phases(
    root: Path, view: ManifestView, files: list[CommittedFile], holder: Holder | None, wanted: str | None
) -> Iterator[PhaseState]:
    committed = view.committed
    names = [*committed.phases, *committed.checkpoints, *(path.name for path in phase_folders(root))]
    for name in dict.fromkeys(names):
        if wanted not in (None, name):
            continue
        checkpoint = committed.checkpoints.get(name)
        own = [file for file in files if file.phase == name]
        yield PhaseState(
            phase=name, state=_state(root, view, name, holder is not None and holder.holds), files=len(own),
            num_bytes=sum(file.num_bytes or 0 for file in own),
            checkpoint=None if checkpoint is None else checkpoint.file,
            checkpoint_rows=None if checkpoint is None else checkpoint.rows,
            offsets={} if checkpoint is None else dict(checkpoint.offsets or {}),
            dead_letters=_letters(root / name),
        )  # fmt: skip


def _state(root: Path, view: ManifestView, name: str, held: bool) -> str:
    entry = view.committed.phases.get(name)
    if entry is not None:
        aside = (root / f".{name}.complete-{entry.seq}").is_dir()
        return "complete; is being run again" if aside and held else "complete"
    if name == RECORDING and name in view.committed.checkpoints:
        return "recording" if held else "recorded"
    status = read_record(root / name).get("status")
    if not view.number and status == "complete":
        return "complete"
    if status == "failed" and name not in view.committed.checkpoints:
        return "failed"
    return "under way" if held else "not complete"


def _letters(phase: Path) -> int:
    """Whole records in the files of a phase's dead letters."""
    count = 0
    for path in (phase / LETTERS).glob(f"*{SUFFIX}"):
        try:
            with open(path, "rb", buffering=0, opener=open_regular) as source:
                count += sum(1 for _ in scan(source.fileno()))
        except OSError:
            continue  # it went meanwhile, or is no file: `verify` says
    return count


def _journal(root: Path, committed: Committed, found: Inspection) -> None:
    shares: dict[str, JournalShare] = {}
    for number, entry in committed.segments().items():
        assert entry.file is not None
        try:
            fd = DISK.open(root / entry.file)
        except OSError:
            continue  # it went since the manifest was read, is lost, or is no file: `verify` knows
        try:
            end = DISK.size(fd) if entry.bytes is None else entry.bytes
            found.segments += 1
            found.journal_bytes += end
            before = 0
            for item in walk(DISK, fd, number, entry.gen or 0, end):
                if isinstance(item, Gap):
                    before = item.offset + item.num_bytes
                    found.journal_lost_bytes += item.num_bytes
                    continue
                num_bytes, before = item.end - before, item.end
                if item.record.kind == GROUP:
                    continue
                share = shares.setdefault(item.record.container, JournalShare(container=item.record.container))
                if item.record.gen > committed.trims.get(item.record.container, -1):
                    share.live_records += 1
                    share.live_bytes += num_bytes
                else:
                    share.dead_records += 1
                    share.dead_bytes += num_bytes
        finally:
            DISK.close(fd)
    found.journal = [shares[name] for name in sorted(shares)]


def _quarantine(root: Path) -> Iterator[Quarantined]:
    """What lies there; a name says where it came from, which is all that is known of why."""
    for path, size in _walk(root / QUARANTINE):
        match = _ASIDE.fullmatch(path.name)
        name = match[1] if match else path.name
        piece = _PIECE.fullmatch(name)
        lost = None
        if piece is not None:
            why = f"no whole record, at byte {int(piece[2]):,} of wal/{piece[1]}.seg"
        elif name.startswith("MANIFEST-"):
            view = view_manifest(path)
            lost = view.lost_lines
            why = f"{view.damage or 'damaged'}; {lost:,} lines could not be read"
        else:
            why = "was not there with the length it had been committed with"
        yield Quarantined(file=f"{QUARANTINE}/{path.name}", num_bytes=size, why=why, lost_lines=lost)


def _unlisted(root: Path, view: ManifestView, found: Inspection) -> None:
    """Files that nobody committed, in the folder or in phases that are complete: the user's own, or a report."""
    committed = view.committed
    listed = {entry.file for entry in committed.listed()} | {file.file for file in found.files}
    under_way = [path.name for path in phase_folders(root) if path.name not in committed.phases] if view.number else []
    for path, size in _walk(root):
        parts = path.relative_to(root).parts
        if found.phase is not None and parts[0] != found.phase:
            continue
        if parts[0] in OWN or parts[0] == LOCK or parts[0].startswith(manifest_name(0)[:9]):
            continue
        if parts[0] in under_way or any(part.startswith(".") for part in parts) or "/".join(parts) in listed:
            continue
        if not view.number and parts[-1] in (SUMMARY, RUN):
            continue
        found.unlisted_files += 1
        found.unlisted_bytes += size
        if len(found.unlisted) < _ENTRIES:
            found.unlisted.append("/".join(parts))


def _walk(folder: Path) -> Iterator[tuple[Path, int]]:
    """Files below a folder with their bytes, by name; what goes meanwhile is left out."""
    for where, below, names in os.walk(folder):
        below.sort()
        for name in sorted(names):
            path = Path(where) / name
            try:
                state = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(state.st_mode):
                yield path, state.st_size
