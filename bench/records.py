"""Trades as lists of decimal texts, and as integer units, to record batches with exact prices and sizes.

Against Arrow's own way from the same lists (`pa.array` of text, cast to decimal64), which stops at the first value that
does not fit, and against `decimal.Decimal` row by row. Small runs say what a live feed pays for few messages.

    python bench/records.py [--quick] [--rounds N]
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from bench.harness import arguments, race, ratio, row, show
from stages.messages import Messages
from stages.schemas import NS_UTC, Names, Records, Scales, schema_of, time_ns

ROWS = 100_000
SMALL = 20
BEGAN = 1_700_000_000_000_000_000


class Trades:
    """The same trades as texts and as counts of 10^-8."""

    def __init__(self, rows: int) -> None:
        random = np.random.default_rng(1)
        cents, self.size = random.integers(10**6, 9 * 10**6, rows), random.integers(1, 10**9, rows)
        self.price = cents * 10**6
        self.prices = [f"{count // 100}.{count % 100:02d}" for count in cents.tolist()]
        self.sizes = [f"{count // 10**8}.{count % 10**8:08d}" for count in self.size.tolist()]
        self.ids = [str(10**9 + i) for i in range(rows)]
        self.names = ["BTCUSDT.BINANCE"] * rows
        self.codes = np.zeros(rows, np.int32)
        self.sides = random.integers(1, 3, rows).astype(np.int8)
        self.stamps = BEGAN + np.arange(rows) * 1000
        self.at = np.arange(rows)
        self.messages = Messages.of_payloads([b""] * rows, self.stamps, source="wss")
        self.known = Names(["BTCUSDT.BINANCE"])

    def from_texts(self) -> pa.RecordBatch:
        return self._taken(price=self.prices, size=self.sizes, instrument_id=self.names)

    def from_units(self) -> pa.RecordBatch:
        return self._taken(price=self.price, size=self.size, instrument_id=self.codes)

    def by_arrow(self) -> pa.RecordBatch:
        return self._by_hand(
            pa.array(self.prices, pa.utf8()).cast(pa.decimal64(18, 8)),
            pa.array(self.sizes, pa.utf8()).cast(pa.decimal64(18, 8)),
        )

    def by_decimal(self) -> pa.RecordBatch:
        kind = pa.decimal64(18, 8)
        return self._by_hand(
            pa.array([Decimal(text) for text in self.prices], kind),
            pa.array([Decimal(text) for text in self.sizes], kind),
        )

    def _taken(self, **columns: Any) -> pa.RecordBatch:
        records = Records(self.messages, Scales(), self.known)
        records.add("trade", self.at, ts_event=self.stamps, aggressor_side=self.sides, trade_id=self.ids, **columns)
        return records.take("trade")

    def _by_hand(self, price: pa.Array, size: pa.Array) -> pa.RecordBatch:
        schema, rows = schema_of("trade"), len(self.at)
        stamps = pa.array(self.stamps).view(NS_UTC)
        arrays = {
            "ts_event": stamps,
            "ts_recv": stamps,
            "ingest_seq": pa.array(self.at.astype(np.uint64)),
            "instrument_id": pa.array(self.names, schema.field("instrument_id").type),
            "source_id": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int16), pa.array(["wss"])),
            "sequence": pa.nulls(rows, pa.uint64()),
            "flags": pa.array(np.zeros(rows, np.uint8)),
            "price": price,
            "size": size,
            "aggressor_side": pa.array(self.sides),
            "trade_id": pa.array(self.ids, pa.utf8()),
            "trade_type": pa.nulls(rows, schema.field("trade_type").type),
        }
        return pa.RecordBatch.from_arrays(list(arrays.values()), schema=schema)


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    count = 10_000 if options.quick else ROWS
    rounds = options.rounds or (3 if options.quick else 15)
    trades, small = Trades(count), Trades(SMALL)
    contenders = (trades.from_texts, trades.from_units, trades.by_arrow, trades.by_decimal)
    assert len({str(made().to_pylist()) for made in contenders}) == 1
    iso = [f"2021-07-22T22:36:{i % 60:02d}.{i % 10**6:06d}Z" for i in range(count)]
    expected = pa.array(iso, pa.utf8()).cast(NS_UTC).cast(pa.int64()).to_numpy()
    assert np.array_equal(time_ns(iso).values, expected)
    times = race(
        {
            "texts": trades.from_texts,
            "units": trades.from_units,
            "arrow": trades.by_arrow,
            "decimal": trades.by_decimal,
            "small": lambda: [small.from_texts() for _ in range(100)],
            "iso": lambda: time_ns(iso),
            "iso by arrow": lambda: pa.array(iso, pa.utf8()).cast(NS_UTC),
        },
        rounds,
    )

    def rate(name: str, rows: int = count) -> list[float]:
        return [rows / seconds / 1e6 for seconds in times[name]]

    return show(
        f"{count:,} trades to a record batch",
        [
            {**row("from lists of texts", rate("texts"), "M rows/s"), "target": ">= 2"},
            {**row("from units and codes, ids as texts", rate("units"), "M rows/s"), "target": ">= 3"},
            ratio("from texts, over Arrow's cast of the same lists", times["texts"], times["arrow"], ">= 1"),
            ratio("from texts, over decimal.Decimal", times["texts"], times["decimal"]),
            row(f"from texts, {SMALL} at a time", [seconds / 100 * 1e6 for seconds in times["small"]], "us a run"),
            ratio("ISO 8601 texts to ns, over Arrow's cast", times["iso"], times["iso by arrow"]),
        ],
    )


if __name__ == "__main__":
    main()
