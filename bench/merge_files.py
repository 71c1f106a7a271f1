"""Ten million trades in twenty parquet files, in our layout, to columnar batches in time order.

Against polars reading, concatenating and sorting the same files, and against `heapq.merge` of rows, each in a process
of its own, whose peak memory is told too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.harness import arguments, on_disk, ratio, row, show
from stages.schemas import INSTRUMENT, NS_UTC, SOURCE, TRADE_TYPE, decimal_array, schema_of
from stages.sinks.encoding import encoding_options

FILES = 20
GROUP_ROWS = 65_536

MERGE = """
from stages.feeds.replay import Replay
from pipeline import Context
feed = Replay(path=folder).build(Context())
rows = 0
for batch in feed.batches():
    rows += batch.num_rows
"""
POLARS = """
import glob
import polars as pl
frames = [pl.read_parquet(file) for file in sorted(glob.glob(folder + "/**/*.parquet", recursive=True))]
whole = pl.concat(frames)
del frames
whole = whole.sort("ts_recv", "ingest_seq", maintain_order=True)
rows = 0
for batch in whole.iter_slices(65_536):
    rows += batch.to_arrow().num_rows
"""
HEAPQ = """
import glob, heapq
import pyarrow.parquet as pq

def rows_of(file):
    for batch in pq.ParquetFile(file).iter_batches(65_536):
        columns = [batch.column("ts_recv").cast("int64"), batch.column("ingest_seq")]
        rest = [batch.column(name) for name in batch.schema.names if name not in ("ts_recv", "ingest_seq", "ts_event")]
        rest += [batch.column("ts_event").cast("int64")]
        yield from zip(*[column.to_pylist() for column in columns + rest])

rows = 0
files = sorted(glob.glob(folder + "/**/*.parquet", recursive=True))
for row in heapq.merge(*[rows_of(file) for file in files]):
    rows += 1
"""
AROUND = """
import json, resource, sys, time
folder = sys.argv[1]
import numpy, pyarrow, pyarrow.parquet
{imports}
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began, worked = time.perf_counter(), time.process_time()
{code}
spent = time.perf_counter() - began
print(json.dumps({{"rows": rows, "seconds": spent, "cpu": time.process_time() - worked,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "base_mb": base / 1024}}))
"""
IMPORTS = {
    "merge": "import stages.feeds.replay, stages.feeds.merged",
    "polars": "import polars",
    "heapq": "import heapq",
}


def write(folder: Path, rows: int) -> None:
    """Trades of one session, one instrument a file, interleaved at random; sorted in each file."""
    schema = schema_of("trade")
    generator = np.random.Generator(np.random.PCG64(1))
    owner = generator.integers(0, FILES, rows)
    stamps = 1_700_000_000_000_000_000 + np.cumsum(generator.integers(0, 20_000, rows))
    for number in range(FILES):
        seqs = np.flatnonzero(owner == number)
        ts = stamps[seqs]
        count = len(seqs)
        name, ids = f"S{number:02d}.DEMO", pa.array(seqs).cast(pa.utf8())
        arrays = {
            "ts_event": pa.array(ts - 1_000_000).view(NS_UTC),
            "ts_recv": pa.array(ts).view(NS_UTC),
            "ingest_seq": pa.array(seqs.astype(np.uint64)),
            "instrument_id": pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([name])).cast(
                INSTRUMENT
            ),
            "source_id": pa.DictionaryArray.from_arrays(np.zeros(count, np.int16), pa.array(["made"])).cast(SOURCE),
            "sequence": pa.array(np.arange(count, dtype=np.uint64)),
            "flags": pa.array(np.zeros(count, np.uint8)),
            "price": decimal_array(10_000_000_000 + generator.integers(0, 1000, count) * 1_000_000, 8),
            "size": decimal_array(generator.integers(1, 500, count) * 1_000_000, 8),
            "aggressor_side": pa.array(generator.integers(1, 3, count).astype(np.int8)),
            "trade_id": ids,
            "trade_type": pa.nulls(count, TRADE_TYPE),
        }
        table = pa.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)
        day = folder / "trade" / "venue=demo" / f"instrument={name}" / "date=2023-11-14"
        day.mkdir(parents=True)
        pq.write_table(
            table, day / f"{ts[0]}_{ts[-1]}_made.parquet", row_group_size=GROUP_ROWS, compression="zstd",
            **encoding_options(schema),
        )  # fmt: skip


def measured(name: str, code: str, folder: Path) -> dict[str, Any]:
    """One run in a process of its own."""
    program = AROUND.format(code=code, imports=IMPORTS[name])
    told = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    ).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    rows = 1_000_000 if options.quick else 10_000_000
    rounds = options.rounds or (1 if options.quick else 3)
    runs: dict[str, list[dict[str, Any]]] = {"merge": [], "polars": [], "heapq": []}
    with on_disk() as folder:
        write(folder / "all", rows)
        write(folder / "few", rows // 10)
        for _ in range(rounds):
            for name, code in (("merge", MERGE), ("polars", POLARS)):
                runs[name].append(measured(name, code, folder / "all"))
                assert runs[name][-1]["rows"] == rows
        # Python's own takes minutes for all of them.
        runs["heapq"].append(measured("heapq", HEAPQ, folder / "few"))
    seconds = {name: [run["seconds"] / run["rows"] for run in found] for name, found in runs.items()}
    cpu = {name: [run["cpu"] / run["rows"] for run in found] for name, found in runs.items()}
    figures = [row(name, [1 / each / 1e6 for each in found], "M rows/s") for name, found in seconds.items()]
    figures += [row(f"{name}, of processor time", [1 / each / 1e6 for each in cpu[name]], "M rows/s") for name in cpu]
    figures += [row(f"{name}, peak memory", [run["peak_mb"] for run in found], "MB") for name, found in runs.items()]
    peaks = {name: [run["peak_mb"] for run in found] for name, found in runs.items()}
    shares = [ours / theirs for ours, theirs in zip(peaks["merge"], peaks["polars"], strict=True)]
    figures += [
        ratio("merge over polars concat + sort", seconds["merge"], seconds["polars"], ">= 1x"),
        ratio("the same by processor time", cpu["merge"], cpu["polars"]),
        {**row("peak memory, of polars'", shares, "x"), "target": "<= 0.4x"},
        ratio("merge over heapq.merge", seconds["merge"][:1], seconds["heapq"], ">= 8x"),
    ]
    return show(f"{rows:,} trades of {FILES} files in time order", figures)


if __name__ == "__main__":
    main()
