"""Trades of twenty parquet files in time order as Python rows, one by one, over NautilusTrader's DataBackendSession.

It is there in the environment of `make bench-peers`; elsewhere ours is told over the figure that was measured of it.
Each reads the same trades in files of its own format, in a process of its own; no row may be older than the last.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench import merge_files
from bench.harness import arguments, on_disk, ratio, row, show

REFERENCE = 3.4e6
"""Rows a second that were measured of NautilusTrader on a quiet machine of two cores."""
OURS = """
from stages.feeds.replay import Replay
from pipeline import Context
names = ["instrument_id", "price", "size", "aggressor_side", "trade_id", "ts_event", "ts_recv"]
feed = Replay(path=folder + "/ours").build(Context(columns=frozenset(names)))

def plain(column):
    if hasattr(column, "dictionary"):
        words = column.dictionary.to_pylist()
        return [words[code] for code in column.indices.to_numpy().tolist()]
    if str(column.type) == "string":
        return column.to_numpy(zero_copy_only=False).tolist()
    wide = column.view("int8" if column.type.bit_width == 8 else "int64")
    return wide.to_numpy().tolist()

rows, last = 0, 0
for batch in feed.batches():
    for trade in zip(*[plain(batch.columns.column(name)) for name in names]):
        rows += trade[6] >= last
        last = trade[6]
"""
STRUCTS = """
from stages.feeds.replay import Replay
from pipeline import Context
rows, last = 0, 0
for batch in Replay(path=folder + "/few").build(Context()).batches():
    for trade in batch.rows:
        rows += trade.ts_recv >= last
        last = trade.ts_recv
"""
NAUTILUS = """
from nautilus_trader.core import nautilus_pyo3
from nautilus_trader.model.data import capsule_to_list
import glob
session = nautilus_pyo3.DataBackendSession()
for number, file in enumerate(sorted(glob.glob(folder + "/theirs/*.parquet"))):
    session.add_file(nautilus_pyo3.NautilusDataType.TradeTick, f"trades_{number}", file)
rows, last = 0, 0
for chunk in session.to_query_result():
    for trade in capsule_to_list(chunk):
        rows += trade.ts_init >= last
        last = trade.ts_init
"""
merge_files.IMPORTS.update(
    ours="import stages.feeds.replay, stages.feeds.merged",
    structs="import stages.feeds.replay, stages.feeds.merged",
    nautilus="import nautilus_trader.core.nautilus_pyo3, nautilus_trader.model.data",
)


def write_theirs(ours: Path, folder: Path) -> None:
    """The same trades as NautilusTrader keeps them: prices and sizes as 16 bytes at its fixed precision."""
    folder.mkdir()
    for path in sorted(ours.rglob("*.parquet")):
        table = pq.ParquetFile(path).read()
        count = table.num_rows

        def wide(column: pa.ChunkedArray) -> pa.Array:
            units = column.combine_chunks().view(pa.int64()).to_numpy().astype(object) * 10**8
            raw = b"".join(int(unit).to_bytes(16, "little", signed=True) for unit in units)
            return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(units), [None, pa.py_buffer(raw)])

        columns = {
            "price": wide(table["price"]),
            "size": wide(table["size"]),
            "aggressor_side": table["aggressor_side"].cast(pa.uint8()).combine_chunks(),
            "trade_id": table["trade_id"].combine_chunks(),
            "ts_event": pa.array(table["ts_event"].cast(pa.int64()).to_numpy().astype(np.uint64)),
            "ts_init": pa.array(table["ts_recv"].cast(pa.int64()).to_numpy().astype(np.uint64)),
        }
        told = {"instrument_id": table["instrument_id"][0].as_py(), "price_precision": "8", "size_precision": "8"}
        schema = pa.schema([pa.field(name, each.type, nullable=False) for name, each in columns.items()], told)
        pq.write_table(
            pa.Table.from_arrays(list(columns.values()), schema=schema), folder / f"{path.parts[-3]}.parquet",
            row_group_size=65_536, compression="zstd",
        )  # fmt: skip
        assert count == table.num_rows


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    rows = 200_000 if options.quick else 2_000_000
    contenders = {"ours": OURS, "structs": STRUCTS}
    if importlib.util.find_spec("nautilus_trader") is not None:
        contenders["nautilus"] = NAUTILUS
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    with on_disk() as folder:
        merge_files.write(folder / "ours", rows)
        merge_files.write(folder / "few", rows // 10)
        if "nautilus" in contenders:
            write_theirs(folder / "ours", folder / "theirs")
        for _ in range(options.rounds or (1 if options.quick else 5)):
            for name, code in contenders.items():
                told = merge_files.measured(name, code, folder)
                assert told["rows"] == (rows // 10 if name == "structs" else rows), told
                runs[name].append(told)
    said = {"ours": "ours, tuples of seven columns", "structs": "ours, structs of all columns (`Batch.rows`)"}
    figures = []
    for name, found in runs.items():
        for lead, what in (("", "seconds"), (", of processor time", "cpu")):
            rates = [each["rows"] / each[what] / 1e6 for each in found]
            figures.append(row(f"{said.get(name, 'NautilusTrader')}{lead}", rates, "M rows/s"))
    ours = runs["ours"]
    if "nautilus" in runs:
        for lead, what in (("", "seconds"), (", by processor time", "cpu")):
            pair = [each[what] for each in ours], [each[what] for each in runs["nautilus"]]
            figures.append(ratio(f"tuples over NautilusTrader{lead}", *pair, ">= 1.2x"))
    else:
        shares = [each["rows"] / each["seconds"] / REFERENCE for each in ours]
        figures.append({**row("tuples over the reference figure of NautilusTrader, 3.4 M rows/s", shares, "x"),
                        "target": ">= 1.2x"})  # fmt: skip
    return show(f"{rows:,} trades of {merge_files.FILES} files in time order, row by row", figures)


if __name__ == "__main__":
    main()
