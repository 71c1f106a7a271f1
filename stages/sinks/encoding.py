"""How columns are best written as parquet, by their types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

WRITE_BATCH_ROWS = 16_384
"""Rows the writer takes at a time; after each it decides whether a page is full."""


def encoding_options(schema: pa.Schema) -> dict[str, Any]:
    """Options of `pyarrow.parquet.ParquetWriter` for a schema.

    Times and ordinals as deltas, names, prices, sizes and small numbers by dictionary, floats and texts plain;
    statistics on time columns only; checksums on every page; decimals as integers.
    """
    deltas = [field.name for field in schema if pa.types.is_timestamp(field.type) or pa.types.is_uint64(field.type)]
    return {
        "use_dictionary": [field.name for field in schema if _repeats(field.type)],
        "column_encoding": dict.fromkeys(deltas, "DELTA_BINARY_PACKED") or None,
        "write_statistics": [field.name for field in schema if pa.types.is_timestamp(field.type)],
        "write_page_checksum": True,
        "store_decimal_as_integer": True,
        "write_batch_size": WRITE_BATCH_ROWS,
    }


def canonical(table: pa.Table) -> pa.Table:
    """The same rows in pieces the file's bytes do not depend on, dictionaries holding the words that occur, sorted.

    What a dictionary column's words and codes were depends on how its rows were batched; this does not. Pieces that
    end where a batch of the writer's ends, as those of a replay do, give the same pages as one piece would, and are
    spared the copy.
    """
    if not _ends_with_writer(table):
        table = table.combine_chunks()
    columns = []
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            column = _tidied(column.combine_chunks())
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=table.schema)


def _ends_with_writer(table: pa.Table) -> bool:
    """Whether all pieces but the last hold whole batches of the writer's."""
    return all(len(batch) % WRITE_BATCH_ROWS == 0 for batch in table.to_batches()[:-1])


def _tidied(values: pa.DictionaryArray) -> pa.DictionaryArray:
    # Row by row only in Arrow, which lets go of the interpreter meanwhile: the event loop waits for nobody.
    codes = values.indices
    words = values.dictionary.to_pylist()
    order = sorted(codes.unique().drop_null().to_pylist(), key=lambda code: words[code])
    if order == list(range(len(words))):
        return values
    places = np.zeros(len(words), np.int64)
    places[order] = np.arange(len(order))
    moved = pa.array(places).take(codes)
    return pa.DictionaryArray.from_arrays(
        moved.cast(values.type.index_type), pa.array([words[code] for code in order], values.type.value_type)
    )


def _repeats(kind: pa.DataType) -> bool:
    small = pa.types.is_integer(kind) and not pa.types.is_uint64(kind)
    return small or pa.types.is_dictionary(kind) or pa.types.is_decimal64(kind)
