"""Turns the columns of Tardis' files, which are text, into standard columns; times are microseconds.

Rows of a book that came in one message share their receive time, and the last of them ends the group. Where a snapshot
begins, what was known of the book is discarded: a clear goes before it. An amount of 0 deletes its level.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.schemas import ADD, ASK, BID, BUY, CLEAR, DELETE, FLAG_LAST, FLAG_SNAPSHOT, NO_SIDE, SELL, UPDATE

from .instants import utc_array
from .text import Where, converted, decimals, required
from .times import epoch_ns

BOOK = ("is_snapshot", "side", "price", "amount")
LEVEL = re.compile(r"(asks|bids)\[(\d+)\]\.(price|amount)")

Text = Iterator[tuple[pa.RecordBatch, Where]]
Columns = dict[str, pa.Array]


class Reader(ABC):
    """Reads one file, block by block."""

    def __init__(self, schema: pa.Schema, names: Sequence[str]) -> None:
        self.schema = schema
        self.names = names

    def columns(self, text: Text) -> Iterator[tuple[Columns, Where]]:
        for rows, where in text:
            made = common(rows, where) | self.own(rows, where)
            kept = self.kept(made)
            if kept is not None:
                made = {name: values.filter(kept) for name, values in made.items()}
            if len(made["ts_recv"]):
                yield made, where

    @abstractmethod
    def own(self, rows: pa.RecordBatch, where: Where) -> Columns:
        """The columns that only this type of file has."""

    def kept(self, made: Columns) -> pa.Array | None:
        """Which rows are records; None where all are."""
        return None

    def decimals(self, rows: pa.RecordBatch, source: str, standard: str, where: Where) -> pa.Array:
        """A column of text, exact in the type of a standard column."""
        kind = self.schema.field(standard).type
        values = decimals(rows.column(source), kind, where.at(source))
        return values if self.schema.field(standard).nullable else required(values, where.at(source))


class Deltas(Reader):
    """Changes of levels; remembers the last group, which may go on in the next block, and who is in a snapshot."""

    def __init__(self, schema: pa.Schema, names: Sequence[str]) -> None:
        super().__init__(schema, names)
        self._in_snapshot: dict[str, bool] = {}

    def own(self, rows: pa.RecordBatch, where: Where) -> Columns:
        size = self.decimals(rows, "amount", "size", where)
        snapshot = _words(rows, "is_snapshot", {"true": 1, "false": 0}, where).astype(bool)
        gone = pc.equal(size, pa.scalar(Decimal(0), size.type)).to_numpy(zero_copy_only=False)
        return {
            "action": pa.array(np.where(gone, DELETE, np.where(snapshot, ADD, UPDATE)).astype(np.int8)),
            "side": pa.array(_words(rows, "side", {"bid": BID, "ask": ASK}, where)),
            "price": self.decimals(rows, "price", "price", where),
            "size": size,
            "flags": pa.array(np.where(snapshot, FLAG_SNAPSHOT, 0).astype(np.uint8)),
            "order_id": pa.array(np.zeros(rows.num_rows, np.uint64)),
        }

    def columns(self, text: Text) -> Iterator[tuple[Columns, Where]]:
        held: pa.RecordBatch | None = None
        where = None
        for made, where in super().columns(text):
            rows = pa.RecordBatch.from_pydict(made)
            if held is not None:
                rows = pa.concat_batches([held, rows])
            ends = _group_ends(rows)
            complete = int(ends[-2]) + 1 if len(ends) > 1 else 0
            held = rows.slice(complete)
            if complete:
                yield self._grouped(rows.slice(0, complete), ends[:-1]), Where(where.file, 0)
        if held is not None and where is not None:
            yield self._grouped(held, _group_ends(held)), Where(where.file, 0)

    def _grouped(self, rows: pa.RecordBatch, ends: Any) -> Columns:
        """Whole groups, whose ends are known, with clears in front of snapshots."""
        flags = rows.column("flags").to_numpy().copy()
        flags[ends] |= FLAG_LAST
        begins = self._begins(rows, (flags & FLAG_SNAPSHOT) > 0)
        made = {name: rows.column(name) for name in rows.schema.names} | {"flags": pa.array(flags)}
        if not begins.any():
            return made
        source = np.repeat(np.arange(rows.num_rows), 1 + begins)
        clears = np.flatnonzero(np.repeat(begins, 1 + begins))[::2]
        made = {name: values.take(pa.array(source)) for name, values in made.items()}
        for name, value in {"action": CLEAR, "side": NO_SIDE, "flags": FLAG_SNAPSHOT}.items():
            values = made[name].to_numpy().copy()
            values[clears] = value
            made[name] = pa.array(values)
        is_clear = np.zeros(len(source), bool)
        is_clear[clears] = True
        for name in ("price", "size"):
            made[name] = pc.if_else(pa.array(is_clear), pa.scalar(Decimal(0), made[name].type), made[name])
        return made

    def _begins(self, rows: pa.RecordBatch, snapshot: Any) -> Any:
        """Which rows begin a snapshot of their instrument."""
        begins = np.zeros(rows.num_rows, bool)
        encoded = rows.column("instrument_id").dictionary_encode()
        codes = encoded.indices.to_numpy()
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            at = np.flatnonzero(codes == code)
            before = np.append(self._in_snapshot.get(name, False), snapshot[at[:-1]])
            begins[at] = snapshot[at] & ~before
            self._in_snapshot[name] = bool(snapshot[at[-1]])
        return begins


class Snapshots(Reader):
    """The best levels of both sides, which are pairs of columns; a side may have fewer."""

    def own(self, rows: pa.RecordBatch, where: Where) -> Columns:
        found = [LEVEL.fullmatch(name) for name in self.names]
        depth = 1 + max(int(match[2]) for match in found if match)
        return {
            "depth": pa.array(np.full(rows.num_rows, depth, np.uint16)),
            "bids": self._side(rows, "bids", depth, where),
            "asks": self._side(rows, "asks", depth, where),
        }

    def _side(self, rows: pa.RecordBatch, side: str, depth: int, where: Where) -> pa.Array:
        kind = self.schema.field(side).type
        level = {field.name: field for field in kind.value_type}
        by_row = pa.array(np.arange(rows.num_rows * depth).reshape(depth, rows.num_rows).T.ravel())
        parts = {}
        for word, source in (("price", "price"), ("size", "amount")):
            columns = [f"{side}[{at}].{source}" for at in range(depth)]
            exact = [decimals(rows.column(name), level[word].type, where.at(name)) for name in columns]
            parts[word] = pa.concat_arrays(exact).take(by_row)
        there = parts["price"].is_valid()
        counts = there.to_numpy(zero_copy_only=False).reshape(rows.num_rows, depth).sum(axis=1)
        prices = parts["price"].filter(there)
        levels = pa.StructArray.from_arrays(
            [
                prices,
                required(parts["size"].filter(there), where.at(f"{side}[].amount")),
                pa.nulls(len(prices), level["count"].type),
            ],
            fields=list(kind.value_type),
        )
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), levels, type=kind)


class Liquidations(Reader):
    """Orders of positions that were closed: `buy` closed a short."""

    def own(self, rows: pa.RecordBatch, where: Where) -> Columns:
        made = {
            "side": pa.array(_words(rows, "side", {"buy": BUY, "sell": SELL}, where)),
            "price": self.decimals(rows, "price", "price", where),
            "size": self.decimals(rows, "amount", "size", where),
        }
        return made | ({"order_id": rows.column("id")} if "id" in self.names else {})


class Ticker(Reader):
    """Funding rates with the prices they rest on, or the open interest; what is not told is null or no record."""

    def own(self, rows: pa.RecordBatch, where: Where) -> Columns:
        if "open_interest" in self.schema.names:
            values = rows.column("open_interest")
            kind = self.schema.field("open_interest").type
            return {"open_interest": decimals(values, kind, where.at("open_interest"))}
        paid = rows.column("funding_timestamp")
        return {
            "rate": self.decimals(rows, "funding_rate", "rate", where),
            "next_funding_ts": converted(paid, _optional_times, "a time in us", where.at("funding_timestamp")),
            "mark_price": self.decimals(rows, "mark_price", "mark_price", where),
            "index_price": self.decimals(rows, "index_price", "index_price", where),
        }

    def kept(self, made: Columns) -> pa.Array | None:
        if "open_interest" in made:
            return made["open_interest"].is_valid()
        told = [made[name].is_valid() for name in ("rate", "mark_price", "index_price")]
        return pc.or_(pc.or_(told[0], told[1]), told[2])


def common(rows: pa.RecordBatch, where: Where) -> Columns:
    """Times and names, which all types of file have."""
    times = {
        standard: utc_array(epoch_ns(required(rows.column(source), where.at(source)), "us", where.at(source)))
        for standard, source in (("ts_event", "timestamp"), ("ts_recv", "local_timestamp"))
    }
    symbol = pc.utf8_upper(required(rows.column("symbol"), where.at("symbol")))
    venue = pc.utf8_upper(required(rows.column("exchange"), where.at("exchange")))
    return times | {"instrument_id": pc.binary_join_element_wise(symbol, venue, ".")}


def _words(rows: pa.RecordBatch, column: str, known: Mapping[str, int], where: Where) -> Any:
    """int8 codes of a column of few words."""
    encoded = required(rows.column(column), where.at(column)).dictionary_encode()
    words = encoded.dictionary.to_pylist()
    for code, word in enumerate(words):
        if word not in known:
            at = int(np.argmax(encoded.indices.to_numpy() == code))
            raise where.at(column).error(at, f"one of {', '.join(known)}", repr(word))
    return np.array([known[word] for word in words], np.int8)[encoded.indices.to_numpy()]


def _group_ends(rows: pa.RecordBatch) -> Any:
    """Places of the last rows of groups: of one instrument, received at one time."""
    times = rows.column("ts_recv").cast(pa.int64()).to_numpy()
    codes = rows.column("instrument_id").dictionary_encode().indices.to_numpy()
    changes = (times[1:] != times[:-1]) | (codes[1:] != codes[:-1])
    return np.append(np.flatnonzero(changes), rows.num_rows - 1)


def _optional_times(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.int64()).cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("ns", tz="UTC"))
