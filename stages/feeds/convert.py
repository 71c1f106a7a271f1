"""Turns columns of a table, text or typed, into standard columns: times, exact numbers, sides, names and bars."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import InputError, parse_duration
from stages.schemas import (
    BAR_KINDS,
    BAR_SOURCES,
    BUY,
    DEFAULT_SCALE,
    NO_SIDE,
    NS_UTC,
    PRICE_TYPES,
    SELL,
    decimal_type,
    name_array,
    schema_of,
)

from .columns import BUYER_IS_MAKER, VENUE, ColumnMap
from .declaration import Declaration
from .instants import ns_of, utc_array
from .text import Where, converted, decimals, required
from .times import format_to_try, guess_format, instants, localize

_SIDES = {
    **dict.fromkeys(("buy", "b", "bid", "1", "buyer", "long"), BUY),
    **dict.fromkeys(("sell", "s", "ask", "2", "-1", "seller", "short"), SELL),
    **dict.fromkeys(("", "0", "none", "no_aggressor", "unknown", "n"), NO_SIDE),
}
_MAKERS = {"true": SELL, "t": SELL, "1": SELL, "false": BUY, "f": BUY, "0": BUY}
HOUR_NS = 3_600_000_000_000
_NOT_NUMBERS = ("ts_event", "ts_recv", "bar_start", "bar_end", "instrument_id", "source_id", VENUE)


class Converter:
    """Conversions for one recording; remembers the time format and bar length its first rows show."""

    def __init__(self, mapped: ColumnMap, declared: Declaration, *, float_columns: frozenset[str]) -> None:
        """`float_columns` are the standard columns whose source is a float."""
        self._source = mapped.source
        self._kind = mapped.kind
        self._declared = declared
        self._formats: dict[str, str] = {}
        self._interval = parse_duration(declared.interval) if declared.interval else 0
        self._all = schema_of(mapped.kind)
        priced = {column.name for column in self._all if column.metadata and b"currency" in column.metadata[b"unit"]}
        sized = {column.name for column in self._all if column.metadata and b"base units" in column.metadata[b"unit"]}
        self.schema = schema_of(
            mapped.kind,
            price=self._number_type(declared.scale, bool(float_columns & priced - {"vwap"})),
            size=self._number_type(declared.size_scale, bool(float_columns & sized)),
        )

    def columns(self, table: pa.RecordBatch, where: Where) -> dict[str, pa.Array]:
        """Standard columns of a chunk of rows. Raises `InputError` naming the first row that cannot be read."""
        made: dict[str, pa.Array] = {}
        for standard, source in self._source.items():
            values, at = table.column(source), where.at(source)
            if pa.types.is_dictionary(values.type) and not standard.endswith("_id"):
                values = values.dictionary_decode()
            if standard in ("ts_event", "ts_recv", "bar_start", "bar_end"):
                made[standard] = self._times(standard, values, at)
            elif standard in ("aggressor_side", BUYER_IS_MAKER):
                words = _MAKERS if standard == BUYER_IS_MAKER else _SIDES
                made.setdefault("aggressor_side", _sides(values, words, at))
            elif standard not in (VENUE, "instrument_id", "ingest_seq"):
                made[standard] = self._values(standard, values, at)
        if "instrument_id" in self._source:
            made["instrument_id"] = self._instruments(table, where)
        if self._kind == "bar":
            self._complete_bars(made, table.num_rows, where)
        elif self._kind == "trade" and "aggressor_side" not in made:
            made["aggressor_side"] = pa.array(np.zeros(table.num_rows, np.int8))
        for column in self.schema:
            if column.name in made and not column.nullable:
                required(made[column.name], where.at(self._source.get(column.name, column.name)))
        if "ts_recv" not in made:
            required(made["ts_event"], where.at(self._source.get("ts_event", "ts_event")))
        return made

    def _number_type(self, scale: int | None, floats: bool) -> pa.DataType:
        declared = self._declared
        if declared.numbers == "float64" or (declared.numbers == "auto" and floats and scale is None):
            return pa.float64()
        return decimal_type(DEFAULT_SCALE if scale is None else scale)

    def _values(self, standard: str, values: pa.Array, where: Where) -> pa.Array:
        kind = self.schema.field(standard).type
        if values.type == kind or pa.types.is_dictionary(kind):
            return values
        if pa.types.is_decimal(kind) and (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            return decimals(values, kind, where)
        if pa.types.is_decimal(kind) and pa.types.is_integer(values.type):
            return decimals(values.cast(pa.utf8()), kind, where)
        if pa.types.is_decimal(kind) and pa.types.is_floating(values.type):
            rounded = pc.round(values, kind.scale)
            return converted(rounded, lambda part: part.cast(kind), f"a number that fits {kind}", where)
        return converted(values, lambda part: part.cast(kind), f"a value of type {kind}", where)

    def _times(self, standard: str, values: pa.Array, where: Where) -> pa.Array:
        zone = self._declared.time_zone
        if pa.types.is_timestamp(values.type):
            if values.type.tz is None:
                return localize(values.cast(pa.timestamp("ns")), zone)
            return values.cast(NS_UTC)
        if pa.types.is_date(values.type):
            return localize(values.cast(pa.timestamp("ns")), zone)
        required(values, where)
        texts = values if pa.types.is_string(values.type) else values.cast(pa.utf8())
        time_format = self._declared.time_format or self._formats.get(standard)
        if time_format is None and len(texts):
            time_format = guess_format(texts[0].as_py())
            if time_format is None:
                raise where.error(
                    0,
                    "a time (epoch s, ms, us, ns or ISO 8601)",
                    repr(texts[0].as_py()),
                    format_to_try(texts.slice(0, 1000).to_pylist()),
                )
            self._formats[standard] = time_format
        return instants(texts, time_format or "ns", zone, where)

    def _instruments(self, table: pa.RecordBatch, where: Where) -> pa.Array:
        column = self._source["instrument_id"]
        names = required(table.column(column), where.at(column))
        if pa.types.is_dictionary(names.type):
            return names
        names = names.cast(pa.utf8())
        if VENUE in self._source:
            venue = pc.utf8_upper(table.column(self._source[VENUE]).cast(pa.utf8()))
            names = pc.binary_join_element_wise(pc.utf8_upper(names), venue, ".")
        return names

    def _complete_bars(self, made: dict[str, pa.Array], rows: int, where: Where) -> None:
        if "bar_end" not in made:
            stamps = ns_of(made["ts_event"])
            step = self._bar_length(stamps, where)
            starts = stamps if self._declared.stamp == "start" else stamps - step
            made["bar_start"], made["bar_end"] = utc_array(starts), utc_array(starts + step)
            made["interval_ns"] = pa.array(np.full(rows, step, np.int64))
        elif "interval_ns" not in made:
            made.setdefault("bar_start", made["bar_end"])
            made["interval_ns"] = pa.array(ns_of(made["bar_end"]) - ns_of(made["bar_start"]))
        made["ts_event"] = made["bar_end"]
        constant = {
            "bar_kind": name_array("time", BAR_KINDS, rows),
            "price_type": name_array(self._declared.price or "last", PRICE_TYPES, rows),
            "source": name_array("venue", BAR_SOURCES, rows),
            "is_complete": pa.array(np.ones(rows, bool)),
            "is_empty": pa.array(np.zeros(rows, bool)),
        }
        for name, values in constant.items():
            made.setdefault(name, values)

    def _bar_length(self, stamps: np.ndarray[tuple[int], np.dtype[np.int64]], where: Where) -> int:
        if not self._interval:
            steps = np.diff(stamps[:1000])
            steps = steps[steps > 0]
            if not len(steps) and len(stamps) > 1 and stamps[-1] < stamps[0]:
                raise InputError(
                    f"{where.file}: expected bars at rising times, found the newest first; "
                    "sort its rows by time, the oldest first"
                )
            if not len(steps):
                raise InputError(
                    f"{where.file}: expected bars at rising times, found none; declare `interval`, such as "
                    "`--set containers.data.interval=1m`"
                )
            self._interval = int(steps.min())
            if self._interval == 23 * HOUR_NS and np.count_nonzero(steps == 24 * HOUR_NS) > len(steps) // 2:
                self._interval = 24 * HOUR_NS  # days of a place where clocks are set forward once a year
        return self._interval


def _sides(values: pa.Array, words: dict[str, int], where: Where) -> pa.Array:
    """int8 sides of texts, booleans or numbers; a null is no side."""
    if words is _SIDES and values.type == pa.int8() and not values.null_count and len(values):
        sides = values.to_numpy()
        if not ((sides < NO_SIDE) | (sides > SELL)).any():
            return values  # as we write them
    encoded = values.dictionary_encode()
    known = [(word or "").lower() for word in encoded.dictionary.cast(pa.utf8()).to_pylist()]
    for word in known:
        if word.strip() not in words and word:
            offset = pc.index(encoded.indices, known.index(word)).as_py()
            raise where.error(offset, f"one of {', '.join(filter(None, words))}", repr(word))
    codes = np.array([*(words.get(word.strip(), NO_SIDE) for word in known), NO_SIDE], np.int8)
    return pa.array(codes[encoded.indices.fill_null(len(known)).to_numpy()])
