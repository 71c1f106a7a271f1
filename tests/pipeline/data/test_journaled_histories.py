"""Random histories of a journaled manager, with crashes and full disks in between, against a plain dict."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from data_support import batch, rows, settle
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from journal_support import opened
from test_journaled import FullDisk

from pipeline.data import DataFlow
from pipeline.data.journaled import JournaledManager
from pipeline.data.policy import FileSettings
from pipeline.errors import DataError, DiskFull

KEYS = st.sampled_from(["a", "b", "", b"a"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["store", "append", "append", "delete"]), KEYS, st.sampled_from([1, 50, 400])),
        st.tuples(st.sampled_from(["crash", "full", "room", "rewrite", "flush"]), KEYS, st.just(0)),
    ),
    min_size=5,
    max_size=30,
)


def expected(state: list[Any]) -> Any:
    return state[0] if state[0].schema.names == ["v"] else pa.Table.from_batches(state)


async def run(mode: str, folder: Path, steps: list[tuple[str, Any, int]]) -> None:
    """Each process goes on until a crash; what it held then is what the next one must find."""
    policy = DataFlow(
        mode=mode,
        durability="process",
        memory_limit_mb=0.05 if mode == "hybrid" else 4,
        file_settings=FileSettings(roll_rows=60),
    )
    model: dict[Any, list[Any]] = {}
    number = 0
    while True:
        disk = FullDisk()
        async with opened(folder, disk=disk, segment_bytes=1 << 14, clean=False) as root:
            manager = root.make(policy=policy)
            await root.restore(manager)
            await check(manager, model)
            crashed = False
            while number < len(steps) and not crashed:
                call, key, size = steps[number]
                number += 1
                crashed = call == "crash"
                disk.full = call == "full" or (disk.full and call not in ("room", "crash"))
                await step(manager, model, call, key, size, number)
            disk.full = False
            await check(manager, model)
            await manager.close()
        if not crashed:
            break
    async with opened(folder) as root:
        manager = root.make(policy=policy)
        await root.restore(manager)
        await check(manager, model)
        await manager.close()


async def step(
    manager: JournaledManager, model: dict[Any, list[Any]], call: str, key: Any, size: int, number: int
) -> None:
    new: Any = batch(number, size) if call == "store" else rows(number * 1000, size)
    behind = manager.recording._unwritten != {}
    refused = False
    try:
        if call == "store":
            await manager.store(key, new)
        elif call == "append":
            if key in model and model[key][0].schema.names == ["v"]:
                return
            await manager.append(key, new)
        elif call == "delete" and key in model:
            await manager.delete(key)
        elif call == "flush":
            await manager.flush()
        elif call == "rewrite" and key in model and manager.recording.rewriter is not None:
            rewriter = manager.recording.rewriter
            again = rewriter.rewrite(None, key) if rewriter.tell_again is None else rewriter.tell_again(key)
            task = asyncio.ensure_future(again)
            await settle(number % 3)
            if number % 5 == 0:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    except DiskFull:
        refused = True
    except DataError as error:  # pragma: no cover
        raise AssertionError(f"{call} of {key!r}") from error
    if refused and behind:
        return  # nothing has happened: what came before is not yet written
    if call == "store":
        model[key] = [new]
    elif call == "append":
        model.setdefault(key, []).append(new)
    elif call == "delete":
        model.pop(key, None)


async def check(manager: JournaledManager, model: dict[Any, list[Any]]) -> None:
    assert set(manager.keys()) == set(model)
    for key, state in model.items():
        assert await manager.retrieve(key) == expected(state), key


@pytest.mark.parametrize("mode", ["memory", "hybrid", "file", "streaming"])
@given(steps=STEPS)
@settings(
    max_examples=500 if os.environ.get("PENSTOCK_SOAK") else 20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
def test_t6_and_r5_what_was_held_at_a_crash_is_what_the_next_process_finds(
    mode: str, steps: list[tuple[str, Any, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(mode, Path(folder), steps))
