"""A whole book as rows, from which reading may begin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from .kept import nullable, whole_book
from .layout import CROSSED, LAST, LIVE, STATE, TIME
from .received import units_array
from .shelf import Shelf


def keyframe(
    shelf: Shelf, book: int, schema: pa.Schema, ts_recv: int, ingest_seq: int, source: str, code: int,
    names: pa.StringArray,
) -> pa.RecordBatch:  # fmt: skip
    """Rows of `schema` with the given stamps; MAYBE_BAD_BOOK where the book is not live, or is crossed."""
    row = shelf.books[book]
    bad = bool(row[STATE] != LIVE or row[CROSSED])
    made = whole_book(shelf.side(book, 0), shelf.side(book, 1), 0, int(row[LAST]), int(row[TIME]), bad)
    rows = len(made)
    columns: dict[str, Any] = {
        "ts_event": nullable(made[:, 7].copy(), pa.int64()).view(schema.field("ts_event").type),
        "ts_recv": pa.array(np.full(rows, ts_recv)).view(schema.field("ts_recv").type),
        "ingest_seq": pa.array(np.full(rows, ingest_seq, np.uint64)),
        "instrument_id": pa.DictionaryArray.from_arrays(np.full(rows, code, np.int32), names),
        "source_id": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int16), pa.array([source], pa.utf8())),
        "sequence": nullable(made[:, 6].copy(), pa.uint64()),
        "flags": pa.array(made[:, 5].astype(np.uint8)),
        "action": pa.array(made[:, 1].astype(np.int8)),
        "side": pa.array(made[:, 2].astype(np.int8)),
        "price": units_array(made[:, 3], schema.field("price").type),
        "size": units_array(made[:, 4], schema.field("size").type),
        "order_id": pa.array(np.zeros(rows, np.uint64)),
        "first_sequence": pa.nulls(rows, pa.uint64()),
        "prev_sequence": pa.nulls(rows, pa.uint64()),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
