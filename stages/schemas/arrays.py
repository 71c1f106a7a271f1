"""Arrow arrays of exact numbers and of words, made without copying or looking up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Int64s: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def decimal_array(units: Int64s, scale: int) -> pa.Array:
    """decimal64 values from int64 counts of 10^-scale, sharing their memory; `units` must be contiguous."""
    units = np.ascontiguousarray(units, dtype=np.int64)
    return pa.Array.from_buffers(pa.decimal64(18, scale), len(units), [None, pa.py_buffer(units)])


def name_array(word: str, words: Sequence[str], rows: int) -> pa.DictionaryArray:
    """`rows` times one word of a list such as BAR_KINDS; codes are places in the list, whatever occurs."""
    codes = np.full(rows, words.index(word), np.int8)
    return pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.utf8()))
