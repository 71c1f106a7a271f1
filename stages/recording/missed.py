"""Rows of a recording behind a message: what whoever stopped there has not had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import RecordFolder
from stages.schemas import KEYFRAME

MESSAGES: Final = 8192
"""Whose rows are given together at most."""


def rows_behind(
    folder: RecordFolder, venue: str, after: int, schemas: Mapping[str, pa.Schema]
) -> Iterator[tuple[pa.RecordBatch, ...]]:
    """A venue's rows of messages numbered above `after`, those of the same messages together; blocks.

    Of committed files, one roll after the other, of which one is in memory at a time. Rows of one message and kind are
    in order of their instruments.
    """
    for _, tables in _rolls(folder, f"venue={venue}", after):
        found = {kind: _standard(tables[kind], schemas[kind]) for kind in schemas if kind in tables}
        seqs = {kind: batch.column("ingest_seq").to_numpy() for kind, batch in found.items()}
        if not found:
            continue
        for first in range(int(min(seq[0] for seq in seqs.values())), 1 + _last(seqs), MESSAGES):
            cuts = {kind: np.searchsorted(seq, [first, first + MESSAGES]).tolist() for kind, seq in seqs.items()}
            parts = tuple(found[kind].slice(begin, end - begin) for kind, (begin, end) in cuts.items() if end > begin)
            if parts:
                yield parts


def _last(seqs: Mapping[str, np.ndarray[Any, Any]]) -> int:
    return int(max(seq[-1] for seq in seqs.values()))


def _rolls(folder: RecordFolder, venue: str, after: int) -> Iterator[tuple[int, dict[str, pa.Table]]]:
    """How far in the log each roll reaches, and its rows by kind, by rising numbers of their messages."""
    listed = [(entry.batch_id[1], entry.file) for entry in folder.files() if entry.batch_id is not None and entry.file]
    for reaches, files in groupby(sorted(listed), key=lambda each: each[0]):
        parts: dict[str, list[pa.Table]] = {}
        for _, name in files:
            kind, where = Path(name).parts[:2]
            rows = _above(folder.folder / name, after) if where == venue else None
            if rows is not None and rows.num_rows:
                parts.setdefault(kind, []).append(rows)
        yield reaches, {kind: _in_order(pa.concat_tables(tables)) for kind, tables in parts.items()}


def _above(path: Path, after: int) -> pa.Table | None:
    """Rows of a file with higher numbers than that; None where its last row has none."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        place = file.schema_arrow.get_field_index("ingest_seq")
        newest = file.metadata.row_group(file.num_row_groups - 1).column(place).statistics
        if newest is not None and newest.has_min_max and newest.max <= after:
            return None
        table = file.read()
    table = table.filter(pc.greater(table["ingest_seq"], pa.scalar(after, pa.uint64())))
    return table.filter(pc.not_equal(table["source_id"].cast(pa.utf8()), KEYFRAME))


def _in_order(table: pa.Table) -> pa.Table:
    return table.take(pa.array(np.argsort(table["ingest_seq"].to_numpy(), kind="stable")))


def _standard(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """With the columns of records as they are sent."""
    columns = []
    for field in schema:
        column = table[field.name]
        if column.type != field.type:
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            if pa.types.is_dictionary(field.type):
                column = column.cast(field.type.value_type).dictionary_encode()
            column = column.cast(field.type)
        columns.append(column)
    whole = pa.Table.from_arrays(columns, schema=schema).unify_dictionaries().combine_chunks()
    return whole.to_batches()[0]
