"""A seeded market: trades, quotes or bars of many instruments, the same bytes on every machine.

All randomness is the raw 64-bit output of PCG64 and all state is integers (log prices count 1e-15), so only the
last step, exp, is left to the machine's mathematics, and its result is rounded to a tick. Each instrument drifts
up, down or sideways for `regime_rows` of its rows at a time, so that trend following has something to find.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import pyarrow as pa

from pipeline import Batch, Context, Duration, Feed, Footprint, Pacing, Stage, parse_duration, parse_instant
from stages.schemas import (
    BAR_KINDS,
    BAR_SOURCES,
    DEFAULT_SCALE,
    INSTRUMENT,
    PRICE_TYPES,
    SOURCE,
    decimal_array,
    name_array,
    schema_of,
)

from .instants import Int64s, utc_array
from .recording import cut, span_of

CHUNK_ROWS = 65_536
"""Rows made at a time, whatever the batch size."""
PRICE_TICK_SCALE = 2
START_PRICE = 100.0

_LOG_UNIT = 1e-15
_NORMAL_SCALE = 37_837.2
"""Standard deviation of the sum of four uniform 16-bit integers."""
_LOG_LIMIT = int(13.8 / _LOG_UNIT)
"""Log prices stay within a factor of a million of the start."""


class Synthetic(Stage, frozen=True):
    """A made-up market, seeded and repeatable, for demonstrations, tests and benchmarks.

    ```yaml
    containers:
      data:
        type: synthetic
        schema: bar
        instruments: [SYN.DEMO, WAVE.DEMO]
        rows: 100_000
        interval: 1m
        seed: 7
    ```

    `rows` counts all instruments together. `interval` is the length of a bar, or the mean time between two trades
    or quotes of one instrument. `volatility` is the standard deviation of the log return from one row of an
    instrument to its next, `drift` its mean, `trend` the strength of a regime's drift as a share of `volatility`.
    Prices have two decimal places. Without `seed` the run's seed is used.
    """

    is_feed: ClassVar[bool | None] = True

    tuning: ClassVar[frozenset[str]] = frozenset({"batch_rows"})

    schema: Literal["bar", "trade", "quote"] = "bar"
    instruments: tuple[str, ...] = ("SYN.DEMO",)
    rows: int = 100_000
    start: str = "2024-01-01T00:00:00Z"
    interval: Duration = "1m"
    seed: int | None = None
    volatility: float = 0.0005
    drift: float = 0.0
    trend: float = 0.1
    regime_rows: int = 500
    batch_rows: int = CHUNK_ROWS

    def __post_init__(self) -> None:
        problems = {
            "instruments": (0 < len(set(self.instruments)) == len(self.instruments), "distinct names"),
            "rows": (self.rows >= 0, "0 or more"),
            "volatility": (0 < self.volatility <= 0.2, "more than 0 and at most 0.2"),
            "drift": (abs(self.drift) <= 0.1, "-0.1 to 0.1"),
            "trend": (0 <= self.trend <= 1, "0 to 1"),
            "regime_rows": (self.regime_rows >= 1, "at least 1"),
            "batch_rows": (self.batch_rows >= 1, "at least 1"),
            "seed": (self.seed is None or self.seed >= 0, "0 or more"),
        }
        for name, (good, expected) in problems.items():
            if not good:
                raise ValueError(f"{name}: expected {expected}, found {getattr(self, name)!r}")
        if self.interval_ns() == 0:
            raise ValueError(f"interval: expected a duration such as '1m', found {self.interval!r}")
        try:
            parse_instant(self.start)
        except ValueError:
            raise ValueError(f"start: expected a time such as 2024-01-01T00:00:00Z, found {self.start!r}") from None

    def interval_ns(self) -> int:
        return parse_duration(self.interval)

    def span(self, rows: int | None = None) -> tuple[int, int] | None:
        """Bars are counted; trades and quotes, whose times are drawn, are made once."""
        wanted = self.rows if rows is None else min(self.rows, rows)
        if not wanted:
            return None
        if self.schema == "bar":
            begin, step = parse_instant(self.start), self.interval_ns()
            return begin + step, begin + -(-wanted // len(self.instruments)) * step
        made = msgspec.structs.replace(self, rows=wanted, seed=self.seed or 0)
        return span_of((batch.columns for batch in SyntheticFeed(made).batches()), wanted)

    def cadence_ns(self, inputs: Mapping[str, int | None]) -> int | None:
        return self.interval_ns() if self.schema == "bar" else None

    def build(self, context: Context) -> SyntheticFeed:
        seeded = self if self.seed is not None else msgspec.structs.replace(self, seed=context.seed)
        return SyntheticFeed(seeded)

    def footprint(self, members: int, rows: int | None) -> Footprint:
        made = self.rows if rows is None else min(self.rows, rows)
        return Footprint(rows=made, batch_rows=min(made, self.batch_rows))

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema:
        return schema_of(self.schema)


class SyntheticFeed(Feed):
    """Makes the market chunk by chunk in a thread."""

    pacing = Pacing()

    def __init__(self, recipe: Synthetic) -> None:
        self._recipe = recipe
        self._made = 0

    def batches(self) -> Iterator[Batch]:
        for columns in cut(self._chunks(), self._recipe.batch_rows):
            yield Batch(columns)

    def progress(self) -> str:
        return f"{self._made:,} of {self._recipe.rows:,} rows made"

    def _chunks(self) -> Iterator[pa.RecordBatch]:
        market = _Market(self._recipe)
        while self._made < self._recipe.rows:
            rows = min(CHUNK_ROWS, self._recipe.rows - self._made)
            yield market.chunk(self._made, rows)
            self._made += rows


class _Market:
    """All instruments' state: log price, rows so far, and last price in ticks, one entry each."""

    def __init__(self, recipe: Synthetic) -> None:
        seed = recipe.seed or 0
        self._recipe = recipe
        self._schema = schema_of(recipe.schema)
        self._bits = np.random.PCG64(seed)
        self._seed = np.uint64(seed & (2**64 - 1))
        count = len(recipe.instruments)
        self._count = count
        self._interval = recipe.interval_ns()
        self._now = parse_instant(recipe.start)
        self._log_price = np.zeros(count, np.int64)
        self._rows = np.zeros(count, np.int64)
        self._last_tick = np.full(count, round(START_PRICE * 10**PRICE_TICK_SCALE), np.int64)
        self._step = round(recipe.volatility / _LOG_UNIT / _NORMAL_SCALE)
        self._drift = round(recipe.drift / _LOG_UNIT)
        self._trend = round(recipe.trend * recipe.volatility / _LOG_UNIT)
        self._instruments = pa.array(recipe.instruments, pa.utf8())

    def chunk(self, first: int, rows: int) -> pa.RecordBatch:
        # A chunk draws whole words for CHUNK_ROWS rows, so that `rows` changes nothing but where the market ends.
        draws = self._bits.random_raw(2 * CHUNK_ROWS)
        normal, words = draws[:CHUNK_ROWS][:rows], draws[CHUNK_ROWS:][:rows]
        bars = self._recipe.schema == "bar"
        if bars:
            codes = (np.arange(first, first + rows) % self._count).astype(np.int32)
        else:
            codes = ((words & np.uint64(0xFFFF)) * np.uint64(self._count) >> np.uint64(16)).astype(np.int32)
        ticks, before = self._walk(codes, normal)
        make = {"bar": self._bars, "trade": self._trades, "quote": self._quotes}[self._recipe.schema]
        columns = make(first, ticks, before, words)
        columns["ts_recv"] = columns["ts_event"]
        columns["ingest_seq"] = columns["sequence"] = pa.array(np.arange(first, first + rows, dtype=np.uint64))
        columns["instrument_id"] = pa.DictionaryArray.from_arrays(codes, self._instruments).cast(INSTRUMENT)
        columns["source_id"] = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int16), pa.array(["synthetic"])).cast(
            SOURCE
        )
        columns["flags"] = pa.array(np.zeros(rows, np.uint8))
        arrays = [
            columns[column.name] if column.name in columns else pa.nulls(rows, column.type) for column in self._schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _walk(self, codes: np.ndarray[Any, Any], normal: np.ndarray[Any, Any]) -> tuple[Int64s, Int64s]:
        """Each row's price in ticks, and that of the same instrument's row before it."""
        order = np.argsort(codes.astype(np.uint16) if self._count <= 65_536 else codes, kind="stable")
        owners = codes[order]
        sizes = np.bincount(owners, minlength=self._count)
        starts = np.cumsum(sizes) - sizes
        nth = np.arange(len(order)) - starts[owners] + self._rows[owners]
        direction, busy = self._regimes(owners, nth // self._recipe.regime_rows)
        steps = _normal(normal[order]) * self._step * busy // 2 + direction * self._trend + self._drift
        walked = np.cumsum(steps)
        # The sums run across instruments; what ran before an instrument's first row is taken off again.
        offsets = np.concatenate(([0], walked))[starts]
        logs = np.clip(self._log_price[owners] + walked - offsets[owners], -_LOG_LIMIT, _LOG_LIMIT)
        prices = START_PRICE * 10**PRICE_TICK_SCALE * np.exp(logs * _LOG_UNIT)
        sorted_ticks = np.maximum(np.rint(prices).astype(np.int64), 1)
        sorted_before = np.empty_like(sorted_ticks)
        sorted_before[1:] = sorted_ticks[:-1]
        present = np.flatnonzero(sizes)
        sorted_before[starts[present]] = self._last_tick[present]
        last = starts[present] + sizes[present] - 1
        self._log_price[present] = logs[last]
        self._last_tick[present] = sorted_ticks[last]
        self._rows += sizes
        ticks, before = np.empty_like(sorted_ticks), np.empty_like(sorted_ticks)
        ticks[order], before[order] = sorted_ticks, sorted_before
        return ticks, before

    def _regimes(self, owners: np.ndarray[Any, Any], block: Int64s) -> tuple[Int64s, Int64s]:
        """Direction (-1, 0, 1) and liveliness in halves (1 to 4) of an instrument's regime, hashed from its number."""
        mixed = _mix(block.astype(np.uint64) ^ _mix(owners.astype(np.uint64) ^ _mix(self._seed)))
        direction = (mixed % np.uint64(3)).astype(np.int64) - 1
        lively = np.array([1, 2, 2, 4], np.int64)[(mixed >> np.uint64(32) & np.uint64(3)).astype(np.int64)]
        return direction, lively

    def _times(self, words: np.ndarray[Any, Any]) -> pa.Array:
        gap = (words >> np.uint64(16) & np.uint64(0xFFFF)).astype(np.int64)
        mean = max(self._interval // self._count, 1)
        moments = self._now + np.cumsum(gap * mean // 32_768)
        self._now = int(moments[-1])
        return utc_array(moments)

    def _trades(self, first: int, ticks: Int64s, before: Int64s, words: np.ndarray[Any, Any]) -> dict[str, Any]:
        bought = (words >> np.uint64(63)).astype(bool)
        return {
            "ts_event": self._times(words),
            "price": _prices(ticks),
            "size": decimal_array(_sizes(words), DEFAULT_SCALE),
            "aggressor_side": pa.array(np.where(bought, 1, 2).astype(np.int8)),
        }

    def _quotes(self, first: int, ticks: Int64s, before: Int64s, words: np.ndarray[Any, Any]) -> dict[str, Any]:
        spread = (words >> np.uint64(62)).astype(np.int64) + 1
        return {
            "ts_event": self._times(words),
            "bid_price": _prices(ticks),
            "bid_size": decimal_array(_sizes(words), DEFAULT_SCALE),
            "ask_price": _prices(ticks + spread),
            "ask_size": decimal_array(_sizes(_mix(words)), DEFAULT_SCALE),
        }

    def _bars(self, first: int, ticks: Int64s, before: Int64s, words: np.ndarray[Any, Any]) -> dict[str, Any]:
        rows = len(ticks)
        begins = self._now + np.arange(first, first + rows) // self._count * self._interval
        start, end = utc_array(begins), utc_array(begins + self._interval)
        # Wicks reach up to about one standard deviation beyond the body.
        reach = np.maximum(ticks * round(self._recipe.volatility * 2**20) >> 20, 1)
        up = (words & np.uint64(0xFFFF)).astype(np.int64) * reach >> 16
        down = (words >> np.uint64(16) & np.uint64(0xFFFF)).astype(np.int64) * reach >> 16
        return {
            "ts_event": end,
            "open": _prices(before),
            "high": _prices(np.maximum(ticks, before) + up),
            "low": _prices(np.maximum(np.minimum(ticks, before) - down, 1)),
            "close": _prices(ticks),
            "volume": decimal_array(_sizes(words) * 16, DEFAULT_SCALE),
            "trade_count": pa.array((words >> np.uint64(56)) + np.uint64(1)),
            "bar_start": start,
            "bar_end": end,
            "interval_ns": pa.array(np.full(rows, self._interval)),
            "bar_kind": name_array("time", BAR_KINDS, rows),
            "price_type": name_array("last", PRICE_TYPES, rows),
            "source": name_array("venue", BAR_SOURCES, rows),
            "is_complete": pa.array(np.ones(rows, bool)),
            "is_empty": pa.array(np.zeros(rows, bool)),
        }


def _prices(ticks: Int64s) -> pa.Array:
    return decimal_array(ticks * 10 ** (DEFAULT_SCALE - PRICE_TICK_SCALE), DEFAULT_SCALE)


def _sizes(words: np.ndarray[Any, Any]) -> Int64s:
    """Sizes of 0.001 to about 16.4 in steps of 0.001, small ones more often, as counts of 10^-8."""
    low = (words >> np.uint64(32) & np.uint64(0x7FFF)).astype(np.int64)
    high = (words >> np.uint64(47) & np.uint64(0x7FFF)).astype(np.int64)
    sizes: Int64s = ((low * high >> 16) + 1) * 10 ** (DEFAULT_SCALE - 3)
    return sizes


def _normal(words: np.ndarray[Any, Any]) -> Int64s:
    """Near-normal integers with mean 0 and deviation _NORMAL_SCALE: the sum of the words' four 16-bit parts."""
    parts = np.ascontiguousarray(words).view(np.uint16).reshape(-1, 4)
    total: Int64s = (parts[:, 0].astype(np.int64) + parts[:, 1] + parts[:, 2] + parts[:, 3]) - 131_070
    return total


def _mix(values: Any) -> Any:
    """splitmix64's finalizer: every bit of the result depends on every bit of the value."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return values ^ values >> np.uint64(31)
