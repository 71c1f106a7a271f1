"""One process holds a folder: the kernel's lock, freed when the holder dies, and who holds it for who comes second."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from ..clock import SystemClock
from ..errors import StorageFailed
from .disk import open_regular

LOCK: Final = "LOCK"
_MOST_BYTES: Final = 4096
"""More than an owner ever takes; what is behind it is not looked at."""
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the file, for messages alone: whether the lock is held only the kernel knows."""

    pid: int
    since_ns: int = 0
    """When it took the lock, nanoseconds since 1970."""
    boot_id: str = ""
    epoch: int = 0

    def __str__(self) -> str:
        if not self.since_ns:
            return str(self.pid)
        since = datetime.fromtimestamp(self.since_ns // 1_000_000_000, UTC)
        return f"{self.pid}, since {since:%Y-%m-%d %H:%M:%S} UTC"


class FolderLock:
    """Held from `take` to `release` by this process; a forked child has the descriptor, not the right."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._fd: int | None = None
        self._pid = 0

    def take(self) -> None:
        """Raises `StorageFailed` naming the process that holds it, and OSError."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if not isinstance(error, BlockingIOError):
                raise
            owner = read_owner(self.path)
            raise StorageFailed(
                f"{self.path.parent} is in use by process {owner or 'unknown'}{_whereabouts(owner)}; "
                "wait for it, or choose another --output (of a feed that is recorded: another `folder:`)"
            ) from None
        self._fd, self._pid = fd, os.getpid()
        self.sign(0)  # recovery may take a while, and who comes second is not to be told of a dead process

    def sign(self, epoch: int) -> None:
        """Say in the file who holds it, and as which epoch."""
        assert self._fd is not None
        owner = Owner(pid=self._pid, since_ns=SystemClock().now_ns(), boot_id=boot_id(), epoch=epoch)
        raw = msgspec.json.encode(owner) + b"\n"
        os.pwrite(self._fd, raw, 0)
        os.ftruncate(self._fd, len(raw))

    def check(self) -> None:
        """E22: raises `StorageFailed` in a forked child and after `release`."""
        if self._fd is None:
            raise StorageFailed(f"{self.path.parent} is closed; open it again")
        if os.getpid() != self._pid:
            raise StorageFailed(
                f"{self.path.parent} belongs to process {self._pid}, from which this one was forked; "
                "nothing was written. Open a folder of its own in the child"
            )
        self.check_place()

    def check_place(self) -> None:
        """Raises `StorageFailed` where the folder is no longer the one that was taken: removed, moved, or another's."""
        assert self._fd is not None
        try:
            if os.path.samestat(os.stat(self.path), os.fstat(self._fd)):
                return
            found = "another's"
        except OSError as error:
            found = error.strerror or str(error)
        raise StorageFailed(
            f"{self.path}: expected the file that this process took when it opened the folder, found {found}; the "
            "folder was removed, moved or replaced meanwhile, and what is written now would be lost: put it back and "
            "open it again, or begin in a new one"
        )

    def release(self) -> None:
        """Idempotent. In a forked child only the descriptor is closed: the parent goes on holding the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def read_owner(path: Path) -> Owner | None:
    """Who holds, or last held, the folder; None where the file does not say."""
    try:
        with open(path, "rb", opener=open_regular) as file:
            raw = file.read(_MOST_BYTES)
    except OSError:
        return None
    try:
        return msgspec.json.decode(raw, type=Owner)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = raw.decode(errors="replace").strip()
        return Owner(pid=int(text)) if text.isdigit() else None


def _whereabouts(owner: Owner | None) -> str:
    """What a reader who looks for that process has to know."""
    if owner is None:
        return ""
    if owner.boot_id and owner.boot_id != boot_id():
        return " (on another machine)"
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return " (which has ended; one that it forked, or one in another container, has the folder)"
    except OSError:
        pass
    return ""


def boot_id() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
