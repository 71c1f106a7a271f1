"""Ten million trades of twelve columns to parquet: feed -> sink as a pipeline, against polars' `sink_parquet`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from bench.harness import Lag, arguments, race, ratio, row, run_topology, show
from pipeline import Batch, Context, Feed, Stage, TopologyBuilder
from stages.feeds.synthetic import Synthetic
from stages.sinks.parquet import ParquetSink


class Recorded(Stage, frozen=True):
    """Batches that are in memory already."""

    given: list[Any]
    opened: Any

    def build(self, context: Context) -> Feed:
        return RecordedFeed(self.given, self.opened)


class RecordedFeed(Feed):
    def __init__(self, given: Sequence[pa.RecordBatch], opened: Callable[[], None]) -> None:
        self.given, self.opened = given, opened

    async def batches(self) -> Any:
        self.opened()
        for columns in self.given:
            yield Batch(columns)


class Written:
    """Runs of the pipeline: from the first batch asked for until the files are on the disk and the summary is out.

    Loop lag is what a ticker saw in that time.
    """

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self.batches = batches
        self.seconds: dict[int, list[float]] = {1: [], 2: []}
        self.late_ms: dict[int, list[float]] = {1: [], 2: []}

    def run(self, shards: int) -> None:
        """feed -> parquet sink."""
        self._lag = Lag()
        builder = TopologyBuilder()
        builder.add("data", Recorded(given=self.batches, opened=self._opened))
        builder.add("trades", ParquetSink(shards=shards), ["data"])
        run_topology(builder.build(), self._lag)
        self.seconds[shards].append(time.perf_counter() - self._began)
        self.late_ms[shards].extend(self._lag.late_ms[self._ticks :])

    def _opened(self) -> None:
        self._ticks = len(self._lag.late_ms)
        self._began = time.perf_counter()


def polars_sink(frame: pl.DataFrame) -> None:
    """Row groups, compression and statistics as ours; the encodings are polars' own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "polars.parquet"
        frame.lazy().sink_parquet(
            file, compression="snappy", row_group_size=262_144, statistics=False, sync_on_close="all"
        )


def counted(run: Callable[[], Any], spent: list[float]) -> Callable[[], None]:
    """`run`, noting the processor time it took: on a busy machine the steadier measure of work."""

    def timed() -> None:
        began = time.process_time()
        run()
        spent.append(time.process_time() - began)

    return timed


def main() -> dict[str, Any]:
    """Contenders take turns within a round, writing the same columns with snappy to the same disk, and synced."""
    options = arguments(__doc__ or "")
    sys.setswitchinterval(0.0005)  # as the command line does
    rows = 1_000_000 if options.quick else 10_000_000
    rounds = options.rounds or (2 if options.quick else 5)
    instruments = tuple(f"S{number:02d}.DEMO" for number in range(20))
    recipe = Synthetic(schema="trade", instruments=instruments, rows=rows, interval="1s", seed=1)
    batches = [batch.columns for batch in recipe.build(Context()).batches() if isinstance(batch, Batch)]
    frame = pl.from_arrow(pa.Table.from_batches(batches))
    assert isinstance(frame, pl.DataFrame)
    written = Written(batches)
    contenders = {
        "polars": lambda: polars_sink(frame),
        "one": lambda: written.run(1),
        "two": lambda: written.run(2),
    }
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    times = race({name: counted(run, cpu[name]) for name, run in contenders.items()}, rounds)
    cpu = {name: spent[-rounds:] for name, spent in cpu.items()}
    figures = [row("polars sink_parquet", [rows / spent / 1e6 for spent in times["polars"]], "M rows/s")]
    for shards, told in ((1, "1 shard"), (2, "2 shards")):
        seconds = written.seconds[shards][-rounds:]
        figures += [
            row(f"pipeline, {told}", [rows / spent / 1e6 for spent in seconds], "M rows/s"),
            ratio(f"pipeline, {told}, over polars", seconds, times["polars"], ">= 1.2x" if shards == 2 else ""),
            row(f"pipeline, {told}, loop lag p99", [float(np.percentile(written.late_ms[shards], 99))], "ms"),
        ]
    figures.append(ratio("2 shards over polars by processor time", cpu["two"], cpu["polars"]))
    figures.append(ratio("2 shards with starting the run, over polars", times["two"], times["polars"]))
    return show(f"{rows:,} trades to parquet, synced to disk", figures)


if __name__ == "__main__":
    main()
