"""A disk that fails where it is told to, and counts what it is asked for."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.storage.disk import RealDisk


class FaultyDisk(RealDisk):
    """`fail("sync", "wal")` makes the next sync of a file whose path holds `wal` fail.

    With `short` a write puts so many bytes into the file and then finds the disk full.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.steps: list[tuple[str, str]] = []
        self._paths: dict[int, str] = {}
        self._faults: list[list[object]] = []

    def fail(
        self, call: str, within: str = "", error: int = errno.EIO, *, times: int = 1, after: int = 0, short: int = 0
    ) -> None:
        self._faults.append([call, within, error, after, times, short])

    def heal(self) -> None:
        self._faults.clear()

    def _step(self, call: str, path: str) -> int:
        """Raises what is planned; gives the bytes of a write that are to be written before it fails, or -1."""
        self.calls[call] += 1
        self.steps.append((call, path))
        for fault in self._faults:
            planned, within, error, after, times, short = fault
            if planned != call or str(within) not in path or not times:
                continue
            if after:
                fault[3] = int(after) - 1  # type: ignore[call-overload]
                continue
            fault[4] = int(times) - 1  # type: ignore[call-overload]
            if short:
                return int(short)  # type: ignore[call-overload]
            raise OSError(error, os.strerror(int(error)), path)  # type: ignore[call-overload]
        return -1

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        self._step("create" if create else "open", str(path))
        fd = super().open(path, write=write, create=create)
        self._paths[fd] = str(path)
        return fd

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> int:
        short = self._step("write", self._paths[fd])
        if short >= 0:
            super().write(fd, [b"".join(bytes(piece) for piece in pieces)[:short]], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(fd, pieces, offset)

    def read(self, fd: int, num_bytes: int, offset: int) -> bytes:
        self._step("read", self._paths[fd])
        return super().read(fd, num_bytes, offset)

    def truncate(self, fd: int, num_bytes: int) -> None:
        self._step("truncate", self._paths[fd])
        super().truncate(fd, num_bytes)

    def sync(self, fd: int) -> None:
        self._step("sync", self._paths[fd])
        super().sync(fd)

    def sync_folder(self, path: Path) -> None:
        self._step("sync_folder", str(path))
        super().sync_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        self._step("rename", str(target))
        super().rename(source, target)
        self._paths.update({fd: str(target) for fd, path in self._paths.items() if path == str(source)})

    def unlink(self, path: Path) -> None:
        self._step("unlink", str(path))
        super().unlink(path)
