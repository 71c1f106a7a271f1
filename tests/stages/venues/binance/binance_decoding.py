"""Decoding for tests: messages from payloads and captures, and the rows that come of them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.messages import MessageKind, Messages, RawMessage
from stages.messages.captures import open_captures
from stages.schemas import Names, Records, Scales
from stages.venues import Decoder, Venue
from stages.venues.binance.decoder import BinanceDecoder
from stages.venues.binance.group import Market

Rows = dict[str, list[dict[str, Any]]]


def received(*payloads: bytes | str, url: str = "", source: str = "one") -> Messages:
    """Messages of one connection, a second apart."""
    texts = [payload.encode() if isinstance(payload, str) else payload for payload in payloads]
    return Messages.of_payloads(texts, [1_000_000_000 * at for at in range(len(texts))], url=url, source=source)


def response(payload: str, url: str) -> Messages:
    return Messages.of([RawMessage(7, 0, MessageKind.RESPONSE, "http", url, payload.encode())])


def batches(
    decoder: Decoder, messages: Messages, names: Names, scales: Scales | None = None
) -> dict[str, pa.RecordBatch]:
    """What one call of the decoder makes, by kind."""
    records = Records(messages, scales or Scales(), names)
    decoder.decode(messages, records)
    found = {kind: records.take(kind) for kind in records.kinds()}
    return {kind: batch for kind, batch in found.items() if batch is not None}


def decoded(venue: Venue, messages: Messages, scales: Scales | None = None) -> Rows:
    """Rows by kind, as Python values without the columns that are null throughout."""
    found = batches(venue.decoder(), messages, Names(), scales)
    return {kind: [shown(row) for row in _in_ns(batch).to_pylist()] for kind, batch in found.items()}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row without nulls and without what every row has from its message; numbers as text, times as ns."""
    left = {name: value for name, value in row.items() if value is not None}
    for name in ("ts_recv", "ingest_seq", "source_id"):
        del left[name]
    return {name: _plain(value) for name, value in left.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [(_plain(level["price"]), _plain(level["size"])) for level in value]
    return f"{value.normalize():f}" if isinstance(value, Decimal) else value


def _in_ns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Times as whole numbers."""
    arrays = [array.cast(pa.int64()) if pa.types.is_timestamp(array.type) else array for array in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def in_cuts(decoder: Decoder, messages: Messages, size: int) -> dict[str, pa.Table]:
    """What the decoder makes of the messages `size` at a time, joined."""
    names = Names()
    parts: dict[str, list[pa.RecordBatch]] = {}
    for begin in range(0, len(messages), size):
        part = messages.slice(begin, min(begin + size, len(messages)))
        for kind, batch in batches(decoder, part, names).items():
            parts.setdefault(kind, []).append(batch)
    return {kind: pa.Table.from_batches(found).unify_dictionaries() for kind, found in parts.items()}


def both_ways(venue: Venue, market: Market) -> tuple[BinanceDecoder, BinanceDecoder]:
    """A decoder that scans what it can, and one that does not."""
    return BinanceDecoder(venue.suffix, market), BinanceDecoder(venue.suffix, market, compiled=False)


def capture(path: Path, limit: int = 10**9) -> Messages:
    """The first messages of a recording."""
    runs: list[Messages] = []
    for run in open_captures(path).runs():
        runs.append(run.slice(0, min(limit, len(run))))
        limit -= len(run)
        if limit <= 0:
            break
    return Messages.concat(runs)


def values(rows: Sequence[dict[str, Any]], *names: str) -> list[Any]:
    """Some columns of rows; of one column its values, of several tuples."""
    if len(names) == 1:
        return [row.get(names[0]) for row in rows]
    return [tuple(row.get(name) for name in names) for row in rows]
