"""Arrow arrays of exact numbers and of words, made without copying or looking up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from .types import Scaled, Scales, decimal_type, resolved

Int64s: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def decimal_array(units: Int64s, scale: int) -> pa.Array:
    """Exact values from int64 counts of 10^-scale: to scale 10 decimal64 sharing their memory, above it decimal128."""
    units = np.ascontiguousarray(units, dtype=np.int64)
    if scale > 10:
        units = np.column_stack([units, units >> 63])  # low and high words
    return pa.Array.from_buffers(decimal_type(scale), len(units), [None, pa.py_buffer(units)])


def levels_array(offsets: Any, prices: Int64s, sizes: Int64s, scales: Scales, counts: Any = None) -> pa.ListArray:
    """Levels of a book as `book_snapshot` has them: row i holds those from `offsets[i]` to before `offsets[i + 1]`.

    `offsets` is int32, one longer than there are rows; `prices` and `sizes` are counts of 10^-scale; `counts` of orders
    (uint32) are null where none are given.
    """
    columns = [decimal_array(prices, scales.price), decimal_array(sizes, scales.size)]
    orders = pa.nulls(len(prices), pa.uint32()) if counts is None else pa.array(counts, pa.uint32())
    kind = resolved(Scaled.LEVELS, decimal_type(scales.price), decimal_type(scales.size))
    levels = pa.StructArray.from_arrays([*columns, orders], fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), levels, type=kind)


def name_array(word: str, words: Sequence[str], rows: int) -> pa.DictionaryArray:
    """`rows` times one word of a list such as BAR_KINDS; codes are places in the list, whatever occurs."""
    codes = np.full(rows, words.index(word), np.int8)
    return pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.utf8()))
