"""A batch of bars as strategies see it: columns by name, or one bar at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from pipeline import InputError, SchemaMismatch
from stages.features.exact import floats_of

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Times: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

PRICES = ("open", "high", "low", "close")
TIMES = ("ts_event", "bar_start", "bar_end")


class Bars:
    """Bars of one instrument in time order; made once per batch and shared by every strategy that looks.

    `bars.close`, `bars["sma_10"]` and `bars[Feature.sma(10)]` are float64 arrays of `len(bars)` values, NaN where
    the column is null (a feature not yet formed). `ts_event`, `bar_start`, `bar_end` are int64 nanoseconds UTC.
    An unknown name raises `AttributeError` or `SchemaMismatch` and lists the columns there are. What strategies are
    handed is `guarded`: the arrays are shared with every other portfolio, and writing to them is an error.
    """

    def __init__(self, columns: pa.RecordBatch) -> None:
        self._columns = columns
        self._floats: dict[str, Floats] = {}
        self._times: dict[str, Times] = {}

    def __len__(self) -> int:
        return int(self._columns.num_rows)

    def __getitem__(self, key: Any) -> Floats:
        name = key if isinstance(key, str) else str(key.name)
        found = self._floats.get(name)
        if found is None:
            found = self._floats[name] = self._read(name)
        return found

    def __getattr__(self, name: str) -> Any:
        if name in TIMES:
            return self.times(name)
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except SchemaMismatch as error:
            raise AttributeError(str(error)) from None

    def times(self, name: str) -> Times:
        """A time column as int64 nanoseconds; `bar_end` may be missing where `ts_event` stands for it."""
        found = self._times.get(name)
        if found is None:
            found = self._times[name] = _as_times(self._column(name), name)
        return found

    @property
    def guarded(self) -> Bars:
        """The same bars, with arrays nobody can write to: `c = bars.close.copy()` to change them."""
        return _Guarded(self)

    def _column(self, name: str) -> pa.Array:
        index = self._columns.schema.get_field_index(name)
        if index < 0 and name == "bar_end":
            index = self._columns.schema.get_field_index("ts_event")
        if index < 0:
            raise SchemaMismatch(f"expected a column '{name}', found {', '.join(self._columns.schema.names)}")
        return self._columns.column(index)

    def _read(self, name: str) -> Floats:
        values = _as_floats(self._column(name), name)
        if name in PRICES and np.isnan(values).any():
            when = timestamp(int(self.times("bar_end")[np.flatnonzero(np.isnan(values))[0]]))
            raise InputError(f"the bar ending {when} has no {name} price; bars without trades carry the last price")
        return values

    def rows(self) -> Iterator[Any]:
        """Bars one by one, with the columns as attributes: floats (None where null), times as int nanoseconds."""
        names = [field.name for field in self._columns.schema if _is_number(field.type) or field.name in TIMES]
        make = _bar_type(tuple(names))
        lists = [self._plain(name) for name in names]
        return (make(*values) for values in zip(*lists, strict=True))

    def _plain(self, name: str) -> Sequence[Any]:
        if name in TIMES:
            return list(self.times(name).tolist())
        values = self[name]
        plain: list[Any] = values.tolist()
        for place in np.flatnonzero(np.isnan(values)).tolist():
            plain[place] = None
        return plain


class _Guarded(Bars):
    """Bars as strangers get them."""

    def __init__(self, bars: Bars) -> None:
        super().__init__(bars._columns)
        self._bars = bars

    def __getitem__(self, key: Any) -> Floats:
        values = self._bars[key].view()
        values.flags.writeable = False
        return values

    def times(self, name: str) -> Times:
        values = self._bars.times(name).view()
        values.flags.writeable = False
        return values

    @property
    def guarded(self) -> Bars:
        return self


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One bar: `bar.close`, `bar.ts_event`, `bar.sma_10`, or `bar["sma_10"]`, `bar[Feature.sma(10)]`."""

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key if isinstance(key, str) else key.name)


def timestamp(ns: int) -> str:
    """Nanoseconds UTC as people write them, without the zeros nobody reads."""
    seconds, rest = divmod(ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") if rest else text


@lru_cache(maxsize=64)
def _bar_type(names: tuple[str, ...]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Bar", [(name, Any) for name in names], bases=(Bar,), frozen=True, gc=False)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _as_floats(column: pa.Array, name: str) -> Floats:
    if column.type == pa.float64():
        filled = column.fill_null(float("nan")) if column.null_count else column
        return np.ascontiguousarray(filled.to_numpy(zero_copy_only=False))
    return np.ascontiguousarray(floats_of(name, column))  # Arrow's own cast of decimals is off by one bit for some


def _as_times(column: pa.Array, name: str) -> Times:
    if column.null_count:
        raise InputError(f"expected a time in every bar, found {column.null_count} nulls in '{name}'")
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64())
    elif not pa.types.is_integer(column.type):
        raise SchemaMismatch(f"expected times in column '{name}', found {column.type}")
    return np.ascontiguousarray(column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False))
