"""20,000 values of 100 kB in a budget of 200 MB: the hybrid manager against zict.Buffer + File and dask's SpillBuffer.

Values are `bytes` of 100 kB, made of a random pool, so that all stores serialise them for nothing; `--batches` uses
Arrow record batches instead (pickle protocol 5 for the peers). 80 % of the operations go to 20 % of the keys, and
80 % of them read, the others replace. Every store is filled with all keys first, which is not timed.

    python bench/hybrid_mix.py [--quick] [--batches] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import pickle
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.data import DataFlow, build_manager
from pipeline.storage.workspace import Workspace

VALUE_BYTES = 100_000
TARGETS = {"accounted_peak_share": 1.00, "ratio_zict": 2.0, "ratio_spillbuffer": 4.0, "lag_p99_ms": 4.0}


def main(quick: bool = False, batches: bool = False, rounds: int = 3) -> dict[str, Any]:
    """Figures of all stores: operations per second (median, least, most of the rounds) and what they cost."""
    sys.setswitchinterval(0.0005)  # as the command line does
    count = operations = 2_000 if quick else 20_000
    budget = count * VALUE_BYTES // 10
    work = Work(count, operations, batches)
    stores: dict[str, Callable[[Work, int], dict[str, Any]]] = {
        "penstock": measure_penstock,
        "zict": measure_zict,
        "spillbuffer": measure_spillbuffer,
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in stores}
    figures: dict[str, Any] = {"values": count, "budget_mb": budget / 1e6, "kind": "batches" if batches else "bytes"}
    for _ in range(rounds):
        for name, measure in stores.items():
            gc.collect()
            try:
                found[name].append(measure(work, budget))
            except ImportError as error:
                figures[f"{name}_missing"] = str(error)
    for name, results in found.items():
        if not results:
            continue
        rates = [result["ops_per_s"] for result in results]
        figures[f"{name}_ops_per_s"] = [round(statistics.median(rates)), round(min(rates)), round(max(rates))]
        for key in results[0]:
            if key != "ops_per_s":
                figures[f"{name}_{key}"] = round(max(result[key] for result in results), 3)
    for peer in ("zict", "spillbuffer"):
        if f"{peer}_ops_per_s" not in figures:
            continue
        figures[f"ratio_{peer}"] = round(figures["penstock_ops_per_s"][0] / figures[f"{peer}_ops_per_s"][0], 2)
    return figures


class Work:
    """The same operations for everybody."""

    def __init__(self, count: int, operations: int, batches: bool) -> None:
        rng = random.Random(7)
        pool = np.random.default_rng(7).integers(0, 256, VALUE_BYTES + count, dtype=np.uint8).tobytes()
        self.count, self.batches, self._pool = count, batches, pool
        hot = count // 5
        self.operations = [
            (rng.random() < 0.8, f"k{rng.randrange(hot) if rng.random() < 0.8 else rng.randrange(hot, count)}")
            for _ in range(operations)
        ]

    def value(self, key: str) -> Any:
        start = int(key[1:])
        raw = self._pool[start : start + VALUE_BYTES]
        if not self.batches:
            return raw
        return pa.RecordBatch.from_arrays([pa.Array.from_buffers(pa.int64(), 12_500, [None, pa.py_buffer(raw)])], ["v"])

    def check(self, key: str, value: Any) -> None:
        first = value[:8] if not self.batches else value.column(0)[0].as_py().to_bytes(8, "little", signed=True)
        start = int(key[1:])
        assert first == self._pool[start : start + 8]


def measure_penstock(work: Work, budget: int) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp())

    async def run() -> dict[str, Any]:
        workspace = Workspace(folder)
        manager = build_manager("m", DataFlow(mode="hybrid", memory_limit_mb=budget / (1 << 20)), workspace)

        async def replace(key: str) -> None:
            await manager.store(key, work.value(key))

        for n in range(work.count):
            await replace(f"k{n}")
        figures = await _timed(work, manager.retrieve, replace)
        stats = manager.stats()
        assert stats.limit_bytes is not None
        figures["accounted_peak_share"] = stats.peak_bytes / stats.limit_bytes
        figures["disk_mb"] = workspace.spill.disk_bytes / 1e6
        await manager.close()
        await workspace.close()
        return figures

    try:
        return asyncio.run(run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure_zict(work: Work, budget: int) -> dict[str, Any]:
    import zict

    folder = tempfile.mkdtemp()
    dump, load = (_pickle, pickle.loads) if work.batches else (_same, _same)
    slow: Any = zict.Func(dump, load, zict.File(folder))
    buffer: Any = zict.Buffer({}, slow, budget, weight=lambda key, value: _nbytes(value))
    try:
        return asyncio.run(_run_mapping(work, buffer))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure_spillbuffer(work: Work, budget: int) -> dict[str, Any]:
    import dask
    from distributed.spill import SpillBuffer

    folder = tempfile.mkdtemp()
    with dask.config.set({"distributed.worker.memory.spill-compression": False}):
        buffer: Any = SpillBuffer(folder, target=budget)
        try:
            return asyncio.run(_run_mapping(work, buffer))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def _run_mapping(work: Work, mapping: Any) -> dict[str, Any]:
    """A blocking mapping on the loop, which is how its users use it."""
    for n in range(work.count):
        mapping[f"k{n}"] = work.value(f"k{n}")

    async def get(key: str) -> Any:
        return mapping[key]

    async def replace(key: str) -> None:
        mapping[key] = work.value(key)

    return await _timed(work, get, replace)


async def _timed(
    work: Work, get: Callable[[str], Awaitable[Any]], replace: Callable[[str], Awaitable[None]]
) -> dict[str, Any]:
    lags: list[float] = []

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append(time.perf_counter() - before - 0.001)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    lags.clear()
    start = time.perf_counter()
    for n, (read, key) in enumerate(work.operations):
        if read:
            work.check(key, await get(key))
        else:
            await replace(key)
        if n % 8 == 7:
            await asyncio.sleep(0)  # nobody may keep the loop for himself
    seconds = time.perf_counter() - start
    ticker.cancel()
    lags.sort()
    return {
        "ops_per_s": len(work.operations) / seconds,
        "lag_p50_ms": lags[len(lags) // 2] * 1e3,
        "lag_p99_ms": lags[int(len(lags) * 0.99)] * 1e3,
        "rss_mb": _rss() / 1e6,
    }


def _nbytes(value: Any) -> int:
    return len(value) if isinstance(value, bytes | bytearray) else value.nbytes


def _same(value: Any) -> Any:
    return value


def _pickle(value: Any) -> bytes:
    return pickle.dumps(value, protocol=5)


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--batches", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for name, figure in main(arguments.quick, arguments.batches, arguments.rounds).items():
        print(f"{name:28} {figure}")
