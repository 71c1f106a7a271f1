"""Bars as a plain Python program would make them, with dictionaries and fractions; shares nothing with the stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.frames import NS_UTC, Batch, Watermark


class Tick(NamedTuple):
    ts: int
    instrument: str
    price: Any
    size: Any = 1
    side: int = 0


def bars_of(ticks: Sequence[Tick], every: int) -> list[dict[str, Any]]:
    """One dict per bar in the order the stage promises; `complete` by the latest tick."""
    order: list[str] = []
    found: dict[tuple[int, str], list[Tick]] = {}
    for tick in ticks:
        if tick.price is None or tick.price != tick.price:
            continue
        if tick.instrument not in order:
            order.append(tick.instrument)
        found.setdefault(((tick.ts // every + 1) * every, tick.instrument), []).append(tick)
    latest = max((tick.ts for rows in found.values() for tick in rows), default=0)
    bars = []
    for (end, instrument), rows in sorted(found.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
        rows = sorted(rows, key=lambda tick: tick.ts)
        volume = sum(tick.size for tick in rows)
        exact = sum(Fraction(tick.price) * Fraction(tick.size) for tick in rows)
        bars.append(
            {
                "instrument_id": instrument,
                "open": rows[0].price,
                "high": max(tick.price for tick in rows),
                "low": min(tick.price for tick in rows),
                "close": rows[-1].price,
                "volume": volume,
                "buy_volume": sum((tick.size for tick in rows if tick.side == 1), start=volume * 0),
                "vwap": float(exact / Fraction(volume)) if volume else None,
                "trade_count": len(rows),
                "bar_start": end - every,
                "bar_end": end,
                "is_complete": end <= latest,
            }
        )
    return bars


def batch_of(ticks: Sequence[Tick], kind: pa.DataType, names: Sequence[str] | None = None) -> Batch:
    """Trades as columns; with `names`, instruments are codes into exactly that dictionary."""
    instruments = [tick.instrument for tick in ticks]
    if names is None:
        column = pa.array(instruments, pa.utf8()).dictionary_encode()
    else:
        codes = pa.array([names.index(name) for name in instruments], pa.int32())
        column = pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.utf8()))
    return Batch.from_pydict(
        {
            "ts_event": pa.array([tick.ts for tick in ticks], pa.int64()).cast(NS_UTC),
            "instrument_id": column,
            "price": pa.array([tick.price for tick in ticks], kind),
            "size": pa.array([tick.size for tick in ticks], kind),
            "aggressor_side": pa.array([tick.side for tick in ticks], pa.int8()),
        }
    )


def run(logic: Any, frames: Iterable[Batch | Watermark]) -> pa.Table:
    """What a transform sends for these frames and the end of the stream, as one table, checked for validity."""
    sent = []
    for frame in frames:
        outputs = logic.on_batch(frame) if isinstance(frame, Batch) else logic.on_watermark(frame)
        sent.extend(collect(outputs))
    sent.extend(collect(logic.on_end()))
    for batch in sent:
        batch.columns.validate(full=True)
    if not sent:
        return pa.table({})
    return pa.Table.from_batches([batch.columns for batch in sent])


def collect(outputs: Any) -> list[Batch]:
    if outputs is None:
        return []
    return [outputs] if isinstance(outputs, Batch) else list(outputs)


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as dicts, times as int nanoseconds."""
    columns = {
        name: (table[name].cast(pa.int64()) if pa.types.is_timestamp(table.schema.field(name).type) else table[name])
        for name in table.schema.names
    }
    return pa.table(columns).to_pylist()


def money(units: int) -> Decimal:
    return Decimal(units).scaleb(-4)
