"""What durability costs: appending to a data manager with a journal, against one without and against plain files.

10,000 rows an append by one container, beside a plain parquet file of the same rows, not synced; 1,000 rows by 32
containers at once, which share writes and syncs, beside a file and a sync for each.

    python -m bench.journaled_append [--quick] [--rounds N]
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.harness import arguments, ratio, row, show
from pipeline import DataFlow, DataManager, open_stores
from pipeline.storage import codecs

ROWS = 10_000
APPENDS = 32
CONTAINERS = 32
CLASSES = ("ephemeral", "process", "durable")


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    return asyncio.run(_measure(options.rounds or (3 if options.quick else 15)))


async def _measure(rounds: int) -> dict[str, Any]:
    batch = pa.RecordBatch.from_pydict({"t": np.arange(ROWS), "price": np.random.default_rng(1).normal(size=ROWS)})
    small = batch.slice(0, ROWS // 10)
    small = pa.RecordBatch.from_arrays([pa.array(column.to_numpy()) for column in small.columns], schema=small.schema)
    spent: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # on a disk, where /tmp may be memory
        for turn in range(rounds + 1):
            found: dict[str, float] = {}
            async with open_stores(Path(folder, str(turn))) as stores:
                for kind in CLASSES:
                    flow = DataFlow(mode="memory", durability=kind, memory_limit_mb=200)
                    store = await stores.open(kind, flow)
                    found[f"one, {kind}"] = await _appends(store, batch)
                    await stores.close_store(kind)
                    many = [await stores.open(f"{kind} {n}", flow) for n in range(CONTAINERS)]
                    start = time.perf_counter()
                    await asyncio.gather(*(_appends(each, small, 4) for each in many))
                    found[f"{CONTAINERS} at once, {kind}"] = (time.perf_counter() - start) / (4 * CONTAINERS)
                    for each in many:
                        await each.close()
            found["a plain parquet file"] = await asyncio.to_thread(_parquet, Path(folder), batch)
            found["a file and a sync each"] = await asyncio.to_thread(_alone, Path(folder), small)
            if turn:
                for name, seconds in found.items():
                    spent.setdefault(name, []).append(seconds * 1e6)
    rows = [row(name, each, "us") for name, each in spent.items()]
    for kind in CLASSES[1:]:
        rows.append(
            ratio(f"one, {kind} / a plain parquet file", spent["a plain parquet file"], spent[f"one, {kind}"], "<= 1.6")
        )
    together = spent[f"{CONTAINERS} at once, durable"]
    alone = spent["a file and a sync each"]
    rows.append(ratio(f"a file and a sync each / {CONTAINERS} at once, durable", together, alone, ">= 5"))
    return show(f"an append of {ROWS:,} rows ({ROWS // 10:,} where there are {CONTAINERS} containers)", rows)


async def _appends(store: DataManager, batch: pa.RecordBatch, count: int = APPENDS) -> float:
    start = time.perf_counter()
    for _ in range(count):
        await store.append("s", batch)
    return (time.perf_counter() - start) / count


def _parquet(folder: Path, batch: pa.RecordBatch) -> float:
    table = pa.Table.from_batches([batch])
    start = time.perf_counter()
    for n in range(APPENDS):
        pq.write_table(table, folder / f"plain {n}.parquet")
    return (time.perf_counter() - start) / APPENDS


def _alone(folder: Path, batch: pa.RecordBatch) -> float:
    """Each container's append as a file of its own, synced with its folder."""
    start = time.perf_counter()
    for n in range(CONTAINERS):
        path = folder / f"alone {n}"
        with path.open("wb") as file:
            file.writelines(codecs.encode(batch, codecs.BATCH).pieces)
            file.flush()
            os.fsync(file.fileno())
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        path.unlink()
    return (time.perf_counter() - start) / CONTAINERS


if __name__ == "__main__":
    main()
