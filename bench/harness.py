"""Rounds, medians and ratios: every contender runs in every round, in turn, so that a noisy machine hits all alike."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller input and fewer rounds, to see that it works")
    parser.add_argument("--rounds", type=int, default=None)
    parsed, _ = parser.parse_known_args()
    return parsed


@contextmanager
def on_disk() -> Iterator[Path]:
    """A folder for a while beside this file: where the system's own for temporary files is memory, syncs are free."""
    with tempfile.TemporaryDirectory(prefix=".on-disk-", dir=Path(__file__).parent) as name:
        yield Path(name)


def race(
    contenders: Mapping[str, Callable[[], Any]],
    rounds: int,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each contender in each round; the first `warm` rounds do not count.

    `time.process_time` instead of the clock on the wall measures work, where nothing waits for a disk.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warm + rounds):
        for name, run in contenders.items():
            gc.collect()
            began = clock()
            run()
            spent = clock() - began
            if turn >= warm:
                seconds[name].append(spent)
    return seconds


def row(name: str, values: list[float], unit: str = "") -> dict[str, Any]:
    """Median, min and max of one figure."""
    return {"figure": name, "median": statistics.median(values), "min": min(values), "max": max(values), "unit": unit}


def ratio(name: str, ours: list[float], theirs: list[float], target: str = "") -> dict[str, Any]:
    """How many times faster ours is, pair by pair over the rounds."""
    return {**row(name, [b / a for a, b in zip(ours, theirs, strict=True)], "x"), "target": target}


def show(title: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    print(f"\n{title}")
    for entry in rows:
        target = f"   target {entry['target']}" if entry.get("target") else ""
        spread = f"[{entry['min']:.4g} .. {entry['max']:.4g}]" if entry["min"] != entry["max"] else ""
        print(f"  {entry['figure']:<58} {entry['median']:>10.4g} {entry['unit']:<9} {spread}{target}")
    sys.stdout.flush()
    return {"title": title, "rows": rows}


class Lag:
    """A 1 kHz ticker beside what is measured: by how many milliseconds it is woken too late."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []

    async def __aenter__(self) -> Lag:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            self.late_ms.append(max(0.0, (time.perf_counter() - due) * 1e3))

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.late_ms, percent)) if self.late_ms else 0.0


def run_topology(
    topology: Any, lag: Lag | None = None, *, output: Path | None = None, watched: bool = True, **settings: Any
) -> Any:
    """Run a topology once, in a temporary folder or below `output`; the run with its summary, `run.json` as `told`."""
    from pipeline import Pipeline

    async def main() -> Any:
        with tempfile.TemporaryDirectory() if output is None else nullcontext(output) as folder:
            pipeline = Pipeline.from_topology(topology, output=Path(folder), **settings)
            async with pipeline.start(watched=watched) as run:
                if lag is None:
                    await run.finished()
                else:
                    async with lag:
                        await run.finished()
                record = run.folder / "run" / "run.json"
                run.told = json.loads(await asyncio.to_thread(record.read_bytes))  # type: ignore[attr-defined]
                return run

    return asyncio.run(main())
