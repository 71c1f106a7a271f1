"""A run's folder: `<output>/<name>/<fingerprint>/<phase>/`, its lock, and how files appear in it whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InputError, StorageFailed
from .summary import PhaseSummary

SUMMARY, RUN, CONTAINERS = "summary.json", "run.json", "containers.parquet"


class RunFolder:
    """The folder of one run, held by one process at a time. All methods block: call them in a thread."""

    def __init__(self, output: Path, name: str, fingerprint: str) -> None:
        self.path = output / name / fingerprint
        self._lock: int | None = None

    def open(self) -> None:
        """Create the folder and take its lock; raises `StorageFailed` naming the process that holds it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / "LOCK", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageFailed(
                f"cannot write to {self.path}: {error.strerror}; choose another with --output"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StorageFailed(
                f"{self.path} is in use by process {owner}; wait for it, or choose another --output"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor
        for aside in self.path.glob(".*.complete"):  # the process that had put it aside is gone
            self.end_phase(aside.name.removeprefix(".").removesuffix(".complete"))

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def phase(self, name: str) -> Path:
        return self.path / name

    def begin_phase(self, name: str) -> Path:
        """An empty folder for a phase. A complete result of an earlier run is put aside until this one is complete."""
        path = self.phase(name)
        if self.completed(name) is not None:
            shutil.rmtree(self._aside(name), ignore_errors=True)
            path.replace(self._aside(name))
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def end_phase(self, name: str) -> None:
        """Drop what was put aside if the phase is complete; else bring it back and leave the failed try beside it."""
        aside, path = self._aside(name), self.phase(name)
        if not aside.is_dir():
            return
        if self.completed(name) is None:
            failed = path.with_name(f"{name}.failed")
            shutil.rmtree(failed, ignore_errors=True)
            if path.is_dir():
                path.replace(failed)
            aside.replace(path)
        else:
            shutil.rmtree(aside, ignore_errors=True)

    def _aside(self, name: str) -> Path:
        return self.path / f".{name}.complete"

    def completed(self, name: str) -> PhaseSummary | None:
        """The summary of a phase that has completed, None where it has not."""
        summary = read_summary(self.phase(name))
        return summary if summary is not None and summary.status == "complete" else None

    def damage(self, name: str) -> str:
        """What of the files that a complete phase published is no longer as it was; empty where all is.

        Looks at sizes, not into files. A file beside those that were published does not matter.
        """
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
        """Write the phase's three files, the summary last: once it is there, the phase is."""
        path = self.phase(phase)
        with _whole(path / CONTAINERS) as file:
            pq.write_table(containers, file)
        self.write_record(phase, {**record, "files": _sizes(path)})
        with _whole(path / SUMMARY) as file:
            file.write(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
        self._point_latest()

    def write_record(self, phase: str, record: dict[str, Any]) -> None:
        with _whole(self.phase(phase) / RUN) as file:
            file.write(msgspec.json.format(msgspec.json.encode(record, enc_hook=str), indent=2) + b"\n")

    def _point_latest(self) -> None:
        link = self.path.parent / "latest"
        fresh = self.path.parent / f".latest-{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.path.name)
        fresh.replace(link)


def _sizes(phase: Path) -> dict[str, int]:
    """Bytes of each file below a phase's folder, by its path there, but of the two that are yet to be written."""
    found = {}
    for folder, below, names in os.walk(phase):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path not in (phase / RUN, phase / SUMMARY):
                found[path.relative_to(phase).as_posix()] = path.stat().st_size
    return found


class _whole:
    """A file that appears complete or not at all."""

    def __init__(self, path: Path) -> None:
        self.path, self.temporary = path, path.with_name(f".{path.name}.tmp")

    def __enter__(self) -> Any:
        self._file = self.temporary.open("wb")
        return self._file

    def __exit__(self, kind: object, *rest: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError:
            kind = OSError
            raise
        finally:
            with suppress(OSError):  # closing flushes again what the disk has just refused
                self._file.close()
            if kind is not None:
                self.temporary.unlink(missing_ok=True)
        if kind is not None:
            return
        self.temporary.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_summary(phase: Path) -> PhaseSummary | None:
    """The summary in a phase's folder, None where there is none or it cannot be read."""
    try:
        return msgspec.json.decode((phase / SUMMARY).read_bytes(), type=PhaseSummary)
    except (OSError, msgspec.DecodeError):
        return None


def damaged_summary(phase: Path) -> InputError:
    """What to say of a phase whose summary is there, and cannot be read."""
    return InputError(
        f"{phase / SUMMARY} is damaged, or of another version; run its configuration again, with --force, "
        "or look at another phase (`--phase`, `phase=`)"
    )


def read_record(phase: Path) -> dict[str, Any]:
    """The run record in a phase's folder, empty where there is none."""
    try:
        record = msgspec.json.decode((phase / RUN).read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return record if isinstance(record, dict) else {}
