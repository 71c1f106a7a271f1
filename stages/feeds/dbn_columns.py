"""What becomes of each type of DBN record, as standard columns.

- TradeMsg: trade. `side` is the aggressor's.
- MBP1Msg, CMBP1Msg, BBOMsg, CBBOMsg: quote, one per record; with `schema: trade`, and always of TBBO, their trades.
- MBP10Msg: book_snapshot of ten levels.
- MBOMsg: book_delta with `order_id`: an order is added, changed to what is told, or cancelled by the size told, which
  may be a part of it. Trades and fills change no book by themselves: they are left out and counted, and a group's LAST
  moves to what is left of it.
- OHLCVMsg: bar, whose `ts_event` is its start in the file and its end here.
- InstrumentDefMsg: instrument. StatusMsg: instrument_status.

A price or time that the venue did not tell is null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.schemas import (
    ADD,
    ASK,
    BAR_KINDS,
    BAR_SOURCES,
    BID,
    BUY,
    CLEAR,
    DELETE,
    FLAG_LAST,
    NO_SIDE,
    PRICE_TYPES,
    SELL,
    UPDATE,
    name_array,
)

from .counts import Counts
from .dbn_symbols import Symbols
from .instants import utc_array
from .text import Where, converted

PLACES = 9
"""Decimal places of prices in DBN."""
KINDS_OF: dict[str, tuple[str, ...]] = {
    "TradeMsg": ("trade",),
    "MBP1Msg": ("quote", "trade"),
    "CMBP1Msg": ("quote", "trade"),
    "BBOMsg": ("quote",),
    "CBBOMsg": ("quote",),
    "MBP10Msg": ("book_snapshot",),
    "MBOMsg": ("book_delta",),
    "OHLCVMsg": ("bar",),
    "InstrumentDefMsg": ("instrument",),
    "StatusMsg": ("instrument_status",),
}
"""Kinds of record that a type can be read as, the usual one first."""

_NO_PRICE, _NO_TIME, _NO_LOT = 2**63 - 1, 2**64 - 1, 2**31 - 1
_LEVELS = 10
_SECONDS = {"OHLCV_1S": 1, "OHLCV_1M": 60, "OHLCV_1H": 3600, "OHLCV_1D": 86_400, "OHLCV_EOD": 86_400}
_ACTIONS = {b"A": ADD, b"M": UPDATE, b"C": DELETE, b"R": CLEAR}
_CLASSES = {"K": "equity", "F": "future", "C": "option", "P": "option", "X": "fx"}

Rows = np.ndarray[Any, Any]
Columns = dict[str, pa.Array]


def columns_of(
    kind: str, records: Sequence[Any], symbols: Symbols, schema: pa.Schema, where: Where, counts: Counts
) -> Columns:
    """Columns of records of one type; those that are none of `kind` are left out and counted."""
    layout = np.dtype(type(records[0])._dtypes)
    joined = b"".join(map(bytes, records))
    if len(joined) != len(records) * layout.itemsize:  # a stream may add to each when it was sent
        joined = b"".join(bytes(record)[: layout.itemsize] for record in records)
    rows = np.frombuffer(joined, layout)
    if kind == "trade":
        rows = _only(rows, rows["action"] == b"T", "a change of the book, which is no trade", where, counts)
    elif kind == "book_delta":
        rows = _book_changes(rows, where, counts)
    given = set(layout.names or ())
    moments = rows["ts_recv" if "ts_recv" in given else "ts_event"]
    made: Columns = {
        "instrument_id": symbols.names(rows["instrument_id"], moments),
        "ts_event": _times(rows["ts_event"]),
    }
    if "ts_recv" in given:
        made["ts_recv"] = _times(rows["ts_recv"])
    if "flags" in given:
        made["flags"] = pa.array(rows["flags"])
    if "sequence" in given:
        made["sequence"] = pa.array(rows["sequence"].astype(np.uint64))
    return made | _OWN[kind](Given(records, rows, symbols, schema, where))


@dataclass(frozen=True)
class Given:
    """Records of one type, as they are and as rows of numbers, and what their columns are to be."""

    records: Sequence[Any]
    """All of the run, of which `rows` may be a part."""
    rows: Rows
    symbols: Symbols
    schema: pa.Schema
    where: Where

    def price(self, name: str, units: Rows) -> pa.Array:
        """A column of prices from counts of 10^-9."""
        return self.exact(self.schema.field(name).type, units, PLACES, _NO_PRICE, name)

    def size(self, name: str, counts: Rows) -> pa.Array:
        return self.exact(self.schema.field(name).type, counts, 0, None, name)

    def exact(self, kind: pa.DataType, units: Rows, places: int, none: int | None, name: str) -> pa.Array:
        """Decimals from counts of 10^-places, null where they are `none`. Raises `InputError` if one does not fit."""
        absent = np.zeros(len(units), bool) if none is None else units == none
        words = np.zeros((len(units), 2), np.int64)  # of a decimal128: low, high
        words[:, 0] = np.where(absent, 0, units.astype(np.int64))
        words[:, 1] = np.where(words[:, 0] < 0, -1, 0)
        wide = pa.Array.from_buffers(pa.decimal128(38, places), len(units), [None, pa.py_buffer(words)])
        made = converted(wide, lambda part: part.cast(kind), f"a number that fits {kind}", self.where.at(name))
        return pc.if_else(pa.array(absent), pa.scalar(None, kind), made) if absent.any() else made


def _trades(given: Given) -> Columns:
    rows = given.rows
    return {
        "price": given.price("price", rows["price"]),
        "size": given.size("size", rows["size"]),
        "aggressor_side": _sides(rows, BUY, SELL),
    }


def _quotes(given: Given) -> Columns:
    rows = given.rows
    made = {
        "bid_price": given.price("bid_price", rows["bid_px_00"]),
        "bid_size": given.size("bid_size", rows["bid_sz_00"]),
        "ask_price": given.price("ask_price", rows["ask_px_00"]),
        "ask_size": given.size("ask_size", rows["ask_sz_00"]),
    }
    if "bid_ct_00" in (rows.dtype.names or ()):
        made |= {"bid_count": pa.array(rows["bid_ct_00"]), "ask_count": pa.array(rows["ask_ct_00"])}
    return made


def _book_changes(rows: Rows, where: Where, counts: Counts) -> Rows:
    """Rows that change a book, whole groups: the last that is left of each ends it."""
    changes = np.isin(rows["action"], list(_ACTIONS))
    if changes.all():
        return rows
    groups = np.append(0, np.cumsum((rows["flags"] & FLAG_LAST) > 0)[:-1])[changes]
    kept = _only(rows, changes, "a trade or fill, which changes no book", where, counts).copy()
    if len(kept):
        ends = np.append(groups[1:] != groups[:-1], True)
        kept["flags"] = np.where(ends, kept["flags"] | FLAG_LAST, kept["flags"])
    return kept


def _deltas(given: Given) -> Columns:
    rows = given.rows
    cleared = rows["action"] == b"R"
    actions = np.zeros(len(rows), np.int8)
    for letter, action in _ACTIONS.items():
        actions[rows["action"] == letter] = action
    return {
        "action": pa.array(actions),
        "side": _sides(rows, BID, ASK),
        "price": given.price("price", np.where(cleared, 0, rows["price"])),
        "size": given.size("size", np.where(cleared, 0, rows["size"])),
        "order_id": pa.array(rows["order_id"]),
    }


def _snapshots(given: Given) -> Columns:
    rows = given.rows
    return {
        "depth": pa.array(np.full(len(rows), _LEVELS, np.uint16)),
        "bids": _levels(given, "bid"),
        "asks": _levels(given, "ask"),
    }


def _levels(given: Given, side: str) -> pa.Array:
    """Levels of one side, best first; a level without a price is none."""
    rows, kind = given.rows, given.schema.field(f"{side}s").type

    def by_row(word: str) -> Rows:
        return np.stack([rows[f"{side}_{word}_{level:02d}"] for level in range(_LEVELS)], axis=1)

    prices = by_row("px")
    there = prices != _NO_PRICE
    level = kind.value_type
    values = [
        given.exact(level.field(0).type, prices[there], PLACES, None, f"{side}_px"),
        given.exact(level.field(1).type, by_row("sz")[there], 0, None, f"{side}_sz"),
        pa.array(by_row("ct")[there]),
    ]
    offsets = np.append(0, np.cumsum(there.sum(axis=1))).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.StructArray.from_arrays(values, fields=list(level)), type=kind
    )


def _bars(given: Given) -> Columns:
    rows = given.rows
    step = _SECONDS[given.records[0].rtype.name] * 10**9
    start = rows["ts_event"].astype(np.int64)
    times = {"bar_start": utc_array(start), "bar_end": utc_array(start + step), "ts_event": utc_array(start + step)}
    constant = {
        "interval_ns": pa.array(np.full(len(rows), step, np.int64)),
        "bar_kind": name_array("time", BAR_KINDS, len(rows)),
        "price_type": name_array("last", PRICE_TYPES, len(rows)),
        "source": name_array("venue", BAR_SOURCES, len(rows)),
        "is_complete": pa.array(np.ones(len(rows), bool)),
        "is_empty": pa.array(np.zeros(len(rows), bool)),
    }
    prices = {name: given.price(name, rows[name]) for name in ("open", "high", "low", "close")}
    return times | constant | prices | {"volume": given.size("volume", rows["volume"])}


def _instruments(given: Given) -> Columns:
    records, exact = given.records, pa.decimal128(38, 18)
    classes = [str(record.instrument_class.value) for record in records]
    increments = np.array([record.min_price_increment for record in records])
    lots = np.array([record.min_lot_size_round_lot for record in records])
    units = np.array([record.unit_of_measure_qty for record in records])
    return {
        "instrument_id": pa.array([given.symbols.named(record.raw_symbol) for record in records]),
        "raw_symbol": pa.array([record.raw_symbol for record in records]),
        "asset_class": pa.array([_CLASSES.get(one, one) for one in classes]),
        "quote": pa.array([record.currency or None for record in records], pa.utf8()),
        "settlement": pa.array([record.settl_currency or None for record in records], pa.utf8()),
        "price_increment": given.exact(exact, increments, PLACES, _NO_PRICE, "min_price_increment"),
        "size_increment": given.exact(exact, lots, 0, _NO_LOT, "min_lot_size_round_lot"),
        "multiplier": given.exact(exact, units, PLACES, _NO_PRICE, "unit_of_measure_qty"),
        "ts_valid_from": _times(np.array([record.activation for record in records], np.uint64)),
        "ts_valid_to": _times(np.array([record.expiration for record in records], np.uint64)),
    }


def _statuses(given: Given) -> Columns:
    return {
        "action": pa.array([_word(record.action) for record in given.records]),
        "reason": pa.array([_word(record.reason) for record in given.records]),
    }


def _word(value: Any) -> str:
    """The name of a word out of one of the library's lists, such as `pre_open`; a number that is in none as text."""
    return str(getattr(value, "name", value)).lower()


def _only(rows: Rows, wanted: Any, reason: str, where: Where, counts: Counts) -> Rows:
    if wanted.all():
        return rows
    counts.leave_out(reason, int(np.count_nonzero(~wanted)), where.place(int(np.argmax(~wanted))))
    left: Rows = rows[wanted]
    return left


def _sides(rows: Rows, bid: int, ask: int) -> pa.Array:
    letters = rows["side"]
    return pa.array(np.where(letters == b"B", bid, np.where(letters == b"A", ask, NO_SIDE)).astype(np.int8))


def _times(moments: Rows) -> pa.Array:
    """Times in ns, null where none was told."""
    absent = moments == _NO_TIME
    whole = utc_array(np.where(absent, 0, moments).astype(np.int64))
    return pc.if_else(pa.array(absent), pa.scalar(None, whole.type), whole) if absent.any() else whole


_OWN: dict[str, Callable[[Given], Columns]] = {
    "trade": _trades,
    "quote": _quotes,
    "book_delta": _deltas,
    "book_snapshot": _snapshots,
    "bar": _bars,
    "instrument": _instruments,
    "instrument_status": _statuses,
}
