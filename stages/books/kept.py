"""What a batch of book deltas becomes: rows to publish, in the order of the groups they came of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas import (
    ADD,
    ASK,
    BID,
    CLEAR,
    DELETE,
    FLAG_LAST,
    FLAG_MAYBE_BAD_BOOK,
    FLAG_SNAPSHOT,
    FLAG_TOB,
    NO_CHANGE,
    QUALITY_KINDS,
    name_array,
)
from .layout import NONE, QUOTE_WIDTH
from .received import Received, units_array
from .shelf import Ints

MADE_WIDTH = 8
"""A row that no venue sent: row it is stamped as, action, side, price, size, flags, sequence, time."""

NO_QUOTES: Ints = np.zeros((0, QUOTE_WIDTH), np.int64)


class SnapshotNeeded(msgspec.Struct, frozen=True):
    """A book can go on only from a fresh snapshot: to be fetched, or to be had by subscribing anew."""

    instrument_id: str


class Kept(msgspec.Struct, frozen=True):
    """What came of one batch, rows in the order of its groups."""

    deltas: pa.RecordBatch
    quotes: pa.RecordBatch
    snapshots: pa.RecordBatch
    quality: pa.RecordBatch
    requests: list[SnapshotNeeded]


class Note(msgspec.Struct, frozen=True):
    """A quality event about one group."""

    group: int
    kind: str
    seq_expected: int | None = None
    seq_got: int | None = None
    missing: int | None = None
    gap_start: int | None = None
    gap_end: int | None = None
    action_taken: str | None = None
    detail: str | None = None


def whole_book(bids: tuple[Ints, Ints], asks: tuple[Ints, Ints], row: int, sequence: int, time: int, bad: bool) -> Ints:
    """A book as rows to make: a clear, then all levels as adds, best first, bids before asks."""
    count = len(bids[0])
    made = np.zeros((1 + count + len(asks[0]), MADE_WIDTH), np.int64)
    made[:, 0] = row
    made[0, 1], made[1:, 1] = CLEAR, ADD
    for side, rows, (prices, sizes) in ((BID, slice(1, 1 + count), bids), (ASK, slice(1 + count, None), asks)):
        made[rows, 2], made[rows, 3], made[rows, 4] = side, prices, sizes
    made[:, 5] = FLAG_SNAPSHOT | (FLAG_MAYBE_BAD_BOOK if bad else 0)
    made[-1, 5] |= FLAG_LAST
    made[:, 6], made[:, 7] = sequence, time
    return made


def deltas(
    received: Received,
    published: Sequence[tuple[int, int]],
    crossed: np.ndarray[Any, np.dtype[np.int8]],
    trimmed: Ints,
    made: Sequence[Ints],
    schema: pa.Schema,
) -> pa.RecordBatch:
    """Rows of the groups in `published` as they came, what was cut off after them, and rows made; in order of rows."""
    batch = received.batch
    if "checksum" in batch.schema.names:
        batch = batch.drop_columns(["checksum"])
    rows = batch.num_rows
    whole = published == [(0, len(received))] or not len(received)
    if whole and not len(trimmed) and not made and not crossed.any() and (received.action != NO_CHANGE).all():
        return batch.cast(schema) if batch.schema != schema else batch
    keep = np.zeros(rows, np.bool_)
    for first, last in published:
        keep[received.starts[first] : received.starts[last]] = True
    keep &= received.action != NO_CHANGE
    flags = received.flags.view(np.uint8).copy()
    if crossed.any():
        flags[np.repeat(crossed != 0, np.diff(received.starts))] |= FLAG_MAYBE_BAD_BOOK
    cut = np.zeros((len(trimmed), MADE_WIDTH), np.int64)
    if len(trimmed):
        groups, asks = trimmed[:, 0], trimmed[:, 1] % 2
        cut[:, 0] = received.last[groups]
        cut[:, 1], cut[:, 2], cut[:, 3] = DELETE, BID + asks, np.where(asks, -trimmed[:, 2], trimmed[:, 2])
        cut[:, 6], cut[:, 7] = received.sequence[groups], received.time[groups]
        cut[:, 5] = flags[cut[:, 0]] & ~np.uint8(FLAG_LAST)
        cut[np.append(groups[1:] != groups[:-1], True), 5] |= FLAG_LAST
        flags[cut[:, 0]] &= ~np.uint8(FLAG_LAST)
    kept = np.flatnonzero(keep)
    more = np.concatenate([cut, *made])
    base = np.concatenate([kept, more[:, 0]])
    order = np.argsort(base, kind="stable")
    own = (np.arange(len(base)) >= len(kept))[order]

    def merged(values: Any, place: int) -> Ints:
        given = np.concatenate([np.asarray(values)[kept].astype(np.int64), more[:, place]])[order]
        return np.asarray(given, np.int64)

    taken = batch.take(pa.array(base[order]))
    group_of = np.repeat(np.arange(len(received)), np.diff(received.starts))
    sequence, time = merged(received.sequence[group_of], 6), merged(received.time[group_of], 7)
    values = {
        "ts_event": nullable(time, pa.int64()).view(schema.field("ts_event").type),
        "sequence": nullable(sequence, pa.uint64()),
        "flags": pa.array(merged(flags, 5).astype(np.uint8)),
        "action": pa.array(merged(received.action, 1).astype(np.int8)),
        "side": pa.array(merged(received.side, 2).astype(np.int8)),
        "price": units_array(merged(received.price, 3), schema.field("price").type),
        "size": units_array(merged(received.size, 4), schema.field("size").type),
    }
    ours = pa.array(own)
    for name in ("first_sequence", "prev_sequence"):
        values[name] = pc.if_else(ours, pa.scalar(None, pa.uint64()), taken.column(name))
    return pa.RecordBatch.from_arrays([values.get(name, taken.column(name)) for name in schema.names], schema=schema)


def quotes(received: Received, rows: Ints, none: pa.RecordBatch) -> pa.RecordBatch:
    """Best quotes as compiled code left them; `none` is a batch without any, returned where there are none."""
    if not len(rows):
        return none
    schema = none.schema
    columns = _stamped(received, rows)
    for place, name in enumerate(("bid_price", "bid_size", "ask_price", "ask_size"), 3):
        columns[name] = units_array(rows[:, place], schema.field(name).type, rows[:, place] != NONE)
    columns["flags"] = pa.array((FLAG_TOB | rows[:, 7] * FLAG_MAYBE_BAD_BOOK).astype(np.uint8))
    for name in ("bid_count", "ask_count"):
        columns[name] = pa.nulls(len(rows), pa.uint32())
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def tops(received: Received, rows: Ints, depth: int, none: pa.RecordBatch) -> pa.RecordBatch:
    """Tops as compiled code left them; a side with fewer levels has a shorter list."""
    if not len(rows):
        return none
    schema = none.schema
    columns = _stamped(received, rows)
    columns["flags"] = pa.array((FLAG_LAST | rows[:, 3] * FLAG_MAYBE_BAD_BOOK).astype(np.uint8))
    columns["depth"] = pa.array(np.full(len(rows), depth, np.uint16))
    levels = rows[:, 4:].reshape(len(rows), 2, depth, 2)
    for half, name in enumerate(("bids", "asks")):
        kind = schema.field(name).type.value_type
        there = levels[:, half, :, 0] != NONE
        price, size = (levels[:, half, :, i][there] for i in (0, 1))
        structs = pa.StructArray.from_arrays(
            [
                units_array(price, kind.field("price").type),
                units_array(size, kind.field("size").type),
                pa.nulls(len(price), pa.uint32()),
            ],
            fields=list(kind),
        )
        offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
        columns[name] = pa.ListArray.from_arrays(pa.array(offsets), structs, type=schema.field(name).type)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def events(received: Received, notes: Sequence[Note], none: pa.RecordBatch) -> pa.RecordBatch:
    """Quality events, stamped as the groups they are about."""
    if not notes:
        return none
    schema = none.schema
    groups = np.array([note.group for note in notes], np.int64)
    columns = _stamped(received, np.stack([groups, received.sequence[groups], received.time[groups]], axis=1))
    columns["flags"] = pa.array(np.zeros(len(notes), np.uint8))
    kinds = np.array([QUALITY_KINDS.index(note.kind) for note in notes], np.int8)
    columns["kind"] = pa.DictionaryArray.from_arrays(kinds, name_array("gap", QUALITY_KINDS, 0).dictionary)
    for name in schema.names:
        if name not in columns:
            columns[name] = pa.array([getattr(note, name, None) for note in notes], schema.field(name).type)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def empty(schema: pa.Schema) -> pa.RecordBatch:
    """No rows."""
    return pa.RecordBatch.from_pylist([], schema)


def nullable(values: Ints, kind: pa.DataType) -> pa.Array:
    """Integers of this type, null where NONE."""
    there = values != NONE
    mask = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [mask, pa.py_buffer(np.ascontiguousarray(values))])


def _stamped(received: Received, rows: Ints) -> dict[str, pa.Array]:
    """The common columns of rows that begin with group, sequence and time, but for flags."""
    at = pa.array(received.last[rows[:, 0]])
    columns = {
        name: received.batch.column(name).take(at) for name in ("ts_recv", "ingest_seq", "instrument_id", "source_id")
    }
    columns["ts_event"] = nullable(rows[:, 2], pa.int64()).view(received.batch.schema.field("ts_event").type)
    columns["sequence"] = nullable(rows[:, 1], pa.uint64())
    return columns
