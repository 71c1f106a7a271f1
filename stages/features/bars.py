"""The stage that makes bars over time of trades, quotes or finer bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import pyarrow as pa

from pipeline import Context, Duration, Stage, parse_duration

if TYPE_CHECKING:
    from .bar_builder import BarBuilder


class Bars(Stage, frozen=True):
    """Bars over `[start, end)` of event time, aligned to 1970-01-01 UTC, in the schema `stages.schemas.bar_schema`.

        minutes:
          type: bars
          inputs: [data]
          every: 1m
          price: mid          # last, bid, ask or mid; default: last of trades, mid of quotes, finer bars' own

    What the input is shows in its columns: `price` and `size` (trades), `bid_price` and `ask_price` (quotes), or
    `open` to `close` (finer bars). Exact prices stay exact. A bar is sent when event time has passed its end; the
    last one, cut off by the end of the stream, says `is_complete: false`. Intervals without a price are left out, or
    with `empty: fill` repeat the last close and say `is_empty: true`. Rows for a bar that has been sent are dropped
    and counted as `late_rows`.
    """

    is_feed: ClassVar[bool | None] = False

    every: Duration
    price: Literal["last", "bid", "ask", "mid"] | None = None
    empty: Literal["skip", "fill"] = "skip"

    def build(self, context: Context) -> BarBuilder:
        from .bar_builder import BarBuilder

        return BarBuilder(parse_duration(self.every), self.price, self.empty)

    def takes_record(self) -> str:
        return "trade" if self.price in (None, "last") else "quote"

    def columns_read(self, schema: pa.Schema) -> frozenset[str] | None:
        """Of trades and quotes what bars are made of."""
        from .bar_input import columns_of_ticks

        return columns_of_ticks(schema, self.price)

    def cadence_ns(self, inputs: Mapping[str, int | None]) -> int | None:
        return parse_duration(self.every)

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema | None:
        """The bar schema with the input's number types. Raises `SchemaMismatch` where bars cannot be made of it."""
        from .bar_input import schema_of_bars

        return schema_of_bars(inputs, self.price)
