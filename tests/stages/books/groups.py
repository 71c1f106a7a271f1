"""Event groups as tests write them down, and the batches of book deltas that they make."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from stages.books.rule import BookRule
from stages.messages import Messages
from stages.schemas import (
    ADD,
    ASK,
    BID,
    CLEAR,
    DELETE,
    FLAG_LAST,
    FLAG_SNAPSHOT,
    NO_CHANGE,
    NO_SIDE,
    UPDATE,
    Names,
    Records,
    Scales,
)

SPOT = BookRule(chain="contiguous", join="spot", snapshots="http", known_depth=1000)
FUTURES = BookRule(chain="previous", join="futures", snapshots="http", known_depth=1000)
NEXT = BookRule(chain="next", join="stream", snapshots="stream", reset_sequence=1)
UNCOUNTED = BookRule(chain="none", join="stream", snapshots="stream")
EIGHT = Scales()

Level = tuple[str, str]
"""Price and size as text."""


class Event(NamedTuple):
    """One message about a book: a snapshot, or changes whose size "0" takes a level away."""

    instrument: str
    bids: Sequence[Level]
    asks: Sequence[Level]
    sequence: int | None = None
    first: int | None = None
    previous: int | None = None
    time: int | None = None
    snapshot: bool = False
    checksum: int | None = None
    recv: int = 0


class Ticker(NamedTuple):
    """A venue's own best quote: update id, bid price and size, ask price and size as text."""

    sequence: int
    best: tuple[str, str, str, str]


def received(events: Sequence[Event], names: Names, scales: Scales = EIGHT, first_seq: int = 0) -> pa.RecordBatch:
    """The batch that a decoder would make of them, one message each."""
    counts, heads = [], []
    side: list[int] = []
    levels: list[Level] = []
    for event in events:
        head = 1 if event.snapshot or not (event.bids or event.asks) else 0
        if head:
            heads.append((len(levels), CLEAR if event.snapshot else NO_CHANGE))
            levels.append(("0", "0"))
        levels += event.bids
        levels += event.asks
        side += [NO_SIDE] * head + [BID] * len(event.bids) + [ASK] * len(event.asks)
        counts.append(head + len(event.bids) + len(event.asks))
    at = np.repeat(np.arange(len(events)), counts)
    last = np.cumsum(counts) - 1
    snapshot = np.array([event.snapshot for event in events])[at]
    gone = np.array([not size.strip("0.") for _, size in levels])
    action = np.where(snapshot, ADD, np.where(gone, DELETE, UPDATE))
    for row, what in heads:
        action[row] = what
    flags = np.where(snapshot, FLAG_SNAPSHOT, 0)
    flags[last] |= FLAG_LAST
    checksum: list[int | None] = [None] * len(at)
    for row, event in zip(last.tolist(), events, strict=True):
        checksum[row] = event.checksum

    def each(field: str, kind: pa.DataType) -> pa.Array:
        return pa.array([getattr(event, field) for event in events], kind).take(pa.array(at))

    recv = [event.recv or first_seq + place for place, event in enumerate(events)]
    messages = Messages.of_payloads([b""] * len(events), recv, first_seq=first_seq, source="test")
    records = Records(messages, scales, names)
    records.add(
        "book_delta",
        at,
        ts_event=each("time", pa.int64()),
        instrument_id=np.array([names.code(event.instrument) for event in events], np.int32)[at],
        sequence=each("sequence", pa.uint64()),
        flags=flags,
        action=action,
        side=np.array(side),
        price=[price for price, _ in levels],
        size=[size for _, size in levels],
        first_sequence=each("first", pa.uint64()),
        prev_sequence=each("previous", pa.uint64()),
        checksum=checksum,
    )
    batch = records.take("book_delta", received=True)
    assert batch is not None and records.take("quality_event") is None
    return batch


def hftbacktest(paths: Iterable[Path], instrument: str) -> Iterator[Event | Ticker]:
    """Depth updates, snapshots and best quotes of Binance captures: local time in ns, then the venue's message."""
    for path in paths:
        with gzip.open(path) as lines:
            for line in lines:
                recv, _, body = line.partition(b" ")
                if b"depthUpdate" in body or b"lastUpdateId" in body:
                    told = (_UPDATE if b"depthUpdate" in body else _SNAPSHOT).decode(body)
                    told = told.data if isinstance(told, _Update) else told
                    yield Event(
                        instrument,
                        told.bids,
                        told.asks,
                        told.sequence,
                        told.first,
                        told.previous,
                        told.ms * 1_000_000 if told.ms else None,
                        isinstance(told, _Snapshot),
                        recv=int(recv),
                    )
                elif b"bookTicker" in body:
                    best = _TICKER.decode(body).data
                    yield Ticker(best.u, (best.b, best.B, best.a, best.A))


class _Depth(
    msgspec.Struct, rename={"sequence": "u", "first": "U", "previous": "pu", "bids": "b", "asks": "a", "ms": "E"}
):
    sequence: int
    bids: list[Level]
    asks: list[Level]
    first: int | None = None
    previous: int | None = None
    ms: int | None = None


class _Update(msgspec.Struct):
    data: _Depth


class _Snapshot(msgspec.Struct, rename={"sequence": "lastUpdateId", "ms": "E"}):
    sequence: int
    bids: list[Level]
    asks: list[Level]
    first: None = None
    previous: None = None
    ms: int | None = None


class _Best(msgspec.Struct):
    u: int
    b: str
    B: str
    a: str
    A: str


class _Ticker(msgspec.Struct):
    data: _Best


_UPDATE, _SNAPSHOT, _TICKER = (msgspec.json.Decoder(kind) for kind in (_Update, _Snapshot, _Ticker))
