"""Finer bars as the arrays that coarser ones are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import InputError, SchemaMismatch, said_duration

from .bar_input import OHLC, BarInput
from .exact import Floats, Numbers, Values

NO_VOLUME, NO_BUY_VOLUME, NO_COUNT = 1, 2, 4


class FinerBars:
    """Reads batches of bars; remembers which price they are of, because a stream of bars has one."""

    def __init__(self, found: BarInput, every_ns: int) -> None:
        self.found = found
        self.every_ns = every_ns
        self.price_type: str | None = found.price

    def select(self, columns: pa.RecordBatch) -> pa.Array | None:
        """Which rows count (bool; None for all): those with trades in them, of the price asked for.

        Raises `InputError` where bars of several prices come and none was asked for.
        """
        names = columns.schema.names
        chosen = None
        if "price_type" in names:
            prices = pc.cast(columns.column("price_type"), pa.utf8())
            if self.found.price is not None:
                chosen = pc.equal(prices, self.found.price)
            else:
                self._watch({str(name) for name in pc.unique(prices).to_pylist()})
        if "is_empty" in names and columns.column("is_empty").true_count:
            here = pc.invert(columns.column("is_empty"))
            chosen = here if chosen is None else pc.and_(chosen, here)
        return chosen

    def times(self, columns: pa.RecordBatch, times: Values) -> tuple[Values, Values]:
        """Start and end of each bar, ns: `bar_start` and `bar_end`, or what `ts_event` and `interval_ns` say.

        Without a start, a bar counts to the interval its last nanosecond lies in. Raises `SchemaMismatch`
        where an input interval does not divide the one wanted.
        """
        names = columns.schema.names
        ends = _ns(columns.column("bar_end")) if "bar_end" in names else times
        if "interval_ns" in names:
            intervals = columns.column("interval_ns").cast(pa.int64()).fill_null(1).to_numpy()
            for interval in np.unique(intervals):
                if interval <= 0 or self.every_ns % interval:
                    raise SchemaMismatch(
                        f"expected bars finer than {said_duration(self.every_ns)} that fit into it, found bars of "
                        f"{said_duration(int(interval))}; ask for a multiple, such as "
                        f"`--set containers.features.bars={said_duration(int(interval))}`"
                    )
        starts = _ns(columns.column("bar_start")) if "bar_start" in names else ends - 1
        return starts, ends

    def values(self, columns: pa.RecordBatch) -> tuple[Values, ...]:
        """Open, high, low, close, volume, buy volume, vwap (units of prices), trades, unknown bits, is complete."""
        prices, sizes = self.found.prices, self.found.sizes
        rows = columns.num_rows
        unknown = np.zeros(rows, np.int64)
        volume = _known(columns, "volume", sizes, unknown, NO_VOLUME)
        buy_volume = _known(columns, "buy_volume", sizes, unknown, NO_BUY_VOLUME)
        trades = _known(columns, "trade_count", _COUNTS, unknown, NO_COUNT)
        complete = np.ones(rows, bool)
        if "is_complete" in columns.schema.names:
            complete = columns.column("is_complete").fill_null(True).to_numpy(zero_copy_only=False)
        ohlc = (prices.unpack(columns.column(name)) for name in OHLC)
        return (*ohlc, volume, buy_volume, self._vwap(columns), trades, unknown, complete)

    def _vwap(self, columns: pa.RecordBatch) -> Floats:
        if "vwap" not in columns.schema.names:
            return np.full(columns.num_rows, np.nan)
        column = columns.column("vwap").cast(pa.float64(), safe=False).fill_null(float("nan"))
        floats: Floats = column.to_numpy(zero_copy_only=False) * 10.0**self.found.prices.scale
        return floats

    def _watch(self, found: set[str]) -> None:
        if self.price_type is None:
            self.price_type = min(found)
        if found != {self.price_type}:
            raise InputError(
                f"expected bars of one price, found {', '.join(sorted(found | {self.price_type}))}; "
                f"choose one with `price: {self.price_type}`"
            )


_COUNTS = Numbers.of("trade_count", pa.int64())


def _known(columns: pa.RecordBatch, name: str, numbers: Numbers, unknown: Values, bit: int) -> Values:
    """A column's numbers; where it is null or missing 0, and `bit` is set in `unknown`."""
    index = columns.schema.get_field_index(name)
    if index < 0 or pa.types.is_null(columns.schema.field(index).type):
        unknown |= bit
        return np.zeros(columns.num_rows, numbers.dtype)
    column: Any = columns.column(index)
    if column.null_count:
        unknown[pc.is_null(column).to_numpy(zero_copy_only=False)] |= bit
    return numbers.unpack(column)


def _ns(column: pa.Array) -> Values:
    values: Values = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64()).to_numpy()
    return values
