"""source -> map -> filter -> map -> sink in columns of 64 K rows over three edges, against Python generators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.given import Numbers
from bench.harness import Lag, arguments, race, ratio, row, run_topology, show
from pipeline import Batch, Context, Sink, Stage, TopologyBuilder, Transform

ROWS = 1_000_000
CUT = 65_536


class Scale(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return ScaleLogic()


class ScaleLogic(Transform):
    def on_batch(self, batch: Batch) -> Batch:
        columns = batch.columns
        return Batch(columns.set_column(1, "price", pc.multiply(columns.column(1), 1.0001)))


class Above(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return AboveLogic()


class AboveLogic(Transform):
    def on_batch(self, batch: Batch) -> Batch:
        columns = batch.columns
        kept = columns.filter(pc.greater(columns.column(1), 100.0))
        return Batch(kept.append_column("notional", pc.multiply(kept.column(1), kept.column(2))))


class Total(Stage, frozen=True):
    into: list[float]

    def build(self, context: Context) -> Sink:
        return TotalLogic(self.into)


class TotalLogic(Sink):
    def __init__(self, into: list[float]) -> None:
        self.into = into
        self.sum = 0.0

    def on_batch(self, batch: Batch) -> None:
        self.sum += pc.sum(batch.columns.column(3)).as_py()
        self.committed_rows += batch.num_rows

    def on_end(self) -> None:
        self.into.append(self.sum)


def make(rows: int) -> tuple[list[pa.RecordBatch], list[tuple[int, float, float]]]:
    random = np.random.default_rng(1)
    price, size = 100 + random.standard_normal(rows), random.random(rows)
    table = pa.table({"ts_event": pa.array(np.arange(rows) * 1_000_000, pa.timestamp("ns", "UTC")),
                      "price": price, "size": size})  # fmt: skip
    events = list(zip(range(rows), price.tolist(), size.tolist(), strict=True))
    return table.to_batches(max_chunksize=CUT), events


def topology(batches: list[pa.RecordBatch], into: list[float]) -> Any:
    """source -> map -> filter and map -> sink: three edges."""
    builder = TopologyBuilder()
    builder.add("source", Numbers(batches=batches))
    builder.add("map", Scale(), ["source"])
    builder.add("filter", Above(), ["map"])
    builder.add("sink", Total(into=into), ["filter"])
    return builder.build()


def generators(events: list[tuple[int, float, float]]) -> float:
    def source() -> Iterator[tuple[int, float, float]]:
        yield from events

    def scaled(stream: Iterator[Any]) -> Iterator[Any]:
        for ts, price, size in stream:
            yield ts, price * 1.0001, size

    def above(stream: Iterator[Any]) -> Iterator[Any]:
        for event in stream:
            if event[1] > 100.0:
                yield event

    def notional(stream: Iterator[Any]) -> Iterator[float]:
        for _, price, size in stream:
            yield price * size

    total = 0.0
    for value in notional(above(scaled(source()))):
        total += value
    return total


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    batches, events = make(100_000 if options.quick else ROWS)
    repeat = 10  # the columns take milliseconds: ten times the events, so that starting a run does not count
    sums: list[float] = []
    lag = Lag()
    times = race(
        {
            "pipeline": lambda: run_topology(topology(batches * repeat, sums), lag),
            "generators": lambda: generators(events),
        },
        options.rounds or (2 if options.quick else 7),
    )
    assert abs(sums[-1] / repeat / generators(events) - 1) < 1e-9
    per_event = [seconds / repeat for seconds in times["pipeline"]]
    return show(
        "chain of columns, 64 K rows",
        [
            row("pipeline", [len(events) / s / 1e6 for s in per_event], "M rows/s"),
            row("generators", [len(events) / s / 1e6 for s in times["generators"]], "M rows/s"),
            ratio("pipeline over generators", per_event, times["generators"], ">= 8x"),
            row("loop lag p99", [lag.percentile(99)], "ms"),
        ],
    )


if __name__ == "__main__":
    main()
