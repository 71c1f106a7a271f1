"""How parts of series become files: which is next, and what is done when the disk refuses."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..storage import codecs
from . import files
from .base import Key
from .part_files import Part, PartSeries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..storage.executor import IoExecutor
    from .account import Account
    from .alarm import Alarm
    from .files import StoredFile
    from .kept_files import KeptFiles
    from .policy import DataFlow

log = logging.getLogger(__name__)


class Publishing(ABC):
    """The part of a file manager that writes what its buffer holds."""

    name: str
    folder: Path
    kept: KeptFiles | None
    _policy: DataFlow
    _io: IoExecutor
    _account: Account
    _alarm: Alarm
    _entries: dict[Key, Part | PartSeries]
    _open: dict[Part, Key]
    _numbers: Iterator[int]
    _publishing: asyncio.Task[None] | None
    _closing: asyncio.Task[None] | None
    _failure: Exception | None
    _flushing: bool
    _rolling: bool
    _part_bytes: int
    _part_rows: int
    _disk_bytes: int
    _flushes: int
    _flushed_rows: int

    @abstractmethod
    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin work that goes on though its caller is cancelled."""

    @abstractmethod
    async def _list(self, stored: StoredFile) -> None:
        """See to it that a published file outlives the process, where that is wanted."""

    @abstractmethod
    def _remove(self, part: Part) -> None:
        """Unlink the file of a forgotten part once nobody reads it."""

    @abstractmethod
    def _raise_failure(self) -> None:
        """Raise, once, what has failed beside the caller."""

    def _due(self) -> tuple[Key, Part] | None:
        """The part to publish next: one that is full, or the largest when memory is short or all is to go."""
        open_parts = [(key, part) for part, key in self._open.items() if not part.leaving]
        if not open_parts:
            return None
        if self._flushing:
            return open_parts[0]
        largest = max(open_parts, key=lambda found: found[1].bytes_held)
        if self._rolling:
            full = [found for found in open_parts if found[1].rows >= self._part_rows]
            if full:
                return full[0]
            self._rolling = False
        short = self._account.waiting or 2 * self._account.charged > self._account.ceiling
        if not short and largest[1].bytes_held < self._part_bytes:
            return None
        return next(found for found in open_parts if found[0] == largest[0])  # of one series always the oldest

    def _behind(self, key: Key, part: Part) -> int:
        """The number of the first change behind a part; 0 where there is none."""
        series = self._entries[key]
        assert isinstance(series, PartSeries)
        behind = series.parts[series.parts.index(part) + 1 :]
        return behind[0].first_gen if behind else 0

    def _publish_due(self) -> None:
        due = self._account.waiting or self._rolling or self._account.charged >= self._part_bytes
        if due and not self._is_publishing() and self._failure is None and self._closing is None:
            self._publishing = self._spawn(self._publish())

    def _is_publishing(self) -> bool:
        """A task that was cancelled before its first step has not said that it ended."""
        return self._publishing is not None and not self._publishing.done()

    async def _publish(self) -> None:
        """Publish what is due, one part at a time; the rows stay readable until their file is there."""
        try:
            while (found := self._due()) is not None:
                key, part = found
                piece = part.piece
                assert piece is not None
                part.leaving = True
                batches = list(piece.batches)
                try:
                    stored = await self._io.submit(
                        self,
                        files.write_file,
                        self.folder,
                        self._numbers,
                        key,
                        codecs.BATCHES,
                        batches,
                        self._policy.file_settings,
                    )
                    await self._list(stored)
                except Exception as error:
                    log.error("%s: %s; the rows of %r stay in memory", self.name, error, key)
                    self._failure = error
                    return
                finally:
                    part.leaving = False
                part.piece, part.stored = None, stored
                self._open.pop(part, None)
                self._disk_bytes += stored.file.num_bytes
                self._flushes += 1
                self._flushed_rows += stored.rows
                if part.forgotten:
                    self._remove(part)
                elif self.kept is not None:
                    self.kept.holds_part(key, part, self._behind(key, part), piece.size)
                self._account.give(piece.size)
        finally:
            self._publishing = None

    async def _too_old(self) -> None:
        try:
            await self._flush()
        except DataError as error:
            self._failure = error  # the next call raises it
        if self._open and self._closing is None:
            self._alarm.set()

    async def _flush(self) -> None:
        if self._publishing is not None:
            await asyncio.wait((self._publishing,))
        self._failure = None
        self._flushing = True
        try:
            while self._failure is None and self._due() is not None:
                if not self._is_publishing():
                    self._publishing = self._spawn(self._publish())
                assert self._publishing is not None
                await asyncio.wait((self._publishing,))
        finally:
            self._flushing = False
        self._raise_failure()
