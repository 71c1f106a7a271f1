"""What it costs that no wrong byte is served: checksums of spilled values, and of the pages of parquet files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from bench.durable_commit import trades
from bench.harness import arguments, on_disk, race, row, show
from pipeline.storage.publish import TableFile
from pipeline.storage.segments import Record, write_all, write_records

VALUES = 256
VALUE_BYTES = 100_000


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (5 if options.quick else 40)
    value = os.urandom(VALUE_BYTES)
    records = [Record(1, 0, b"key", number, [value]) for number in range(VALUES)]
    with on_disk() as folder:
        fd = os.open(folder / "segment", os.O_RDWR | os.O_CREAT)
        table = trades()
        with TableFile(folder, table.schema) as file:
            for _ in range(50):
                file.write(table)  # type: ignore[attr-defined]
            path = file.publish("rows.parquet").path

        def spill(write: Callable[[], object]) -> None:
            """Into pages that are new, as a log grows."""
            os.ftruncate(fd, 0)
            write()

        def read(verified: bool) -> None:
            with pq.ParquetFile(path, page_checksum_verification=verified) as source:
                source.read(use_threads=False)

        times = race(
            {
                "bare": lambda: spill(lambda: write_all(fd, 0, [memoryview(value)] * VALUES)),
                "checked": lambda: spill(lambda: write_records(fd, 0, records)),
                "read": lambda: read(False),
                "verified": lambda: read(True),
            },
            rounds,
            warm=3,
            clock=time.process_time,
        )
        os.close(fd)

    def cost(checked: str, bare: str) -> list[float]:
        return [100 * (slow / quick - 1) for slow, quick in zip(times[checked], times[bare], strict=True)]

    figures = [
        row("spill write", [VALUES * VALUE_BYTES / spent / 1e9 for spent in times["checked"]], "GB/s"),
        {**row("of it records and their checksums", cost("checked", "bare"), "%"), "target": "<= 12 %"},
        row("parquet read, 500,000 rows", [spent * 1e3 for spent in times["verified"]], "ms"),
        {**row("of it the checksums of pages", cost("verified", "read"), "%"), "target": "<= 16 %"},
    ]
    return show("what checksums cost", figures)


if __name__ == "__main__":
    main()
