"""Reads the parquet files of a NautilusTrader catalog: trades, quotes, bars and order book deltas.

Their numbers are integers of fixed width, of 10^-9 in 8 bytes or 10^-16 in 16; a file's metadata names its instrument.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline import InputError
from stages.schemas import BAR_KINDS, BAR_SOURCES, DEFAULT_SCALE, PRICE_TYPES, Scales, name_array, schema_of

from .counts import Counts
from .declaration import Declaration
from .instants import utc_array
from .parquet import Footer, chunks, footer_of
from .recording import Recording
from .standardizing import Standardizer
from .text import Where, converted

_PLACES = {8: 9, 16: 16}
"""Decimal places by the width of a number in bytes."""
_UNITS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}
_BAR_TYPE = re.compile(r".*-(\d+)-(SECOND|MINUTE|HOUR|DAY)-(LAST|BID|ASK|MID)-(EXTERNAL|INTERNAL)(@.*)?")


def is_nautilus(file: Path) -> bool:
    """Whether a parquet file's metadata and columns are those of a catalog."""
    found = footer_of(file)
    return b"price_precision" in found.told and b"instrument_id" in found.told and _kind(found) is not None


def open_nautilus(files: Sequence[Path], declared: Declaration) -> Recording:
    """The recording of files of one kind, of any instruments; reads their footers. Raises `InputError`."""
    footers = [footer_of(file) for file in files]
    kind = _kind(footers[0])
    for file, footer in zip(files, footers, strict=True):
        if _kind(footer) != kind or kind is None or b"instrument_id" not in footer.told:
            raise InputError(f"{file}: expected {kind}s as in {files[0].name}, found {', '.join(footer.schema.names)}")
        if kind == "bar":
            _bar_type(file, footer)
    prices = DEFAULT_SCALE if declared.scale is None else declared.scale
    schema = schema_of(kind or "trade", Scales(prices, prices if declared.size_scale is None else declared.size_scale))

    def read(counts: Counts) -> Iterator[pa.RecordBatch]:
        standard = Standardizer(schema, counts, sources=[file.name for file in files])
        for place, rows, where in chunks(files, footers[0].schema.names):
            standard.open(place)
            numbers = [name for name in rows.schema.names if name in schema.names and not name.startswith("ts_")]
            made = {name: _column(name, rows, schema, where) for name in numbers}
            made["ts_event"], made["ts_recv"] = _times(rows, "ts_event"), _times(rows, "ts_init")
            name = footers[place].told[b"instrument_id"].decode()
            made["instrument_id"] = (
                pa.array([name]).dictionary_encode().take(pa.array(np.zeros(rows.num_rows, np.int32)))
            )
            if kind == "bar":
                made |= _bars(made["ts_event"], *_bar_type(files[place], footers[place]))
            yield standard.batch(made, where)

    return Recording(schema, tuple(files), read)


def _kind(footer: Footer) -> str | None:
    names = set(footer.schema.names)
    for kind, telling in {"bar": "close", "quote": "bid_price", "trade": "trade_id", "book_delta": "action"}.items():
        if {telling, "ts_event", "ts_init"} <= names:
            return kind
    return None


def _column(name: str, rows: pa.RecordBatch, schema: pa.Schema, where: Where) -> pa.Array:
    values, kind = rows.column(name), schema.field(name).type
    if pa.types.is_fixed_size_binary(values.type):
        width = values.type.byte_width
        raw = values.buffers()[1].slice(values.offset * width, len(values) * width)
        words = np.frombuffer(raw, np.int64)
        if width == 8:  # as decimal128: low, high
            words = np.stack([words, np.where(words < 0, -1, 0)], axis=1).ravel()
        values = pa.Array.from_buffers(pa.decimal128(38, _PLACES[width]), len(values), [None, pa.py_buffer(words)])
    return converted(values, lambda part: part.cast(kind), f"a number that fits {kind}", where.at(name))


def _times(rows: pa.RecordBatch, name: str) -> pa.Array:
    return utc_array(rows.column(name).to_numpy().astype(np.int64))


def _bar_type(file: Path, footer: Footer) -> tuple[int, str, str]:
    """Length in ns, price type and source of a file's bars."""
    told = footer.told.get(b"bar_type", b"").decode()
    found = _BAR_TYPE.fullmatch(told)
    if found is None:
        raise InputError(f"{file}: expected bars of time, such as X.VENUE-1-MINUTE-LAST-EXTERNAL, found '{told}'")
    source = "venue" if found[4] == "EXTERNAL" else "internal"
    return int(found[1]) * _UNITS[found[2]] * 10**9, found[3].lower(), source


def _bars(ends: pa.Array, step: int, price_type: str, source: str) -> dict[str, pa.Array]:
    """What a bar says of itself; a catalog stamps bars at their end."""
    rows = len(ends)
    return {
        "bar_start": utc_array(ends.cast(pa.int64()).to_numpy() - step),
        "bar_end": ends,
        "interval_ns": pa.array(np.full(rows, step, np.int64)),
        "bar_kind": name_array("time", BAR_KINDS, rows),
        "price_type": name_array(price_type, PRICE_TYPES, rows),
        "source": name_array(source, BAR_SOURCES, rows),
        "is_complete": pa.array(np.ones(rows, bool)),
        "is_empty": pa.array(np.zeros(rows, bool)),
    }
