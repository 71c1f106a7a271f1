"""Dead letters of a streaming manager: the rows of a flush that nobody took."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ..clock import Clock
from ..mending.dead_letters import DeadLetter, DeadLetterFile, DeadLetters, path_of, said
from ..storage.workspace import Workspace
from .buffer import BatchId, Item
from .files import key_text


class FlushLetters:
    """The file of one container's dead letters, `dead_letters/<container>.flush.seg`, which goes on where it ended."""

    def __init__(self, name: str, workspace: Workspace, clock: Clock) -> None:
        self._name, self._workspace, self._clock = name, workspace, clock
        self._file: DeadLetterFile | None = None
        self.rows = 0
        """Added by this process."""

    @property
    def path(self) -> Path:
        return path_of(self._workspace.folder, f"{self._name}.flush")

    async def add(self, items: Sequence[Item], batch_id: BatchId, error: BaseException, attempts: int) -> None:
        """Return when the items are on disk; raises `DiskFull` or `StorageFailed`."""
        letters = []
        row = batch_id.first_seq
        for item in items:
            letters.append(
                DeadLetter(
                    container=self._name,
                    value=item.admitted.value,
                    rows=item.rows,
                    first_seq=row,
                    error=said(error),
                    attempts=attempts,
                    time_ns=self._clock.now_ns(),
                    batch_id=(batch_id.container, batch_id.first_seq, batch_id.last_seq),
                    key=key_text(item.key).decode(),
                    append=item.append,
                )
            )
            row += item.rows
        await asyncio.shield(self._workspace.io.submit(self, self._add, letters))
        self.rows += sum(letter.rows for letter in letters)

    def _add(self, letters: Sequence[DeadLetter]) -> None:
        if self._file is None:
            self._file = DeadLetterFile(self._workspace.folder, f"{self._name}.flush", self._workspace.io)
            if self.path.exists():
                earlier = DeadLetters(self._workspace.folder, f"{self._name}.flush")
                rows = [letter.rows for letter in earlier]
                self._file.rewind((len(rows), sum(rows), self.path.stat().st_size - earlier.unread_bytes))
        self._file.add_blocking(letters)
