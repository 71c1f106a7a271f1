"""Reads LEAN's zipped text files, tick to daily, as exact standard records.

Times are milliseconds since local midnight (or a local date) in the market's data time zone. Equity prices are
counts of 1/10,000. Prices never pass through a float. Sizes of crypto quotes did, at the vendor (33.35399601000002):
they are kept as printed, as decimal128(38, 24). A bar of quotes has no volume, so `volume` is null; its sizes are
read with `schema: quote`, as the best bid and offer at the end of each bar. Of equity ticks the exchange letter is
not carried; the sale condition is `trade_type`, or `suspicious` where the vendor marks the tick so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import InputError
from stages.schemas import (
    BAR_KINDS,
    BAR_SOURCES,
    DEFAULT_SCALE,
    PRICE_TYPES,
    WIDE_SCALE,
    RecordKind,
    decimal_array,
    decimal_type,
    name_array,
    schema_of,
)

from .counts import Counts
from .declaration import Declaration
from .instants import Int64s, ns_of, utc_array
from .lean_layout import RESOLUTION_NS, Found, find_series
from .recording import Recording
from .standardizing import Standardizer
from .text import Where, blocks, converted, decimals, required, table
from .times import NAIVE, epoch_ns, localize

EQUITY_SCALE = 4
"""Equity prices are integers counting 10^-4 dollars."""

_OHLC = ("open", "high", "low", "close")
_BID_ASK = tuple(f"{side}_{price}" for side in ("bid", "ask") for price in _OHLC)
_TRADE_BARS = [("time", *_OHLC, "volume"), ("time", *_OHLC)]
_QUOTE_BARS = [
    ("time", *_BID_ASK[:4], "bid_size", *_BID_ASK[4:], "ask_size"),
    ("time", *_BID_ASK),
]
_TRADE_TICKS = [
    ("time", "price", "size", "exchange", "condition", "suspicious"),
    ("time", "price", "size"),
]
_QUOTE_TICKS = [
    ("time", "bid", "bid_size", "ask", "ask_size", "exchange", "condition", "suspicious"),
    ("time", "bid", "bid_size", "ask", "ask_size"),
    ("time", "bid", "ask"),
]


def open_lean(path: Path, declared: Declaration) -> Recording:
    """The recording of the one LEAN series at `path`; looks at names only. Raises `InputError`."""
    reader = _Reader(find_series(path, declared), declared)
    found = reader.found
    extra = (found.hours_database,) if found.hours_database else ()
    return Recording(reader.schema, (*found.files, *extra), reader.read)


class _Reader:
    def __init__(self, found: Found, declared: Declaration) -> None:
        self.found = found
        series = found.series
        self.record: RecordKind = _record(found, declared)
        self.quotes = series.kind == "quote"
        self.price_type = (declared.price or "mid") if self.quotes else "last"
        scale = DEFAULT_SCALE if declared.scale is None else declared.scale
        self.shift = EQUITY_SCALE if series.asset == "equity" else 0
        mid = self.record == "bar" and self.price_type == "mid"
        if not self.shift <= scale <= (9 if mid else 10):
            raise InputError(f"{found.files[0]}: expected a scale of {self.shift} to {9 if mid else 10}, found {scale}")
        self.price = pa.decimal64(18, scale)
        wide = series.asset.startswith("crypto") and self.record == "quote"
        size_scale = declared.size_scale
        if size_scale is None:
            size_scale = WIDE_SCALE if wide else DEFAULT_SCALE
        self.size = decimal_type(size_scale)
        self.schema = schema_of(self.record, price=pa.decimal64(18, scale + 1) if mid else self.price, size=self.size)
        self.layouts = {
            (True, True): _QUOTE_TICKS,
            (True, False): _TRADE_TICKS,
            (False, True): _QUOTE_BARS,
            (False, False): _TRADE_BARS,
        }[series.resolution == "tick", self.quotes]

    def read(self, counts: Counts) -> Iterator[pa.RecordBatch]:
        files = self.found.files
        standard = Standardizer(
            self.schema,
            counts,
            sources=[file.name for file in files],
            instruments=[self.found.series.instrument],
        )
        for place, file in enumerate(files):
            standard.open(place)
            yield from self._read_file(file, standard, counts)

    def _read_file(self, file: Path, standard: Standardizer, counts: Counts) -> Iterator[pa.RecordBatch]:
        clock = _Clock(self.found, file)
        names: tuple[str, ...] = ()
        row = 1
        for block in blocks(file):
            names = names or self._names(file, block)
            where = Where(file, row)
            text = table(block, names, where)
            row += text.num_rows
            if text.num_rows:
                columns = self._convert(text, clock, where, counts)
                if len(columns["ts_event"]):
                    whole = len(columns["ts_event"]) == text.num_rows
                    yield standard.batch(columns, where if whole else Where(file, 0))

    def _names(self, file: Path, block: bytes) -> tuple[str, ...]:
        cells = block.split(b"\n", 1)[0].count(b",") + 1
        for names in self.layouts:
            if len(names) == cells:
                return names
        layouts = " or ".join(",".join(names) for names in self.layouts)
        raise InputError(f"{file}: expected columns {layouts}, found {cells} columns")

    def _convert(self, text: pa.RecordBatch, clock: _Clock, where: Where, counts: Counts) -> dict[str, pa.Array]:
        starts, ends = clock.times(required(text.column("time"), where.at("time")), where)
        if self.record == "bar":
            return self._bars(text, starts, ends, where, counts)
        if self.record == "trade":
            return self._trades(text, starts, where)
        return self._best(text, ends, where)

    def _trades(self, text: pa.RecordBatch, starts: pa.Array, where: Where) -> dict[str, pa.Array]:
        columns = {
            "ts_event": starts,
            "price": required(self._price(text, "price", where), where.at("price")),
            "size": required(self._size(text, "size", where), where.at("size")),
            "aggressor_side": pa.array(np.zeros(text.num_rows, np.int8)),
        }
        if "condition" in text.schema.names:
            suspicious = pc.equal(text.column("suspicious"), "1")
            words = pc.if_else(pc.fill_null(suspicious, False), "suspicious", text.column("condition"))
            columns["trade_type"] = words
        return columns

    def _best(self, text: pa.RecordBatch, ends: pa.Array, where: Where) -> dict[str, pa.Array]:
        bar = "bid_close" in text.schema.names
        columns = {"ts_event": ends}
        for side in ("bid", "ask"):
            price = self._price(text, f"{side}_close" if bar else side, where)
            columns[f"{side}_price"] = price
            size = f"{side}_size"
            if size not in text.schema.names:
                continue
            columns[size] = self._size(text, size, where)
            if not bar:
                absent = pc.equal(price.cast(pa.float64()), 0.0)
                columns[f"{side}_price"] = pc.if_else(absent, pa.scalar(None, price.type), price)
                columns[size] = pc.if_else(absent, pa.scalar(None, self.size), columns[size])
        return columns

    def _bars(
        self, text: pa.RecordBatch, starts: pa.Array, ends: pa.Array, where: Where, counts: Counts
    ) -> dict[str, pa.Array]:
        columns = {"ts_event": ends, "bar_start": starts, "bar_end": ends}
        if self.price_type == "mid":
            for name in _OHLC:
                columns[name] = self._mid(text, name, where)
        else:
            prefix = f"{self.price_type}_" if self.quotes else ""
            for name in _OHLC:
                columns[name] = self._price(text, prefix + name, where)
        if "volume" in text.schema.names:
            columns["volume"] = self._size(text, "volume", where)
        if self.quotes:
            columns = _with_prices(columns, counts, self.price_type)
        else:
            for name in _OHLC:
                required(columns[name], where.at(name))
        rows = len(columns["ts_event"])
        columns["interval_ns"] = pa.array(np.full(rows, RESOLUTION_NS[self.found.series.resolution], np.int64))
        columns["bar_kind"] = name_array("time", BAR_KINDS, rows)
        columns["price_type"] = name_array(self.price_type, PRICE_TYPES, rows)
        columns["source"] = name_array("venue", BAR_SOURCES, rows)
        columns["is_complete"] = pa.array(np.ones(rows, bool))
        columns["is_empty"] = pa.array(np.zeros(rows, bool))
        return columns

    def _price(self, text: pa.RecordBatch, column: str, where: Where) -> pa.Array:
        """Prices at the stream's scale; counts of 10^-4 are read at a smaller scale and renamed, not multiplied."""
        kind = pa.decimal64(18, self.price.scale - self.shift)
        read = decimals(text.column(column), kind, where.at(column))
        if not self.shift:
            return read
        return pa.Array.from_buffers(self.price, len(read), read.buffers(), read.null_count, read.offset)

    def _size(self, text: pa.RecordBatch, column: str, where: Where) -> pa.Array:
        return decimals(text.column(column), self.size, where.at(column))

    def _mid(self, text: pa.RecordBatch, price: str, where: Where) -> pa.Array:
        """(bid + ask) / 2, exact with one more decimal place; null where a side is."""
        sides = [self._price(text, f"{side}_{price}", where) for side in ("bid", "ask")]
        units = [np.frombuffer(side.buffers()[1], np.int64)[side.offset :][: len(side)] for side in sides]
        total = units[0] + units[1]
        missing = np.zeros(len(total), bool)
        for side in sides:
            if side.null_count:
                missing |= side.is_null().to_numpy(zero_copy_only=False)
        if np.abs(total[~missing]).max(initial=0) >= 2 * 10**17:
            raise where.at(price).error(0, "prices whose middle fits", "larger ones", "declare a smaller `scale`")
        middle = decimal_array(total * 5, self.price.scale + 1)
        return pc.if_else(pa.array(missing), pa.scalar(None, middle.type), middle) if missing.any() else middle


class _Clock:
    """Turns a file's time column into UTC, its wall clock included."""

    def __init__(self, found: Found, file: Path) -> None:
        self._zone = found.zone
        self._resolution = found.series.resolution
        self._step = RESOLUTION_NS.get(self._resolution, 0)
        self._newest = -1
        self._folded = False
        self._midnight = 0
        if self._resolution not in ("hour", "daily"):
            day = file.name[:8]
            try:
                self._midnight = int(np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}", "ns").astype(np.int64))
            except ValueError:
                raise InputError(f"{file}: expected a date yyyymmdd in the name, found {day}") from None

    def times(self, texts: pa.Array, where: Where) -> tuple[pa.Array, pa.Array]:
        """The instants at which a row begins and ends, timestamp[ns, UTC]; equal for ticks."""
        where = where.at("time")
        if self._resolution in ("hour", "daily"):
            naive = converted(texts, _day_times, "a time yyyymmdd HH:MM", where)
            starts = localize(naive, self._zone)
            if self._resolution == "daily":
                return starts, localize(utc_array(ns_of(naive) + self._step).cast(NAIVE), self._zone)
        else:
            local = epoch_ns(texts, "ms", where)
            starts = self._localized(local)
        if not self._step:
            return starts, starts
        return starts, utc_array(ns_of(starts) + self._step)

    def _localized(self, local: Int64s) -> pa.Array:
        """Wall-clock times that step back within a day mean that clocks were set back: the second pass follows."""
        naive = utc_array(local + self._midnight).cast(NAIVE)
        if self._zone == "UTC":
            return localize(naive, "UTC")
        back = np.flatnonzero(np.diff(local, prepend=local[0]) < 0)
        turn = 0 if self._folded or local[0] < self._newest else int(back[0]) if len(back) else len(local)
        self._folded = self._folded or turn < len(local)
        self._newest = int(local[-1])
        first, second = naive.slice(0, turn), naive.slice(turn)
        return pa.concat_arrays([localize(first, self._zone), localize(second, self._zone, folded=True)])


def _record(found: Found, declared: Declaration) -> RecordKind:
    series = found.series
    if series.resolution != "tick":
        return "quote" if declared.schema == "quote" else "bar"
    return "quote" if series.kind == "quote" else "trade"


def _day_times(texts: pa.Array) -> pa.Array:
    return pc.strptime(texts, format="%Y%m%d %H:%M", unit="ns")


def _with_prices(columns: dict[str, pa.Array], counts: Counts, price_type: str) -> dict[str, pa.Array]:
    """Only the rows that have all four prices; the others are counted."""
    if not any(columns[name].null_count for name in _OHLC):
        return columns
    kept = columns["open"].is_valid()
    for name in _OHLC[1:]:
        kept = pc.and_(kept, columns[name].is_valid())
    counts.leave_out(f"bars without a {price_type} price", len(kept) - kept.true_count)
    return {name: column.filter(kept) for name, column in columns.items()}
