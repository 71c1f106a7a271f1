"""What goes wrong around a hybrid manager: disks, keys, forks, owners who change what they stored."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pyarrow as pa
import pytest
from data_support import TEN, Disk, HandClock, batch, settle, until

from pipeline.data import DataFlow, build_manager
from pipeline.data.hybrid import HybridManager
from pipeline.errors import CorruptEntry, DiskFull, ManagerClosed, NotResident, StorageFailed
from pipeline.storage import room
from pipeline.storage.names import parse_uri
from pipeline.storage.workspace import Workspace
from pipeline.testing.managers import WEIRD_KEYS, same_value, sample_values


async def spilled(manager: HybridManager, count: int = 10) -> None:
    for n in range(count):
        await manager.store(f"k{n}", batch(n))
    await manager.flush()
    with pytest.raises(NotResident):
        manager.retrieve_nowait("k0")


async def test_e3_an_overwritten_key_on_disk_is_a_new_value_in_memory_and_its_old_record_is_dead_at_once(
    manager: HybridManager, workspace: Workspace, disk: Disk
) -> None:
    await spilled(manager)
    before = workspace.spill.live_bytes
    record = manager._entries["k0"].extent.num_bytes
    await manager.store("k0", batch(70))
    assert workspace.spill.live_bytes == before - record
    assert manager.retrieve_nowait("k0").equals(batch(70))
    assert disk.reads == 0


async def test_h7_a_new_record_takes_a_dead_ones_place_but_never_a_living_ones(
    manager: HybridManager, workspace: Workspace
) -> None:
    await spilled(manager, 40)
    for turn in range(1, 6):
        for n in range(30):
            await manager.store(f"k{n}", batch(100 * turn + n))
            await manager.flush()
    assert workspace.spill.reused > 100
    assert workspace.spill.disk_bytes < 50 * 8200, "150 values were written after the first 40"
    for n in range(30):
        assert (await manager.retrieve(f"k{n}")).equals(batch(500 + n))
    for n in range(30, 40):
        assert (await manager.retrieve(f"k{n}")).equals(batch(n))


async def test_h7_a_place_is_not_given_away_while_somebody_reads_it(
    manager: HybridManager, workspace: Workspace, disk: Disk
) -> None:
    await spilled(manager)
    disk.hold_reads()
    block = manager._entries["k0"]
    extent = block.extent
    reading = asyncio.create_task(manager.peek("k0"))
    await until(lambda: disk.reads == 1)
    reading.cancel()
    await settle()
    await manager.store("k0", "gone")
    assert block.extent is None
    assert extent.readers == 1
    for n in range(20, 40):
        await manager.store(f"k{n}", batch(n))
        await manager.flush()
    disk.go_on()
    await until(lambda: extent.readers == 0)
    assert workspace.spill.corrupt == 0


async def test_h7_dead_bytes_stay_below_live_ones_and_two_segments(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    log = workspace.spill
    log.segment_bytes = 100_000
    manager = HybridManager("h", DataFlow(mode="hybrid", memory_limit_mb=TEN), workspace)
    rng = np.random.default_rng(5)
    for n in range(1500):
        await manager.store(f"k{rng.integers(100)}", batch(n, int(rng.integers(10, 900))))
        if n % 10 == 0 and len(manager.keys()) > 50:
            await manager.delete(list(manager.keys())[int(rng.integers(50))])
    await manager.flush()
    await until(lambda: log._rewrite is None or log._rewrite.done())
    assert log.disk_bytes - log.live_bytes <= log.live_bytes + 3 * 110_000, "the tail counts besides"
    for key in manager.keys():
        await manager.retrieve(key)
    for key in list(manager.keys()):
        await manager.delete(key)
    await manager.flush()
    await until(lambda: log.num_segments == 0)
    await manager.close()
    await workspace.close()


@pytest.mark.parametrize("kind", ["anyio", "native", "wait_for", "twice", "closing"])
async def test_e10_a_caller_cancelled_in_any_way_loses_no_key_and_no_charge(
    manager: HybridManager, disk: Disk, workspace: Workspace, kind: str
) -> None:
    await spilled(manager)
    disk.hold_reads()
    disk.hold_writes()

    async def both() -> None:
        await asyncio.gather(manager.retrieve("k0"), manager.store("new", batch(1, 5000)))

    if kind == "anyio":
        with anyio.move_on_after(0.001):
            await both()
    elif kind == "wait_for":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(both(), 0.001)
    else:
        task = asyncio.create_task(both())
        await settle()
        closing = asyncio.create_task(manager.close()) if kind == "closing" else None
        await settle()
        task.cancel()
        if kind == "twice":
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if closing is not None:
            disk.go_on()
            await closing
            return
    disk.go_on()
    assert workspace.io.threads <= 4
    await manager.flush()
    for n in range(10):
        assert (await manager.retrieve(f"k{n}")).equals(batch(n))
    for key in list(manager.keys()):
        await manager.delete(key)
    await manager.flush()
    await until(lambda: manager.stats().charged_bytes == 0)


async def test_e11_an_eviction_under_way_is_finished_before_the_manager_is_closed(
    manager: HybridManager, disk: Disk
) -> None:
    disk.hold_writes()
    for n in range(10):
        await manager.store(f"k{n}", batch(n))
    await until(lambda: disk.writes_begun == 1)
    closing = asyncio.create_task(manager.close())
    await settle()
    assert not closing.done()
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    disk.go_on()
    await manager.close()
    assert disk.written


async def test_e12_spilling_goes_on_within_five_seconds_of_there_being_room_again(
    manager: HybridManager, disk: Disk, clock: HandClock, workspace: Workspace
) -> None:
    """The disk is tried each second, and what a failed write left behind is cut off."""
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    for n in range(10):
        await manager.store(f"k{n}", batch(n))
    await until(lambda: manager._eviction.resting)
    for second in range(2, 5):
        await settle()
        clock.advance(1)
        await until(lambda: disk.writes_begun == second and manager._eviction.resting)  # noqa: B023 - awaited here
    assert workspace.spill.disk_bytes == 0
    disk.error = None
    waiting = asyncio.create_task(manager.store("more", batch(0, 3000)))
    await settle()
    clock.advance(1)
    await waiting
    assert manager.stats().peak_bytes <= manager.stats().limit_bytes


async def test_h6_e2_a_part_of_the_disk_stays_free_and_nothing_is_written_that_would_not_leave_it(
    workspace: Workspace, disk: Disk
) -> None:
    free = os.statvfs(workspace.folder.parent)
    more = (free.f_bavail * free.f_frsize >> 20) + 1000
    flow = DataFlow(mode="hybrid", memory_limit_mb=TEN, min_free_disk_mb=more, admission_timeout_seconds=0.01)
    manager = HybridManager("q", flow, workspace, clock=HandClock())
    with pytest.raises(DiskFull, match="min_free_disk_mb"):
        await manager.store("big", batch(0, 50_000))
    for n in range(10):
        await manager.store(f"k{n}", batch(n))
    await until(lambda: manager._eviction.resting)
    assert disk.writes_begun == 0
    assert not list(workspace.folder.rglob("*.seg"))
    assert manager.stats().disk_bytes == 0
    await manager.close()


@pytest.mark.parametrize(
    ("disk_bytes", "expected"),
    [(16 << 20, (16 << 20) // 10), (10 << 30, 1 << 30), (15 << 30, 1 << 30), (1 << 40, int(0.05 * (1 << 40)))],
)
def test_h6_the_default_is_a_gigabyte_or_five_percent_and_a_tenth_of_a_small_disk(
    disk_bytes: int, expected: int
) -> None:
    assert room.free_reserve(disk_bytes) == expected


@pytest.mark.parametrize("errors", [1, 2])
async def test_e13_a_disk_that_fails_while_reading_is_tried_once_more_on_a_fresh_descriptor(
    manager: HybridManager, disk: Disk, errors: int
) -> None:
    await spilled(manager)
    left = [OSError(errno.EIO, "I/O error")] * errors
    disk.read_error = lambda: left.pop() if left else None
    if errors == 1:
        assert (await manager.retrieve("k0")).equals(batch(0))
    else:
        with pytest.raises(CorruptEntry, match="I/O error"):
            await manager.retrieve("k0")
    assert disk.reads == 2
    assert (await manager.retrieve("k1")).equals(batch(1))


async def test_e14_a_loss_is_counted_once_logged_with_key_and_bytes_and_its_place_never_used_again(
    manager: HybridManager, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """C-9."""
    await spilled(manager)
    extent = manager._entries["k0"].extent
    [path] = workspace.spill.folder.glob("*.seg")
    raw = bytearray(path.read_bytes())
    raw[extent.offset + extent.num_bytes - 1] ^= 1
    path.write_bytes(raw)
    for _ in range(3):
        with pytest.raises(CorruptEntry):
            await manager.retrieve("k0")
        with pytest.raises(CorruptEntry):
            await manager.peek("k0")
    assert (manager.stats().corrupt, manager.stats().corrupt_bytes) == (1, extent.length)
    assert workspace.spill.quarantined_bytes == extent.num_bytes
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "k0" in line
    assert str(extent.length) in line
    reused = workspace.spill.reused
    await manager.delete("k0")
    for n in range(20, 25):
        await manager.store(f"k{n}", batch(n))
    await manager.flush()
    assert workspace.spill.reused == reused


async def test_e15_a_spill_folder_that_is_gone_or_cannot_be_made_is_a_full_disk_until_it_can(
    manager: HybridManager, workspace: Workspace, clock: HandClock
) -> None:
    workspace.folder.mkdir()
    (workspace.folder / "spill").write_text("in the way")
    for n in range(10):
        await manager.store(f"k{n}", batch(n))
    await until(lambda: manager._eviction.resting)
    assert isinstance(manager._eviction.refused, StorageFailed)
    for n in range(10):
        assert manager.retrieve_nowait(f"k{n}").equals(batch(n))
    (workspace.folder / "spill").unlink()
    await settle()
    clock.advance(1)
    await until(lambda: manager.stats().evictions > 0)
    shutil.rmtree(workspace.folder / "spill")
    await spilled(manager, 30)
    for n in range(30):
        assert (await manager.retrieve(f"k{n}")).equals(batch(n))


async def test_e16_any_key_goes_to_disk_and_comes_back_and_its_uri_names_it(
    manager: HybridManager, workspace: Workspace, tmp_path: Path
) -> None:
    """C-7: keys are no file names, and nothing is made outside of the folder."""
    for n, key in enumerate(WEIRD_KEYS):
        uri = await manager.store(key, batch(n))
        assert parse_uri(uri) == ("memory", "h", key)
    await manager.flush()
    assert manager.stats().evictions > len(WEIRD_KEYS) // 2
    for n, key in enumerate(WEIRD_KEYS):
        assert (await manager.retrieve(key)).equals(batch(n))
    assert len(manager.keys()) == len(set(WEIRD_KEYS))
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert all(path.stem.isdigit() for path in (workspace.folder / "spill").rglob("*.seg"))


async def test_e17_what_is_asked_for_its_columns_may_ask_the_manager(manager: HybridManager) -> None:
    """Nothing waits while somebody else's code runs, so not even its own key makes it wait for itself."""
    await manager.append("rows", batch(1, 10))

    class Rows:
        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return manager.retrieve_nowait("rows").__arrow_c_stream__(requested_schema)

    await manager.append("others", Rows())
    await manager.append("rows", Rows())
    assert (await manager.retrieve("rows")).num_rows == 20
    assert (await manager.retrieve("others")).num_rows == 10


async def test_e18_a_closed_manager_refuses_every_call(manager: HybridManager) -> None:
    await spilled(manager)
    await asyncio.gather(*(manager.close() for _ in range(3)))
    await manager.close()
    for call in (
        lambda: manager.store("k", 1),
        lambda: manager.append("k", batch(1)),
        lambda: manager.retrieve("k0"),
        lambda: manager.peek("k0"),
        lambda: manager.delete("k0"),
        manager.flush,
    ):
        with pytest.raises(ManagerClosed):
            await call()
    with pytest.raises(ManagerClosed):
        manager.retrieve_nowait("k0")


@pytest.mark.parametrize("mode", ["memory", "hybrid", "streaming", "file"])
async def test_e20_with_copy_a_value_stays_as_it_was_stored(workspace: Workspace, mode: Any) -> None:
    manager = build_manager("c", DataFlow(mode=mode, copy=True), workspace)
    array = np.arange(100)
    column = pa.Array.from_buffers(pa.int64(), 100, [None, pa.py_buffer(array)])
    rows = pa.RecordBatch.from_arrays([column], names=["n"])
    tree = {"a": [1, 2]}
    await manager.store("array", array)
    await manager.store("rows", rows)
    await manager.store("tree", tree)
    await manager.append("series", rows)
    array[:] = -1
    tree["a"].append(3)
    assert (await manager.retrieve("array")).tolist() == list(range(100))
    assert (await manager.retrieve("rows"))["n"].to_pylist() == list(range(100))
    assert (await manager.retrieve("series"))["n"].to_pylist() == list(range(100))
    assert await manager.retrieve("tree") == {"a": [1, 2]}
    await manager.close()


async def test_e20_every_kind_of_value_is_copied_as_what_it_is(workspace: Workspace) -> None:
    manager = build_manager("c", DataFlow(mode="hybrid", copy=True), workspace)
    for key, value in sample_values().items():
        await manager.store(key, value)
        assert same_value(manager.retrieve_nowait(key), value), key
    await manager.close()


async def test_e20_where_values_are_checked_one_that_was_changed_is_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PENSTOCK_CHECK_VALUES", "1")
    workspace = Workspace(tmp_path / "w")
    manager = HybridManager("h", DataFlow(mode="hybrid", memory_limit_mb=TEN), workspace)
    arrays = [np.arange(1000) for _ in range(10)]
    for n, array in enumerate(arrays):
        if n == 9:
            arrays[1][5] = -1
        await manager.store(f"k{n}", array)
    await manager.flush()
    assert manager.stats().evictions >= 2
    assert workspace.changed_values == 1
    [line] = [record.getMessage() for record in caplog.records if "changed by its owner" in record.getMessage()]
    assert "'k1'" in line
    await manager.close()
    await workspace.close()


async def test_e22_in_a_forked_child_nothing_is_spilled(manager: HybridManager, workspace: Workspace) -> None:
    await spilled(manager)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        told = b"nothing"
        try:
            workspace.spill.append("child", list)
        except StorageFailed as error:
            told = str(error).encode()
        finally:
            os.write(writer, told)
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        told = file.read()
    os.waitpid(child, 0)  # noqa: ASYNC222 - it has written its last
    assert b"forked" in told


async def test_e22_the_clock_on_the_wall_may_step_back(manager: HybridManager, clock: HandClock, disk: Disk) -> None:
    """Only monotonic time is asked for."""
    clock.now_ns = lambda: pytest.fail("asked for the time on the wall")
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    for n in range(10):
        await manager.store(f"k{n}", batch(n))
    await until(lambda: manager._eviction.resting)
    disk.error = None
    await settle()
    clock.advance(1)
    await until(lambda: manager.stats().evictions > 0)
