"""Ten million trades of twelve columns to parquet: the sink, loop lag included, against polars' `sink_parquet`."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from bench.harness import Lag, arguments, ratio, row, show
from pipeline.frames import Batch
from pipeline.stage import Context
from stages.feeds.synthetic import Synthetic
from stages.sinks.parquet import ParquetSink


def main() -> dict[str, Any]:
    """Contenders take turns within a round, both writing the same columns with snappy to the same disk."""
    options = arguments(__doc__ or "")
    rows = 1_000_000 if options.quick else 10_000_000
    rounds = options.rounds or (2 if options.quick else 5)
    instruments = tuple(f"S{number:02d}.DEMO" for number in range(20))
    recipe = Synthetic(schema="trade", instruments=instruments, rows=rows, interval="1s", seed=1)
    batches = list(recipe.build(Context()).batches())
    frame = pl.from_arrow(pa.Table.from_batches([batch.columns for batch in batches]))
    assert isinstance(frame, pl.DataFrame)

    peer: list[float] = []
    ours: dict[int, list[float]] = {1: [], 2: []}
    late: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            frame.lazy().sink_parquet(Path(folder) / "polars.parquet", compression="snappy")
            spent = time.perf_counter() - began
            if turn:
                peer.append(spent)
        for shards in ours:
            with tempfile.TemporaryDirectory() as folder:
                spent, lag = asyncio.run(written(Path(folder), batches, shards))
            if turn:
                ours[shards].append(spent)
                late[shards].append(lag)
    figures = [row("polars sink_parquet", [rows / spent / 1e6 for spent in peer], "M rows/s")]
    for shards, seconds in ours.items():
        name = f"parquet sink, {shards} shard{'s' * (shards > 1)}"
        figures.append(row(name, [rows / spent / 1e6 for spent in seconds], "M rows/s"))
        figures.append(row(f"{name}, loop lag p99", late[shards], "ms"))
        figures.append(ratio(f"{name} / polars", seconds, peer, ">= 1.2" if shards == 2 else ""))
    return show(f"{rows:,} trades to parquet, synced to disk", figures)


async def written(folder: Path, batches: Sequence[Batch], shards: int) -> tuple[float, float]:
    """Seconds until all is published, and by how many milliseconds the loop was late at the 99th percentile."""
    sink = ParquetSink(shards=shards).build(Context(name="trades", folder=folder))
    async with Lag() as lag:
        began = time.perf_counter()
        for batch in batches:
            await sink.on_batch(batch)
            await asyncio.sleep(0)
        await sink.on_end()
        seconds = time.perf_counter() - began
    await asyncio.to_thread(sink.close)
    return seconds, lag.percentile(99)


if __name__ == "__main__":
    main()
