"""Every system call that durability rests on, behind one small interface, so that tests can stand in for the disk."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from .segments import write_all


class Disk(Protocol):
    """Blocking calls on files and folders; each raises OSError as the operating system does.

    Nothing is on disk for certain before `sync` (a file's bytes and length) and `sync_folder` (names in a folder) have
    returned. A crash keeps any part of what was not synced, in any order, garbled or zero-filled.
    """

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        """A descriptor; `create` makes a new file and raises FileExistsError where there is one.

        What is there and is no regular file, a pipe or a device, raises OSError at once instead of never ending.
        """

    def close(self, fd: int) -> None: ...

    def read(self, fd: int, num_bytes: int, offset: int) -> bytes:
        """Up to `num_bytes` bytes; fewer only where the file ends."""

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> int:
        """Write all pieces, going on after short writes; the offset behind them."""

    def size(self, fd: int) -> int: ...

    def truncate(self, fd: int, num_bytes: int) -> None: ...

    def sync(self, fd: int) -> None:
        """Bytes and length of the file are on disk. A failed sync must never be tried again on the same file."""

    def forget(self, fd: int, num_bytes: int) -> None:
        """The first bytes of the file are on disk, and need not stay in memory too: advice, which never fails.

        For what is read again after a crash only. New memory for every byte that is written costs more processor time
        than writing it.
        """

    def sync_folder(self, path: Path) -> None:
        """Names made, renamed and removed in the folder are on disk."""

    def rename(self, source: Path, target: Path) -> None:
        """Replaces `target` in one step."""

    def unlink(self, path: Path) -> None: ...

    def make_folder(self, path: Path) -> None:
        """With its parents; nothing happens where it is."""

    def names(self, path: Path) -> list[str]:
        """Names in a folder, sorted; empty where there is no folder."""

    def file_bytes(self, path: Path) -> int | None:
        """The length of a file, None where there is none."""

    def free_bytes(self, path: Path) -> int:
        """What may still be written where the folder lies."""


class RealDisk:
    """The operating system's."""

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        flags = os.O_CLOEXEC | (os.O_RDWR if write or create else os.O_RDONLY)
        return open_regular(path, flags | (os.O_CREAT | os.O_EXCL if create else 0))

    def close(self, fd: int) -> None:
        os.close(fd)

    def read(self, fd: int, num_bytes: int, offset: int) -> bytes:
        pieces = []
        while num_bytes and (piece := os.pread(fd, num_bytes, offset)):
            pieces.append(piece)
            num_bytes -= len(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> int:
        return write_all(fd, offset, [memoryview(piece) for piece in pieces if len(piece)])

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def truncate(self, fd: int, num_bytes: int) -> None:
        os.ftruncate(fd, num_bytes)

    def sync(self, fd: int) -> None:
        if sys.platform == "darwin":
            import fcntl

            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync leaves the bytes in the drive's own memory there
        else:
            os.fdatasync(fd)

    def forget(self, fd: int, num_bytes: int) -> None:
        if sys.platform == "linux":  # pages that are used in part stay: the next write goes there
            with suppress(OSError):
                os.posix_fadvise(fd, 0, num_bytes, os.POSIX_FADV_DONTNEED)

    def sync_folder(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def names(self, path: Path) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def free_bytes(self, path: Path) -> int:
        disk = os.statvfs(path)
        return disk.f_bavail * disk.f_frsize

    def file_bytes(self, path: Path) -> int | None:
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None


def open_regular(path: str | Path, flags: int = os.O_RDONLY | os.O_CLOEXEC) -> int:
    """A descriptor of a regular file, also for `open(..., opener=)`; of anything else it waits for nobody.

    Raises OSError.
    """
    fd = os.open(path, flags | os.O_NONBLOCK, 0o644)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, f"it is {_said(mode)}, not a regular file", str(path))


def _said(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "something else")


def read_regular(path: Path) -> bytes:
    """All of a small file, never waiting for a writer. Raises OSError."""
    with open(path, "rb", opener=open_regular) as file:
        return file.read()


DISK = RealDisk()
