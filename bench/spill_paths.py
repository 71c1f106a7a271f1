"""What the ways to disk and back cost: spilling tables, restoring one, the checksum, an edge's backlog, an entry.

Spilled are tables of 400 kB in a tenth of the memory they need, against bare appends of the same bytes to one file and
against dask's SpillBuffer. One restore is a value of 1 MB that the page cache has, against reading and verifying it.

    python bench/spill_paths.py [--quick] [--rounds N]
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from bench.harness import Lag, arguments, ratio, row, show
from pipeline.data import DataFlow, build_manager
from pipeline.edges.edge import EdgePolicy
from pipeline.edges.spilling import SpillingEdge
from pipeline.frames import Batch
from pipeline.storage import segments
from pipeline.storage.workspace import Workspace

MB = 1 << 20
TABLE_ROWS = 25_000


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    sys.setswitchinterval(0.0005)  # as the command line does
    rounds = options.rounds or (3 if options.quick else 7)
    tables = [
        pa.table({"a": np.arange(n, n + TABLE_ROWS), "b": np.arange(TABLE_ROWS) / (n + 1)})
        for n in range(100 if options.quick else 400)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [*_spilling(tables, rounds, folder), *_restoring(rounds, folder), *_checksum(rounds, folder)]
        rows += [_backlog(folder, 1.2, "0.17"), _backlog(folder, 2.0, "<= 0.55"), _entry(folder)]
    return show(f"{len(tables)} tables of 400 kB in a tenth of the memory; 1 MB restored; edges; entries", rows)


def _spilling(tables: list[pa.Table], rounds: int, folder: Path) -> list[dict[str, Any]]:
    seconds: dict[str, list[float]] = {"bare appends": [], "hybrid": [], "SpillBuffer": []}
    cpus: dict[str, list[float]] = {name: [] for name in seconds}
    lags: list[float] = []
    worst: list[float] = []
    for turn in range(rounds + 1):
        spent, used = {}, {}
        for name in seconds:
            cpu = time.process_time()
            if name == "hybrid":
                spent[name], lag = asyncio.run(_spill(tables, folder / "spill"))
            else:
                other = _append if name == "bare appends" else _spillbuffer
                spent[name] = other(tables, folder / f"{name}-{turn}")
            used[name] = time.process_time() - cpu
        if turn:
            for name, value in spent.items():
                seconds[name].append(value)
                cpus[name].append(used[name])
            lags.append(lag.percentile(50))
            worst.append(lag.percentile(99))
    size = sum(table.nbytes for table in tables) / 1e6
    rows = [row(f"spilled, {name}", [size / each for each in values], "MB/s") for name, values in seconds.items()]
    rows.append(ratio("hybrid / bare appends", seconds["hybrid"], seconds["bare appends"], ">= 0.4"))
    rows.append(ratio("  the same by CPU time", cpus["hybrid"], cpus["bare appends"]))
    rows.append(ratio("hybrid / SpillBuffer", seconds["hybrid"], seconds["SpillBuffer"], ">= 1.3"))
    rows.append(ratio("  the same by CPU time", cpus["hybrid"], cpus["SpillBuffer"]))
    rows.append({**row("loop lag p50 while spilling", lags, "ms"), "target": "<= 0.5"})
    rows.append({**row("loop lag p99 while spilling", worst, "ms"), "target": "<= 2"})
    return rows


def _append(tables: list[pa.Table], path: Path) -> float:
    pieces = [[memoryview(b) for c in t.columns for b in c.chunk(0).buffers() if b is not None] for t in tables]
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    began = time.perf_counter()
    offset = 0
    for buffers in pieces:
        offset = segments.write_all(fd, offset, buffers)
    spent = time.perf_counter() - began
    os.close(fd)
    path.unlink()
    return spent


async def _spill(tables: list[pa.Table], folder: Path) -> tuple[float, Lag]:
    workspace = Workspace(folder)
    limit = sum(table.nbytes for table in tables) / 10 / MB
    manager = build_manager("m", DataFlow(mode="hybrid", memory_limit_mb=limit), workspace)
    async with Lag() as lag:
        began = time.perf_counter()
        for n, table in enumerate(tables):
            await manager.store(f"{n}", table)
        await manager.flush()
        spent = time.perf_counter() - began
    assert manager.stats().evictions > 0.8 * len(tables)
    await manager.close()
    await workspace.close()
    return spent, lag


def _spillbuffer(tables: list[pa.Table], folder: Path) -> float:
    import dask
    from distributed.spill import SpillBuffer

    with dask.config.set({"distributed.worker.memory.spill-compression": False}):
        buffer: Any = SpillBuffer(str(folder), target=sum(table.nbytes for table in tables) // 10)
        began = time.perf_counter()
        for n, table in enumerate(tables):
            buffer[f"{n}"] = table
        return time.perf_counter() - began


def _restoring(rounds: int, folder: Path) -> list[dict[str, Any]]:
    return asyncio.run(_restore(rounds, folder / "restore"))


async def _restore(rounds: int, folder: Path) -> list[dict[str, Any]]:
    workspace = Workspace(folder)
    manager = build_manager("m", DataFlow(mode="hybrid", memory_limit_mb=20), workspace)
    for n in range(100):
        await manager.store(f"{n}", pa.RecordBatch.from_pydict({"a": np.arange(n, n + MB // 8)}))
    await manager.flush()
    ours, bare = [], []
    blocks = manager._entries  # type: ignore[attr-defined]
    for turn in range(20 * rounds):
        block = blocks[f"{turn % 50}"]
        if block.extent is None or block.resident:
            continue
        fd, offset, length = block.extent.segment.fd, block.extent.offset, block.extent.length
        began = time.perf_counter()
        await manager.retrieve(f"{turn % 50}")
        middle = time.perf_counter()
        payload = pa.allocate_buffer(length)
        os.preadv(fd, [payload], offset)
        xxhash.xxh3_64_intdigest(payload)
        bare.append(time.perf_counter() - middle)
        ours.append(middle - began)
    await manager.close()
    await workspace.close()
    us = [each * 1e6 for each in ours]
    return [row("1 MB restored", us, "us"), ratio("reading and verifying / restoring", ours, bare, ">= 0.67")]


def _checksum(rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Of appending ten records of 100 kB at a time: what lengths, keys and checksums cost beside the system call."""
    payload = np.random.default_rng(1).integers(0, 256, 100_000, dtype=np.uint8).tobytes()
    records = [segments.Record(1, 0, b"key", n, [payload]) for n in range(10)]
    fd = os.open(folder / "sums", os.O_RDWR | os.O_CREAT)
    shares = []
    for _ in range(rounds):
        spent = []
        for checked in (True, False):
            os.ftruncate(fd, 0)
            began = time.thread_time()
            for n in range(100):
                if checked:
                    segments.write_records(fd, n * MB, records)
                else:
                    segments.write_all(fd, n * MB, [memoryview(payload)] * 10)
            spent.append(time.thread_time() - began)
        shares.append((spent[0] / spent[1] - 1) * 100)
    os.close(fd)
    return [{**row("integrity: what it adds to writing, CPU time", shares, "%"), "target": "<= 12"}]


def _backlog(folder: Path, times: float, target: str) -> dict[str, Any]:
    async def run() -> float:
        workspace = Workspace(folder / f"edge-{times}")
        batch = Batch.from_pydict({"n": np.arange(5_000)})
        memory = 100
        policy = EdgePolicy(max_bytes=memory * batch.num_bytes, max_rows=1 << 40, when_full="spill")
        line = SpillingEdge("a", "b", policy, None, workspace)
        backlog = int(times * memory)
        before = 0
        for n in range(6 * backlog):
            if n == 2 * backlog:
                before = line.stats().spilled_batches
            await line.send(Batch.from_pydict({"n": np.arange(n, n + 5_000)}))
            if n >= backlog:
                received = await line.receive()
                assert isinstance(received, Batch)
                line.finish(received)
        spilled = line.stats().spilled_batches - before
        await line.close()
        await workspace.close()
        return spilled / (4 * backlog)

    return {**row(f"spills per batch at a backlog of {times} x memory", [asyncio.run(run())]), "target": target}


def _entry(folder: Path) -> dict[str, Any]:
    async def run() -> float:
        workspace = Workspace(folder / "entries")
        manager = build_manager("m", DataFlow(mode="hybrid", memory_limit_mb=1000), workspace)
        keys = [f"key {n}" for n in range(20_000)]
        value = b"x"
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for key in keys:
            await manager.store(key, value)
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        await manager.close()
        await workspace.close()
        return taken / len(keys)

    return {**row("memory of an entry beside its value and key", [asyncio.run(run())], "B"), "target": "<= 200"}


if __name__ == "__main__":
    main()
