"""Hashes of what is true: rows in canonical form, so that neither batch cuts nor file formats nor paths show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import xxhash


class TableHash:
    """xxh3-128 over the rows of a table, column by column, the same however the rows are cut into batches.

    A column contributes its name, its logical type, its validity and its values (zero where null); text and
    binary contribute lengths and bytes; dictionaries count as their values.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[str, _ColumnHash] = {}

    def update(self, batch: pa.RecordBatch) -> None:
        if self._columns and list(self._columns) != batch.schema.names:
            raise ValueError(f"columns changed from {list(self._columns)} to {batch.schema.names}")
        for field, array in zip(batch.schema, batch.columns, strict=True):
            column = self._columns.get(field.name)
            if column is None:
                column = self._columns[field.name] = _ColumnHash(field.name, _value_type(field.type))
            column.update(array)
        self.rows += batch.num_rows

    def hexdigest(self) -> str:
        total = xxhash.xxh3_128(str(self.rows).encode())
        for column in self._columns.values():
            total.update(column.digest())
        return total.hexdigest()


class _ColumnHash:
    def __init__(self, name: str, value_type: pa.DataType) -> None:
        self._head = f"{name}\0{value_type}\0".encode()
        self._valid, self._values, self._lengths = xxhash.xxh3_128(), xxhash.xxh3_128(), xxhash.xxh3_128()

    def update(self, array: pa.Array) -> None:
        if isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        self._valid.update(_mask(array).data)
        kind = array.type
        if pa.types.is_boolean(kind):
            self._values.update(_numpy(array.fill_null(False).cast(pa.uint8())).data)
        elif pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
            self._update_text(array)
        elif pa.types.is_null(kind):
            pass
        elif pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
            self._update_fixed(array)
        else:
            for value in array.to_pylist():
                self._values.update(msgspec.json.encode(value, order="sorted", enc_hook=str) + b"\n")

    def _update_fixed(self, array: pa.Array) -> None:
        width = array.type.bit_width // 8
        if len(array) == 0:
            return
        buffer = array.buffers()[1]
        raw = np.frombuffer(buffer, np.uint8, len(array) * width, array.offset * width).reshape(-1, width)
        if array.null_count:
            raw = np.where(_mask(array).view(np.bool_)[:, None], raw, 0).astype(np.uint8)
        self._values.update(np.ascontiguousarray(raw).data)

    def _update_text(self, array: pa.Array) -> None:
        if array.null_count:
            array = array.fill_null(b"" if pa.types.is_binary(array.type) else "")
        if len(array) == 0:
            return
        wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
        width = np.int64 if wide else np.int32
        _, ends, data = array.buffers()
        offsets = np.frombuffer(ends, width, len(array) + 1, array.offset * np.dtype(width).itemsize)
        self._lengths.update(np.diff(offsets).astype(np.int64, copy=False).data)
        if data is not None:
            self._values.update(memoryview(data)[offsets[0] : offsets[-1]])

    def digest(self) -> bytes:
        return xxhash.xxh3_128(
            self._head + self._valid.digest() + self._values.digest() + self._lengths.digest()
        ).digest()


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if isinstance(kind, pa.DictionaryType) else kind


def _mask(array: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if not array.null_count:
        return np.ones(len(array), np.uint8)
    return _numpy(array.is_valid().cast(pa.uint8()))


def _numpy(array: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.ascontiguousarray(array.to_numpy(zero_copy_only=False))


def hash_value(value: Any) -> tuple[str, int]:
    """Hash and row count of any stored value; a value that is not tabular counts as one row."""
    if hasattr(value, "to_arrow"):
        value = value.to_arrow()
    elif type(value).__module__.startswith("pandas"):
        value = pa.Table.from_pandas(value)
    if isinstance(value, pa.RecordBatch):
        value = pa.Table.from_batches([value])
    if isinstance(value, pa.Table):
        table = TableHash()
        for batch in value.to_batches():
            table.update(batch)
        return table.hexdigest(), value.num_rows
    if isinstance(value, np.ndarray):
        head = f"{value.dtype.str}{value.shape}".encode()
        return xxhash.xxh3_128(head + np.ascontiguousarray(value).tobytes()).hexdigest(), len(
            value
        ) if value.ndim else 1
    if isinstance(value, bytes):
        return xxhash.xxh3_128(value).hexdigest(), 1
    return hash_plain(value), len(value) if isinstance(value, list) else 1


def hash_plain(value: Any) -> str:
    """Hash of plain data (dicts, lists, structs, numbers, text), whatever the order of its keys."""
    return xxhash.xxh3_128(msgspec.json.encode(value, order="sorted", enc_hook=str)).hexdigest()


def hash_files(paths: Sequence[Path], is_wanted: Callable[[], bool] = lambda: True) -> str:
    """Hash of the content of files, in the given order, without their names. Blocking.

    Returns early, with an empty text, once `is_wanted` says no; asked after every mebibyte.
    """
    total = xxhash.xxh3_128()
    for path in paths:
        one = xxhash.xxh3_128()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                one.update(block)
                if not is_wanted():
                    return ""
        total.update(one.digest())
    return total.hexdigest()
