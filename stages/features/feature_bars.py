"""The running feature stage: bars as they close, each with its features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import Batch, InputError, SchemaMismatch, StateOf, Transform, Watermark, said_duration

from .bar_builder import BarBuilder
from .bar_input import BarInput, Price
from .columns import with_features
from .exact import Values, floats_of
from .feature import Feature
from .held import Held, Piece
from .instruments import Instruments

if TYPE_CHECKING:
    from .bar_columns import ClosedBars
    from .indicators import Indicators


MOST_NAMES = 10
"""Instruments an error lists."""


class FeatureBars(Transform):
    """Rows in; bars with features out. See `Features` for what it promises.

    Where a feature looks at other instruments, the bars of the newest moment wait until it is over.
    """

    runs_in = "auto"

    def __init__(self, features: Sequence[Feature], every_ns: int | None, price: Price | None) -> None:
        self.features = tuple(features)
        self.every_ns = every_ns
        self.price = price
        self._builder = None if every_ns is None else BarBuilder(every_ns, price)
        self._instruments = Instruments()
        self._indicators: Indicators | None = None
        self._held = Held() if any(feature.crosses for feature in features) else None
        self._schemas: tuple[pa.Schema, pa.Schema] | None = None
        self._passes: bool | None = None
        self._bar_schema: pa.Schema = pa.schema([])

    def warm(self) -> None:
        from .indicators import Indicators

        if self._indicators is None:
            self._indicators = Indicators(self.features)
        if self._builder is not None:
            self._builder.warm()

    def metrics(self) -> Mapping[str, Any]:
        """The bar maker's counts, where bars are made."""
        return {} if self._builder is None else self._builder.metrics()

    def snapshot(self) -> Any:
        """What indicators remember, and what the bar maker does where bars are made."""
        return self._state_of().seal(
            {
                "builder": None if self._builder is None else self._builder.snapshot(),
                "instruments": list(self._instruments.names),
                "indicators": self._running().snapshot(),
                "held": None if self._held is None else self._held.snapshot(),
                "passes": self._passes,
                "bars": self._bar_schema.empty_table() if self._passes else None,
            }
        )

    def restore(self, state: Any) -> None:
        found = self._state_of().open(state)
        if self._builder is not None:
            self._builder.restore(found["builder"])
            self.late_rows = self._builder.late_rows
        self._instruments.restore(found["instruments"])
        self._running().restore(found["indicators"])
        if self._held is not None:
            self._held.restore(found["held"])
        self._passes = found["passes"]
        if self._passes:
            self._bar_schema = found["bars"].schema

    def _state_of(self) -> StateOf:
        names = [feature.name for feature in self.features]
        return StateOf("features", 1, {"every_ns": self.every_ns, "price": self.price, "features": names})

    def on_batch(self, batch: Batch) -> Batch | Iterator[Batch] | None:
        if not batch.num_rows:
            return None
        if self._builder is None:
            return self._extended(batch)
        if self._passes is None:
            self._passes = self._are_the_bars_wanted(batch.columns)
        if self._passes:
            return self._extended(Batch(self._plain_bars(batch.columns)))
        self._builder.on_batch(batch)
        self.late_rows = self._builder.late_rows
        return None

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if self._builder is not None:
            yield from self._made(self._builder.closed_by(watermark))
        if self._held is not None:
            yield from self._released(self._held.passed(watermark.ts))

    def on_end(self) -> Iterator[Batch]:
        if self._builder is not None:
            yield from self._made(self._builder.closed_at_end())
        if self._held is not None:
            yield from self._released(self._held.all())
            self._miss_nobody()

    def _are_the_bars_wanted(self, columns: pa.RecordBatch) -> bool:
        """Whether the input, judged by its first batch, is bars of the interval wanted already."""
        found = BarInput.of(columns.schema, self.price)
        if found.kind != "bars" or self.price is not None or not set(found.schema.names) <= set(columns.schema.names):
            return False
        self._bar_schema = found.schema
        return bool(pc.all(pc.equal(columns.column("interval_ns"), self.every_ns)).as_py())

    def _plain_bars(self, columns: pa.RecordBatch) -> pa.RecordBatch:
        """The bars' own columns. Raises `SchemaMismatch` where the interval has changed on the way."""
        intervals = columns.column("interval_ns")
        if not pc.all(pc.equal(intervals, self.every_ns)).as_py():
            raise SchemaMismatch(
                f"expected bars of {said_duration(self.every_ns or 0)} as the first ones were, found "
                f"{', '.join(said_duration(found) for found in pc.unique(intervals).to_pylist())}"
            )
        return columns.select(self._bar_schema.names).cast(self._bar_schema)

    def _extended(self, batch: Batch) -> Batch | Iterator[Batch]:
        """Rows that came, and their features."""
        columns = batch.columns
        if not columns.num_rows:
            return batch
        schema = self._schema_with_features(columns.schema)
        owners = self._instruments.number(self._instruments.codes(columns))
        if self._held is None:
            arrays = self._running().compute(columns, owners)
            return Batch(pa.RecordBatch.from_arrays([*columns.columns, *arrays], schema=schema))
        values = [floats_of(name, columns.column(name)) for name in self._running().columns]
        return self._released(self._held.add(Piece(columns.columns, schema, values, owners, _moments(batch))))

    def _made(self, closed: Iterator[ClosedBars]) -> Iterator[Batch]:
        """Bars made here, and their features, in one record batch made once."""
        assert self._builder is not None
        for bars in closed:
            schema = self._schema_with_features(self._builder.bar_schema)
            indicators = self._running()
            values = [bars.floats(name) for name in indicators.columns]
            if self._held is None:
                arrays = indicators.over(values, bars.owners, self._builder.num_instruments)
                yield Batch(pa.RecordBatch.from_arrays([*bars.columns, *arrays], schema=schema))
            else:
                ends = bars.columns[list(bars.names).index("bar_end")]
                piece = Piece(bars.columns, schema, values, bars.owners, ends.cast(pa.int64()).to_numpy())
                yield from self._released(self._held.add(piece))
        if self._held is not None:  # the bar maker gives all bars of a moment at once, and none of it afterwards
            yield from self._released(self._held.all())

    def _released(self, moments: Iterator[list[Piece]]) -> Iterator[Batch]:
        """Bars of whole moments, seen together and sent as they came."""
        indicators = self._running()
        for pieces in moments:
            instruments = self._all_instruments
            arrays = indicators.over(
                [np.concatenate(values) for values in zip(*(piece.values for piece in pieces), strict=True)],
                np.concatenate([piece.owners for piece in pieces]),
                len(instruments),
                np.concatenate([piece.times for piece in pieces]),
                [-1 if other is None else instruments.find(other) for other in indicators.others],
            )
            first = 0
            for piece in pieces:
                rows = len(piece.owners)
                columns = [*piece.columns, *(array.slice(first, rows) for array in arrays)]
                yield Batch(pa.RecordBatch.from_arrays(columns, schema=piece.schema))
                first += rows

    def _miss_nobody(self) -> None:
        """Raises `InputError` where a feature names an instrument that never came: it was null in every bar."""
        instruments = self._all_instruments
        for feature in self.features if len(instruments) else ():
            if feature.other is not None and instruments.find(feature.other) < 0:
                raise InputError(
                    f"'{feature.name}' looks at an instrument that no bar was of; all were of "
                    f"{', '.join(instruments.names[:MOST_NAMES])}"
                )

    @property
    def _all_instruments(self) -> Instruments:
        """Those the owners of bars are numbered by: the bar maker's where it makes the bars."""
        return self._instruments if self._builder is None or self._passes else self._builder.instruments

    def _schema_with_features(self, schema: pa.Schema) -> pa.Schema:
        if self._schemas is None or (self._schemas[0] is not schema and not self._schemas[0].equals(schema)):
            self._schemas = (schema, with_features(schema, self.features, None if self.every_ns is None else "made"))
        return self._schemas[1]

    def _running(self) -> Indicators:
        if self._indicators is None:
            self.warm()
        assert self._indicators is not None
        return self._indicators


def _moments(batch: Batch) -> Values:
    """When each bar ended, ns; where bars have no `bar_end`, their event time."""
    index = batch.columns.schema.get_field_index("bar_end")
    if index < 0:
        times = batch.times()
        if times is None:
            raise SchemaMismatch(
                f"features over several instruments need a time per row, 'bar_end' or 'ts_event'; found "
                f"{', '.join(batch.columns.schema.names)}"
            )
        return times
    ends = batch.columns.column(index)
    if ends.null_count:
        raise InputError(f"expected a time in every bar, found {ends.null_count} nulls in 'bar_end'")
    found: Values = ends.cast(pa.timestamp("ns", tz=ends.type.tz)).cast(pa.int64()).to_numpy()
    return found
