"""A durable commit of ten thousand rows, parquet file and manifest synced, against a plain parquet write."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.harness import arguments, on_disk, race, ratio, row, show
from pipeline.storage.disk import RealDisk
from pipeline.storage.entries import Entry
from pipeline.storage.publish import TableFile
from pipeline.storage.root import StorageRoot

ROWS = 10_000


class Quick(RealDisk):
    """Syncs nothing, to see what is ours of a commit and what the disk's."""

    def sync(self, fd: int) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass


def trades() -> pa.Table:
    """Rows as a day of a busy market has them: times, two strings of few values, prices, sizes, counters."""
    draw = np.random.default_rng(1)
    names = np.array([f"S{number:02d}.DEMO" for number in range(20)])
    return pa.table(
        {
            "ts_event": np.cumsum(draw.integers(1, 10**9, ROWS)),
            "instrument": names[draw.integers(0, 20, ROWS)],
            "price": np.round(100 + np.cumsum(draw.normal(0, 0.01, ROWS)), 2),
            "size": draw.integers(1, 1000, ROWS).astype(float),
            "side": np.array(["buy", "sell"])[draw.integers(0, 2, ROWS)],
            "id": np.arange(ROWS),
            **{f"feature_{number}": draw.normal(0, 1, ROWS) for number in range(6)},
        }
    )


class Committed:
    """Parquet files in a root, each committed before the next."""

    def __init__(self, folder: Path, table: pa.Table, disk: RealDisk) -> None:
        self.root, self.table, self.disk = StorageRoot.open(folder, disk=disk), table, disk
        self._numbers = itertools.count()

    def run(self) -> None:
        file = TableFile(self.root.path / "data", self.table.schema, disk=self.disk)
        file.write(self.table)
        done = file.publish(f"{next(self._numbers):06d}.parquet")
        self.root.commit([listed(done.path.name, done.num_bytes, done.digest)])


def listed(name: str, num_bytes: int, digest: int) -> Entry:
    return Entry(kind="add", container="trades", file=f"data/{name}", bytes=num_bytes, rows=ROWS, xxh3=f"{digest:016x}")


def plain(folder: Path, table: pa.Table, sync: bool) -> None:
    path = folder / "plain.parquet"
    pq.write_table(table, path)
    if sync:
        with open(path, "rb") as file:
            RealDisk().sync(file.fileno())


def alone(folder: Path, count: int, disk: RealDisk) -> list[float]:
    """Seconds of each of so many commits, one after the other."""
    seconds = []
    with StorageRoot.open(folder, disk=disk) as root:
        for number in range(count):
            began = time.perf_counter()
            root.commit([listed(f"{number:06d}.parquet", 400_000, number)])
            seconds.append(time.perf_counter() - began)
    return seconds


def growth(seconds: list[float]) -> float:
    """The median of the last twentieth over that of the first."""
    part = max(1, len(seconds) // 20)
    return float(np.median(seconds[-part:]) / np.median(seconds[:part]))


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (5 if options.quick else 40)
    commits = 1000 if options.quick else 10_000
    table = trades()
    with on_disk() as folder:
        ours = Committed(folder / "ours", table, RealDisk())
        times = race(
            {
                "plain": lambda: plain(folder, table, sync=False),
                "synced": lambda: plain(folder, table, sync=True),
                "ours": ours.run,
            },
            rounds,
            warm=3,
        )
        ours.root.close()
        synced = alone(folder / "many", commits, RealDisk())
        own = alone(folder / "own", commits, Quick())
    figures = [
        row("plain parquet write, not synced", [spent * 1e3 for spent in times["plain"]], "ms"),
        row("durable commit", [spent * 1e3 for spent in times["ours"]], "ms"),
        {**ratio("durable commit over the plain write, as time", times["plain"], times["ours"]), "target": "<= 1.6x"},
        {**ratio("the same over a plain write that is synced", times["synced"], times["ours"]), "target": ""},
        row(f"commit of one file, {commits:,} of them", [float(np.median(synced)) * 1e6], "us"),
        row("of it ours, without the disk's sync", [float(np.median(own)) * 1e6], "us"),
        {**row(f"last over first after {commits:,}", [growth(synced)], "x"), "target": "<= 1.1x"},
        {**row("the same without the disk's sync", [growth(own)], "x"), "target": "<= 1.1x"},
    ]
    return show(f"{ROWS:,} rows of {table.num_columns} columns, committed durably", figures)


if __name__ == "__main__":
    main()
