"""An entry of several blocks: a series, or a value too large to be one block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ..storage import codecs
from .base import Key
from .block import Block
from .values import check_series, series_table


class Parts:
    """Blocks in order, each in memory or on disk on its own account."""

    __slots__ = ("blocks", "deleted", "form", "key", "name", "schema")

    def __init__(self, name: str, key: Key, form: int | None = None) -> None:
        self.name, self.key = name, key
        self.form = form
        """Codec kind of the value the parts make up; None for a series, which may grow."""
        self.schema: pa.Schema | None = None
        self.blocks: list[Block] = []
        self.deleted = False

    @property
    def resident(self) -> bool:
        return self.form is None and all(block.resident for block in self.blocks)

    @property
    def reusable_size(self) -> int:
        return sum(block.reusable_size for block in self.blocks)

    def check(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Raises `SchemaMismatch` if the batches do not belong here."""
        if batches:
            check_series(self.name, self.key, self.schema, batches[0].schema)

    def table(self, batches: Sequence[pa.RecordBatch]) -> pa.Table:
        return series_table(self.schema, batches)

    def pin(self) -> list[tuple[Block, list[pa.RecordBatch] | None]]:
        """The parts as they are now, with the batches of those in memory; the others' extents are kept for us."""
        parts = []
        for block in self.blocks:
            block.pins += 1
            parts.append((block, list(block.value.batches) if block.resident else None))
        return parts


def restore_form(form: int | None, table: pa.Table) -> Any:
    """The value that was stored, from the table of its parts."""
    if form in (codecs.BATCH, codecs.STREAM):
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    if form == codecs.PANDAS:
        return table.to_pandas(use_threads=False)
    if form == codecs.POLARS:
        import polars

        return polars.from_arrow(table)
    return table
