"""Which files of a recording count, as its manifest tells; also while somebody writes it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..errors import StorageFailed
from ..storage.disk import DISK, Disk
from ..storage.manifest import read_manifest
from .reading import CONTAINER


class RecordedFile(NamedTuple):
    """A file that is committed and current."""

    path: Path
    rows: int
    num_bytes: int
    min_ts: int | None
    """First and last value (ns) of the column that the recording goes by; None where the file has none."""
    max_ts: int | None
    covers: int
    """Up to where in the log the commit reaches that added it; files of one commit have the same."""


def recorded_files(folder: str | Path, *, disk: Disk = DISK) -> tuple[RecordedFile, ...] | None:
    """Committed files of a recording in the order of their commits, then of their names; takes no lock. Blocking.

    None where nothing of a recording was ever committed: the folder has no manifest, or is of something else. Raises
    `StorageFailed` for a folder of a newer format, and for a manifest that is damaged.
    """
    root = Path(folder)
    view = read_manifest(root, disk)
    if view.damage:
        raise StorageFailed(f"{view.damage}; see `penstock verify {root}`")
    committed = view.committed
    found = [
        RecordedFile(
            root / file, entry.rows or 0, entry.bytes or 0, entry.min_ts, entry.max_ts, entry.batch_id[2]
        )
        for file, entry in committed.files.items()
        if entry.container == CONTAINER and entry.batch_id is not None
    ]  # fmt: skip
    if not found and CONTAINER not in committed.checkpoints:
        return None
    return tuple(sorted(found, key=lambda file: (file.covers, file.path)))
