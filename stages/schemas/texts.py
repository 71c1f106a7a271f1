"""Texts of decimal numbers and of times as exact int64 counts, in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from .arrays import Int64s
from .types import LARGEST_DECIMAL64

Texts: TypeAlias = Sequence[str | bytes | None] | pa.Array
LARGEST_INT64 = 2**63 - 1


class Counts(NamedTuple):
    """int64 counts, 0 where none was written; which rows were null, and which are at fault, None where no row is."""

    values: Int64s
    null: np.ndarray[Any, np.dtype[np.bool_]] | None
    faults: np.ndarray[Any, np.dtype[np.uint8]] | None


def decimal_units(texts: Texts, scale: int, limit: int = LARGEST_DECIMAL64) -> Counts:
    """Numbers such as `0.1`, `-3`, `+1E-7` in units of 10^-scale, exact.

    A row is at fault where it holds no number (1) or one of other than -limit to limit whole units (2).
    """
    from .text_kernels import read_decimals

    joined = _joined(texts)
    units, faults = np.zeros(len(joined.starts), np.int64), np.zeros(len(joined.starts), np.uint8)
    wrong = read_decimals(joined.text, joined.starts, joined.ends, scale, limit, units, faults)
    return joined.counts(units, faults, wrong)


def time_ns(texts: Texts) -> Counts:
    """Nanoseconds since 1970 of ISO 8601 times (`2021-07-22T22:36:07.123456Z`) or seconds (`1618678132.831468`), exact.

    UTC where no offset is written. A row is at fault where it holds no time (1) or one finer than nanoseconds or
    beyond int64 (2).
    """
    from .text_kernels import read_times

    joined = _joined(texts)
    ns, faults = np.zeros(len(joined.starts), np.int64), np.zeros(len(joined.starts), np.uint8)
    wrong = read_times(joined.text, joined.starts, joined.ends, ns, faults)
    return joined.counts(ns, faults, wrong)


def scale_that_holds(text: str) -> int | None:
    """The smallest scale whose type holds a number exactly; None where no scale does, or `text` is no number."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    significant = "".join(map(str, digits)).strip("0")
    if not significant:
        return 0
    trailing = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    places = max(0, -(exponent + trailing))
    whole = max(0, number.adjusted() + 1)
    if places <= 10 and whole + places <= 18:
        return places
    wide = max(places, 11)
    return wide if wide <= 30 and whole + wide <= 38 else None


class _Joined(NamedTuple):
    """Texts one after another, and where each begins and ends."""

    text: np.ndarray[Any, np.dtype[np.uint8]]
    starts: Int64s
    ends: Int64s
    null: np.ndarray[Any, np.dtype[np.bool_]] | None

    def counts(self, values: Int64s, faults: np.ndarray[Any, np.dtype[np.uint8]], wrong: int) -> Counts:
        if self.null is not None:
            faults[self.null] = 0
            wrong = int(np.count_nonzero(faults))
        return Counts(values, self.null, faults if wrong else None)


def _joined(texts: Texts) -> _Joined:
    array = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_binary())
    if array.type != pa.large_binary():
        array = array.cast(pa.large_binary())
    _, offsets, data = array.buffers()
    places = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1] if len(array) else _NOWHERE
    text = np.frombuffer(data, np.uint8) if data is not None and data.size else _NOTHING
    null = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    return _Joined(text, places[:-1], places[1:], null)


_NOWHERE = np.zeros(1, np.int64)
_NOTHING = np.zeros(0, np.uint8)
