"""Columns of prices and sizes as arrays kernels can compute on, and back, without losing a digit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from pipeline import SchemaMismatch

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class Numbers:
    """How one column's numbers are held.

    decimal64 and integers are int64 counts of 10^-scale sharing the column's buffer, float64 is itself, and
    wider decimals are Python ints in object arrays: exact too, some hundred times slower.
    """

    type: pa.DataType
    dtype: Any
    scale: int
    limit: float | int
    """The largest sum the type can hold."""

    @classmethod
    def of(cls, column: str, kind: pa.DataType) -> Numbers:
        """How a column of Arrow type `kind` is held. Raises `SchemaMismatch` where it is no number."""
        if pa.types.is_decimal(kind):
            if kind.bit_width > 64:
                return cls(kind, object, kind.scale, 10**kind.precision - 1)
            return cls(pa.decimal64(18, kind.scale), np.int64, kind.scale, 10**18 - 1)
        if pa.types.is_floating(kind):
            return cls(pa.float64(), np.float64, 0, float("inf"))
        if pa.types.is_integer(kind):
            return cls(pa.int64(), np.int64, 0, INT64_MAX)
        raise SchemaMismatch(f"expected numbers in column '{column}', found {kind}")

    @classmethod
    def common(cls, columns: Mapping[str, pa.DataType]) -> Numbers:
        """How columns of one type are held together. Raises `SchemaMismatch` where types differ."""
        (first, kind), *others = columns.items()
        for other, found in others:
            if found != kind:
                raise SchemaMismatch(f"expected '{other}' to be {kind} as '{first}' is, found {found}")
        return cls.of(first, kind)

    def wide(self) -> Numbers:
        """The same numbers as Python objects."""
        return replace(self, dtype=object)

    @cached_property
    def _is_wide(self) -> bool:
        return bool(pa.types.is_decimal(self.type)) and self.type.bit_width > 64

    def unpack(self, column: pa.Array, null: Any = 0) -> Values:
        """The numbers as a contiguous vector; nulls become `null` (in units of 10^-scale)."""
        if self._is_wide:
            values = _from_words(column, self.type.bit_width // 64)
        else:
            if column.type != self.type:
                column = column.cast(self.type)
            values = np.frombuffer(column.buffers()[1] or b"", self._memory)[column.offset :][: len(column)]
        if column.null_count:
            values = np.where(column.is_valid().to_numpy(zero_copy_only=False), values, null)
        if not values.flags.aligned:
            values = values.copy()
        return values.astype(self.dtype, copy=False)

    @cached_property
    def _memory(self) -> np.dtype[Any]:
        """What a value of at most 64 bits is in Arrow's memory."""
        return np.dtype(np.float64 if pa.types.is_floating(self.type) else np.int64)

    def pack(self, values: Values, unknown: Values | None = None) -> pa.Array:
        """An Arrow column of these numbers, null where `unknown` (bool) is true; shares memory where it can."""
        if self._is_wide:
            size = self.type.bit_width // 8
            raw = b"".join(int(value).to_bytes(size, "little", signed=True) for value in values)
            return _array(self.type, len(values), pa.py_buffer(raw), unknown)
        return primitive(self.type, np.ascontiguousarray(values, self._memory), unknown)

    def pack_lines(self, values: Values) -> list[pa.Array]:
        """One Arrow column per line of `values`, all over one piece of memory where that can be."""
        if self.dtype is object:
            return [self.pack(line) for line in values]
        return lines(self.type, values, *range(len(values)))

    def as_floats(self, values: Values) -> Floats:
        """The numbers as float64, correctly rounded while they have at most 15 digits and 22 decimal places."""
        if not self.scale:
            return values.astype(np.float64, copy=False)
        return values.astype(np.float64) / 10.0**self.scale


def floats_of(name: str, column: pa.Array) -> Floats:
    """A column of any numbers as float64, NaN where null. Raises `SchemaMismatch` where it holds no numbers."""
    numbers = Numbers.of(name, column.type)
    floats = numbers.as_floats(numbers.unpack(column))
    if column.null_count:
        floats = np.where(column.is_valid().to_numpy(zero_copy_only=False), floats, np.nan)
    return floats


def primitive(kind: pa.DataType, values: Values, unknown: Values | None = None) -> pa.Array:
    """An Arrow array over the memory of contiguous `values`, null where `unknown` (bool) is true."""
    return _array(kind, len(values), pa.py_buffer(values), unknown)


def lines(kind: pa.DataType, values: Values, *places: int) -> list[pa.Array]:
    """Arrow arrays over some lines of a contiguous array of 8-byte values, without nulls.

    Cheaper than `primitive` line by line: small batches are made thousands of times a second.
    """
    rows = values.shape[1]
    data = pa.py_buffer(values)
    width = 8 * rows
    return [pa.Array.from_buffers(kind, rows, [None, data.slice(place * width, width)], 0) for place in places]


def _array(kind: pa.DataType, rows: int, data: pa.Buffer, unknown: Values | None) -> pa.Array:
    nulls = 0 if unknown is None else int(np.count_nonzero(unknown))
    if unknown is None or not nulls:
        return pa.Array.from_buffers(kind, rows, [None, data], 0)
    bitmap = pa.py_buffer(np.packbits(~unknown, bitorder="little"))
    return pa.Array.from_buffers(kind, rows, [bitmap, data], nulls)


def _from_words(column: pa.Array, words: int) -> Values:
    """Python ints of a decimal column whose values are little-endian two's complements of 64-bit words."""
    raw = np.frombuffer(column.buffers()[1] or b"", np.uint64).reshape(-1, words)
    raw = raw[column.offset :][: len(column)]
    values: Values = raw[:, -1].astype(np.int64).astype(object)
    for word in range(words - 2, -1, -1):
        values = values * 2**64 + raw[:, word].astype(object)
    return values
