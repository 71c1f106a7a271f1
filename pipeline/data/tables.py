"""Any stored value as a table, for streaming it as record batches and for writing it as parquet."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from .values import frame_table

_SCALARS = (type(None), bool, int, float, str, bytes, Decimal, datetime.datetime, datetime.date, datetime.time)


def as_table(value: Any) -> pa.Table:
    """The value as columns.

    Arrow data and frames are what they are. A dict or struct becomes one row, a list of them one row each; nested
    values become JSON text. Anything else fills a column `value`, an array of more dimensions as lists.
    """
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if type(value).__name__ == "DataFrame":
        return frame_table(value)
    if isinstance(value, dict | msgspec.Struct):
        return _rows_table([value])
    if isinstance(value, list | tuple) and value and all(isinstance(row, dict | msgspec.Struct) for row in value):
        return _rows_table(value)
    if isinstance(value, np.ndarray):
        return pa.table({"value": _array_column(value)})
    if isinstance(value, list | tuple):
        return pa.table({"value": _column(list(value))})
    return pa.table({"value": _column([value])})


def _rows_table(rows: Sequence[Any]) -> pa.Table:
    mappings: list[Mapping[Any, Any]] = [
        msgspec.structs.asdict(row) if isinstance(row, msgspec.Struct) else row for row in rows
    ]
    names = dict.fromkeys(name for row in mappings for name in row)
    if not names:
        # A row without columns has no form in parquet.
        return pa.table({"value": _column(list(mappings))})
    columns: dict[str, list[Any]] = {}
    for name in names:
        text = name if isinstance(name, str) else json_text(name)
        while text in columns:  # 1 and "1" are two keys
            text += "_"
        columns[text] = [row.get(name) for row in mappings]
    return pa.table({name: _column(values) for name, values in columns.items()})


def _column(values: list[Any]) -> pa.Array:
    """An Arrow array of plain values; JSON text where a value is nested or the values have no type in common."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    if all(isinstance(value, _SCALARS) for value in plain):
        try:
            return pa.array(plain)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
    return pa.array([None if value is None else json_text(value) for value in plain], type=pa.utf8())


def _array_column(array: np.ndarray[Any, Any]) -> pa.Array:
    if array.ndim == 0:
        return _column([array[()]])
    try:
        return pa.array(array if array.ndim == 1 else array.tolist())
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return _column(array.tolist())


def json_text(value: Any) -> str:
    """JSON of any value we store; the same text for equal values."""
    return msgspec.json.encode(_jsonable(value), order="deterministic").decode()


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_jsonable(item) for item in value), key=repr)
    if isinstance(value, msgspec.Struct):
        return _jsonable(msgspec.structs.asdict(value))
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    if isinstance(value, pa.RecordBatch | pa.Table):
        return _jsonable(value.to_pylist())
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, complex):
        return [value.real, value.imag]
    return value
