"""The running feature stage: bars as they close, each with its features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import Batch, SchemaMismatch, Transform, Watermark, said_duration

from .bar_builder import BarBuilder
from .bar_input import BarInput, Price
from .columns import with_features
from .feature import Feature
from .instruments import Instruments

if TYPE_CHECKING:
    from .bar_columns import ClosedBars
    from .indicators import Indicators


class FeatureBars(Transform):
    """Rows in; bars with features out. See `Features` for what it promises."""

    runs_in = "auto"

    def __init__(self, features: Sequence[Feature], every_ns: int | None, price: Price | None) -> None:
        self.features = tuple(features)
        self.every_ns = every_ns
        self.price = price
        self._builder = None if every_ns is None else BarBuilder(every_ns, price)
        self._instruments = Instruments()
        self._indicators: Indicators | None = None
        self._schemas: tuple[pa.Schema, pa.Schema] | None = None
        self._passes: bool | None = None

    def warm(self) -> None:
        from .indicators import Indicators

        if self._indicators is None:
            self._indicators = Indicators(self.features)
        if self._builder is not None:
            self._builder.warm()

    def metrics(self) -> Mapping[str, Any]:
        """The bar maker's counts, where bars are made."""
        return {} if self._builder is None else self._builder.metrics()

    def on_batch(self, batch: Batch) -> Batch | None:
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
            yield from map(self._with_features, self._builder.closed_by(watermark))

    def on_end(self) -> Iterator[Batch]:
        if self._builder is not None:
            yield from map(self._with_features, self._builder.closed_at_end())

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

    def _extended(self, batch: Batch) -> Batch:
        """Rows that came, and their features."""
        columns = batch.columns
        if not columns.num_rows:
            return batch
        schema = self._schema_with_features(columns.schema)
        arrays = self._running().compute(columns, self._instruments.number(self._instruments.codes(columns)))
        return Batch(pa.RecordBatch.from_arrays([*columns.columns, *arrays], schema=schema))

    def _with_features(self, closed: ClosedBars) -> Batch:
        """Bars made here, and their features, in one record batch made once."""
        assert self._builder is not None
        schema = self._schema_with_features(self._builder.bar_schema)
        indicators = self._running()
        values = [closed.floats(name) for name in indicators.columns]
        arrays = indicators.over(values, closed.owners, self._builder.num_instruments)
        return Batch(pa.RecordBatch.from_arrays([*closed.columns, *arrays], schema=schema))

    def _schema_with_features(self, schema: pa.Schema) -> pa.Schema:
        if self._schemas is None or (self._schemas[0] is not schema and not self._schemas[0].equals(schema)):
            self._schemas = (schema, with_features(schema, self.features, None if self.every_ns is None else "made"))
        return self._schemas[1]

    def _running(self) -> Indicators:
        if self._indicators is None:
            self.warm()
        assert self._indicators is not None
        return self._indicators
