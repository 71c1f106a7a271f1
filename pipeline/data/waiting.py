"""Changes on their way into the journal, and those that gather until a checkpoint asks for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

import pyarrow as pa

from ..storage.codecs import Buffer
from . import records

GATHERED_BYTES: Final = 4 << 20
"""What only a checkpoint needs waits for one, up to so many bytes."""
JOINED_BYTES: Final = 1 << 20
"""Rows appended to one key, one after the other, are one record up to here."""


class Waiting:
    """A record on its way."""

    __slots__ = ("charge", "encode", "gen", "kind", "live_key", "num_bytes", "raw", "rows", "size")

    def __init__(
        self,
        kind: int,
        raw: bytes,
        gen: int,
        live_key: Hashable,
        encode: Callable[[], Sequence[Buffer]],
        size: int,
        rows: list[pa.RecordBatch] | None,
    ) -> None:
        self.kind, self.raw, self.gen, self.live_key, self.encode, self.size = kind, raw, gen, live_key, encode, size
        self.rows = rows
        """What `encode` will find, where more rows of the same series may still come to it."""
        self.charge = self.num_bytes = 0

    def takes(self, other: Waiting) -> bool:
        """Whether rows of `other`, the very next change, can be a part of this record."""
        return (
            bool(self.rows and other.rows)
            and self.live_key == other.live_key
            and self.size + other.size <= JOINED_BYTES
            and self.rows[0].schema.equals(other.rows[0].schema, check_metadata=True)  # type: ignore[index]
        )

    def join(self, other: Waiting) -> None:
        assert self.rows is not None and other.rows is not None
        self.rows.extend(other.rows)
        self.gen, self.size, self.charge = other.gen, self.size + other.size, self.charge + other.charge

    def encoded(self) -> Sequence[Buffer]:
        """In a worker thread."""
        pieces = self.encode()
        self.num_bytes = records.RECORD_BYTES + sum(len(piece) for piece in pieces)
        return pieces


class Gathered:
    """Changes that have not been handed to the journal, in their order."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._waiting: list[Waiting] = []
        self._bytes = 0

    def add(self, waiting: Waiting) -> None:
        self._bytes += waiting.size
        if self._waiting and self._waiting[-1].takes(waiting):
            self._waiting[-1].join(waiting)
        else:
            self._waiting.append(waiting)

    @property
    def is_full(self) -> bool:
        return self._bytes >= self._limit_bytes

    def take(self) -> list[Waiting]:
        """All of them; nothing has gathered any more."""
        taken, self._waiting, self._bytes = self._waiting, [], 0
        return taken
