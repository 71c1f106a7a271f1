"""What a recording's bars must keep: one bar per interval, and prices that can have been.

- A bar that repeats the one before it of the same instrument, value for value, is left out and counted: a row written
  twice, or files that overlap by a bar. Another bar over the same interval is an `InputError`, because nobody knows
  which of the two is true. Only bars over time are held to this; bars of ticks or volume may share their times.
- A high below the low, a close outside of them, and prices that are no finite numbers are an `InputError`. Prices that
  went through a float may be off by a billionth of their size, as adjusted prices often are.
- An open outside of low to high, and prices of zero or below (legal for some futures and spreads, but returns mean
  nothing there) are passed on, counted and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.schemas import BAR_KINDS, PRICE_TYPES

from .counts import Counts
from .instants import instant_said
from .text import Where

Numbers: TypeAlias = np.ndarray[Any, Any]
Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

DUPLICATES = "duplicate bars"
ODD_OPENS = "bars whose open is outside of low to high"
NOT_ABOVE_ZERO = "bars with a price of zero or below"
FLOAT_TOLERANCE = 1e-9

_OHLC = ("open", "high", "low", "close")
_CONTENT = (*_OHLC, "volume", "vwap", "trade_count", "buy_volume", "source", "is_complete", "is_empty")
"""Columns in which two bars over one interval must agree to be duplicates."""


class _Last(NamedTuple):
    """The newest bar of one instrument and price."""

    interval: tuple[int, int]
    row: pa.RecordBatch


class BarChecks:
    """Looks at the batches of one recording in turn; remembers the last bar of each instrument."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._last: dict[int, _Last] = {}

    def checked(self, bars: pa.RecordBatch, where: Where) -> pa.RecordBatch:
        """The bars that are no duplicates. Raises `InputError` for the first that cannot be."""
        if not bars.num_rows:
            return bars
        self._check_prices(bars, where)
        repeated = self._repeated(bars, where)
        if repeated is None:
            return bars
        self._counts.leave_out(DUPLICATES, int(repeated.sum()), where.place(int(np.flatnonzero(repeated)[0])))
        return bars.filter(pa.array(~repeated))

    def _check_prices(self, bars: pa.RecordBatch, where: Where) -> None:
        opened, high, low, close = (_numbers(bars.column(name)) for name in _OHLC)
        slack: Any = 0
        if high.dtype == np.float64:
            finite = np.isfinite(opened) & np.isfinite(high) & np.isfinite(low) & np.isfinite(close)
            if not finite.all():
                self._refuse(bars, where, int(np.flatnonzero(~finite)[0]), "finite prices")
            slack = FLOAT_TOLERANCE * np.maximum(np.abs(high), np.abs(low))
        for wrong, expected in (
            (high < low - slack, "a high that is not below the low"),
            ((close > high + slack) | (close < low - slack), "a close between low and high"),
        ):
            if wrong.any():
                self._refuse(bars, where, int(np.flatnonzero(wrong)[0]), expected)
        for doubtful, reason in (
            ((opened > high + slack) | (opened < low - slack), ODD_OPENS),
            (np.minimum(low, opened) <= 0, NOT_ABOVE_ZERO),
        ):
            if doubtful.any():
                first = int(np.flatnonzero(doubtful)[0])
                self._counts.doubt(reason, int(np.count_nonzero(doubtful)), where.place(first))

    def _refuse(self, bars: pa.RecordBatch, where: Where, row: int, expected: str) -> None:
        told = _told(bars, row, _OHLC)
        raise where.error(row, f"{expected} in the bar of {_name(bars, row)}", told, "correct or remove it")

    def _repeated(self, bars: pa.RecordBatch, where: Where) -> Flags | None:
        """Which bars repeat one before them; None for none. Raises `InputError` where one contradicts it."""
        keys = _codes(bars, "instrument_id") * len(PRICE_TYPES) + _codes(bars, "price_type")
        over_time = _codes(bars, "bar_kind") == BAR_KINDS.index("time")
        rows = np.flatnonzero(over_time)
        if not len(rows):
            return None
        if (keys != keys[0]).any():
            rows = rows[np.argsort(keys[rows], kind="stable")]
        keys, starts, ends = keys[rows], _ns(bars, "bar_start")[rows], _ns(bars, "bar_end")[rows]
        alike = keys[1:] == keys[:-1]
        twice = alike & (starts[1:] == starts[:-1]) & (ends[1:] == ends[:-1])
        repeated = np.zeros(bars.num_rows, bool)
        later, earlier = rows[1:][twice], rows[:-1][twice]
        if len(later):
            self._compare(bars.take(pa.array(earlier)), bars, later, where)
            repeated[later] = True
        firsts = np.flatnonzero(np.append(True, ~alike))
        for place in firsts.tolist():
            last = self._last.get(int(keys[place]))
            if last is not None and last.interval == (starts[place], ends[place]):
                self._compare(last.row, bars, rows[place : place + 1], where)
                repeated[rows[place]] = True
        for place in np.append(firsts[1:] - 1, len(rows) - 1).tolist():
            row = bars.take(pa.array(rows[place : place + 1]))
            self._last[int(keys[place])] = _Last((int(starts[place]), int(ends[place])), row)
        return repeated if repeated.any() else None

    def _compare(self, before: pa.RecordBatch, bars: pa.RecordBatch, rows: Numbers, where: Where) -> None:
        """Raises `InputError` for the first of `rows` that is not the same as its row of `before`."""
        after = bars.take(pa.array(rows))
        differs = {name: ~_equal(before.column(name), after.column(name)) for name in _CONTENT}
        wrong = np.logical_or.reduce(list(differs.values()))
        if not wrong.any():
            return
        place = int(np.argmin(np.where(wrong, rows, bars.num_rows)))
        names = [name for name in _CONTENT if differs[name][place]]
        raise where.error(
            int(rows[place]),
            f"one bar of {_name(after, place)}",
            f"another one with {_told(after, place, names)}, where {_told(before, place, names)} came before",
            "remove one of the two",
        )


def _name(bars: pa.RecordBatch, row: int) -> str:
    begin = instant_said(int(_ns(bars, "bar_start")[row]))
    return f"{bars.column('instrument_id')[row].as_py()} at {begin}"


def _told(bars: pa.RecordBatch, row: int, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {_plain(bars.column(name)[row].as_py())}" for name in names[:5])


def _plain(value: object) -> str:
    """A decimal without the zeros that its scale appends."""
    if not isinstance(value, Decimal):
        return str(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _numbers(column: pa.Array) -> Numbers:
    """Prices to compare with each other: whole counts of the scale where they are exact, else floats."""
    if pa.types.is_decimal64(column.type):
        return np.frombuffer(column.buffers()[1] or b"", np.int64)[column.offset :][: len(column)]
    values: Numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _codes(bars: pa.RecordBatch, name: str) -> Numbers:
    codes: Numbers = bars.column(name).indices.to_numpy().astype(np.int64)
    return codes


def _ns(bars: pa.RecordBatch, name: str) -> Numbers:
    moments: Numbers = bars.column(name).cast(pa.int64()).to_numpy()
    return moments


def _equal(left: pa.Array, right: pa.Array) -> Flags:
    """Row by row whether two columns hold the same; two nulls do, and so do two NaN."""
    if pa.types.is_floating(left.type):  # nulls become NaN too
        one, other = (column.to_numpy(zero_copy_only=False) for column in (left, right))
        return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))
    if pa.types.is_dictionary(left.type):
        left, right = left.indices, right.indices
    same = pc.fill_null(pc.equal(left, right), False)
    return np.asarray(pc.or_(same, pc.and_(pc.is_null(left), pc.is_null(right))).to_numpy(zero_copy_only=False))
