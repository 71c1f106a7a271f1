"""Whole runs for the scenarios: run a configuration to its end, then read what it left as anybody could."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import Pipeline
from tests.patience import SECONDS

ROOT = Path(__file__).parents[2]

MODES = ("memory", "streaming", "file", "hybrid")

SMALL: Mapping[str, Any] = {
    "name": "small",
    "topology": "backtest",
    "containers": {
        "data": {
            "type": "synthetic",
            "schema": "trade",
            "rows": 3000,
            "interval": "7s",
            "volatility": 0.001,
            "trend": 0.02,
            "seed": 3,
        },
        "features": {"bars": "1m", "indicators": ["ema_7", "sma_4"]},
        "portfolio_*": {
            "strategy": {"type": "sma_cross", "quantity": 100, "short": True},
            "fills": {"at": "next_open", "fee_bps": 1, "slippage_bps": 1},
        },
        "execution": {"objective": "sharpe"},
    },
    "parameter_space": {"fast": [2, 3, 5], "slow": [8, 13, 21]},
}
"""Trades become bars of a minute; nine portfolios trade them and are ranked."""


def changed(config: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    """A copy with settings replaced; `data__batch_rows=7` is `containers.data.batch_rows`, `all` means every one."""
    copy = deepcopy(dict(config))
    for words, value in settings.items():
        name, *path = words.replace("portfolio__", "portfolio_*__").split("__")
        for container in copy["containers"] if name == "all" else [name]:
            place = copy["containers"].setdefault(container, {})
            for word in path[:-1]:
                place = place.setdefault(word, {})
            place[path[-1]] = value
    return copy


@dataclass(frozen=True)
class Left:
    """What a run left in its phase's folder."""

    folder: Path

    @cached_property
    def summary_bytes(self) -> bytes:
        return (self.folder / "summary.json").read_bytes()

    @cached_property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.summary_bytes)
        return summary

    @cached_property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / "run.json").read_bytes())
        return record

    @cached_property
    def containers(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.folder / "containers.parquet").to_pylist()
        return rows

    @property
    def members(self) -> list[dict[str, Any]]:
        return [row for row in self.containers if row["kind"] == "member"]

    def container(self, name: str) -> dict[str, Any]:
        return next(row for row in self.containers if row["name"] == name)

    @cached_property
    def files(self) -> dict[str, pa.Table]:
        """Every table a container persisted, by its path in the phase's folder."""
        found = sorted((self.folder / "containers").rglob("*.parquet"))
        return {str(path.relative_to(self.folder)): pq.read_table(path) for path in found}


def finish(config: Mapping[str, Any] | str | Path, output: Path, **words: Any) -> Left:
    """Run a configuration to its end in this process."""
    pipeline = Pipeline.from_yaml(config, output=output, **words)

    async def main() -> Path:
        async with pipeline.start() as run:
            await run.finished()
        assert run.folder is not None
        return run.folder / list(run.summaries)[-1]

    return Left(asyncio.run(main()))


def left_in(output: Path) -> Left:
    """What the only run below `output` left."""
    (summary,) = [path for path in output.rglob("summary.json") if "latest" not in path.parts]
    return Left(summary.parent)


def environment(**more: str) -> dict[str, str]:
    """This process's, with the checkout found from any folder."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": paths, **more}


def start_program(folder: Path, *words: str | Path, **more: str) -> subprocess.Popen[str]:
    """`penstock ...` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *map(str, words)],
        cwd=folder, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def await_program(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; a process that does not end is killed and fails the test."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


def assert_books_balance(summary: Mapping[str, Any]) -> None:
    """Recompute the ledger: every row sent was received, every row received was dealt with."""
    ledger = summary["ledger"]
    arrived: dict[str, int] = {}
    for edge in ledger["edges"]:
        assert edge["sent"] == edge["received"] + edge["dropped"] + edge["in_flight"], edge
        assert edge["in_flight"] == 0, edge
        assert edge["sent"] == ledger["containers"][edge["from"]]["sent"], edge
        arrived[edge["to"]] = arrived.get(edge["to"], 0) + edge["received"]
    for name, books in ledger["containers"].items():
        assert books["received"] == books["processed"] + books["late"], (name, books)
        if name in arrived:
            assert arrived[name] == books["received"], (name, books)


def tight(mode: str) -> dict[str, Any]:
    """A policy that leaves a container hardly any room in memory."""
    policy: dict[str, Any] = {"mode": mode}
    if mode == "hybrid":
        policy["memory_limit_mb"] = 0.01
    if mode == "streaming":
        policy |= {"streaming_settings": {"buffer_size": 10}}
    return policy


def assert_same(left: Left, reference: Left) -> None:
    """The summary byte for byte, and the results' files row for row."""
    assert left.summary_bytes == reference.summary_bytes
    results = [name for name in reference.files if not name.endswith("/output.parquet")]
    assert [name for name in left.files if not name.endswith("/output.parquet")] == results
    for name in results:
        assert left.files[name].equals(reference.files[name]), name
