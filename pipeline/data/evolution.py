"""Rows whose columns are not those of their series: refused, or, where that is wanted, taken into wider ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import SchemaMismatch
from .base import Key
from .values import check_series


def widened(
    name: str, key: Key, schema: pa.Schema | None, found: pa.Schema, evolution: Literal["fixed", "widen"]
) -> pa.Schema:
    """The columns of the series with these rows; raises `SchemaMismatch` where no wider types hold both exactly."""
    if schema is None or schema is found or schema.equals(found):
        return found if schema is None else schema
    if evolution == "fixed":
        check_series(name, key, schema, found)
    try:
        wider = pa.unify_schemas([schema, found], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaMismatch(
            f"{name}: the rows do not fit the series {key!r}, and no wider types hold both: {error}; append them under "
            "another key"
        ) from error
    for field in schema:
        new = wider.field(field.name).type
        if pa.types.is_floating(new) and field.type in (pa.int64(), pa.uint64()):
            raise SchemaMismatch(
                f"{name}: the rows do not fit the series {key!r}: column {field.name} is {field.type}, and a {new} "
                "does not hold all of its values; append them under another key"
            )
    return wider


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows in wider columns; those they lack are null. Raises `SchemaMismatch` where a value would change."""
    if batch.schema is schema or batch.schema.equals(schema):
        return batch
    arrays = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        try:
            arrays.append(pa.nulls(batch.num_rows, field.type) if index < 0 else batch.column(index).cast(field.type))
        except pa.ArrowInvalid as error:
            raise SchemaMismatch(f"column {field.name}: {error}; append these rows under another key") from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def lost_by_parquet(schema: pa.Schema) -> Sequence[str]:
    """Columns whose types parquet does not give back as they were. Needs a few milliseconds; for worker threads."""
    lost = []
    for field in schema:
        alone = pa.schema([field])
        sink = pa.BufferOutputStream()
        try:
            pq.write_table(alone.empty_table(), sink, version="2.6")
            again = pq.read_schema(pa.BufferReader(sink.getvalue()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            lost.append(f"{field.name} ({field.type})")
        else:
            if not again.field(0).equals(field):
                lost.append(f"{field.name} ({field.type}, back as {again.field(0).type})")
    return lost
