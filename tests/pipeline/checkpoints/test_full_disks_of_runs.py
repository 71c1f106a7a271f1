"""Checkpointed runs on a disk that fills: they fail by name, say where to go on, and end as if there had been room."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from resumed_runs import Sums
from test_resumed_runs import rows_in, summary_in, until

from pipeline import DataFlow, PenstockError, PhaseFailed, Pipeline, Run, TopologyBuilder
from pipeline.data.policy import StreamingSettings
from pipeline.testing import ListFeed, Mark, Pause
from tests.bad_disks import FAULTS, Faulty, disk_of
from tests.counted import count

SOAK = "PENSTOCK_SOAK" in os.environ
DISK_BYTES = 12 << 20
ROWS, BATCHES, BEFORE = 1000, 60, 15
PAUSE = Pause()


def batch(number: int) -> dict[str, Any]:
    rows = range(number * ROWS, (number + 1) * ROWS)
    return {"ts_event": list(rows), "n": [n * n % 9973 for n in rows]}


ITEMS = [*map(batch, range(BEFORE)), Mark.PAUSE, *map(batch, range(BEFORE, BATCHES))]


def pipeline(output: Path, mode: str) -> Pipeline:
    flow = DataFlow(
        mode=mode,  # type: ignore[arg-type]
        memory_limit_mb=0.1 if mode == "hybrid" else 64,
        min_free_disk_mb=0.1,
        admission_timeout_seconds=0.3,
        streaming_settings=StreamingSettings(buffer_size=10, max_attempts=2, backoff_seconds=0.01),
    )
    builder = TopologyBuilder().add("data", ListFeed(items=ITEMS, pause=PAUSE))
    builder.add("sums", Sums(keeps=mode != "memory"), ["data"], data_flow=flow, keep_output="all")
    return Pipeline.from_topology(builder.build(), output=output, checkpoint_seconds=0.005)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk_of(tmp_path / "small", DISK_BYTES) as folder:
        yield folder


def files_in(output: Path) -> dict[str, bytes]:
    (summary,) = [path for path in output.rglob("summary.json") if "latest" not in path.parts]
    found = [path for path in (summary.parent / "containers").rglob("*") if path.is_file()]
    return {str(path.relative_to(summary.parent)): path.read_bytes() for path in found}


async def finish(output: Path, mode: str, *, resume: bool, at_pause: Callable[[Run], Any] | None = None) -> None:
    PAUSE.reached, PAUSE._go = anyio.Event(), anyio.Event()
    async with pipeline(output, mode).start(resume=resume) as run:
        run.begin()
        if at_pause is not None:
            await at_pause(run)
        PAUSE.resume()
        await run.finished()


@pytest.mark.parametrize("mode", ["file", "hybrid", "streaming"])
async def test_t4_a_run_whose_disk_fills_says_how_to_go_on_and_does_so_once_there_is_room(
    mode: str, small_disk: Path, tmp_path: Path
) -> None:
    """T4, E12, R-6: a typed error with the way to go on; while the disk is full, again; then byte for byte the same."""
    await finish(tmp_path / "whole", mode, resume=False)
    output, ballast = small_disk / "out", small_disk / "ballast"

    async def fill(run: Run) -> None:
        await until(lambda: rows_in(run) == BEFORE * ROWS)
        await asyncio.to_thread(fill_up, ballast)

    with pytest.raises(PhaseFailed) as caught:
        await finish(output, mode, resume=False, at_pause=fill)
    assert "`penstock run CONFIG --resume`" in str(caught.value)
    assert f"its first {BEFORE * ROWS:,} rows are safe in {small_disk}" in str(caught.value)
    with pytest.raises(PenstockError) as again:
        await finish(output, mode, resume=True)
    assert "`penstock run CONFIG --resume`" in str(again.value) and "make room" in str(again.value)
    ballast.unlink()
    seen: list[int] = []

    async def look(run: Run) -> None:
        seen.append(run.resumed_rows("data"))

    await finish(output, mode, resume=True, at_pause=look)
    assert seen == [BEFORE * ROWS]
    assert summary_in(output) == summary_in(tmp_path / "whole")
    assert files_in(output) == files_in(tmp_path / "whole")


MORE_FAULTS = {
    "a journal that cannot be synced": ("fdatasync", errno.EIO),
    "a file that gets no name": ("replace", errno.EIO),
    "a folder that cannot be made": ("mkdir", errno.ENOSPC),
}


@pytest.mark.parametrize("fault", [*FAULTS, *MORE_FAULTS])
async def test_t4_a_call_that_fails_costs_the_run_or_not_and_never_what_it_comes_to(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T4, E13, R-6: from the same checkpoint on, whether the call fails once or again and again."""
    name, code = {**FAULTS, **MORE_FAULTS}[fault]
    await finish(tmp_path / "whole", "hybrid", resume=False)
    for at, times in [(at, times) for at in range(1, 40) for times in (1, 1000)] if SOAK else [(1, 1000), (4, 1)]:
        output = tmp_path / f"{at}-{times}"
        with monkeypatch.context() as patch:
            faulty: list[Faulty] = []

            begin = partial(Faulty, patch, name, code, at, times)

            async def ill(run: Run, into: list[Faulty] = faulty, begin: Any = begin) -> None:
                await until(lambda: rows_in(run) == BEFORE * ROWS)
                into.append(begin())

            said = await failure(finish(output, "hybrid", resume=False, at_pause=ill))
        assert said is None or "`penstock run CONFIG --resume`" in said, said
        count("runs that a disk has failed", said is not None)
        count("faults of checkpointed runs", faulty[0].hits)
        await finish(output, "hybrid", resume=True)
        assert summary_in(output) == summary_in(tmp_path / "whole")
        assert files_in(output) == files_in(tmp_path / "whole")


async def failure(run: Awaitable[None]) -> str | None:
    """What it failed with, by a name of ours."""
    try:
        await run
    except PenstockError as error:
        return str(error)
    return None


def fill_up(path: Path) -> None:
    """Until the disk takes nothing more."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass
