"""The running bar maker: rows in, bars out when event time has passed their end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import SchemaMismatch
from pipeline.frames import NS_UTC, Batch, Watermark
from pipeline.stage import Transform
from stages.schemas import BAR_KINDS, BAR_SOURCES, PRICE_TYPES, SOURCE, name_array

from .bar_input import OHLC, BarInput, Price
from .exact import Floats, Numbers, Values, primitive
from .finer_bars import FinerBars
from .instruments import Instruments

if TYPE_CHECKING:
    from .bar_cells import Cells
    from .bar_fill import Filler

BATCH_ROWS = 65_536
"""Most bars in one batch sent."""
CONSTANT_ROWS = 128
"""Columns that say the same in every row are kept in multiples of this length, and sliced."""
_COUNTS = Numbers(pa.uint64(), np.int64, 0, 2**63 - 1)
Empty = Literal["skip", "fill"]


class BarBuilder(Transform):
    """Trades, quotes or finer bars in; bars over `[start, end)`, aligned to 1970 UTC, out.

    A bar is sent when a watermark reaches its end. Bars are sent ordered by end, then by the order in which
    instruments first appeared. How batches are cut and where watermarks fall changes nothing in what is sent,
    as long as watermarks tell the truth; rows that break their promise and belong to a bar that has been sent
    are dropped and counted as `late_rows`. Rows without a price (null or NaN) are counted as `unpriced_rows`.
    """

    runs_in = "auto"

    def __init__(self, every_ns: int, price: Price | None = None, empty: Empty = "skip") -> None:
        self.every_ns = every_ns
        self.price = price
        self.empty = empty
        self._schema: pa.Schema | None = None
        self._sent = 0
        self._unpriced = 0

    def warm(self) -> None:
        from . import bar_fill  # noqa: F401

    def metrics(self) -> Mapping[str, Any]:
        """Counts that are true of the result: bars sent, rows too late for their bar, rows without a price."""
        late = unpriced = 0
        if self._schema is not None:
            late, unpriced = self._cells.late, self._cells.unpriced
        return {"bars": self._sent, "late_rows": late, "unpriced_rows": self._unpriced + unpriced}

    def on_batch(self, batch: Batch) -> None:
        columns = batch.columns
        if not columns.num_rows:
            return
        if self._schema is None or columns.schema is not self._schema:
            self._accept(columns.schema)
        times = _event_times(batch)
        chosen = self._select(columns)
        if chosen is not None:
            times = times[chosen.to_numpy(zero_copy_only=False)]
            columns = columns.filter(chosen)
        codes = self._instruments.codes(columns)
        if self._finer is None:
            self._cells.add_ticks(self._instruments, times, codes, self._input.ticks(columns))
        else:
            starts, ends = self._finer.times(columns, times)
            self._cells.add_bars(self._instruments, starts, ends, codes, self._finer.values(columns))

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if watermark.ts is None or self._schema is None:
            return
        # Bars are stamped at their end: one that ends exactly at the watermark may still follow.
        reached = watermark.ts if self._finer is None else watermark.ts - 1
        yield from self._close(reached - reached % self.every_ns, complete=True)

    def on_end(self) -> Iterator[Batch]:
        if self._schema is None:
            return
        reached = self._cells.horizon
        yield from self._close(reached - reached % self.every_ns, complete=True)
        yield from self._close(np.iinfo(np.int64).max, complete=False)

    def _accept(self, schema: pa.Schema) -> None:
        """Begin with the first schema; later ones may differ in what bars are not made of."""
        if self._schema is not None:
            if not schema.equals(self._schema) and BarInput.of(schema, self.price) != self._input:
                raise SchemaMismatch(
                    f"bars began with {', '.join(self._schema.names)}, then came {', '.join(schema.names)} "
                    "or other types; make bars of each kind in a container of its own"
                )
            self._schema = schema
            return
        from .bar_cells import Cells
        from .bar_fill import Filler

        self._input: BarInput = BarInput.of(schema, self.price)
        self._bar_schema = self._input.schema
        self._never_known = _never_known(self._input)
        self._finer = FinerBars(self._input, self.every_ns) if self._input.kind == "bars" else None
        self._instruments = Instruments()
        self._cells: Cells = Cells(self._input, self.every_ns)
        self._filler: Filler | None = Filler(self.every_ns) if self.empty == "fill" else None
        self._schema = schema

    def _select(self, columns: pa.RecordBatch) -> pa.Array | None:
        chosen = None if self._finer is None else self._finer.select(columns)
        priced = self._input.select(columns)
        if priced is None:
            return chosen
        if chosen is None:
            self._unpriced += columns.num_rows - int(pc.sum(priced).as_py() or 0)
            return priced
        self._unpriced += int(pc.sum(pc.and_not(chosen, priced)).as_py() or 0)
        return pc.and_(chosen, priced)

    def _close(self, until: int, *, complete: bool) -> Iterator[Batch]:
        closed = self._cells.close(until)
        if self._filler is not None:
            for filled, empty in self._filler.fill(closed, until):
                if len(filled):
                    yield Batch.from_columns(self._columns(filled, complete, empty))
        elif closed is not None:
            for first in range(0, len(closed), BATCH_ROWS):
                part = closed[first : first + BATCH_ROWS]
                yield Batch.from_columns(self._columns(part, complete, np.zeros(len(part), bool)))

    def _columns(self, closed: Values, complete: bool, empty: Values) -> pa.RecordBatch:
        from . import bar_kernels as k

        rows = len(closed)
        prices = self._input.prices
        ends = np.ascontiguousarray(closed["end"])
        stamps = primitive(NS_UTC, ends)
        unknown = closed["unknown"] | self._never_known
        sequence = np.arange(self._sent, self._sent + rows, dtype=np.uint64)
        self._sent += rows
        vwap = self._vwap(closed, unknown & k.NO_VOLUME == 0)
        return pa.RecordBatch.from_arrays(
            [
                stamps,
                stamps,
                primitive(pa.uint64(), sequence),
                self._instruments.array(closed["instrument"].astype(np.int32)),
                *_constants(rows, self.every_ns, self._price_type)[:3],
                *(prices.pack(closed[name]) for name in OHLC),
                self._known(k.NO_VOLUME, unknown, closed["volume"]),
                primitive(pa.float64(), vwap, np.isnan(vwap)),
                self._known(k.NO_COUNT, unknown, closed["count"], _COUNTS),
                self._known(k.NO_BUY_VOLUME, unknown, closed["buy_volume"]),
                primitive(NS_UTC, ends - self.every_ns),
                stamps,
                *_constants(rows, self.every_ns, self._price_type)[3:],
                pa.array((closed["partial"] == 0) & complete),
                pa.array(empty),
            ],
            schema=self._bar_schema,
        )

    def _known(self, bit: int, unknown: Values, values: Values, numbers: Numbers | None = None) -> pa.Array:
        """Sums, null where the `bit` of `unknown` says that nobody knows them."""
        numbers = numbers or self._input.sizes
        if self._never_known & bit:
            return pa.nulls(len(values), numbers.type)
        return numbers.pack(values, None if self._finer is None else unknown & bit != 0)

    def _vwap(self, closed: Values, traded: Values) -> Floats:
        """Volume-weighted average prices, NaN where nothing was traded or nobody knows."""
        volumes = closed["volume"].astype(np.float64)
        traded &= volumes != 0
        offsets = np.divide(closed["moment"], volumes, out=np.full(len(closed), np.nan), where=traded)
        return self._input.prices.as_floats(closed["anchor"].astype(np.float64) + offsets)

    @property
    def _price_type(self) -> str:
        return (self._finer.price_type if self._finer is not None else self._input.price) or "last"


def _never_known(found: BarInput) -> int:
    """The bits of what trades or quotes with these columns do not tell."""
    from . import bar_kernels as k

    if found.kind == "quotes":
        return k.NO_VOLUME | k.NO_BUY_VOLUME | k.NO_COUNT
    return (0 if found.has_size else k.NO_VOLUME) | (0 if found.has_side else k.NO_BUY_VOLUME)


def _event_times(batch: Batch) -> Values:
    """`Batch.times`, without a copy in the usual case that every row has its `ts_event`."""
    columns = batch.columns
    place = columns.schema.get_field_index("ts_event")
    if place >= 0:
        column = columns.column(place)
        if column.type == NS_UTC and not column.null_count:
            return np.frombuffer(column.buffers()[1], np.int64)[column.offset :][: len(column)]
    times = batch.times()
    assert times is not None
    return times


def _constants(rows: int, every_ns: int, price_type: str) -> list[pa.Array]:
    """`source_id`, `sequence`, `flags`, then `interval_ns`, `bar_kind`, `price_type` and `source` of bars made here."""
    block = -(-rows // CONSTANT_ROWS) * CONSTANT_ROWS
    return [column.slice(0, rows) for column in _constant_block(block, every_ns, price_type)]


@lru_cache(maxsize=64)
def _constant_block(rows: int, every_ns: int, price_type: str) -> tuple[pa.Array, ...]:
    source = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int16)), pa.array(["bars"], pa.utf8()))
    return (
        source.cast(SOURCE),
        pa.nulls(rows, pa.uint64()),
        pa.array(np.zeros(rows, np.uint8)),
        pa.array(np.full(rows, every_ns)),
        name_array("time", BAR_KINDS, rows),
        name_array(price_type, PRICE_TYPES, rows),
        name_array("internal", BAR_SOURCES, rows),
    )
