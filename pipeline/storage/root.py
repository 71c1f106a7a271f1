"""A folder held by one process: its lock, what is committed in it, and commits. Everything here blocks."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import DiskFull
from .disk import DISK, Disk
from .entries import Entry
from .lock import FolderLock
from .manifest import SPILL, Committed
from .manifest_writer import ManifestWriter
from .recovery import Recovered, Settle, recover
from .room import storage_error

_GONE: Final = ".gone"
_MAKE_ROOM: Final = (
    "what is committed there is not lost: make room on the disk, then open it again (`penstock run CONFIG --resume` "
    "goes on with a run)"
)
_ELSEWHERE: Final = "choose another with --output (of a feed that is recorded: another `folder:`)"


class StorageRoot:
    """What `StorageRoot.open` gives; closed with `close`. Commits may come from any thread.

    A clean end is not needed: whatever happens to the process, the next `open` finds everything that was committed.
    """

    def __init__(self, path: Path, disk: Disk, lock: FolderLock, writer: ManifestWriter, recovered: Recovered) -> None:
        self.path, self.disk = path, disk
        self.recovered = recovered
        """What was found wrong when the folder was opened, and what became of it."""
        self._lock, self._writer = lock, writer
        self._turn = threading.Lock()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        disk: Disk = DISK,
        repair: bool = False,
        anew: bool = False,
        settle: Settle | None = None,
    ) -> StorageRoot:
        """Make the folder where there is none, take its lock, recover, and begin a new epoch.

        Raises `StorageFailed` when another process holds it (with its pid), when it is of a newer format, when its
        manifest is damaged in the middle, or gone, and not `repair` (one that is gone: nor `anew`), and when the system
        refuses; `DiskFull`. `settle` is called
        with the lock held, before files are checked; what it returns is committed with the new epoch.
        """
        folder = Path(folder)
        lock = FolderLock(folder)
        try:
            make_folder(folder, disk)
            lock.take()
            view, recovered = recover(folder, disk, repair=repair, anew=anew, settle=settle)
            view.committed.epoch += 1
            writer = ManifestWriter(folder, disk, view.committed, view.number)
            writer.begin()
            lock.sign(view.committed.epoch)
            _set_spill_aside(folder, disk)
        except OSError as error:
            lock.release()
            kind = type(storage_error(error, "open", str(folder)))
            do = _MAKE_ROOM if kind is DiskFull else _ELSEWHERE
            raise kind(f"cannot write to {folder}: {error.strerror or error}; {do}") from error
        except DiskFull as error:
            lock.release()
            raise DiskFull(f"{error}; {_MAKE_ROOM}") from error
        except BaseException:
            lock.release()
            raise
        return cls(folder, disk, lock, writer, recovered)

    @property
    def epoch(self) -> int:
        """One more than that of the process that held the folder before."""
        return self.manifest.epoch

    @property
    def manifest(self) -> Committed:
        """What is committed now; to be read, not changed."""
        return self._writer.committed

    @property
    def spill(self) -> Path:
        """Where this process may put what needs not survive it."""
        return self.path / SPILL / str(self.epoch)

    def commit(self, entries: Sequence[Entry], *, sync: bool = True) -> None:
        """The entries are committed, all or none, when this returns; files they name are on disk before.

        Without `sync` they survive the process, not the machine. Raises `DiskFull` (nothing committed, may be tried
        again) or `StorageFailed`.
        """
        self._lock.check()
        if entries:
            with self._turn:
                self._writer.commit(entries, sync=sync)

    def check_place(self) -> None:
        """Raises `StorageFailed` where what is written no longer lies in this folder, as after it was removed."""
        self._lock.check_place()

    def sync(self) -> None:
        """Everything committed without `sync` is on disk."""
        self._lock.check()
        with self._turn:
            self._writer.sync()

    def sweep(self) -> None:
        """Remove the spill files of dead processes, which `open` has only put out of the way; may take a while."""
        for name in self.disk.names(self.path / SPILL):
            if name.endswith(_GONE):
                shutil.rmtree(self.path / SPILL / name, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder; idempotent."""
        with self._turn:
            with suppress(OSError):
                self._writer.close()
            self._lock.release()

    def __enter__(self) -> StorageRoot:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def make_folder(folder: Path, disk: Disk) -> None:
    """With its parents, each of them on disk: what lies in a folder lasts no longer than the folder's own name."""
    made = []
    for path in (folder, *folder.parents):
        if path == path.parent or path.name in disk.names(path.parent):
            break
        made.append(path)
    disk.make_folder(folder)
    for path in reversed(made):
        disk.sync_folder(path.parent)


def _set_spill_aside(folder: Path, disk: Disk) -> None:
    """Nothing that was spilled by a dead process is ever read; renaming takes no time, removing may."""
    spill = folder / SPILL
    for name in disk.names(spill):
        if name.isdigit():
            disk.rename(spill / name, spill / f"{name}{_GONE}")
