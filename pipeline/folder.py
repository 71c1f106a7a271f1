"""A run's folder: `<output>/<name>/<fingerprint>/<phase>/`, its lock, and how files appear in it whole."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from .errors import InputError
from .storage.disk import DISK, Disk, read_regular
from .storage.entries import Entry
from .storage.manifest import Committed, ManifestView, read_manifest, segment_file
from .storage.publish import TableFile, digest_published, publish_bytes, sync_file
from .storage.root import StorageRoot
from .summary import PhaseSummary

log = logging.getLogger("penstock.folder")
SUMMARY, RUN, CONTAINERS = "summary.json", "run.json", "containers.parquet"
DEAD_LETTERS = "dead_letters"


_ASIDE: Final = re.compile(r"\.(.+)\.complete(?:-(\d+))?")
_NAMED: Final = 8
"""Runs that are listed by name where one of them has to be given."""


class RunFolder:
    """The folder of one run, held by one process at a time. All methods block: call them in a thread.

    What counts is what its manifest lists: a phase is complete once its entry is committed, and a summary whose
    commit a crash prevented is none. Folders from before there was a manifest are taken over as they are.
    """

    def __init__(self, output: Path, name: str, fingerprint: str, *, disk: Disk = DISK) -> None:
        self.path = output / name / fingerprint
        self.root: StorageRoot | None = None
        """From `open` to `close`."""
        self._disk = disk

    def open(self, *, repair: bool = False, anew: bool = False) -> None:
        """Create the folder, take its lock and recover it; raises `StorageFailed` naming the process that holds it.

        With `anew` nothing is to be gone on with: what a lost manifest listed is put aside.
        """
        self.root = StorageRoot.open(self.path, disk=self._disk, repair=repair, anew=anew, settle=self._settle)
        for loss in self.root.recovered.lost:
            kept = f"; what is left of it is kept as {loss.kept}" if loss.kept else ""
            log.warning("%s/%s is lost: %s%s", self.path, loss.file, loss.why, kept)

    def close(self) -> None:
        if self.root is not None:
            self.root.close()
            self.root = None

    def sweep(self) -> None:
        """Remove what dead processes had spilled; may take a while."""
        if self.root is not None:
            self.root.sweep()

    def phase(self, name: str) -> Path:
        return self.path / name

    def begin_phase(self, name: str) -> Path:
        """An empty folder for a phase. A complete result of an earlier run is put aside until this one is complete.

        What the journal and a checkpoint hold of a try before is given up.
        """
        root, path = self._open, self.phase(name)
        gone = _journal_and_checkpoint(root.manifest, name)
        if self.completed(name) is not None:
            aside = self._aside(name)
            shutil.rmtree(aside, ignore_errors=True)
            self._disk.rename(path, aside)
        elif name in root.manifest.phases or any(entry.phase == name for entry in root.manifest.files.values()):
            gone.append(Entry(kind="remove", phase=name))
        root.commit(gone)  # before the files go: what is listed is there
        self._unlink(gone)
        shutil.rmtree(path, ignore_errors=True)
        self._disk.make_folder(path)
        return path

    def go_on_phase(self, name: str) -> Path:
        """The folder of a phase that goes on from its checkpoint.

        What it had written there is made again, so it goes; dead letters stay, and are cut back by whoever wrote them.
        """
        root, path = self._open, self.phase(name)
        checkpoint = root.manifest.checkpoints[name]
        if any(entry.phase == name for entry in root.manifest.files.values()):
            root.commit([Entry(kind="remove", phase=name), checkpoint])
        for found in sorted(path.iterdir()) if path.is_dir() else ():
            if found.name != DEAD_LETTERS:
                shutil.rmtree(found) if found.is_dir() else self._disk.unlink(found)
        self._disk.make_folder(path)
        return path

    def end_phase(self, name: str) -> None:
        """Drop what was put aside if the phase is complete; else bring it back and leave the failed try beside it."""
        for aside in self._set_aside(name):
            self._bring_back(name, aside, self._is_listed(name, aside))

    def completed(self, name: str) -> PhaseSummary | None:
        """The summary of a phase that has completed, None where it has not."""
        if self.root is not None and name not in self.root.manifest.phases:
            return None
        summary = read_summary(self.phase(name))
        return summary if summary is not None and summary.status == "complete" else None

    @property
    def has_completed(self) -> bool:
        """Whether any phase has."""
        return bool(self._open.manifest.phases)

    def damage(self, name: str) -> str:
        """What of the files that a complete phase published is no longer as it was; empty where all is.

        Looks at sizes, not into files. A file beside those that were published does not matter.
        """
        for loss in self.root.recovered.lost if self.root is not None else ():
            if loss.file.startswith(f"{name}/"):
                return f"{loss.file.removeprefix(f'{name}/')} was found damaged: {loss.why}"
        path = self.phase(name)
        sizes = read_record(path).get("files")
        if not isinstance(sizes, dict):
            return f"{RUN} does not say which files it left"
        for file, size in sizes.items():
            try:
                found = (path / file).stat().st_size
            except OSError as error:
                return f"{file} cannot be read ({error.strerror})"
            if found != size:
                return f"{file} has {found:,} bytes, not the {size:,} it was published with"
        return ""

    def publish(self, phase: str, summary: PhaseSummary, record: dict[str, Any], containers: pa.Table) -> None:
        """Write the phase's three files, the summary last, and commit all that the phase has left: then it is there.

        Where that fails there is no summary. Raises `DiskFull`, `StorageFailed` and OSError.
        """
        root, path = self._open, self.phase(phase)
        file = TableFile(path, containers.schema, disk=self._disk)
        with file:
            file.write(containers)
            file.publish(CONTAINERS, replace=True)
        self.write_record(phase, {**record, "files": _sizes(path)})
        try:
            self._write_json(phase, SUMMARY, msgspec.json.encode(summary))
            if summary.status == "complete" or not self._set_aside(phase):
                checkpoint = root.manifest.checkpoints.get(phase)
                entries = [Entry(kind="remove", phase=phase), *self._listed(phase)]
                gone = []
                if summary.status == "complete":
                    gone = _journal_and_checkpoint(root.manifest, phase)
                    entries += [*gone, Entry(kind="phase", phase=phase)]
                elif checkpoint is not None:
                    entries.append(checkpoint)  # from which it can still go on
                root.commit(entries)
                self._unlink(gone)
        except BaseException:
            with suppress(OSError):
                self._disk.unlink(path / SUMMARY)
            raise
        self._point_latest()

    def write_record(self, phase: str, record: dict[str, Any]) -> None:
        self._write_json(phase, RUN, msgspec.json.encode(record, enc_hook=str))

    def _write_json(self, phase: str, name: str, text: bytes) -> None:
        pieces = [msgspec.json.format(text, indent=2), b"\n"]
        publish_bytes(self.phase(phase), name, pieces, replace=True, disk=self._disk)

    @property
    def _open(self) -> StorageRoot:
        assert self.root is not None, "the folder is not open"
        return self.root

    def _listed(self, phase: str) -> Iterator[Entry]:
        """An entry for every file of the phase, each on disk with the folders it lies in."""
        disk = self._disk
        for folder, names in _walk(self.phase(phase)):
            for name in names:
                path = folder / name
                if path.is_symlink() or not path.is_file():
                    continue
                num_bytes, digest = digest_published(path)
                sync_file(path, disk)
                yield Entry(
                    kind="add", phase=phase, file=path.relative_to(self.path).as_posix(), bytes=num_bytes,
                    xxh3=f"{digest:016x}",
                )  # fmt: skip
            disk.sync_folder(folder)
        disk.sync_folder(self.path)
        disk.sync_folder(self.path.parent)

    def _unlink(self, gone: Iterable[Entry]) -> None:
        for entry in gone:
            if entry.file is not None:
                with suppress(OSError):  # not listed any more: the next start removes it
                    self._disk.unlink(self.path / entry.file)

    # -- results put aside -------------------------------------------------------------------------------------

    def _aside(self, name: str) -> Path:
        """Where a complete result waits; its name says which commit made it complete."""
        return self.path / f".{name}.complete-{self._open.manifest.phases[name].seq}"

    def _set_aside(self, name: str) -> list[Path]:
        return [path for path, found in _asides(self.path) if found == name]

    def _is_listed(self, name: str, aside: Path) -> bool:
        """Whether it is what the manifest lists, nothing newer having been committed."""
        entry = self._open.manifest.phases.get(name)
        return entry is not None and aside.name.endswith(f"-{entry.seq}")

    def _bring_back(self, name: str, aside: Path, wanted: bool) -> None:
        if not wanted:
            shutil.rmtree(aside, ignore_errors=True)
            return
        path = self.phase(name)
        failed = path.with_name(f"{name}.failed")
        shutil.rmtree(failed, ignore_errors=True)
        if path.is_dir():
            self._disk.rename(path, failed)
        self._disk.rename(aside, path)

    def _settle(self, view: ManifestView) -> Sequence[Entry]:
        """When the folder is opened: what a process had put aside that is gone, and what is older than the manifest."""
        for aside, name in _asides(self.path):
            if view.number:
                entry = view.committed.phases.get(name)
                self._bring_back(name, aside, entry is not None and aside.name.endswith(f"-{entry.seq}"))
            else:
                self._bring_back(name, aside, read_summary(self.phase(name)) is None)
        if view.number:
            return ()
        return [entry for path in sorted(self.path.glob(f"*/{SUMMARY}")) for entry in _taken_over(path.parent)]

    def _point_latest(self) -> None:
        link = self.path.parent / "latest"
        fresh = self.path.parent / f".latest-{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.path.name)
        fresh.replace(link)


def _asides(folder: Path) -> list[tuple[Path, str]]:
    """Results put aside, and of which phase."""
    matches = [(path, _ASIDE.fullmatch(path.name)) for path in sorted(folder.glob(".*.complete*"))]
    return [(path, match[1]) for path, match in matches if match is not None]


def _taken_over(phase: Path) -> Iterator[Entry]:
    """Entries for a phase that was complete before there was a manifest; its files' checksums are not known."""
    summary = read_summary(phase)
    sizes = read_record(phase).get("files")
    if summary is None or summary.status != "complete":
        return
    for file in (RUN, SUMMARY):
        if (phase / file).is_file():
            yield Entry(kind="add", phase=phase.name, file=f"{phase.name}/{file}", bytes=(phase / file).stat().st_size)
    for file, num_bytes in (sizes if isinstance(sizes, dict) else {}).items():
        yield Entry(kind="add", phase=phase.name, file=f"{phase.name}/{file}", bytes=num_bytes)
    yield Entry(kind="phase", phase=phase.name)


def _journal_and_checkpoint(committed: Committed, phase: str) -> list[Entry]:
    """Removes what a phase under way needed; phases run one after the other, so the whole journal is its own."""
    gone = [Entry(kind="remove", file=segment_file(number)) for number in committed.segments()]
    checkpoint = committed.checkpoints.get(phase)
    if checkpoint is not None and checkpoint.file is not None:
        gone.append(Entry(kind="remove", file=checkpoint.file))
    return gone


def _walk(phase: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders below a phase's own, deepest last, with their files; what begins with a dot is nobody's result."""
    for folder, below, names in os.walk(phase):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def _sizes(phase: Path) -> dict[str, int]:
    """Bytes of each file below a phase's folder, by its path there, but of the two that are yet to be written."""
    return {
        path.relative_to(phase).as_posix(): path.stat().st_size
        for folder, names in _walk(phase)
        for name in names
        if (path := folder / name) not in (phase / RUN, phase / SUMMARY)
    }


def published_phases(run: Path) -> list[Path]:
    """R-5: folders in a run's folder whose summary has been committed, in the order they were; takes no lock.

    Without a manifest, in a folder from before there was one, or a copy, every summary counts, in the order they began.
    Raises `StorageFailed` for a newer format.
    """
    view = read_manifest(run)
    folders = [path.parent for path in run.glob(f"*/{SUMMARY}") if not path.parent.name.startswith(".")]
    if not view.number:
        return sorted(folders, key=lambda folder: (read_record(folder).get("started_ns", 0), folder.name))
    files = view.committed.files
    listed = [folder for folder in folders if _summary_of(folder) in files]
    return sorted(listed, key=lambda folder: files[_summary_of(folder)].seq)  # a clock may have stepped back meanwhile


def is_published(phase: Path) -> bool:
    """Whether the summary in a phase's folder has been committed."""
    view = read_manifest(phase.absolute().parent)
    return not view.number or _summary_of(phase.absolute()) in view.committed.files


def _summary_of(phase: Path) -> str:
    return f"{phase.name}/{SUMMARY}"


def read_summary(phase: Path) -> PhaseSummary | None:
    """The summary in a phase's folder, None where there is none or it cannot be read."""
    try:
        return msgspec.json.decode(read_regular(phase / SUMMARY), type=PhaseSummary)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def no_folder(folder: Path) -> InputError:
    """What to say of a path at which there is none: `latest` comes with the first phase that is complete."""
    expected = "expected a run's folder such as results/<name>/latest"
    if folder.name == "latest" and folder.parent.is_dir():
        runs = sorted(path for path in folder.parent.iterdir() if path.is_dir() and path.name[:1] != ".")
        named = ", ".join(map(str, runs[:_NAMED])) + (f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else "")
        expected = f"no run in {folder.parent} has completed a phase yet; " + (
            f"what is there of them: {named}" if runs else "it has none"
        )
    return InputError(f"there is no folder {folder}; {expected}")


def damaged_summary(phase: Path) -> InputError:
    """What to say of a phase whose summary is there, and cannot be read."""
    return InputError(
        f"{phase / SUMMARY} is damaged, or of another version; run its configuration again, with --force, "
        "or look at another phase (`--phase`, `phase=`)"
    )


def read_record(phase: Path) -> dict[str, Any]:
    """The run record in a phase's folder, empty where there is none."""
    try:
        record = msgspec.json.decode(read_regular(phase / RUN))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return record if isinstance(record, dict) else {}
