"""What the `file` data manager knows of a key: files, and rows that are not yet worth one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from ..storage import codecs
from ..storage.executor import IoExecutor
from . import files
from .base import Key
from .files import StoredFile
from .series import Piece
from .tables import as_table


class Part:
    """A value, or some rows of a series: in memory, or in a file, or in memory while the file is written."""

    __slots__ = ("first_gen", "forgotten", "last_gen", "leaving", "piece", "pins", "rows", "stored")

    def __init__(self, piece: Piece | None, stored: StoredFile | None = None) -> None:
        self.piece, self.stored = piece, stored
        self.leaving = self.forgotten = False
        self.pins = self.rows = 0
        self.first_gen = self.last_gen = 0
        """Numbers of the changes that brought its rows, where they are recorded."""

    def takes_more(self, part_bytes: int, part_rows: int) -> bool:
        """Whether rows may still be added before it becomes a file."""
        if self.piece is None or self.leaving:
            return False
        return self.piece.size < part_bytes and self.rows < part_rows

    @property
    def bytes_held(self) -> int:
        return self.piece.size if self.piece is not None else 0

    def snapshot(self) -> list[tuple[Part, list[pa.RecordBatch] | None]]:
        return [(self, list(self.piece.batches) if self.piece is not None else None)]

    def pin(self) -> list[tuple[Part, list[pa.RecordBatch] | None]]:
        """The part as it is now; its file stays until it is unpinned."""
        self.pins += 1
        return self.snapshot()


class PartSeries:
    """The parts of a series, in order."""

    __slots__ = ("parts", "schema")

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None
        self.parts: list[Part] = []

    def snapshot(self) -> list[tuple[Part, list[pa.RecordBatch] | None]]:
        return [each for part in self.parts for each in part.snapshot()]

    def pin(self) -> list[tuple[Part, list[pa.RecordBatch] | None]]:
        return [each for part in self.parts for each in part.pin()]


async def stream_parts(
    parts: Sequence[tuple[Part, list[pa.RecordBatch] | None]],
    key: Key,
    io: IoExecutor,
    owner: Hashable,
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
) -> AsyncIterator[pa.RecordBatch]:
    """What pinned parts hold, a batch at a time; each file is verified before anything of it is given."""
    for part, found in parts:
        if found is not None:
            for batch in found:
                yield batch
            continue
        assert part.stored is not None
        if not part.stored.streams:
            value = await asyncio.shield(io.submit(owner, files.read_file, part.stored, key))
            for batch in value if part.stored.kind == codecs.BATCHES else as_table(value).to_batches():
                yield batch
            continue
        await asyncio.shield(io.submit(owner, files.verify, part.stored, key))
        batches = files.iter_file(part.stored)
        reading = io.submit(owner, next, batches, None)
        try:
            while (step := await asyncio.shield(reading)) is not None:
                yield step
                reading = io.submit(owner, next, batches, None)
        finally:
            await asyncio.shield(spawn(_end_reading(batches, reading, io, owner)))


async def _end_reading(
    batches: Iterator[pa.RecordBatch], reading: asyncio.Future[Any], io: IoExecutor, owner: Hashable
) -> None:
    """Close the file. A reader who was cancelled left a thread in the middle of a batch; it finishes first."""
    await asyncio.wait((reading,))
    await io.submit(owner, batches.close)  # type: ignore[attr-defined]
