"""What is stored, made ready at the door: one form per kind of value, its size, and how it can be written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from ..errors import SchemaMismatch, UnsupportedType
from ..frames import Batch, columns_from_rows
from ..storage import codecs
from ..storage.sizing import ENTRY_BYTES, compact, size_of


class Admitted(NamedTuple):
    """A value at the door: as it will be given back, its charge in bytes, its codec kind."""

    value: Any
    size: int
    kind: int


def admit(value: Any, size: int | None, copy: bool = False) -> Admitted:
    """Make a value ready to be stored in any mode; raises `UnsizedValue` or `UnsupportedType`.

    A `Batch` becomes its columns, an array a read-only view, and a slice that pins a big parent a copy; with `copy`
    everything does.
    """
    if isinstance(value, Batch):
        value = value.columns
    value = compact(value)
    if copy:
        value = codecs.copied(value)
    if size is None:
        size = size_of(value)
    elif size < 0:
        raise ValueError(f"expected a size of 0 bytes or more, found {size}")
    kind = codecs.kind_of(value)
    if kind == codecs.ARRAY and value.flags.writeable:
        value = value.view()
        value.flags.writeable = False
    return Admitted(value, size, kind)


def as_copied_batches(rows: Any, copy: bool) -> list[pa.RecordBatch]:
    """Like `as_batches`; with `copy` what was handed over may be changed afterwards."""
    batches = as_batches(rows)
    return [codecs.copied(batch) for batch in batches] if copy else batches


def as_batches(rows: Any) -> list[pa.RecordBatch]:
    """Rows to be appended, as record batches of one schema, empty ones left out unless they are all there is.

    Takes a RecordBatch, Table, `Batch`, pandas or polars frame, a struct or dict, or a list of either. No batch at
    all means rows without a schema, from an empty list. Raises `UnsupportedType`.
    """
    if isinstance(rows, pa.RecordBatch):
        return [compact(rows)]
    if isinstance(rows, Batch):
        return as_batches(rows.columns if rows.num_rows or not rows.is_rows else [])
    if isinstance(rows, pa.Table):
        batches = [batch for batch in compact(rows).to_batches() if batch.num_rows]
        return batches or [pa.RecordBatch.from_pylist([], schema=rows.schema)]
    if hasattr(rows, "__arrow_c_stream__") or type(rows).__name__ == "DataFrame":
        # What pandas notes about its index says nothing about rows that follow.
        return as_batches(frame_table(rows).replace_schema_metadata(None))
    if isinstance(rows, msgspec.Struct | dict):
        rows = [rows]
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        if not rows:
            return []
        try:
            return [_from_rows(rows)]
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError) as error:
            raise UnsupportedType(f"the rows cannot become columns: {error}") from error
    raise UnsupportedType(
        f"expected rows as a RecordBatch, Table, Batch, frame or list of structs, found {type(rows).__name__}"
    )


def frame_table(frame: Any) -> pa.Table:
    """A pandas or polars frame as a table."""
    if type(frame).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(frame, nthreads=1)
    if type(frame).__module__.partition(".")[0] == "polars":
        return frame.to_arrow()
    return pa.table(frame)


def _from_rows(rows: Sequence[Any]) -> pa.RecordBatch:
    first = type(rows[0])
    if any(type(row) is not first for row in rows):
        raise TypeError("the rows are of several types")
    if issubclass(first, msgspec.Struct):
        return columns_from_rows(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))  # the first row may lack some
    return pa.RecordBatch.from_arrays([pa.array([row.get(name) for row in rows]) for name in names], names=names)


def known_schema(value: Any) -> pa.Schema | None:
    """Columns of Arrow data."""
    return value.schema if isinstance(value, pa.RecordBatch | pa.Table) else None


def batches_size(batches: Iterable[pa.RecordBatch]) -> int:
    """Charge of appended batches: their buffers, and what each batch object weighs."""
    return sum(ENTRY_BYTES + int(batch.get_total_buffer_size()) for batch in batches)


def check_series(name: str, key: str | bytes, schema: pa.Schema | None, found: pa.Schema) -> None:
    """Raises `SchemaMismatch` when rows do not belong to a series; metadata is not compared."""
    if schema is None or schema is found or schema.equals(found):
        return
    differences = [
        f"{field.name}: expected {field.type}, found {found.field(field.name).type}"
        if field.name in found.names
        else f"{field.name}: expected {field.type}, found no such column"
        for field in schema
        if field.name not in found.names or found.field(field.name) != field
    ]
    differences += [f"{name}: not a column of the series" for name in found.names if name not in schema.names]
    raise SchemaMismatch(
        f"{name}: the rows do not fit the series {key!r}: "
        + ("; ".join(differences) or f"columns in another order: {found.names}")
        + "; append them under another key"
    )


def not_a_series(name: str, key: str | bytes) -> SchemaMismatch:
    return SchemaMismatch(f"{name}: {key!r} holds a stored value, not a series; delete it or append to another key")


def series_table(schema: pa.Schema | None, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """A series as one table, in the order of appending."""
    if schema is None:
        return pa.table({})
    return pa.Table.from_batches(batches, schema=schema)
