"""Values larger than the whole budget on their way to disk, piece by piece, from the caller's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from ..storage import codecs
from .base import Key, key_bytes
from .block import ABSENT, Block
from .cold import SegmentTier
from .parts import Parts
from .series import Piece
from .tables import as_table
from .values import batches_size

CHUNK_BYTES: Final = 1 << 20
_TABULAR: Final = frozenset({codecs.BATCH, codecs.STREAM, codecs.TABLE, codecs.PANDAS, codecs.POLARS})


class Outsized:
    """A value being written through, and the blocks that are on disk by now."""

    def __init__(self, key: Key, value: Any, kind: int, size: int) -> None:
        self.key, self.value, self.kind, self.size = key, value, kind, size
        self.schema: pa.Schema | None = None
        self.blocks: list[Block] = []
        self.abandoned = False
        """The caller was cancelled; what was written is to be forgotten."""
        self.kept = False

    def entry(self, name: str) -> Block | Parts:
        """What the key means once everything is written."""
        if self.kind not in _TABULAR:
            return self.blocks[0]
        parts = Parts(name, self.key, self.kind)
        parts.schema = self.schema
        parts.blocks = self.blocks
        return parts

    def chunks(self) -> Iterator[Block]:
        """Tables in runs of rows of about `CHUNK_BYTES`, anything else whole: it is written from where it lies."""
        raw = key_bytes(self.key)
        if self.kind == codecs.BATCHES:
            batches: list[pa.RecordBatch] = self.value
        elif self.kind in _TABULAR:
            table = as_table(self.value)
            self.schema = table.schema
            batches = table.to_batches()
        else:
            yield Block(self.key, raw, self.value, self.size, self.kind)
            return
        for batch in batches:
            rows = max(1, int(batch.num_rows * CHUNK_BYTES / max(1, batch.nbytes)))
            for start in range(0, batch.num_rows, rows):
                piece = [batch.slice(start, rows)]
                size = min(batches_size(piece), CHUNK_BYTES)
                yield Block(None, raw, Piece(piece, size), size, codecs.BATCHES)


async def write_outsized(outsized: Outsized, disk: SegmentTier) -> None:
    """Write every chunk, one per hop, and let go of it; raises `DiskFull` or `StorageFailed`."""
    for block in outsized.chunks():
        if outsized.abandoned:
            return
        disk.check_room(block.size)
        [(extent, context)] = await disk.write([block])
        outsized.blocks.append(block)
        block.settle(extent, context)
        block.value = ABSENT
        await asyncio.sleep(0)
