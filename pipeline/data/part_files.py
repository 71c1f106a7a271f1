"""What the `file` data manager knows of a key: files, and rows that are not yet worth one."""

from __future__ import annotations

import pyarrow as pa

from .files import StoredFile
from .series import Piece


class Part:
    """A value, or some rows of a series: in memory, or in a file, or in memory while the file is written."""

    __slots__ = ("forgotten", "leaving", "piece", "pins", "stored")

    def __init__(self, piece: Piece | None, stored: StoredFile | None = None) -> None:
        self.piece, self.stored = piece, stored
        self.leaving = self.forgotten = False
        self.pins = 0

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
