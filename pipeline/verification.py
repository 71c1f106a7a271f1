"""Reads a folder from end to end and holds every byte against its checksum; writes nothing, beside a writer too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from .dead_letters import FOLDER as LETTERS
from .dead_letters import SUFFIX
from .folder import SUMMARY, read_record, read_summary
from .places import Place, lies_in, phase_folders, recorded_sizes
from .storage.disk import DISK
from .storage.entries import Entry
from .storage.holder import Holder, holder_of, is_held
from .storage.journal_records import GROUP, Gap, survey, walk
from .storage.manifest import (
    CHECKPOINTS,
    QUARANTINE,
    Committed,
    ManifestView,
    manifest_name,
    manifest_numbers,
    parse_manifest,
    read_manifest,
    segment_number,
)
from .storage.segments import HEAD_BYTES, HEADER, MAGIC, record_bytes, scan

_CHUNK: Final = 1 << 20
_TRIES: Final = 100
_BATCH_ROWS: Final = 16_384
_MAGIC: Final = MAGIC.to_bytes(4, "little")
Progress = Callable[[int], None]
"""Is called with the bytes that have been read since the last call."""


class Bad(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was written."""

    file: str
    expected: str
    found: str
    try_: str = msgspec.field(name="try")


class Verified(msgspec.Struct, kw_only=True):
    """What was looked at, and what of it is bad."""

    folder: str
    phase: str | None
    held_by: Holder | None
    manifest: int = 0
    lines: int = 0
    files: int = 0
    num_bytes: int = msgspec.field(name="bytes", default=0)
    without_checksum: int = 0
    """Files of which only the length could be compared."""
    parquet_files: int = 0
    checkpoints: int = 0
    segments: int = 0
    records: int = 0
    """Of the journal, those that are dead included."""
    letters: int = 0
    """Records in dead letter files that no manifest lists yet."""
    notes: list[str] = msgspec.field(default_factory=list)
    bad: list[Bad] = msgspec.field(default_factory=list)


def bytes_to_verify(place: Place) -> int:
    """About how many will be read. Raises `StorageFailed` for a newer format."""
    committed = read_manifest(place.root).committed
    return sum(
        entry.bytes if entry.bytes is not None else DISK.file_bytes(place.root / (entry.file or "")) or 0
        for entry in _wanted(committed, place.phase)
    )


def verify(place: Place, progress: Progress = lambda num_bytes: None) -> Verified:
    """Every checksum of a folder, or of one phase of it. Blocks; takes no lock.

    A writer may be at work: what is found bad is looked at again with what the manifest lists by then, and what is
    being written is no damage. Raises `StorageFailed` for a newer format.
    """
    done = Verified(folder=str(place.root), phase=place.phase, held_by=holder_of(place.root))
    view = _manifest(place.root, done)
    _manifests_before(place.root, view, done)
    listing = _Listing(place.root, view)
    for entry in _wanted(view.committed, place.phase):
        _settle(listing, entry, done, progress)
    for phase in phase_folders(place.root):
        if place.phase not in (None, phase.name):
            continue
        if not view.number:
            _from_before(place.root, phase, done, progress)
        elif f"{phase.name}/{SUMMARY}" not in view.committed.files:
            _letters(place.root, phase, done)
            _note_unlisted(phase, done)
    return done


def _wanted(committed: Committed, phase: str | None) -> list[Entry]:
    """What is listed of all, or of one phase: a journal belongs to the one that is under way."""
    entries = committed.listed()
    if phase is None:
        return list(entries)
    journal = phase not in committed.phases
    return [
        entry for entry in entries
        if entry.phase == phase or (journal and segment_number(entry.file or "") is not None)
    ]  # fmt: skip


# -- manifests -----------------------------------------------------------------------------------------------------


def _manifest(root: Path, done: Verified) -> ManifestView:
    """What counts, having noted what is bad with the file: found twice, and nobody is writing it."""
    before: Bad | None = None
    for _ in range(_TRIES):
        held = is_held(root)
        view = read_manifest(root)
        bad = _fault_of_manifest(root, view, held or is_held(root))
        if bad is None or bad == before:
            break
        before = bad
    if bad is not None:
        done.bad.append(bad)
    done.manifest, done.lines = view.number, view.lines
    return view


def _fault_of_manifest(root: Path, view: ManifestView, held: bool) -> Bad | None:
    name = manifest_name(view.number)
    holder = holder_of(root)
    if not view.number:
        if holder is None or not holder.epoch:
            return None
        return Bad(
            file="MANIFEST", expected=f"a manifest of epoch {holder.epoch}, as LOCK says", found="none",
            try_="get it from a copy of the folder; without it, run again with --force",
        )  # fmt: skip
    if view.damage:
        return Bad(
            file=name, expected="whole lines, each with its checksum",
            found=f"{view.damage}; {view.torn_bytes:,} bytes and {view.lost_lines:,} lines do not count",
            try_="open it with --repair (open_stores: repair=True), which keeps what can be read",
        )  # fmt: skip
    if held:
        return None
    if view.torn_bytes:
        return Bad(
            file=name, expected=f"whole commits, {view.good_bytes:,} bytes",
            found=f"{view.torn_bytes:,} bytes behind them that are none: left by a crash, or the last one damaged",
            try_="look whether what is listed is all you expect; the next run, or --resume, cuts them off",
        )  # fmt: skip
    if holder is not None and holder.epoch > view.committed.epoch:
        return Bad(
            file=manifest_name(view.number + 1), expected=f"a manifest of epoch {holder.epoch}, as LOCK says",
            found=f"{name} of epoch {view.committed.epoch} is the last one",
            try_="get it from a copy of the folder; without it what was committed since is not known",
        )  # fmt: skip
    return None


def _manifests_before(root: Path, view: ManifestView, done: Verified) -> None:
    """The one before is what --repair falls back to; one that is kept in the quarantine too is known to be bad."""
    for number in manifest_numbers(DISK.names(root)):
        path = root / manifest_name(number)
        if number >= view.number:
            continue
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            continue
        found = parse_manifest(raw, str(path))
        if not (found.damage or found.torn_bytes):
            done.lines += found.lines
        elif not any(kept.read_bytes() == raw for kept in (root / QUARANTINE).glob(f"*-{path.name}")):
            done.bad.append(
                Bad(
                    file=path.name, expected="whole lines, each with its checksum",
                    found=found.damage or f"{found.torn_bytes:,} bytes at its end that are no whole commit",
                    try_=f"nothing now: {manifest_name(view.number)} counts, and this one goes when others follow",
                )
            )  # fmt: skip


# -- listed files --------------------------------------------------------------------------------------------------


class _Listing:
    """What a manifest lists now; read again only where its file is another, or longer."""

    def __init__(self, root: Path, view: ManifestView) -> None:
        self.root, self.committed = root, view.committed
        self.damaged = bool(view.damage)
        self._of: tuple[int, int | None] | None = None
        self._files: dict[str | None, Entry] = {}

    def now(self, file: str | None) -> Entry | None:
        """The entry of a file, None where it is not listed any more."""
        number = max(manifest_numbers(DISK.names(self.root)), default=0)
        of = number, DISK.file_bytes(self.root / manifest_name(number))
        if of != self._of:
            self.committed = read_manifest(self.root).committed
            self._files = {entry.file: entry for entry in self.committed.listed()}
            self._of = of  # as it was before it was read: what came meanwhile is read again
        return self._files.get(file)


def _settle(listing: _Listing, entry: Entry, done: Verified, progress: Progress) -> None:
    """Examine what an entry lists until it is whole, is bad twice in a row, or is not listed any more: R-5."""
    before: Bad | None = None
    for _ in range(_TRIES):
        seen = Verified(folder="", phase=None, held_by=None)
        bad = _examine(listing.root, entry, listing.committed, seen, progress)
        if bad is None or bad == before:
            break
        now = listing.now(entry.file)
        if now is None and not listing.damaged:
            return
        before = bad if now in (None, entry) else None
        entry = now or entry
    else:
        done.notes.append(f"{entry.file} changed {_TRIES} times while it was read, and was left out")
        return
    if bad is not None:
        done.bad.append(bad)
    done.files += seen.files
    for name in ("num_bytes", "without_checksum", "parquet_files", "checkpoints", "segments", "records"):
        setattr(done, name, getattr(done, name) + getattr(seen, name))


def _examine(root: Path, entry: Entry, committed: Committed, seen: Verified, progress: Progress) -> Bad | None:
    assert entry.file is not None
    number = segment_number(entry.file)
    try:
        if number is not None:
            return _segment(root, entry, number, seen, progress)
        return _file(lies_in(root, entry, committed), entry, seen, progress)
    except FileNotFoundError:
        return _bad(entry, "the file, " + _bytes(entry.bytes), "no such file")
    except OSError as error:
        return _bad(entry, "a file that can be read", f"the system cannot read it: {error.strerror or error}")


def _file(path: Path, entry: Entry, seen: Verified, progress: Progress) -> Bad | None:
    seen.files += 1
    digest = xxhash.xxh3_64()
    num_bytes = 0
    with open(path, "rb", buffering=0) as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            num_bytes += len(chunk)
            progress(len(chunk))
    seen.num_bytes += num_bytes
    if num_bytes != entry.bytes:
        return _bad(entry, _bytes(entry.bytes), _bytes(num_bytes))
    if entry.xxh3 is None:
        seen.without_checksum += 1
    elif digest.hexdigest() != entry.xxh3:
        return _bad(entry, f"xxh3 {entry.xxh3}", f"xxh3 {digest.hexdigest()} in as many bytes")
    if entry.kind == "checkpoint":
        seen.checkpoints += 1
    if path.suffix == ".parquet":
        seen.parquet_files += 1
        fault = _fault_of_pages(path)
        return _bad(entry, "parquet whose pages have their checksums", fault) if fault else None
    return None


def _fault_of_pages(path: Path) -> str:
    """What is wrong with a parquet file's pages, of which a few are held at a time; empty where nothing is."""
    where = "its footer"
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=_CHUNK) as file:
            for group in range(file.num_row_groups):
                where = f"row group {group}"
                for _ in file.iter_batches(_BATCH_ROWS, [group], use_threads=False):
                    pass
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        return f"{where} cannot be read: {' '.join(str(error).split())}"
    return ""


def _segment(root: Path, entry: Entry, number: int, seen: Verified, progress: Progress) -> Bad | None:
    """A journal segment from its first record to its end, which is listed once nothing is written to it any more."""
    assert entry.file is not None
    held = is_held(root)
    try:
        fd = DISK.open(root / entry.file)
    except FileNotFoundError:
        if entry.bytes == 0:
            return None
        raise
    try:
        size = DISK.size(fd)
        seen.segments += 1
        seen.num_bytes += min(size, size if entry.bytes is None else entry.bytes)
        if entry.bytes is None:
            found = survey(DISK, fd, number, entry.gen or 0, size)
            progress(size)
            seen.records += found.records
            if found.gaps:
                return _gaps(entry, found.gaps)
            if found.cut_bytes and not (held or is_held(root)):
                return _bad(
                    entry, "whole records to its end",
                    f"{found.cut_bytes:,} bytes behind byte {found.end:,} that are not ({found.cut_records:,} whole "
                    "records among them): left by a crash, or the last ones damaged",
                )  # fmt: skip
            return None
        if size < entry.bytes:
            return _bad(entry, _bytes(entry.bytes), _bytes(size))
        gaps = []
        reached = 0
        for item in walk(DISK, fd, number, entry.gen or 0, entry.bytes):
            end = item.offset + item.num_bytes if isinstance(item, Gap) else item.end
            progress(end - reached)
            reached = end
            if isinstance(item, Gap):
                gaps.append(item)
            elif item.record.kind != GROUP:
                seen.records += 1
        if reached < entry.bytes:
            gaps.append(Gap(number, reached, entry.bytes - reached))
        return _gaps(entry, gaps) if gaps else None
    finally:
        DISK.close(fd)


def _gaps(entry: Entry, gaps: list[Gap]) -> Bad:
    lost = sum(gap.num_bytes for gap in gaps)
    places = ", ".join(f"{gap.offset:,}" for gap in gaps[:5]) + (", ..." if len(gaps) > 5 else "")
    return _bad(entry, "whole records, one behind the other", f"{lost:,} bytes that are none, at byte {places}")


def _bad(entry: Entry, expected: str, found: str) -> Bad:
    assert entry.file is not None
    if segment_number(entry.file) is not None:
        hint = "open it again (--resume, open_stores): records that are whole come back, and what is lost is told"
    elif entry.file.startswith(f"{CHECKPOINTS}/"):
        hint = "run again: what was to go on from it begins anew"
    else:
        hint = "run its configuration again with --force, or get the file from a copy"
    return Bad(file=entry.file, expected=expected, found=found, try_=hint)


def _bytes(num_bytes: int | None) -> str:
    return f"{num_bytes or 0:,} bytes"


# -- what no manifest lists ----------------------------------------------------------------------------------------


def _letters(root: Path, phase: Path, done: Verified) -> None:
    """Dead letters of a phase that is under way: whole records, to the end unless somebody writes there."""
    for path in sorted((phase / LETTERS).glob(f"*{SUFFIX}")):
        before: Bad | None = None
        for _ in range(_TRIES):
            held = is_held(root)
            try:
                count, num_bytes, fault = _scanned(path)
            except FileNotFoundError:
                break
            if fault is None or (not fault[1] and (held or is_held(root))):
                bad = None
            else:
                bad = Bad(
                    file=path.relative_to(root).as_posix(), expected="whole records to its end", found=fault[0],
                    try_="penstock dead-letters lists those before it; run again for those behind",
                )  # fmt: skip
            if bad is None or bad == before:
                done.letters += count
                done.num_bytes += num_bytes
                if bad is not None:
                    done.bad.append(bad)
                break
            before = bad


def _scanned(path: Path) -> tuple[int, int, tuple[str, bool] | None]:
    """Whole records from the start, bytes, and what is behind them: told, and whether whole records follow it."""
    with open(path, "rb", buffering=0) as source:
        fd = source.fileno()
        count = end = 0
        for found in scan(fd):
            count += 1
            end = found.offset + record_bytes(len(found.key), found.length)
        size = DISK.size(fd)
        if end >= size:
            return count, size, None
        rest = DISK.read(fd, size - end, end)
        at = rest.find(_MAGIC, 1)
        while 0 <= at <= len(rest) - HEAD_BYTES:
            _, _, _, key_len, length, _ = HEADER.unpack_from(rest, at)
            if at + record_bytes(key_len, length) <= len(rest) and any(scan(fd, end + at)):
                return count, size, (f"{at:,} bytes that are none at byte {end:,}", True)
            at = rest.find(_MAGIC, at + 1)
        return count, size, (f"{size - end:,} bytes behind byte {end:,} that are none", False)


def _note_unlisted(phase: Path, done: Verified) -> None:
    summary = read_summary(phase)
    if summary is not None and summary.status == "complete":
        done.notes.append(
            f"{phase.name} has a summary that the manifest does not list: it was not committed, and does not count"
        )


def _from_before(root: Path, phase: Path, done: Verified, progress: Progress) -> None:
    """A phase from before there was a manifest: lengths that it recorded, and what its files say of themselves."""
    if not (phase / SUMMARY).exists() and read_record(phase).get("status") != "complete":
        done.notes.append(f"{phase.name} has not come to its end, and nothing says what was to be in it")
        return
    if read_summary(phase) is None:
        done.bad.append(
            Bad(
                file=f"{phase.name}/{SUMMARY}", expected="a phase's summary", found="none that can be read",
                try_="run its configuration again with --force",
            )
        )  # fmt: skip
    else:
        done.files += 1
        done.without_checksum += 1
    committed = Committed()
    for file, num_bytes in recorded_sizes(phase):
        entry = Entry(kind="add", phase=phase.name, file=f"{phase.name}/{file}", bytes=num_bytes)
        bad = _examine(root, entry, committed, done, progress)
        if bad is not None:
            done.bad.append(bad)
    done.notes.append(
        f"{phase.name} is from before there was a manifest: lengths were compared, and checksums within parquet "
        "files; other changes cannot be found"
    )
