"""Room on the disk: what is kept free of it, and the typed error where it has none."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from ..errors import DataError, DiskFull, StorageFailed

MIN_FREE_BYTES: Final = 1 << 30
MIN_FREE_SHARE: Final = 0.05
SMALL_DISK_SHARE: Final = 0.1
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk that takes no more."""


def free_reserve(disk_bytes: int) -> int:
    """Bytes left free on a disk where nothing is configured: 1 GiB or 5 %, but no more than a tenth of a small one."""
    return int(min(max(MIN_FREE_BYTES, MIN_FREE_SHARE * disk_bytes), SMALL_DISK_SHARE * disk_bytes))


def check_free(folder: Path, num_bytes: int, min_free: int | None) -> None:
    """Raises `DiskFull` where writing so many bytes would leave too few; blocking."""
    for place in (folder, *folder.parents):
        try:
            disk = os.statvfs(place)
        except FileNotFoundError:
            continue  # it is made by the first write
        except OSError:
            return  # the write itself says what is wrong
        free = disk.f_bavail * disk.f_frsize
        reserve = free_reserve(disk.f_blocks * disk.f_frsize) if min_free is None else min_free
        if free - num_bytes < reserve:
            raise DiskFull(
                f"{folder}: {num_bytes} bytes would leave {max(0, free - num_bytes)} free on the disk, and "
                f"min_free_disk_mb keeps {reserve}; make room, or lower min_free_disk_mb"
            )
        return


def storage_error(error: OSError, call: str, path: str) -> DataError:
    """The typed error for what the operating system said."""
    if error.errno in NO_ROOM:
        return DiskFull(f"{call} {path}: no room on the disk ({error.strerror})")
    return StorageFailed(f"{call} {path}: {error.strerror or error}")
