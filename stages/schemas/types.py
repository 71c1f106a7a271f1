"""Arrow types of the columns that several kinds of record share, and the places of an exact number."""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec
import pyarrow as pa

DEFAULT_SCALE = 8
"""Decimal places of prices and sizes where a stream declares nothing."""
WIDE_SCALE = 24
"""Decimal places that hold every float64 of at least 1e-8 as printed, for sizes that went through a float."""
LARGEST_DECIMAL64 = 10**18 - 1
"""The largest count of units of a decimal64(18, scale)."""

NS_UTC = pa.timestamp("ns", tz="UTC")
INSTRUMENT = pa.dictionary(pa.int32(), pa.utf8())
SOURCE = pa.dictionary(pa.int16(), pa.utf8())
TRADE_TYPE = pa.dictionary(pa.int16(), pa.utf8())
WORD = pa.dictionary(pa.int16(), pa.utf8())
"""A word out of a list that venues write, such as the channels of a connection."""
NAME = pa.dictionary(pa.int8(), pa.utf8())
"""A word out of a short list, such as BAR_KINDS."""
EXACT = pa.decimal128(38, 18)
"""Exact numbers whose scale does not depend on the stream's, such as rates and increments."""


class Scaled(enum.Enum):
    """Columns whose type depends on the stream's scales."""

    PRICE = "price"
    SIZE = "size"
    LEVELS = "levels"


ColumnType: TypeAlias = pa.DataType | Scaled


class Scales(msgspec.Struct, frozen=True):
    """Decimal places of a stream's prices and of its sizes, 0 to 30; to 10 they are int64 counts of 10^-scale."""

    price: int = DEFAULT_SCALE
    size: int = DEFAULT_SCALE

    def declared(self, price: int | None, size: int | None) -> Scales:
        """These, but for what somebody declares."""
        return Scales(self.price if price is None else price, self.size if size is None else size)


def decimal_type(scale: int) -> pa.DataType:
    """Exact decimals with `scale` places: decimal64(18, scale) to scale 10, above it decimal128(38, scale).

    decimal64 reaches 10^(18 - scale) units and hands kernels its int64 buffer without a copy.
    """
    if not 0 <= scale <= 30:
        raise ValueError(f"expected a scale of 0 to 30 decimal places, found {scale}")
    return pa.decimal64(18, scale) if scale <= 10 else pa.decimal128(38, scale)


def resolved(kind: ColumnType, price: pa.DataType, size: pa.DataType) -> pa.DataType:
    """The Arrow type of a column in a stream whose prices and sizes are of these types."""
    if kind is Scaled.PRICE:
        return price
    if kind is Scaled.SIZE:
        return size
    if kind is Scaled.LEVELS:
        level = [pa.field("price", price, nullable=False), pa.field("size", size, nullable=False)]
        return pa.list_(pa.struct([*level, pa.field("count", pa.uint32())]))
    return kind
