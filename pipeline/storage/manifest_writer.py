"""Writes the manifest: appends commits, syncs them, begins a new file when one has grown or has failed. Blocking."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .disk import Disk
from .entries import Entry, encode_line
from .manifest import Committed, encode_commit, manifest_name, manifest_numbers
from .room import storage_error

ROTATE_BYTES: Final = 4 << 20
ROTATE_LINES: Final = 10_000
KEPT: Final = 2
"""Manifests that are left in the folder: the one in use and the one before."""


class ManifestWriter:
    """Of one folder, by one process; not for several threads at once. `begin` comes first."""

    def __init__(self, folder: Path, disk: Disk, committed: Committed, number: int) -> None:
        self.folder, self.disk = folder, disk
        self.committed = committed
        """What the files on disk say, as of the last commit that did not raise."""
        self.number = number
        """Of the manifest in use, or before `begin` of the one before it."""
        self._fd: int | None = None
        self._bytes = self._snap_bytes = self._lines = 0
        self._synced = 0

    def begin(self) -> None:
        """Write the next manifest, which begins with a snapshot. Once this returns, it is the one that counts.

        Raises `DiskFull` or `StorageFailed`; the one before is in place then.
        """
        self._replace(self.committed.snapshot())
        self.committed.seq = self._synced

    def commit(self, entries: Sequence[Entry], *, sync: bool = True) -> None:
        """Append the entries as one commit; on disk when this returns if `sync`.

        R-2: where a sync fails the file is abandoned and everything written to a new one, once. Raises `DiskFull`
        (nothing is committed, may be tried again) or `StorageFailed`.
        """
        own, raw = encode_commit(entries, self.committed, self._synced)
        if self._fd is None or self._is_large():
            self._write_anew(own)
            return
        try:
            self.disk.write(self._fd, [raw], self._bytes)
        except OSError as error:
            self._cut_back()
            raise storage_error(error, "write", str(self._path)) from error
        if sync:
            try:
                self.disk.sync(self._fd)
            except OSError:
                self._abandon()
                self._write_anew(own)
                return
        self._bytes += len(raw)
        self._lines += len(own)
        self._apply(own)
        if sync:
            self._synced = self.committed.seq

    def sync(self) -> None:
        """What was committed without `sync` is on disk."""
        if self._synced == self.committed.seq:
            return
        if self._fd is not None:
            try:
                self.disk.sync(self._fd)
                self._synced = self.committed.seq
                return
            except OSError:
                self._abandon()
        self._write_anew([])

    def close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            self.disk.close(fd)

    @property
    def _path(self) -> Path:
        return self.folder / manifest_name(self.number)

    def _is_large(self) -> bool:
        """Never before it has doubled, so that a commit costs the same however much is committed already."""
        grown = self._bytes - self._snap_bytes
        return (self._lines >= ROTATE_LINES or grown >= ROTATE_BYTES) and grown >= self._snap_bytes

    def _apply(self, own: Sequence[Entry]) -> None:
        for entry in own:
            self.committed.apply(entry)

    def _write_anew(self, own: Sequence[Entry]) -> None:
        """A new manifest with these entries taken in; where it fails, `committed` is as it was."""
        committed = self.committed.copy()
        for entry in own:
            committed.apply(entry)
        self._replace(committed.snapshot())
        self._apply(own)
        self.committed.seq = self._synced

    def _replace(self, snap: Entry) -> None:
        """`MANIFEST-<n+1>` by way of a temporary name; the files before the last two are removed."""
        raw = encode_line(snap)
        path = self.folder / manifest_name(self.number + 1)
        temporary = path.with_name(f"{path.name}.tmp")
        fd = None
        try:
            with contextlib.suppress(FileNotFoundError):
                self.disk.unlink(temporary)
            fd = self.disk.open(temporary, create=True)
            self.disk.write(fd, [raw], 0)
            self.disk.sync(fd)
            self.disk.rename(temporary, path)
            self.disk.sync_folder(self.folder)
        except OSError as error:
            if fd is not None:
                with contextlib.suppress(OSError):
                    self.disk.close(fd)
            with contextlib.suppress(OSError):
                self.disk.unlink(temporary)
            raise storage_error(error, "write", str(path)) from error
        self.close()
        self.number += 1
        self._fd, self._bytes, self._snap_bytes, self._lines = fd, len(raw), len(raw), 1
        self._synced = snap.seq
        self._drop_old()

    def _drop_old(self) -> None:
        for number in manifest_numbers(self.disk.names(self.folder))[:-KEPT]:
            with contextlib.suppress(OSError):
                self.disk.unlink(self.folder / manifest_name(number))

    def _cut_back(self) -> None:
        """A failed write leaves the file ending with its last whole commit; where even that fails, it is abandoned."""
        assert self._fd is not None
        try:
            self.disk.truncate(self._fd, self._bytes)
        except OSError:
            self._abandon()

    def _abandon(self) -> None:
        """Nothing is appended to this file any more; the next commit writes a new one."""
        with contextlib.suppress(OSError):
            self.close()
