"""Closed bars as Arrow columns: one compiled call fills them, and what every bar says alike is made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from pipeline import NS_UTC
from stages.schemas import BAR_KINDS, BAR_SOURCES, PRICE_TYPES, SOURCE, name_array

from . import bar_closing as c
from . import bar_kernels as k
from .bar_input import OHLC, BarInput
from .exact import Floats, Numbers, Values, floats_of, lines, primitive
from .instruments import Instruments

CONSTANT_ROWS = 128
"""Columns that say the same in every row are made in multiples of this length, and sliced."""
_COUNTS = Numbers(pa.uint64(), np.int64, 0, 2**63 - 1)


@dataclass(frozen=True)
class ClosedBars:
    """Columns in the order of `names`, and the number of each row's instrument (int64)."""

    columns: list[pa.Array]
    owners: Values
    names: Sequence[str]
    _prices: Values
    _numbers: Numbers

    def floats(self, name: str) -> Floats:
        """A column as float64, NaN where null; prices without the way through Arrow."""
        if name in OHLC:
            return self._numbers.as_floats(self._prices[OHLC.index(name)])
        return floats_of(name, self.columns[self.names.index(name)])


class BarColumns:
    """Makes columns of one stream's closed bars; counts them, since a bar's ordinal is one of the columns."""

    def __init__(self, found: BarInput, every_ns: int) -> None:
        self.found = found
        self.every_ns = every_ns
        self.sent = 0
        self._names = tuple(found.schema.names)
        self._never_known = _never_known(found)
        wide = object in (found.prices.dtype, found.sizes.dtype)
        self._lay_out = c.lay_out.py_func if wide else c.lay_out

    def of(
        self, closed: Values, instruments: Instruments, price_type: str, complete: bool, empty: Values | None
    ) -> ClosedBars:
        """Columns of these cells in their order; `empty` (bool) says which were made where nothing was traded."""
        rows = len(closed)
        prices, sizes = self.found.prices, self.found.sizes
        whole = np.empty((5, rows), np.int64)
        codes = np.empty(rows, np.int32)
        price_lines = np.empty((4, rows), prices.dtype)
        size_lines = np.empty((2, rows), sizes.dtype)
        vwap = np.empty(rows)
        found = self._lay_out(
            closed, self.every_ns, self.sent, self._never_known, 10.0**prices.scale,
            whole, codes, price_lines, size_lines, vwap,
        )  # fmt: skip
        self.sent += rows
        stamps, starts = lines(NS_UTC, whole, c.END, c.START)
        unknown = closed["unknown"] if found & (k.NO_VOLUME | k.NO_COUNT | k.NO_BUY_VOLUME) else None
        source, no_sequence, flags, *told, yes, no = _constants(rows, self.every_ns, price_type)
        is_complete = yes if complete else no
        if complete and found & c.PARTIAL:
            is_complete = pa.array(closed["partial"] == 0)
        columns = [
            stamps,
            stamps,
            primitive(pa.uint64(), whole[c.SEQUENCE]),
            instruments.array(codes),
            source,
            no_sequence,
            flags,
            *prices.pack_lines(price_lines),
            self._known(k.NO_VOLUME, sizes, size_lines[c.VOLUME], unknown),
            primitive(pa.float64(), vwap, np.isnan(vwap) if found & c.NO_VWAP else None),
            self._known(k.NO_COUNT, _COUNTS, whole[c.COUNT], unknown),
            self._known(k.NO_BUY_VOLUME, sizes, size_lines[c.BUY_VOLUME], unknown),
            starts,
            stamps,
            *told,
            is_complete,
            no if empty is None else pa.array(empty),
        ]
        return ClosedBars(columns, whole[c.OWNER], self._names, price_lines, prices)

    def _known(self, bit: int, numbers: Numbers, values: Values, unknown: Values | None) -> pa.Array:
        """Sums, null where the `bit` of `unknown` says that nobody knows them."""
        if self._never_known & bit:
            return _nulls(len(values), numbers.type)
        return numbers.pack(values, None if unknown is None else unknown & bit != 0)


def _never_known(found: BarInput) -> int:
    """The bits of what trades or quotes with these columns do not tell."""
    if found.kind == "quotes":
        return k.NO_VOLUME | k.NO_BUY_VOLUME | k.NO_COUNT
    return (0 if found.has_size else k.NO_VOLUME) | (0 if found.has_side else k.NO_BUY_VOLUME)


@lru_cache(maxsize=256)
def _constants(rows: int, every_ns: int, price_type: str) -> tuple[pa.Array, ...]:
    """`source_id`, `sequence`, `flags`, `interval_ns`, `bar_kind`, `price_type`, `source`, then all true, all false.

    The numbers of rows a stream closes at a time are few, so that the slices, too, are mostly found again.
    """
    block = -(-rows // CONSTANT_ROWS) * CONSTANT_ROWS
    return tuple(column.slice(0, rows) for column in _constant_block(block, every_ns, price_type))


@lru_cache(maxsize=256)
def _nulls(rows: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(rows, kind)


@lru_cache(maxsize=64)
def _constant_block(rows: int, every_ns: int, price_type: str) -> tuple[pa.Array, ...]:
    source = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int16)), pa.array(["bars"], pa.utf8()))
    return (
        source.cast(SOURCE),
        pa.nulls(rows, pa.uint64()),
        pa.array(np.zeros(rows, np.uint8)),
        pa.array(np.full(rows, every_ns)),
        name_array("time", BAR_KINDS, rows),
        name_array(price_type, PRICE_TYPES, rows),
        name_array("internal", BAR_SOURCES, rows),
        pa.array(np.ones(rows, bool)),
        pa.array(np.zeros(rows, bool)),
    )
