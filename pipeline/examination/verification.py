"""Reads a folder from end to end and holds every byte against its checksum; writes nothing, beside a writer too."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..folder import SUMMARY, read_record, read_summary
from ..mending.dead_letters import FOLDER as LETTERS
from ..mending.dead_letters import SUFFIX
from ..storage.disk import DISK
from ..storage.entries import Entry
from ..storage.holder import holder_of, is_held
from ..storage.manifest import (
    QUARANTINE,
    Committed,
    ManifestView,
    manifest_name,
    manifest_numbers,
    read_manifest,
    segment_number,
    view_manifest,
)
from ..storage.publish import digest_file
from .examining import examine, scan_letters
from .places import Place, phase_folders, recorded_sizes
from .verified import Bad, Progress, Verified

_TRIES: Final = 100


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
    done = Verified(folder=str(place.root), phase=place.phase, why=place.why, held_by=holder_of(place.root))
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
            found = view_manifest(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            found = ManifestView(Committed(), damage=f"the system cannot read it: {error.strerror or error}")
        if not (found.damage or found.torn_bytes):
            done.lines += found.lines
        elif not any(_is_copy(kept, path) for kept in (root / QUARANTINE).glob(f"*-{path.name}")):
            done.bad.append(
                Bad(
                    file=path.name, expected="whole lines, each with its checksum",
                    found=found.damage or f"{found.torn_bytes:,} bytes at its end that are no whole commit",
                    try_=f"nothing now: {manifest_name(view.number)} counts, and this one goes when others follow",
                )
            )  # fmt: skip


def _is_copy(kept: Path, path: Path) -> bool:
    try:
        return DISK.file_bytes(kept) == DISK.file_bytes(path) and digest_file(kept) == digest_file(path)
    except OSError:
        return False


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
        bad = examine(listing.root, entry, listing.committed, seen, progress)
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


# -- what no manifest lists ----------------------------------------------------------------------------------------


def _letters(root: Path, phase: Path, done: Verified) -> None:
    """Dead letters of a phase that is under way: whole records, to the end unless somebody writes there."""
    for path in sorted((phase / LETTERS).glob(f"*{SUFFIX}")):
        before: Bad | None = None
        for _ in range(_TRIES):
            held = is_held(root)
            try:
                count, num_bytes, fault = scan_letters(path)
            except FileNotFoundError:
                break
            except OSError as error:
                count = num_bytes = 0
                fault = f"the system cannot read it: {error.strerror or error}", True
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
        bad = examine(root, entry, committed, done, progress)
        if bad is not None:
            done.bad.append(bad)
    done.notes.append(
        f"{phase.name} is from before there was a manifest: lengths were compared, and checksums within parquet "
        "files; other changes cannot be found"
    )
