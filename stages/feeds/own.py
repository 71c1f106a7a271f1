"""Reads files of our own, one after another in time, as they were written: the same columns, ordinals and words."""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import InputError
from stages.schemas import KINDS, PLACES_KEY

from .counts import Counts
from .heads import Heads
from .layout import OwnFile
from .parquet import READ_ROWS, footer_of, groups_of, opened, own_schema
from .recording import Recording
from .text import Where

MESSAGE_ROW = pa.field("message_row", pa.uint32())
"""A column behind those of the schema: a row's place among all that its message came to, where a file tells it."""


def open_own(files: Sequence[OwnFile], read_rows: int = READ_ROWS, schema: pa.Schema | None = None) -> Recording:
    """The recording of files of our own, of one kind of record. Raises `InputError`.

    All rows come as they were recorded: a bar that a venue told again and again, each time. Heads of files, which say
    what a book was before them, are silent, but for that of a book nothing of which was read. With `schema`, rows have
    its columns: some of those written, but for kinds of books, or with more decimal places.
    """
    first = footer_of(files[0].path)
    if first.record not in KINDS:
        raise InputError(f"{files[0].path}: expected a file that says which kind of record it holds, found none said")
    written = own_schema(files[0].path, first)
    schema = written if schema is None else schema
    paths = tuple(file.path for file in files)
    columns = [name for name in schema.names if name in first.schema.names]

    def read(counts: Counts) -> Iterator[pa.RecordBatch]:
        heads = Heads() if first.record == "book_delta" else None
        for file in paths:
            counts.file = file.name
            with opened(file) as parquet:
                places = _places(parquet)
                row = 0
                for batch in groups_of(file, parquet, columns, read_rows):
                    made = as_schema(batch, schema, Where(file, row + 1))
                    if places is not None:
                        made = made.append_column(MESSAGE_ROW, _message_rows(places, row, made.num_rows))
                    row += batch.num_rows
                    made = made if heads is None else heads.silent(made)
                    counts.rows += made.num_rows
                    if made.num_rows:
                        yield made

    return Recording(schema, paths, read, tuple(name for name in first.schema.names if name not in columns))


def finest(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Columns of one kind of record that hold rows of all these, whose decimal places may differ."""
    fields = [field.with_type(_finest([schema.field(field.name).type for schema in schemas])) for field in schemas[0]]
    return pa.schema(fields, metadata=schemas[0].metadata)


def _finest(types: Sequence[pa.DataType]) -> pa.DataType:
    if all(map(pa.types.is_decimal, types)):
        return max(types, key=lambda kind: kind.scale)
    if all(map(pa.types.is_list, types)):
        levels = [kind.value_type for kind in types]
        level = [field.with_type(_finest([each.field(field.name).type for each in levels])) for field in levels[0]]
        return pa.list_(types[0].value_field.with_type(pa.struct(level)))
    return types[0]


def begins_ns(file: OwnFile) -> int | None:
    """The smallest receive time of a file's first rows, as its manifest or footer tells; None where neither does."""
    if file.begins_ns is not None:
        return file.begins_ns
    with opened(file.path) as parquet:
        place = parquet.schema_arrow.names.index("ts_recv") if "ts_recv" in parquet.schema_arrow.names else -1
        if place < 0 or not parquet.metadata.num_row_groups:
            return None
        told = parquet.metadata.row_group(0).column(place).statistics
        if told is None or not told.has_min_max:
            return None
        return int(pa.scalar(told.min, pa.timestamp("ns", tz="UTC")).value)


def since(files: Sequence[OwnFile], ts_ns: int) -> Sequence[OwnFile]:
    """The files from the last one on that began before a moment: it opens with all that is needed of those before."""
    low, high = 0, len(files)
    while high - low > 1:
        middle = (low + high) // 2
        begins = begins_ns(files[middle])
        if begins is None:
            return files
        low, high = (middle, high) if begins < ts_ns else (low, middle)
    return files[low:]


def as_schema(batch: pa.RecordBatch, schema: pa.Schema, where: Where) -> pa.RecordBatch:
    """The same rows with the columns of a schema, null where a file that an older version wrote has none."""
    arrays = []
    for field in schema:
        place = batch.schema.get_field_index(field.name)
        column = pa.nulls(batch.num_rows, field.type) if place < 0 else batch.column(place)
        if column.type != field.type:
            column = _as_type(column, field.type, where.at(field.name))
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _as_type(column: pa.Array, kind: pa.DataType, where: Where) -> pa.Array:
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise where.error(0, f"values of type {kind}", f"of type {column.type}") from error


Places = tuple[np.ndarray[Any, np.dtype[np.uint32]], np.ndarray[Any, np.dtype[np.uint32]]]
"""Rows of a file, and the place of each in its message."""


def _places(parquet: pq.ParquetFile) -> Places | None:
    told = (parquet.metadata.metadata or {}).get(PLACES_KEY)
    if told is None:
        return None
    pairs = np.frombuffer(zlib.decompress(b64decode(told)), np.uint32).reshape(2, -1)
    return np.cumsum(pairs[0], dtype=np.uint32), pairs[1]


def _message_rows(places: Places, first: int, count: int) -> pa.Array:
    rows, place = places
    begin, end = np.searchsorted(rows, [first, first + count])
    found = np.zeros(count, np.uint32)
    found[rows[begin:end].astype(np.int64) - first] = place[begin:end]
    return pa.array(found)
