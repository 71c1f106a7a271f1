"""Disks that are not well: one of a few megabytes, to be filled, and calls that fail one by one."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.counted import count

FAULTS: dict[str, tuple[str, int]] = {
    "no room to write": ("pwritev", errno.ENOSPC),
    "a write that fails": ("pwritev", errno.EIO),
    "a write that stops short": ("pwritev", 0),
    "no descriptor left": ("open", errno.EMFILE),
    "a sync that fails": ("fsync", errno.EIO),
    "no room for a name": ("link", errno.ENOSPC),
    "a read that fails": ("preadv", errno.EIO),
}


class Faulty:
    """Lets the so many-th call of one function of `os` fail, and some after it, if a worker thread makes it."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, code: int, at: int, times: int) -> None:
        self.calls = self.hits = 0
        call: Callable[..., Any] = getattr(os, name)

        def failing(*args: Any, **words: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                return call(*args, **words)
            self.calls += 1
            if not at <= self.calls < at + times:
                return call(*args, **words)
            self.hits += 1
            if code:
                raise OSError(code, os.strerror(code))
            fd, pieces, *rest = args
            return call(fd, [memoryview(pieces[0])[:1]], *rest)

        patch.setattr(os, name, failing)


@contextmanager
def disk_of(folder: Path, num_bytes: int) -> Iterator[Path]:
    """A tmpfs where one may be mounted; else writes are refused that would make the folder larger."""
    folder.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(folder)], capture_output=True, check=False
    ).returncode  # fmt: skip
    count("disks filled (tmpfs)" if mounted else "disks filled (stand-in)")
    with pytest.MonkeyPatch.context() as patch:
        if not mounted:
            _refuse_beyond(folder, num_bytes, patch)
        try:
            yield folder
        finally:
            if mounted and subprocess.run(["umount", str(folder)], check=False).returncode:
                subprocess.run(["umount", "--lazy", str(folder)], check=True)
                raise AssertionError("somebody still has a file open on the disk")


def _refuse_beyond(folder: Path, num_bytes: int, patch: pytest.MonkeyPatch) -> None:
    write = os.pwritev

    def bounded(fd: int, pieces: Any, offset: int) -> int:
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        if used + sum(map(len, pieces)) > num_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, pieces, offset)

    patch.setattr(os, "pwritev", bounded)
