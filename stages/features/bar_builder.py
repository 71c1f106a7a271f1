"""The running bar maker: rows in, bars out when event time has passed their end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import NS_UTC, Batch, SchemaMismatch, StateOf, Transform, Watermark

from .bar_input import BarInput, Price
from .exact import Values
from .finer_bars import FinerBars
from .instruments import Instruments

if TYPE_CHECKING:
    from .bar_cells import Cells
    from .bar_columns import BarColumns, ClosedBars
    from .bar_fill import Filler

BATCH_ROWS = 65_536
"""Most bars in one batch sent."""
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
        self._unpriced = 0
        self._instruments = Instruments()

    def warm(self) -> None:
        from . import bar_columns, bar_fill  # noqa: F401

    def metrics(self) -> Mapping[str, Any]:
        """Counts that are true of the result: bars sent, rows too late for their bar, rows without a price."""
        sent = unpriced = 0
        if self._schema is not None:
            sent, unpriced = self._columns.sent, self._cells.unpriced
        return {"bars": sent, "late_rows": self.late_rows, "unpriced_rows": self._unpriced + unpriced}

    def snapshot(self) -> Any:
        """Open bars, counts, and the columns that came, which say what bars are made of."""
        state: dict[str, Any] = {"unpriced": self._unpriced, "instruments": list(self._instruments.names)}
        if self._schema is not None:
            state["input"] = self._schema.empty_table()
            state["sent"] = self._columns.sent
            state["price_type"] = None if self._finer is None else self._finer.price_type
            state["cells"] = self._cells.snapshot()
            state["filler"] = None if self._filler is None else self._filler.snapshot()
        return self._state_of().seal(state)

    def restore(self, state: Any) -> None:
        found = self._state_of().open(state)
        self._unpriced = found["unpriced"]
        self._instruments.restore(found["instruments"])
        if "input" not in found:
            return
        self._accept(found["input"].schema)
        self._columns.sent = found["sent"]
        self._cells.restore(found["cells"])
        if self._finer is not None:
            self._finer.price_type = found["price_type"]
        if self._filler is not None:
            self._filler.restore(found["filler"], self._cells.record)
        self.late_rows = self._cells.late

    def _state_of(self) -> StateOf:
        return StateOf("bars", 1, {"every_ns": self.every_ns, "price": self.price, "empty": self.empty})

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
        self.late_rows = self._cells.late

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        return map(self._batch, self.closed_by(watermark))

    def on_end(self) -> Iterator[Batch]:
        return map(self._batch, self.closed_at_end())

    def closed_by(self, watermark: Watermark) -> Iterator[ClosedBars]:
        """Bars that end where event time stands now, or before."""
        if watermark.ts is None or self._schema is None:
            return
        # Bars are stamped at their end: one that ends exactly at the watermark may still follow.
        reached = watermark.ts if self._finer is None else watermark.ts - 1
        yield from self._close(reached - reached % self.every_ns, complete=True)

    def closed_at_end(self) -> Iterator[ClosedBars]:
        """All bars that are left, the last of them cut off."""
        if self._schema is None:
            return
        reached = self._cells.horizon
        yield from self._close(reached - reached % self.every_ns, complete=True)
        yield from self._close(np.iinfo(np.int64).max, complete=False)

    @property
    def num_instruments(self) -> int:
        """Owners of closed bars are numbered below this."""
        return len(self._instruments)

    @property
    def instruments(self) -> Instruments:
        """Those that have appeared, by number."""
        return self._instruments

    def _batch(self, closed: ClosedBars) -> Batch:
        return Batch(pa.RecordBatch.from_arrays(closed.columns, schema=self.bar_schema))

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
        from .bar_columns import BarColumns
        from .bar_fill import Filler

        self._input: BarInput = BarInput.of(schema, self.price)
        self.bar_schema = self._input.schema
        self._columns: BarColumns = BarColumns(self._input, self.every_ns)
        self._finer = FinerBars(self._input, self.every_ns) if self._input.kind == "bars" else None
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

    def _close(self, until: int, *, complete: bool) -> Iterator[ClosedBars]:
        closed = self._cells.close(until)
        if self._filler is not None:
            for filled, empty in self._filler.fill(closed, until):
                if len(filled):
                    yield self._columns.of(filled, self._instruments, self._price_type, complete, empty)
        elif closed is not None:
            for first in range(0, len(closed), BATCH_ROWS):
                part = closed[first : first + BATCH_ROWS]
                yield self._columns.of(part, self._instruments, self._price_type, complete, None)

    @property
    def _price_type(self) -> str:
        return (self._finer.price_type if self._finer is not None else self._input.price) or "last"


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
