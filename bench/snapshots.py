"""What a checkpoint a second costs a group of portfolios, and how long it stands still for one.

The logic alone, fed bars of one instrument in batches of 4,096 for a few seconds: once as it is, and once with its
state taken every second, written to a file, checksummed and synced, by another thread, as a run does it. What a
state costs puts the next one off, as in a run, so that all of them take a twentieth of the time at most.

    python bench/snapshots.py [--quick] [--rounds N]
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from bench.harness import arguments, ratio, row, show
from bench.sweep_sma import PAIRS, bars_of, sweep, with_averages
from pipeline.checkpoints.taking import COST_SHARE
from pipeline.frames import Batch
from pipeline.stage import Context
from pipeline.storage import trees
from pipeline.storage.disk import DISK
from pipeline.storage.segments import Record, pack_records

BATCH = 4_096
EVERY = 1.0
SECONDS = {1_000: 5.0, 10_000: 30.0}
"""Seconds of work of a contender, about, by members: several states, and what they put off."""


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (1 if options.quick else 5)
    rows = []
    for members in (100,) if options.quick else (1_000, 10_000):
        bars = with_averages(bars_of(market(20_000 if options.quick else 100_000)))
        plain, cut, stood_ms, sizes, taken = [], [], [], [], []
        seconds = 0.5 if options.quick else SECONDS[members]
        for turn in range((rounds if members < 10_000 else max(1, rounds // 2)) + 1):
            left, _, _ = work(bars, members, seconds, False)
            held, stood, size = work(bars, members, seconds, True)
            if turn:
                plain.append(left)
                cut.append(held)
                stood_ms += stood
                sizes += size
                taken.append(len(stood) / seconds)
        rows.append(
            ratio(f"{members:,} members: bars/s with a checkpoint a second, over without", cut, plain, ">= 0.95")
        )
        rows.append({**row(f"{members:,} members: it stands still for", stood_ms or [0.0], "ms"), "target": "<= 50"})
        rows.append(row(f"{members:,} members: size of the state", sizes or [0.0], "MB"))
        rows.append(row(f"{members:,} members: states taken", taken, "/s"))
    return show("States of a group of portfolios, equity kept on up to 2,000 points", rows)


def market(count: int) -> dict[str, Any]:
    """Minute bars of a random walk."""
    random = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, count)))
    opens = np.concatenate([[100.0], close[:-1]])
    wick = np.abs(random.normal(0, 1e-3, count))
    high, low = np.maximum(opens, close) * (1 + wick), np.minimum(opens, close) * (1 - wick)
    starts = np.arange(count) * 60_000_000_000
    return {"start": starts, "open": opens, "high": high, "low": low, "close": close, "volume": np.ones(count)}


def work(bars: pa.RecordBatch, members: int, seconds: float, cuts: bool) -> tuple[float, list[float], list[float]]:
    """Seconds per bar, milliseconds of each standstill, and megabytes of each state."""
    recipes = sweep([PAIRS[place % len(PAIRS)] for place in range(members)])
    logic: Any = next(iter(recipes.values())).build_group(recipes, Context(name="portfolio_*"))
    logic.warm()
    stood: list[float] = []
    sizes: list[float] = []
    writing: Future[tuple[float, float]] | None = None
    done = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        began = time.perf_counter()
        due = began + EVERY
        while time.perf_counter() - began < seconds:
            for _ in logic.on_batch(later(bars, done)):
                pass
            done += BATCH
            if cuts and writing is not None and writing.done():
                size, cost = writing.result()
                sizes.append(size)
                due = max(due + EVERY, time.perf_counter() + (cost + stood[-1] / 1e3) * (1 / COST_SHARE - 1))
                writing = None
            if cuts and writing is None and time.perf_counter() > due:
                now = time.perf_counter()
                state = logic.snapshot()
                stood.append((time.perf_counter() - now) * 1e3)
                writing = thread.submit(written, Path(folder) / "state", state)
                del state
        spent = (time.perf_counter() - began) / done
    if writing is not None:
        sizes.append(writing.result()[0])
    logic.close()
    return spent, stood, sizes


def later(bars: pa.RecordBatch, done: int) -> Batch:
    """The next batch; after the last bar the first comes again, later."""
    rounds, place = divmod(done, bars.num_rows - bars.num_rows % BATCH)
    columns = bars.slice(place, BATCH)
    offset = rounds * bars.num_rows * 60_000_000_000
    for name in ("ts_event", "bar_start", "bar_end"):
        at = columns.schema.get_field_index(name)
        moved = pc.add(columns.column(at).cast(pa.int64()), offset).cast(columns.schema.field(at).type)
        columns = columns.set_column(at, columns.schema.field(at), moved)
    return Batch(columns)


def written(file: Path, state: Any) -> tuple[float, float]:
    """Write a state and wait until it is on the disk; its megabytes, and the processor's seconds."""
    began = time.thread_time()
    aside: trees.Aside = []
    parts: list[list[Any]] = [[trees.encode(state, [], aside)]]
    parts += [list(trees.aside_pieces(array)) for array in aside]
    pieces, _ = pack_records([Record(0, 0, b"group", 1, part) for part in parts])
    digest = xxhash.xxh3_64()
    for piece in pieces:
        digest.update(piece)
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        num_bytes = DISK.write(fd, pieces, 0)
        DISK.sync(fd)
        DISK.forget(fd, num_bytes)
    finally:
        os.close(fd)
    return num_bytes / 1e6, time.thread_time() - began


if __name__ == "__main__":
    main()
