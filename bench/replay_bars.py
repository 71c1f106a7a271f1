"""Ten million trades of 20 symbols in parquet -> replay -> 1-minute bars and EMA(20), through a pipeline.

Against decoding the files alone, and against duckdb, which makes the bars of the same files. Each run is a process of
its own, whose processor time and peak memory are told beside the clock's.
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

ROWS, SYMBOLS, FILES = 10_000_000, 20, 5
GROUP_ROWS = 262_144
DAY_NS = 86_400_000_000_000

PIPELINE = """
from bench.given import Counting
from bench.harness import run_topology
from pipeline import TopologyBuilder
from stages.features.features import Features
from stages.feeds.replay import Replay

def replay(path):
    sink = Counting(counted=[])
    builder = TopologyBuilder()
    builder.add("data", Replay(path=path))
    builder.add("features", Features(bars="1m", indicators=("ema_20",)), ["data"])
    builder.add("count", sink, ["features"])
    run_topology(builder.build(), watched=False)
    return sum(sink.counted)

replay(folder + "/few")
start()
rows = replay(folder + "/all")
"""
DECODING = """
import glob
import pyarrow.parquet as pq

start()
rows = 0
for file in sorted(glob.glob(folder + "/all/*.parquet")):
    for batch in pq.ParquetFile(file).iter_batches(65_536):
        rows += batch.num_rows
"""
NEEDED = """
import glob
import pyarrow.parquet as pq

start()
rows = 0
for file in sorted(glob.glob(folder + "/all/*.parquet")):
    for batch in pq.ParquetFile(file).iter_batches(65_536, columns=["ts_event", "instrument_id", "price", "size"]):
        rows += batch.num_rows
"""
DUCKDB = """
import duckdb

connection = duckdb.connect()
start()
rows = connection.sql(
    f\"\"\"select instrument_id, epoch_ns(ts_event) // 60000000000 as minute, arg_min(price, ts_event) as open,
              max(price) as high, min(price) as low, arg_max(price, ts_event) as close, sum(size) as volume
       from read_parquet('{folder}/all/*.parquet') group by all order by minute, instrument_id\"\"\"
).to_arrow_table().num_rows
"""
MEASURED = """
import json, sys, time
folder = sys.argv[1]
began = [0.0, 0.0]
def start():
    began[:] = time.perf_counter(), time.process_time()
exec(sys.argv[2])
wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
print(json.dumps({"rows": rows, "seconds": wall, "processor": cpu, "megabytes": peak}))
"""
TOLD = {
    "pipeline": "pipeline, from start to published summary",
    "decoding": "decoding all columns alone",
    "needed": "decoding the four columns that bars need",
    "duckdb": "duckdb, bars only",
}


def write(folder: Path, rows: int) -> None:
    """One day of trades in time order in the project's own schema, cut into files one after another."""
    folder.mkdir()
    random = np.random.default_rng(1)
    stamps = np.sort(random.integers(0, DAY_NS, rows))
    schema = schema_of("trade")
    for number, place in enumerate(np.array_split(np.arange(rows), FILES)):
        count = len(place)
        ones = pa.array(np.zeros(count, np.int16))
        columns = {
            "ts_event": pa.array(stamps[place]).view(NS_UTC),
            "ts_recv": pa.array(stamps[place] + 1_000_000).view(NS_UTC),
            "ingest_seq": pa.array(place.astype(np.uint64)),
            "instrument_id": pa.DictionaryArray.from_arrays(
                pa.array(random.integers(0, SYMBOLS, count).astype(np.int32)),
                pa.array([f"S{symbol:02}.BINANCE" for symbol in range(SYMBOLS)]),
            ).cast(INSTRUMENT),
            "source_id": pa.DictionaryArray.from_arrays(ones, pa.array(["generated"])).cast(SOURCE),
            "flags": pa.array(np.full(count, 128, np.uint8)),
            "price": decimal_array((10_000 + np.cumsum(random.integers(-1, 2, count))) * 1_000_000, 8),
            "size": decimal_array(random.integers(1, 100, count) * 100_000_000, 8),
            "aggressor_side": pa.array(random.integers(1, 3, count).astype(np.int8)),
            "trade_id": pa.array(place).cast(pa.utf8()),
            "sequence": pa.array(place.astype(np.uint64)),
            "trade_type": pa.DictionaryArray.from_arrays(ones, pa.array(["regular"])).cast(TRADE_TYPE),
        }
        table = pa.table([columns[name] for name in schema.names], schema=schema)
        pq.write_table(
            table, folder / f"{number}.parquet", row_group_size=GROUP_ROWS, **encoding_options(schema)
        )  # fmt: skip


def run(folder: Path, code: str) -> dict[str, float]:
    """What one contender took, in a process of its own; imports, kernels and set-up are not counted."""
    command = [sys.executable, "-c", MEASURED, str(folder), code]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    count = 500_000 if options.quick else ROWS
    contenders = {"pipeline": PIPELINE, "decoding": DECODING, "needed": NEEDED, "duckdb": DUCKDB}
    told: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    with on_disk() as folder:
        write(folder / "few", 20_000)
        write(folder / "all", count)
        for _ in range(options.rounds or (1 if options.quick else 5)):
            for name, code in contenders.items():
                told[name].append(run(folder, code))
    bars = {one["rows"] for one in (*told["pipeline"], *told["duckdb"])}
    assert len(bars) == 1, bars
    assert all(one["rows"] == count for one in (*told["decoding"], *told["needed"]))

    def taken(name: str, what: str) -> list[float]:
        return [one[what] for one in told[name]]

    return show(
        f"{count / 1e6:g} M trades in parquet to 1-minute bars and EMA(20) of {SYMBOLS} symbols",
        [
            *(row(said, [count / s / 1e6 for s in taken(name, "seconds")], "M rows/s") for name, said in TOLD.items()),
            *(
                row(f"by processor time: {said}", [count / s / 1e6 for s in taken(name, "processor")], "M rows/s")
                for name, said in TOLD.items()
            ),
            *(
                ratio(f"{lead}pipeline over {said}", taken("pipeline", what), taken(name, what), target)
                for lead, what in (("", "seconds"), ("by processor time: ", "processor"))
                for name, said, target in (
                    ("decoding", "decoding the parquet alone", ">= 0.7x"),
                    ("needed", "decoding only what bars need", ""),
                    ("duckdb", "duckdb", ">= 1x"),
                )
            ),
            *(row(f"peak memory: {said}", taken(name, "megabytes"), "MB") for name, said in TOLD.items()),
        ],
    )


if __name__ == "__main__":
    main()
