"""A disk of a few megabytes, to be filled."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.counted import count


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
            if mounted:
                subprocess.run(["umount", str(folder)], check=True)


def _refuse_beyond(folder: Path, num_bytes: int, patch: pytest.MonkeyPatch) -> None:
    write = os.pwritev

    def bounded(fd: int, pieces: Any, offset: int) -> int:
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        if used + sum(map(len, pieces)) > num_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, pieces, offset)

    patch.setattr(os, "pwritev", bounded)
