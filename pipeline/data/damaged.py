"""Keys of a durable store of which a file is lost or is not as it was: they are told of, and spoil no others."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import NamedTuple

from ..errors import CorruptEntry
from .base import Key
from .files import StoredFile
from .kept_files import KeptFiles
from .replay import Change


class LostFile(NamedTuple):
    """A file that is not as it was written."""

    path: Path
    key: Key
    why: str


class _Damaged:
    """One key: what is wrong with it, and all that is told of it."""

    def __init__(self, error: CorruptEntry, series: bool, size: int) -> None:
        self.error, self.series, self.size = error, series, size
        self.has_tail = False
        """Whether the journal has rows of it that are in no file."""


class DamagedKeys:
    """Of a store whose mode keeps no files: a key of which one cannot be read is not held, and not forgotten either.

    Its files and records stay, so that it is told of again whenever the store is opened, until it is replaced or
    deleted.
    """

    def __init__(self, kept: KeptFiles) -> None:
        self._kept = kept
        self._keys: dict[Key, _Damaged] = {}
        self._files: dict[Key, list[StoredFile]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def keys(self) -> list[Key]:
        return list(self._keys)

    def files(self) -> set[Path]:
        """Of all of them, whole or not."""
        return {stored.file.path for files in self._files.values() for stored in files}

    # While the journal is read back.

    def told(self, change: Change, files: list[StoredFile]) -> None:
        """A record tells of files of a key."""
        if not change.series or change.head.numbers[2]:
            self._files[change.key] = []
        self._files.setdefault(change.key, []).extend(files)

    def found(self, change: Change, error: CorruptEntry) -> None:
        self._keys[change.key] = _Damaged(error, change.series, change.head.size)

    def has_rows(self, key: Key) -> None:
        self._keys[key].has_tail = True

    async def all_told(self, listed: Container[str]) -> None:
        """Of what could be read nothing more need be known; files of the others are to be listed."""
        self._files = {key: files for key, files in self._files.items() if key in self._keys}
        for files in self._files.values():
            await self._kept.list_again(files, listed)

    def lost(self) -> list[LostFile]:
        """The file by which each was found to be damaged."""
        return [LostFile(Path(found.error.where), key, found.error.why) for key, found in self._keys.items()]

    # Afterwards.

    def check(self, key: Key) -> None:
        """Raises `CorruptEntry` for a key that is not as it was stored."""
        found = self._keys.get(key)
        if found is not None:
            raise CorruptEntry(key, found.error.where, found.error.why)

    def tell_again(self, key: Key) -> bool:
        """Say anew which files it is, in one record; False where there are rows behind them, which stay as they are."""
        found = self._keys[key]
        if not found.has_tail:
            self._kept.tell_files_again(key, self._files[key], series=found.series, size=found.size)
        return not found.has_tail

    async def close(self) -> None:
        await self._kept.close()

    def dropped(self, key: Key, then: Callable[[], None]) -> None:
        """It is replaced or deleted."""
        if self._keys.pop(key, None) is not None:
            for stored in self._files.pop(key):
                self._kept.remove(stored)
            if not self._keys:
                then()
