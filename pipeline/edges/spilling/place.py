"""A batch on an edge that spills: where it is, and its form on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from ...frames import Batch
from ...storage import codecs, segments
from ...storage.extents import Extent
from ..kept import Kept

Form: TypeAlias = tuple[int, tuple[Any, ...]]
"""The codec's kind and context, which reading back needs."""


class Place:
    """A batch's place in the order, wherever the batch is: `batch` where it is in memory, `extent` where on disk."""

    __slots__ = ("batch", "claim", "context", "extent", "gone", "kept", "kind", "num_bytes", "num_rows", "order",
                 "origin", "released", "way")  # fmt: skip

    def __init__(self, batch: Batch, order: int) -> None:
        self.batch: Batch | None = batch
        self.order = order
        self.num_rows, self.num_bytes = batch.num_rows, batch.num_bytes
        self.origin = (batch.source, batch.first_seq)
        self.way: Literal["stays", "leaves", "away", "comes"] = "stays"
        self.kind = 0
        self.context: tuple[Any, ...] = ()
        self.extent: Extent | None = None
        self.claim: Batch | Place | None = batch
        """In whose name its bytes are charged; None where they are on loan, because the pool had no room."""
        self.gone = False
        """Nobody waits for it any more: the consumer has it, or has left."""
        self.kept: Kept | None = None
        """What a checkpoint keeps of it, while it is in memory."""
        self.released = False
        """Nobody but a thread holds its bytes any more."""

    def lies(self, extent: Extent, form: Form) -> None:
        """A thread has written it."""
        self.extent, (self.kind, self.context) = extent, form

    def is_away(self) -> None:
        """It is on disk only."""
        assert self.extent is not None
        self.way, self.batch = "away", None
        if self.kind not in codecs.COPYING:
            self.num_bytes = self.extent.length  # read back it looks into the payload


def source(batch: Batch | None) -> Any:
    """What of a batch is written: its columns, or its rows as they are."""
    assert batch is not None
    return list(batch.rows) if batch.is_rows else batch.columns


def encode(sources: Sequence[tuple[bytes, int, Any]], forms: list[Form]) -> list[segments.Record]:
    """In a worker thread."""
    records = []
    for key, gen, value in sources:
        kind = codecs.kind_of(value)
        encoded = codecs.encode(value, kind)
        forms.append((kind, encoded.context))
        records.append(segments.Record(kind, 0, key, gen, encoded.pieces))
    return records


def decode(kind: int, context: tuple[Any, ...], payload: Any) -> Any:
    """In a worker thread."""
    return codecs.decode(kind, payload, context)


def as_batch(value: Any, origin: tuple[str, int]) -> Batch:
    source, first_seq = origin
    if isinstance(value, list):
        return Batch(None, value, source=source, first_seq=first_seq)
    return Batch(value, source=source, first_seq=first_seq)
