"""Values of one column, in any form a decoder has them in, as an Arrow array; rows that do not fit are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation, localcontext
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from .arrays import decimal_array
from .kinds import Column
from .names import Names
from .texts import Counts, decimal_units, scale_that_holds, time_ns
from .types import INSTRUMENT, LARGEST_DECIMAL64, NAME, NS_UTC, TRADE_TYPE, Scaled
from .words import WORDS

Values: TypeAlias = Sequence[Any] | np.ndarray[Any, Any] | pa.Array
Misfits: TypeAlias = dict[int, str]
"""What was expected and found, by row."""

_CODES = {INSTRUMENT: pa.int32(), NAME: pa.int8()}
_NUMBER = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NO_FLOATS = "{}: expected decimal texts or integer units, found floats; exact numbers are parsed from the text"
_REFUSALS = (pa.ArrowException, TypeError, ValueError, OverflowError)


def converted(column: Column, kind: pa.DataType, values: Values, names: Names) -> tuple[pa.Array, Misfits]:
    """An array of type `kind` and the rows that do not fit, which hold a null or nothing of meaning.

    Numbers of instruments and words stay what they are, codes; their names are given to them by `named`.
    """
    misfits: Misfits
    if isinstance(values, pa.NullArray):
        array, misfits = pa.nulls(len(values), stored(kind)), {}
    elif kind == INSTRUMENT:
        array, misfits = _instruments(values, names)
    elif kind == NAME:
        array, misfits = _words(values, WORDS[column.name])
    elif kind == NS_UTC:
        array, misfits = _times(values)
    elif pa.types.is_decimal(kind):
        array, misfits = _decimals(column, kind, values)
    else:
        array, misfits = _plain(kind, values)
    if array.null_count and not column.nullable:
        for row in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
            misfits.setdefault(row, "expected a value, found none")
    return array, misfits


def named(column: Column, array: pa.Array, names: Names) -> pa.Array:
    """Codes of instruments and of words from a fixed list with the names they stand for; any other array as it is."""
    if column.type == INSTRUMENT:
        return pa.DictionaryArray.from_arrays(array, names.array())
    if column.type == NAME:
        return pa.DictionaryArray.from_arrays(array, words_array(WORDS[column.name]))
    return array


def stored(kind: pa.DataType) -> pa.DataType:
    """The type of the codes of a column of names, or the column's own."""
    return _CODES.get(kind, kind)


def repeated(column: Column, value: str | bytes | int | None, rows: int) -> Values:
    """One value for all rows."""
    if value is None:
        return pa.nulls(rows)
    if isinstance(value, int):  # flags in their own type, since Arrow's cast costs more than all else of a short run
        return np.full(rows, value, np.uint8 if column.type == pa.uint8() and 0 <= value < 256 else None)
    if isinstance(value, str) and column.type == TRADE_TYPE:
        return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int16), words_array((value,)))
    return [value] * rows


@lru_cache(maxsize=256)
def words_array(words: tuple[str, ...]) -> pa.Array:
    """Words as the values of a dictionary array."""
    return pa.array(words, pa.utf8())


def _instruments(values: Values, names: Names) -> tuple[pa.Array, Misfits]:
    if isinstance(values, np.ndarray):
        return _plain(pa.int32(), values)
    if isinstance(values, pa.Array):
        if pa.types.is_integer(values.type):
            return _plain(pa.int32(), values)
        written = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    else:
        try:
            written = pa.array(values, INSTRUMENT)
        except _REFUSALS:  # codes, or some of them
            return pa.array(
                [names.code(value) if isinstance(value, str) else value for value in values], pa.int32()
            ), {}
    codes = pa.array([names.code(name) for name in written.dictionary.to_pylist()], pa.int32())
    return codes.take(written.indices), {}


def _words(values: Values, words: tuple[str, ...]) -> tuple[pa.Array, Misfits]:
    if isinstance(values, np.ndarray | pa.Array):
        return _plain(pa.int8(), values)
    codes = {word: code for code, word in enumerate(words)}
    misfits = {
        row: f"expected one of {', '.join(words)}, found {value!r}"
        for row, value in enumerate(values)
        if value is not None and value not in codes
    }
    return pa.array([codes.get(value) for value in values], pa.int8()), misfits


def _times(values: Values) -> tuple[pa.Array, Misfits]:
    texts = _as_texts(values)
    if texts is None:
        stamped = isinstance(values, pa.Array) and values.type != pa.int64()
        array, misfits = _plain(NS_UTC if stamped else pa.int64(), values)
        return array.view(NS_UTC), misfits
    counts = time_ns(texts)
    said = "expected an ISO 8601 time or seconds since 1970"
    misfits = {row: f"{said}, found {_shown(values, row)}" for row in _rows_at_fault(counts)}
    return _array(counts).view(NS_UTC), misfits


def _decimals(column: Column, kind: pa.DataType, values: Values) -> tuple[pa.Array, Misfits]:
    if isinstance(values, pa.Array):
        if values.type == kind:
            return values, {}
        if pa.types.is_integer(values.type):
            null = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
            return _counted(kind, values.fill_null(0).to_numpy(zero_copy_only=False), null)
    if isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.integer):
        return _counted(kind, values, None)
    if isinstance(values, np.ndarray):
        raise TypeError(_NO_FLOATS.format(column.name))
    if pa.types.is_decimal128(kind):
        if not isinstance(values, pa.Array) and any(isinstance(value, float) for value in values):
            raise TypeError(_NO_FLOATS.format(column.name))
        return _one_by_one(
            lambda value: _exact(column, value, kind), values, kind, lambda row: _misfit(column, kind, values, row)
        )
    texts = _as_texts(values)
    if texts is None:
        texts = pa.array([_written(column, value) for value in values], pa.large_binary())
    counts = decimal_units(texts, kind.scale)
    misfits = {row: _misfit(column, kind, values, row) for row in _rows_at_fault(counts)}
    return _array(counts).view(kind), misfits


def _counted(kind: pa.DataType, units: np.ndarray[Any, Any], null: Any) -> tuple[pa.Array, Misfits]:
    """Units of 10^-scale as decimals."""
    misfits: Misfits = {}
    if len(units) and (units.max() > LARGEST_DECIMAL64 or units.min() < -LARGEST_DECIMAL64):
        for row in np.flatnonzero((units > LARGEST_DECIMAL64) | (units < -LARGEST_DECIMAL64)).tolist():
            misfits[row] = f"expected at most 18 digits, found {units[row]} units of 1e-{kind.scale}"
    array = decimal_array(units, kind.scale)
    if kind != array.type:  # EXACT
        array = array.cast(kind)
    if null is None:
        return array, misfits

    import pyarrow.compute as pc

    return pc.if_else(pa.array(null), pa.scalar(None, kind), array), misfits


def _plain(kind: pa.DataType, values: Values) -> tuple[pa.Array, Misfits]:
    try:
        if isinstance(values, pa.Array):
            return (values if values.type == kind else values.cast(kind)), {}
        if pa.types.is_string(kind) and _are_integers(values):
            return pa.array(values).cast(kind), {}
        return pa.array(values, kind), {}
    except _REFUSALS:
        rows = values.to_pylist() if isinstance(values, pa.Array) else list(values)
        return _one_by_one(
            lambda value: pa.array([value], kind)[0],
            rows,
            kind,
            lambda row: f"expected {kind}, found {rows[row]!r:.60}",
        )


def _are_integers(values: Values) -> bool:
    """Whether they look like whole numbers, such as ids that a venue does not write as texts."""
    if isinstance(values, np.ndarray):
        return bool(np.issubdtype(values.dtype, np.integer))
    return len(values) > 0 and isinstance(values[0], int) and not isinstance(values[0], bool)


def _one_by_one(
    convert: Callable[[Any], Any], values: Values, kind: pa.DataType, misfit: Callable[[int], str]
) -> tuple[pa.Array, Misfits]:
    found: list[Any] = []
    misfits: Misfits = {}
    for row, value in enumerate(values.to_pylist() if isinstance(values, pa.Array) else values):
        try:
            found.append(convert(value))
        except _REFUSALS:
            found.append(None)
            misfits[row] = misfit(row)
    return pa.array(found, kind), misfits


def _exact(column: Column, value: Any, kind: pa.DataType) -> Decimal | None:
    """One number as a decimal128; ValueError where it is none or does not fit."""
    written = _written(column, value)
    if written is None:
        return None
    if not _NUMBER.fullmatch(written):
        raise ValueError(written)
    try:
        number = Decimal(written.decode())
    except InvalidOperation as error:  # an exponent of more than 18 digits
        raise ValueError(written) from error
    if number and not -100 < number.adjusted() < 100:
        raise ValueError(written)
    with localcontext(prec=len(written) + 200):
        units = number.scaleb(kind.scale)
        if units != units.to_integral_value() or abs(units) >= 10**38:
            raise ValueError(written)
        return number.quantize(Decimal(1).scaleb(-kind.scale)) if number else Decimal(0)


def _misfit(column: Column, kind: pa.DataType, values: Values, row: int) -> str:
    text = _text(values, row)
    scale = scale_that_holds(text)
    said = f"expected a number that fits {kind}, found {text!r:.60}"
    if isinstance(column.type, Scaled) and scale is not None:
        return f"{said}; a {column.type.value} scale of {scale} holds it"
    return said


def _rows_at_fault(counts: Counts) -> list[int]:
    return [] if counts.faults is None else np.flatnonzero(counts.faults).tolist()


def _array(counts: Counts) -> pa.Array:
    if counts.null is None:
        return pa.array(counts.values)
    return pa.array(counts.values, mask=counts.null)


def _as_texts(values: Values) -> pa.Array | None:
    """Texts as an Arrow array; None where the values are others."""
    if isinstance(values, pa.Array):
        kind = values.type
        wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
        return values if wide or pa.types.is_string(kind) or pa.types.is_binary(kind) else None
    if isinstance(values, np.ndarray):
        return None
    try:
        return pa.array(values, pa.large_binary())
    except _REFUSALS:
        return None


def _written(column: Column, value: Any) -> bytes | None:
    """A number of any exact type as text."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, float):
        raise TypeError(_NO_FLOATS.format(column.name))
    return str(value).encode(errors="replace")


def _text(values: Values, row: int) -> str:
    value = values[row].as_py() if isinstance(values, pa.Array) else values[row]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _shown(values: Values, row: int) -> str:
    return f"{_text(values, row)!r:.60}"
