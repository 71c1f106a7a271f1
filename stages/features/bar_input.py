"""What bars can be made of: columns of trades, quotes or finer bars, found by their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from pipeline import InputError, SchemaMismatch
from stages.schemas import bar_schema

from .exact import Numbers, Values

InputKind: TypeAlias = Literal["trades", "quotes", "bars"]
Price: TypeAlias = Literal["last", "bid", "ask", "mid"]

OHLC = ("open", "high", "low", "close")
_WAYS = "trades (price, size), quotes (bid_price, ask_price) or bars (open, high, low, close, volume)"
_MID_PLACES = 18
_NO_SIDES = np.zeros(0, np.int8)


@dataclass(frozen=True)
class BarInput:
    """How one stream's columns are read: as what, which price, and in which numbers."""

    kind: InputKind
    price: Price | None
    """The price that is watched; None for finer bars, which carry their own."""
    columns: tuple[str, ...]
    """The columns that prices come from."""
    prices: Numbers
    sizes: Numbers
    has_size: bool
    """Whether trades carry sizes, or finer bars volumes."""
    has_side: bool
    """Whether trades carry an aggressor's side, or finer bars a volume of buys."""

    @classmethod
    def of(cls, schema: pa.Schema, price: Price | None) -> BarInput:
        """Judge a schema by its names; `price` None takes the last trade, or the middle of bid and ask.

        Raises `SchemaMismatch` saying what was found where there is no time or nothing to make bars of.
        """
        names = set(schema.names)
        found = ", ".join(schema.names) or "no columns"
        if not names & {"ts_event", "ts_recv"}:
            raise SchemaMismatch(f"bars need a column 'ts_event' or 'ts_recv', found {found}")
        if names >= set(OHLC):
            if price is not None and "price_type" not in names:
                raise SchemaMismatch(
                    f"bars that do not say their price_type cannot be chosen by price: {price}; leave `price` out"
                )
            return cls._make(schema, "bars", price, OHLC, "volume", "buy_volume")
        if names >= {"bid_price", "ask_price"} and price != "last":
            price = price or "mid"
            columns = {"bid": ("bid_price",), "ask": ("ask_price",)}.get(price, ("bid_price", "ask_price"))
            return cls._make(schema, "quotes", price, columns, None, None)
        if "price" in names and price in (None, "last"):
            return cls._make(schema, "trades", "last", ("price",), "size", "aggressor_side")
        if price is not None:
            needed = "a column 'price'" if price == "last" else "columns 'bid_price' and 'ask_price'"
            raise SchemaMismatch(f"bars of the {price} price need {needed}, found {found}")
        raise SchemaMismatch(f"bars are made of {_WAYS}, found {found}")

    @classmethod
    def _make(
        cls,
        schema: pa.Schema,
        kind: InputKind,
        price: Price | None,
        columns: tuple[str, ...],
        size: str | None,
        side: str | None,
    ) -> BarInput:
        names = schema.names
        prices = Numbers.common({column: schema.field(column).type for column in columns})
        if price == "mid" and kind == "quotes":
            prices = middle_of(prices)
        has_size = size is not None and size in names and not pa.types.is_null(schema.field(size).type)
        has_side = has_size and side is not None and side in names
        if not has_size or size is None:
            sizes = prices
        elif kind == "bars" and has_side and side is not None:
            sizes = Numbers.common({column: schema.field(column).type for column in (size, side)})
        else:
            sizes = Numbers.of(size, schema.field(size).type)
        if object in (prices.dtype, sizes.dtype):
            prices, sizes = prices.wide(), sizes.wide()
        return cls(kind, price, columns, prices, sizes, has_size, has_side)

    @property
    def schema(self) -> pa.Schema:
        """The bars that come out: exact prices stay exact, the middle of two has one digit more."""
        return bar_schema(price=self.prices.type, size=self.sizes.type)

    def select(self, columns: pa.RecordBatch) -> pa.Array | None:
        """Which rows have all their prices (bool), None for all of them."""
        import pyarrow.compute as pc

        valid = None
        for name in self.columns:
            column = columns.column(name)
            if column.null_count:
                here = column.is_valid()
                valid = here if valid is None else pc.and_(valid, here)
        return valid

    def ticks(self, columns: pa.RecordBatch) -> tuple[Values, Values, Values]:
        """Price, size and side of trades or quotes; size and side are empty where there are none."""
        price = self._price(columns)
        size, side = np.zeros(0, self.sizes.dtype), _NO_SIDES
        if self.has_size:
            size = self.sizes.unpack(columns.column("size"))
        if self.has_side:
            sides = columns.column("aggressor_side").cast(pa.int8())
            side = (sides.fill_null(0) if sides.null_count else sides).to_numpy()
        return price, size, side

    def _price(self, columns: pa.RecordBatch) -> Values:
        if len(self.columns) == 1:
            return self.prices.unpack(columns.column(self.columns[0]))
        kind = Numbers.of(self.columns[0], columns.column(self.columns[0]).type)
        bid, ask = (kind.unpack(columns.column(name)).astype(self.prices.dtype) for name in self.columns)
        if self.prices.dtype == np.float64:
            floats: Values = (kind.as_floats(bid) + kind.as_floats(ask)) / 2
            return floats
        if (
            len(bid)
            and max(abs(int(side)) for side in (bid.min(), bid.max(), ask.min(), ask.max())) > self.prices.limit // 10
        ):
            raise InputError(
                f"the middle of bid and ask does not fit {self.prices.type}; use `price: bid` or `price: ask`"
            )
        middle: Values = (bid + ask) * 5
        return middle


def middle_of(prices: Numbers) -> Numbers:
    """How the middle of two prices is held: with one digit more, because halves need it."""
    if not pa.types.is_decimal(prices.type):
        return Numbers.of("mid", pa.float64())
    if prices.dtype is not object and prices.scale < _MID_PLACES:
        return Numbers.of("mid", pa.decimal64(18, prices.scale + 1))
    if prices.scale < 38:
        return Numbers.of("mid", pa.decimal128(38, prices.scale + 1))
    return Numbers.of("mid", pa.float64())


def schema_of_bars(inputs: Mapping[str, pa.Schema | None], price: Price | None) -> pa.Schema | None:
    """The bars inputs give; None where an input's columns are unknown. Raises `SchemaMismatch` naming the input."""
    found = {}
    for name, schema in inputs.items():
        if schema is None:
            return None
        try:
            found[name] = BarInput.of(schema, price)
        except SchemaMismatch as error:
            raise SchemaMismatch(f"input '{name}': {error}") from None
    if not found:
        return None
    first, *others = found
    for other in others:
        if found[other] != found[first]:
            raise SchemaMismatch(
                f"expected input '{other}' to be {found[first].kind} of {found[first].prices.type} as '{first}' is, "
                f"found {found[other].kind} of {found[other].prices.type}"
            )
    return found[first].schema


def columns_of_ticks(schema: pa.Schema, price: Price | None) -> frozenset[str] | None:
    """The columns of trades or quotes that bars are made of; None where they are finer bars, or none can be made."""
    try:
        found = BarInput.of(schema, price)
    except SchemaMismatch:
        return None
    if found.kind == "bars":
        return None
    sizes = [name for name, there in (("size", found.has_size), ("aggressor_side", found.has_side)) if there]
    prices = found.columns if found.kind == "trades" else ("bid_price", "ask_price")
    return frozenset({"ts_event", "ts_recv", "instrument_id", *prices, *sizes})
