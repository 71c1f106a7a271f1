"""What a hit costs: `retrieve_nowait` and an awaited `retrieve` of a resident value, against a plain dict.

Rounds are short and each ends with the dict it is compared with, on CPU time: a neighbour who takes the core in the
middle of a round does not show, one who slows all of it down slows the dict down, too.

    python bench/manager_hits.py [--quick] [--rounds N]
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.harness import arguments, ratio, row, show
from pipeline.data import DataFlow, DataManager, build_manager
from pipeline.storage.workspace import Workspace

HITS = 10_000
TARGETS = {"nowait": "<= 4.5", "awaited": "<= 8"}


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    return asyncio.run(_measure(options.rounds or (21 if options.quick else 201)))


async def _measure(rounds: int) -> dict[str, Any]:
    workspace = Workspace(Path(tempfile.gettempdir()) / "never-made")
    keys = [f"key {n}" for n in range(1000)]
    order = [keys[n * 7919 % 1000] for n in range(HITS)]
    plain = {key: bytes(100) for key in keys}
    managers: dict[str, DataManager] = {}
    for mode in ("memory", "hybrid"):
        managers[mode] = build_manager("m", DataFlow(mode=mode), workspace)
        for key, value in plain.items():
            await managers[mode].store(key, value)
    cost: dict[str, list[float]] = {"a bare coroutine awaited": []}
    base: dict[str, list[float]] = {"a bare coroutine awaited": []}
    for mode in managers:
        for how in TARGETS:
            cost[f"{mode} {how}"], base[f"{mode} {how}"] = [], []
    for turn in range(rounds + 1):
        for name in cost:
            mode, _, how = name.partition(" ")
            if mode == "a":
                spent = await _time_awaited(_nothing, order)
            elif how == "nowait":
                spent = _time_nowait(managers[mode].retrieve_nowait, order)
            else:
                spent = await _time_awaited(managers[mode].retrieve, order)
            if turn:
                cost[name].append(spent)
                base[name].append(_time_dict(plain, order))
    for manager in managers.values():
        await manager.close()
    await workspace.close()
    rows = [row("dict", [each for values in base.values() for each in values], "ns")]
    for name, spent_ns in cost.items():
        rows.append(row(f"{name}", spent_ns, "ns"))
        target = TARGETS.get(name.partition(" ")[2], "")
        rows.append(ratio(f"{name} / dict", base[name], spent_ns, target))
    return show("a hit on one of 1000 resident values, CPU time", rows)


def _time_dict(plain: dict[str, bytes], order: list[str]) -> float:
    start = time.thread_time_ns()
    for key in order:
        plain[key]
    return (time.thread_time_ns() - start) / len(order)


def _time_nowait(retrieve: Callable[[str], Any], order: list[str]) -> float:
    start = time.thread_time_ns()
    for key in order:
        retrieve(key)
    return (time.thread_time_ns() - start) / len(order)


async def _time_awaited(retrieve: Callable[[str], Any], order: list[str]) -> float:
    start = time.thread_time_ns()
    for key in order:
        await retrieve(key)
    return (time.thread_time_ns() - start) / len(order)


async def _nothing(key: str) -> None:
    """What awaiting anything at all costs."""


if __name__ == "__main__":
    main()
