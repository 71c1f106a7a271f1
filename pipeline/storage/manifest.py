"""What is committed in a folder: the state that manifest lines add up to, and how readers learn it without a lock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ..errors import StorageFailed
from .disk import DISK, Disk
from .entries import Entry, decode_line, decode_lines, encode_line, stamped

WAL: Final = "wal"
CHECKPOINTS: Final = "checkpoints"
SPILL: Final = "spill"
QUARANTINE: Final = "quarantine"
STORE: Final = "store"
_NAME: Final = re.compile(r"MANIFEST-(\d{6,})")
_SEGMENT: Final = re.compile(rf"{WAL}/(\d{{6,}})\.seg")
_TRIES: Final = 100
_WINDOW_BYTES: Final = 4 << 20
_LONGEST_LINE: Final = 256 << 20
"""More than the snapshot of a million files takes; what goes on without an end of line is none."""


def manifest_name(number: int) -> str:
    return f"MANIFEST-{number:06d}"


def manifest_numbers(names: Iterable[str]) -> list[int]:
    """Of the manifests among these names, ascending."""
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def segment_file(number: int) -> str:
    """A journal segment's path in the root."""
    return f"{WAL}/{number:06d}.seg"


def segment_number(file: str) -> int | None:
    """The number of the journal segment at this path in the root, None where it is another kind of file."""
    match = _SEGMENT.fullmatch(file)
    return int(match[1]) if match else None


@dataclass
class Committed:
    """Everything that is committed, as plain mappings."""

    epoch: int = 0
    seq: int = 0
    files: dict[str, Entry] = field(default_factory=dict)
    """Path in the root -> its `add`; journal segments too."""
    phases: dict[str, Entry] = field(default_factory=dict)
    """Phases that are complete."""
    checkpoints: dict[str, Entry] = field(default_factory=dict)
    """Phase -> the checkpoint it can go on from."""
    trims: dict[str, int] = field(default_factory=dict)
    """Container -> generation up to which its records in the journal are dead."""
    next_segment: int = 1

    def apply(self, entry: Entry) -> None:
        """Take in one line."""
        self.seq, self.epoch = entry.seq, entry.epoch
        if entry.kind == "snap":
            self.files = {live.file or "": live for live in entry.live if live.kind == "add"}
            self.phases, self.checkpoints, self.trims = {}, {}, {}
            for live in entry.live:
                if live.kind != "add":
                    self._take(live)
            self.next_segment = max(self.next_segment, entry.next_segment or 1)
        else:
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        if entry.file is not None:
            self.saw(entry.file)
        if entry.kind == "add" and entry.file is not None:
            self.files[entry.file] = entry
        elif entry.kind == "remove":
            self._remove(entry)
        elif entry.kind == "trim" and entry.container is not None:
            self.trims[entry.container] = max(entry.gen or 0, self.trims.get(entry.container, 0))
        elif entry.kind == "checkpoint" and entry.phase is not None:
            self.checkpoints[entry.phase] = entry
        elif entry.kind == "phase" and entry.phase is not None:
            self.phases[entry.phase] = entry
            self.checkpoints.pop(entry.phase, None)

    def saw(self, file: str) -> None:
        """A segment's number is taken, whether the segment is listed or not."""
        if file.startswith(WAL):
            number = segment_number(file)
            if number is not None and number >= self.next_segment:
                self.next_segment = number + 1

    def _remove(self, entry: Entry) -> None:
        if entry.file is not None:
            self.files.pop(entry.file, None)
            for phase in [phase for phase, found in self.checkpoints.items() if found.file == entry.file]:
                del self.checkpoints[phase]
        elif entry.phase is not None:
            self.phases.pop(entry.phase, None)
            self.checkpoints.pop(entry.phase, None)
            for file in [file for file, found in self.files.items() if found.phase == entry.phase]:
                del self.files[file]

    def copy(self) -> Committed:
        """Another that changes apart from this one."""
        return replace(
            self, files=dict(self.files), phases=dict(self.phases), checkpoints=dict(self.checkpoints),
            trims=dict(self.trims),
        )  # fmt: skip

    def segments(self) -> dict[int, Entry]:
        """The journal's segments by number, ascending."""
        found = {number: entry for file, entry in self.files.items() if (number := segment_number(file)) is not None}
        return dict(sorted(found.items()))

    def listed(self) -> Iterator[Entry]:
        """Entries of every file that is to be there."""
        yield from self.files.values()
        yield from (entry for entry in self.checkpoints.values() if entry.file is not None)

    def snapshot(self) -> Entry:
        """The line that a new manifest begins with."""
        trims = (Entry(kind="trim", container=container, gen=gen) for container, gen in self.trims.items())
        return stamped(
            Entry(
                kind="snap",
                live=(*self.files.values(), *self.phases.values(), *self.checkpoints.values(), *trims),
                next_segment=self.next_segment,
            ),
            seq=self.seq + 1,
            epoch=self.epoch,
        )  # fmt: skip


@dataclass
class ManifestView:
    """What a manifest says, and in what state the file is."""

    committed: Committed
    number: int = 0
    """Of the manifest; 0 where the folder has none."""
    lines: int = 0
    """Lines that count."""
    good_bytes: int = 0
    """Length up to the last whole commit."""
    torn_bytes: int = 0
    """Behind it: what a crash left of commits that were not acknowledged, or what is being written now."""
    damage: str = ""
    """What is wrong with lines that had been acknowledged; empty where nothing is."""
    later: list[Entry] = field(default_factory=list)
    """Whole lines found behind the damage."""

    @property
    def lost_lines(self) -> int:
        """Lines missing between what counts and the last whole line."""
        return self.later[-1].seq - self.committed.seq - len(self.later) if self.later else 0


def parse_manifest(raw: bytes, where: str) -> ManifestView:
    """What the bytes of a manifest say. Raises `StorageFailed` for a newer format.

    Lines behind a bad one are ignored. If they show that what is bad had been on disk once, that is damage; if not,
    it is a commit that a crash tore.
    """
    view = ManifestView(Committed())
    committed = view.committed
    pending: list[Entry] = []
    offset = 0
    lengths: list[int] = []
    entries: list[Entry | None] = []
    end = raw.find(b"\n")
    if end >= 0:
        rest = raw[end + 1 :].split(b"\n")[:-1]
        lengths = [end, *map(len, rest)]
        entries = [decode_line(memoryview(raw)[:end], where), *decode_lines(rest, where)]  # a snap may be large
    bad = -1
    for length, entry in zip(lengths, entries, strict=True):
        start, offset = offset, offset + length + 1
        if bad < 0 and (entry is None or not _follows(entry, view, len(pending))):
            bad = start
        if bad >= 0:
            if entry is not None and view.lines:
                view.later.append(entry)
            continue
        assert entry is not None
        if entry.part is None:
            committed.apply(entry)
            view.lines += 1
        else:
            pending.append(entry)
            if entry.part[0] != entry.part[1]:
                continue
            for part in pending:
                committed.apply(part)
            view.lines += len(pending)
            pending.clear()
        view.good_bytes = offset
    view.torn_bytes = len(raw) - view.good_bytes
    if not view.lines:
        view.damage = f"{where} does not begin with a valid snapshot"
    elif any(entry.known_synced > committed.seq for entry in view.later):
        view.damage = f"{where} is damaged at byte {bad:,}: valid lines follow a bad one"
    return view


def _follows(entry: Entry, view: ManifestView, pending: int) -> bool:
    """Whether it is the line that has to come next."""
    if not view.lines:
        return entry.kind == "snap"
    return entry.kind != "snap" and entry.seq == view.committed.seq + pending + 1


def encode_commit(entries: Iterable[Entry], committed: Committed, synced: int) -> tuple[list[Entry], bytes]:
    """The entries as they are written behind what is committed, in one commit; `synced` is the last line on disk."""
    given = list(entries)
    known = None if synced == committed.seq else synced
    own = [
        stamped(
            entry, seq=committed.seq + number, epoch=committed.epoch, synced=known,
            part=None if len(given) == 1 else (number, len(given)),
        )
        for number, entry in enumerate(given, 1)
    ]  # fmt: skip
    return own, b"".join(map(encode_line, own))


def read_manifest(folder: Path, disk: Disk = DISK) -> ManifestView:
    """What is committed in a folder now; takes no lock and writes nothing. Blocking.

    A folder without a manifest gives an empty view with number 0. Raises `StorageFailed` for a newer format. What is
    damaged stands in the view, for the caller to judge.
    """
    for _ in range(_TRIES):
        numbers = manifest_numbers(disk.names(folder))
        if not numbers:
            return ManifestView(Committed())
        path = folder / manifest_name(numbers[-1])
        try:
            view = _read(disk, path)
        except FileNotFoundError:
            continue  # a writer has rotated it away between our looking and our reading
        view.number = numbers[-1]
        return view
    raise StorageFailed(f"the manifest of {folder} vanished {_TRIES} times while it was read; try again")


def view_manifest(path: Path, disk: Disk = DISK) -> ManifestView:
    """What one manifest says, whether it counts or not. Blocking; raises OSError and `StorageFailed`."""
    view = _read(disk, path)
    view.number = next(iter(manifest_numbers([path.name])), 0)
    return view


def _read(disk: Disk, path: Path) -> ManifestView:
    """Zeros and lines without an end, which damage may make endless, are passed over: no line holds a zero."""
    kept: list[bytes] = []
    passed = line_bytes = 0
    fd = disk.open(path)
    try:
        size = disk.size(fd)
        offset = 0
        while offset < size and (raw := disk.read(fd, min(_WINDOW_BYTES, size - offset), offset)):
            offset += len(raw)
            end = raw.rfind(b"\n")
            empty = not raw[0] and raw.count(0) == len(raw)
            if empty or (end < 0 and line_bytes > _LONGEST_LINE):
                kept.append(b"\0")
                passed += len(raw) - 1
            else:
                kept.append(raw)
                line_bytes = len(raw) - end - 1 if end >= 0 else line_bytes + len(raw)
    finally:
        disk.close(fd)
    view = parse_manifest(b"".join(kept), str(path))
    view.torn_bytes += passed
    return view


def read_whole(disk: Disk, path: Path) -> bytes:
    fd = disk.open(path)
    try:
        return disk.read(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)
