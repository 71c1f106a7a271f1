"""A process that stores and says what was acknowledged until it is killed: `python stores_child.py FOLDER START`."""

from __future__ import annotations

import asyncio
import sys

import pyarrow as pa

from pipeline import DataFlow, DataManager, open_stores

MODES = ("memory", "hybrid", "file", "streaming")


def flow(mode: str) -> DataFlow:
    durability = "process" if mode in ("memory", "file") else "durable"
    return DataFlow(mode=mode, durability=durability, memory_limit_mb=1)


async def write(mode: str, store: DataManager, start: int) -> None:
    for number in range(start, start + 10_000):
        key = f"k{number % 20}"
        await store.store(key, b"%d " % number * 2000)
        print(f"{mode} store {key} {number}", flush=True)
        await store.append("series", pa.RecordBatch.from_pydict({"n": [number]}))
        print(f"{mode} append series {number}", flush=True)
        if number % 7 == 3:
            await store.delete(key)
            print(f"{mode} delete {key} {number}", flush=True)


async def main(folder: str, start: int) -> None:
    async with open_stores(folder, process_memory_mb=8) as stores, asyncio.TaskGroup() as group:
        for mode in MODES:
            group.create_task(write(mode, await stores.open(mode, flow(mode)), start))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
