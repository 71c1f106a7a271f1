"""T4 for the data managers: calls that fail one by one, and a small disk that fills and is emptied again."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from data_support import batch, rows
from stepped import SteppedIo, SteppedLoop

from pipeline.data import DataFlow, DataManager, build_manager
from pipeline.data.policy import StreamingSettings
from pipeline.errors import BackpressureTimeout, DataError
from pipeline.storage.workspace import Workspace
from tests.bad_disks import FAULTS, Faulty, disk_of
from tests.counted import count

SOAK = "PENSTOCK_SOAK" in os.environ
LIMIT_MB = 10 * 8200 / (1 << 20)


class LoopClock:
    """The time of a loop that leaps."""

    def now_ns(self) -> int:
        return self.monotonic_ns()

    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    async def sleep_until(self, monotonic_ns: int) -> None:
        await asyncio.sleep(max(0, monotonic_ns - self.monotonic_ns()) / 1e9)


async def put(manager: DataManager, kept: dict[str, Any], numbers: range) -> None:
    """Store and append; what is acknowledged is noted."""
    for n in numbers:
        try:
            await manager.store(f"k{n}", batch(n))
            kept[f"k{n}"] = batch(n)
        except DataError:
            pass
        series = kept.get("s", rows(0, 0))
        try:
            await manager.append("s", rows(n * 300, 300))
            kept["s"] = pa.concat_batches([series, rows(n * 300, 300)])
        except DataError:
            pass
        stats = manager.stats()
        assert stats.charged_bytes <= stats.peak_bytes <= (stats.limit_bytes or 0)


async def examine(manager: DataManager, kept: dict[str, Any]) -> None:
    """What was acknowledged is there; a read may fail by name, and then once only."""
    for key, value in kept.items():
        try:
            found = await manager.peek(key)
        except DataError:
            found = await manager.peek(key)
        found = found.combine_chunks().to_batches()[0] if isinstance(found, pa.Table) else found
        if key == "s":
            assert set(value["n"].to_pylist()) <= set(found["n"].to_pylist()), "appended rows are lost"
        else:
            assert found.equals(value), f"{key} is not as it was stored"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", ["hybrid", "file", "streaming"])
def test_t4_a_call_that_fails_loses_nothing_acknowledged_and_five_seconds_later_all_is_well(
    mode: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E12, E13, C-9: 1.00x of the budget at most, errors of ours alone."""
    name, code = FAULTS[fault]
    for times in (1, 3):
        for at in range(1, 60 if SOAK else 6):
            if not _one(mode, name, code, at, times, monkeypatch):
                break


def _one(mode: str, name: str, code: int, at: int, times: int, monkeypatch: pytest.MonkeyPatch) -> int:
    async def program(folder: Path, patch: pytest.MonkeyPatch) -> int:
        workspace = Workspace(folder, loan_limit_bytes=1 << 30)
        workspace.io = SteppedIo(1)
        flow = DataFlow(
            mode=mode, memory_limit_mb=LIMIT_MB, admission_timeout_seconds=3, **_no_reserve(),
            streaming_settings=StreamingSettings(max_attempts=9, backoff_seconds=0.1),
        )  # fmt: skip
        manager = build_manager("m", flow, workspace, clock=LoopClock())
        kept: dict[str, Any] = {}
        faulty = Faulty(patch, name, code, at, times)
        try:
            await put(manager, kept, range(24))
            await examine(manager, kept)
            patch.undo()
            await asyncio.sleep(5)
            try:
                await manager.flush()
            except DataError:
                await manager.flush()  # what had failed before is told once
            before = len(kept)
            await put(manager, kept, range(100, 112))
            assert len(kept) == before + 12, "the disk is well again and values are refused"
            await examine(manager, kept)
        finally:
            patch.undo()
            await manager.close()
            await workspace.close()
        count("faults of managers", faulty.hits)
        return faulty.hits

    loop = SteppedLoop()
    loop.leaps = True
    try:
        with tempfile.TemporaryDirectory() as folder, monkeypatch.context() as patch:
            return loop.run_until_complete(program(Path(folder), patch))
    finally:
        loop.close()


def _no_reserve() -> dict[str, Any]:
    """Whatever the disk of the tests has free is enough."""
    return {"min_free_disk_mb": 0.001} if "min_free_disk_mb" in DataFlow.__struct_fields__ else {}


# -- a disk of its own -----------------------------------------------------------------------------------------------

DISK_BYTES = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk_of(tmp_path / "small", DISK_BYTES) as folder:
        yield folder


def test_t4_a_disk_that_fills_holds_the_callers_and_goes_on_within_five_seconds_of_having_room(
    small_disk: Path,
) -> None:
    """E12, H-2: values stay in memory, at most 1.00x of the budget; nothing is lost."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES - 200_000))

    async def program() -> None:
        workspace = Workspace(small_disk / "work", loan_limit_bytes=1 << 30)
        workspace.io = SteppedIo(1)
        flow = DataFlow(mode="hybrid", memory_limit_mb=LIMIT_MB, admission_timeout_seconds=2, **_no_reserve())
        manager = build_manager("m", flow, workspace, clock=LoopClock())
        kept: dict[str, Any] = {}
        refused = 0
        try:
            for n in range(200):
                try:
                    await manager.store(f"k{n}", batch(n))
                    kept[f"k{n}"] = batch(n)
                except BackpressureTimeout:
                    refused += 1
                    if refused == 3:
                        break
            assert refused == 3 and len(kept) >= 15, "the disk is too large for this test"
            await examine(manager, kept)
            ballast.unlink()
            await asyncio.sleep(5)
            for n in range(300, 330):
                await manager.store(f"k{n}", batch(n))
                kept[f"k{n}"] = batch(n)
            await examine(manager, kept)
            stats = manager.stats()
            assert stats.peak_bytes <= (stats.limit_bytes or 0)
        finally:
            await manager.close()
            await workspace.close()

    loop = SteppedLoop()
    loop.leaps = True
    try:
        loop.run_until_complete(program())
    finally:
        loop.close()
    assert not (small_disk / "work" / "spill").exists()
