"""The hybrid manager: eviction, restoring, and everything that can happen in between."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading

import numpy as np
import pyarrow as pa
import pytest
from data_support import TEN, VALUE, Disk, HandClock, batch, rows, settle, until

from pipeline.data import DataFlow
from pipeline.data.hybrid import HybridManager
from pipeline.errors import (
    BackpressureTimeout,
    CorruptEntry,
    DiskFull,
    ManagerClosed,
    NotResident,
    ValueTooLarge,
)
from pipeline.storage.workspace import Workspace


async def fill(manager: HybridManager, count: int, start: int = 0) -> None:
    for n in range(start, start + count):
        await manager.store(f"k{n}", batch(n))


async def spilled(manager: HybridManager, key: str = "k0") -> None:
    """Fill until the key is on disk."""
    await fill(manager, 10)
    await manager.flush()
    with pytest.raises(NotResident):
        manager.retrieve_nowait(key)


async def test_below_ninety_percent_nothing_is_evicted_and_no_thread_is_started(
    manager: HybridManager, workspace: Workspace, disk: Disk
) -> None:
    await fill(manager, 9)
    await settle()
    assert disk.writes_begun == 0
    assert workspace.io.threads == 0
    assert not workspace.folder.exists()


async def test_h1_above_ninety_percent_the_least_recently_used_leave_until_three_quarters(
    manager: HybridManager, disk: Disk
) -> None:
    await fill(manager, 9)
    for key in ("k1", "k0"):
        await manager.retrieve(key)
    await manager.store("k9", batch(9))
    await manager.flush()
    assert disk.written == [b"k2", b"k3", b"k4"]
    assert manager.stats().charged_bytes == 7 * VALUE
    assert manager.stats().evictions == 3
    for key in ("k2", "k3", "k4"):
        with pytest.raises(NotResident):
            manager.retrieve_nowait(key)


async def test_eviction_never_writes_on_the_loop(manager: HybridManager, disk: Disk) -> None:
    await fill(manager, 60)
    await manager.flush()
    assert disk.write_threads
    assert threading.get_ident() not in disk.write_threads


async def test_e6_a_value_stays_readable_while_it_is_written_and_using_it_keeps_it(
    manager: HybridManager, disk: Disk
) -> None:
    disk.hold_writes()
    await fill(manager, 10)
    await until(lambda: disk.writes_begun == 1)
    assert manager.stats().charged_bytes >= 10 * VALUE
    assert (await manager.retrieve("k1")).equals(batch(1))
    disk.go_on()
    await manager.flush()
    assert manager.retrieve_nowait("k1").equals(batch(1))
    assert disk.reads == 0
    with pytest.raises(NotResident):
        manager.retrieve_nowait("k0")


async def test_e4_a_value_replaced_while_it_is_written_is_the_new_one(manager: HybridManager, disk: Disk) -> None:
    disk.hold_writes()
    await fill(manager, 9)
    await manager.store("k9", batch(9, 10))
    await until(lambda: disk.writes_begun == 1)
    await manager.store("k0", batch(100, 10))
    assert (await manager.retrieve("k0")).equals(batch(100, 10))
    disk.go_on()
    await manager.flush()
    assert (await manager.retrieve("k0")).equals(batch(100, 10))
    assert (await manager.retrieve("k1")).equals(batch(1))


async def test_e8_a_value_deleted_while_it_is_written_is_gone_and_its_charge_leaves_with_the_thread(
    manager: HybridManager, disk: Disk
) -> None:
    disk.hold_writes()
    await fill(manager, 10)
    await until(lambda: disk.writes_begun == 1)
    before = manager.stats().charged_bytes
    await manager.delete("k0")
    with pytest.raises(KeyError):
        await manager.retrieve("k0")
    assert manager.stats().charged_bytes == before
    disk.go_on()
    await manager.flush()
    assert manager.stats().charged_bytes == 7 * VALUE
    assert manager.stats().disk_bytes < 2.5 * VALUE


async def test_e9_a_value_stored_after_a_delete_survives_the_eviction_before(
    manager: HybridManager, disk: Disk
) -> None:
    disk.hold_writes()
    await fill(manager, 9)
    await manager.store("k9", batch(9, 10))
    await until(lambda: disk.writes_begun == 1)
    await manager.delete("k0")
    await manager.store("k0", batch(7, 5))
    disk.go_on()
    await manager.flush()
    assert (await manager.retrieve("k0")).equals(batch(7, 5))


async def test_who_does_not_fit_waits_and_small_values_do_not_overtake(manager: HybridManager, disk: Disk) -> None:
    disk.hold_writes()
    await fill(manager, 9)
    order = []

    async def store(key: str, count: int) -> None:
        await manager.store(key, batch(0, count))
        order.append(key)

    big, small = asyncio.create_task(store("big", 3000)), asyncio.create_task(store("small", 10))
    await until(lambda: disk.writes_begun == 1)
    await settle()
    assert order == []
    assert manager.stats().waits == 2
    disk.go_on()
    await asyncio.gather(big, small)
    assert order == ["big", "small"]


async def test_nobody_waits_longer_than_the_admission_timeout(
    manager: HybridManager, disk: Disk, clock: HandClock
) -> None:
    disk.hold_writes()
    await fill(manager, 10)
    waiting = asyncio.create_task(manager.store("late", batch(0, 5000)))
    await until(lambda: manager.stats().waits == 1)
    await settle()
    clock.advance(30)
    with pytest.raises(BackpressureTimeout, match="'late' was not stored"):
        await waiting
    assert "late" not in manager.keys()


async def test_e7_a_hundred_retrieves_of_one_value_are_one_read(manager: HybridManager, disk: Disk) -> None:
    await spilled(manager)
    disk.hold_reads()
    tasks = [asyncio.create_task(manager.retrieve("k0")) for _ in range(100)]
    await until(lambda: disk.reads == 1)
    disk.go_on()
    assert all(found.equals(batch(0)) for found in await asyncio.gather(*tasks))
    assert disk.reads == 1
    assert manager.stats().restores == 1


async def test_h4_a_restored_value_leaves_again_without_being_written_again(manager: HybridManager, disk: Disk) -> None:
    await spilled(manager)
    await manager.retrieve("k0")
    await fill(manager, 20, start=100)
    await manager.flush()
    with pytest.raises(NotResident):
        manager.retrieve_nowait("k0")
    assert disk.written.count(b"k0") == 1
    assert (await manager.retrieve("k0")).equals(batch(0))


async def test_e5_restoring_beside_an_overwrite_gives_the_earlier_callers_the_old_value(
    manager: HybridManager, disk: Disk
) -> None:
    await spilled(manager)
    disk.hold_reads()
    early = asyncio.create_task(manager.retrieve("k0"))
    await until(lambda: disk.reads == 1)
    await manager.store("k0", batch(50, 10))
    late = await manager.retrieve("k0")
    disk.go_on()
    assert (await early).equals(batch(0))
    assert late.equals(batch(50, 10))
    assert (await manager.retrieve("k0")).equals(batch(50, 10))


async def test_e8_a_value_deleted_while_it_is_restored_is_a_key_error(manager: HybridManager, disk: Disk) -> None:
    await spilled(manager)
    disk.hold_reads()
    waiting = asyncio.create_task(manager.retrieve("k0"))
    await until(lambda: disk.reads == 1)
    await manager.delete("k0")
    with pytest.raises(KeyError):
        await waiting
    before = manager.stats().charged_bytes
    disk.go_on()
    await until(lambda: manager.stats().charged_bytes < before)


async def test_h4_a_restore_waits_for_room_like_everybody_else(manager: HybridManager, disk: Disk) -> None:
    await spilled(manager)
    await fill(manager, 2, start=20)
    disk.hold_writes()
    begun = disk.writes_begun
    await fill(manager, 1, start=30)
    await until(lambda: disk.writes_begun > begun)
    waiting = asyncio.create_task(manager.retrieve("k0"))
    await settle()
    assert disk.reads == 0
    assert not waiting.done()
    disk.go_on()
    assert (await waiting).equals(batch(0))


async def test_a_restore_nobody_waits_for_any_more_leaves_the_line(manager: HybridManager, disk: Disk) -> None:
    await spilled(manager)
    await fill(manager, 2, start=20)
    disk.hold_writes()
    begun = disk.writes_begun
    await fill(manager, 1, start=30)
    await until(lambda: disk.writes_begun > begun)
    waiting = asyncio.create_task(manager.retrieve("k0"))
    await settle()
    waiting.cancel()
    await settle()
    disk.go_on()
    await manager.flush()
    assert disk.reads == 0
    assert (await manager.retrieve("k0")).equals(batch(0))


async def test_e10_a_cancelled_caller_does_not_stop_the_read_of_the_others(manager: HybridManager, disk: Disk) -> None:
    await spilled(manager)
    disk.hold_reads()
    first, second = (asyncio.create_task(manager.retrieve("k0")) for _ in range(2))
    await until(lambda: disk.reads == 1)
    first.cancel()
    await settle()
    disk.go_on()
    assert (await second).equals(batch(0))
    assert first.cancelled()
    assert disk.reads == 1


async def test_e10_cancelling_a_store_at_every_await_loses_nothing_and_leaks_no_charge(
    manager: HybridManager, disk: Disk
) -> None:
    await spilled(manager)
    for at in range(30):
        for call in (
            lambda: manager.store("c", batch(1, 4000)),
            lambda: manager.append("s", rows(0, 3000)),
            lambda: manager.retrieve("k0"),
            lambda: manager.retrieve("k1"),
            lambda: manager.store("outsized", batch(2, 20_000)),
        ):
            task = asyncio.create_task(call())
            for _ in range(at):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    for n in range(10):
        assert (await manager.retrieve(f"k{n}")).equals(batch(n))
    for key in list(manager.keys()):
        await manager.delete(key)
    await manager.flush()
    await until(lambda: manager.stats().charged_bytes == 0)
    await until(lambda: manager.stats().disk_bytes == 0)


async def test_e1_a_value_larger_than_the_budget_goes_to_disk_in_chunks_and_is_streamed(
    manager: HybridManager, disk: Disk, workspace: Workspace
) -> None:
    big = pa.RecordBatch.from_pydict({"n": np.arange(1_000_000)})
    await manager.store("big", big)
    assert disk.writes_begun >= 7
    assert manager.stats().charged_bytes == 0
    streamed = [piece async for piece in manager.iter_batches("big")]
    assert len(streamed) >= 7
    assert pa.Table.from_batches(streamed).equals(pa.Table.from_batches([big]))
    assert workspace.loaned_peak_bytes < 3 << 20
    assert (await manager.retrieve("big")).equals(big)
    assert manager.stats().charged_bytes == 0


async def test_e1_a_value_the_process_cannot_lend_room_for_is_streamed_only(
    manager: HybridManager, workspace: Workspace
) -> None:
    workspace.loan_limit_bytes = 2 << 20
    await manager.store("big", pa.RecordBatch.from_pydict({"n": np.arange(1_000_000)}))
    with pytest.raises(ValueTooLarge, match="iter_batches"):
        await manager.retrieve("big")
    assert sum([piece.num_rows async for piece in manager.iter_batches("big")]) == 1_000_000


@pytest.mark.parametrize("kind", ["bytes", "text", "array", "tree", "table"])
async def test_every_kind_of_outsized_value_comes_back(manager: HybridManager, kind: str) -> None:
    value = {
        "bytes": b"xy" * 100_000,
        "text": "xyö" * 100_000,
        "array": np.arange(50_000),
        "tree": [{"n": n} for n in range(5000)],
        "table": pa.table({"n": np.arange(50_000)}),
    }[kind]
    await manager.store("v", value)
    with pytest.raises(NotResident):
        manager.retrieve_nowait("v")
    found = await manager.retrieve("v")
    assert np.array_equal(found, value) if kind == "array" else found == value
    await manager.store("v", "small")
    assert manager.stats().disk_bytes == 0


async def test_a_series_larger_than_the_budget_keeps_its_order(manager: HybridManager) -> None:
    for start in range(0, 60_000, 1000):
        await manager.append("s", rows(start, 1000))
    await manager.append("s", rows(60_000, 40_000))
    assert manager.stats().charged_bytes <= manager.stats().limit_bytes
    streamed = [number async for piece in manager.iter_batches("s") for number in piece["n"].to_pylist()]
    assert streamed == list(range(100_000))
    assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(100_000))


async def test_appending_to_a_spilled_series_rewrites_nothing(manager: HybridManager, disk: Disk) -> None:
    for start in range(0, 20_000, 1000):
        await manager.append("s", rows(start, 1000))
    await manager.flush()
    written = manager.stats().evicted_bytes
    for start in range(20_000, 40_000, 1000):
        await manager.append("s", rows(start, 1000))
    await manager.flush()
    assert manager.stats().evicted_bytes - written < 20 * VALUE * 1.1


async def test_a_series_replaced_while_it_is_read_back_leaves_nothing_of_itself_in_memory(
    manager: HybridManager, disk: Disk
) -> None:
    for start in range(0, 8_000, 1000):
        await manager.append("s", rows(start, 1000))
    await fill(manager, 10)
    await manager.flush()
    assert all(not block.resident for block in manager._entries["s"].blocks)
    assert len(manager._entries["s"].blocks) > 1
    disk.hold_reads()
    begun = disk.reads
    reading = asyncio.create_task(manager.retrieve("s"))
    await until(lambda: disk.reads > begun)
    await manager.store("s", batch(1, 10))
    disk.go_on()
    assert (await reading)["n"].to_pylist() == list(range(8_000))
    for key in manager.keys():
        await manager.delete(key)
    assert manager.stats().charged_bytes == 0


async def test_e12_a_disk_that_is_full_keeps_values_in_memory_and_is_tried_again(
    manager: HybridManager, disk: Disk, clock: HandClock
) -> None:
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    await fill(manager, 10)
    waiting = asyncio.create_task(manager.store("more", batch(0, 3000)))
    await until(lambda: manager._eviction.resting)
    await settle()
    assert not waiting.done()
    for n in range(10):
        assert manager.retrieve_nowait(f"k{n}").equals(batch(n))
    clock.advance(1)
    await until(lambda: disk.writes_begun >= 2)
    await until(lambda: manager._eviction.resting)
    disk.error = None
    await settle()
    clock.advance(1)
    await waiting
    assert (await manager.retrieve("more")).equals(batch(0, 3000))


async def test_e12_a_caller_beside_a_full_disk_is_told_so(manager: HybridManager, disk: Disk, clock: HandClock) -> None:
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    await fill(manager, 10)
    waiting = asyncio.create_task(manager.store("more", batch(0, 3000)))
    await until(lambda: manager._eviction.resting)
    await settle()
    clock.advance(30)
    with pytest.raises(BackpressureTimeout, match="No space left"):
        await waiting
    await manager.delete("k3")
    await manager.store("k3", batch(33))


async def test_e2_the_disk_quota_refuses_before_a_byte_is_written(workspace: Workspace, disk: Disk) -> None:
    flow = DataFlow(mode="hybrid", memory_limit_mb=TEN, disk_limit_mb=TEN * 2, admission_timeout_seconds=0.01)
    manager = HybridManager("q", flow, workspace, clock=HandClock())
    with pytest.raises(DiskFull, match="disk_limit_mb"):
        await manager.store("big", batch(0, 50_000))
    assert disk.writes_begun == 0
    await fill(manager, 15)
    assert manager.stats().disk_bytes <= TEN * 2 * (1 << 20)
    await manager.close()


async def test_e15_a_deleted_spill_folder_is_made_again(manager: HybridManager, workspace: Workspace) -> None:
    await spilled(manager)
    shutil.rmtree(workspace.spill.folder)
    await fill(manager, 20, start=50)
    assert (await manager.retrieve("k0")).equals(batch(0))


@pytest.mark.parametrize("damage", ["flip", "truncate", "zeros"])
async def test_e14_a_damaged_record_is_a_typed_error_and_the_others_are_fine(
    manager: HybridManager, workspace: Workspace, damage: str
) -> None:
    await spilled(manager)
    block = manager._entries["k0"]
    [path] = workspace.spill.folder.glob("*.seg")
    raw = bytearray(path.read_bytes())
    start = block.extent.offset
    if damage == "flip":
        raw[start + 100] ^= 1
    elif damage == "zeros":
        raw[start : start + 50] = bytes(50)
    else:
        last = manager._entries["k2"].extent
        raw = raw[: last.offset + 100]
    path.write_bytes(raw)
    broken = "k2" if damage == "truncate" else "k0"
    for _ in range(2):
        with pytest.raises(CorruptEntry) as caught:
            await manager.retrieve(broken)
    assert caught.value.key == broken.encode()
    assert workspace.spill.corrupt == 2
    assert (await manager.retrieve("k1")).equals(batch(1))
    await manager.store(broken, "repaired")
    assert await manager.retrieve(broken) == "repaired"


async def test_e13_a_read_error_is_tried_once_more(manager: HybridManager, disk: Disk) -> None:
    await spilled(manager)
    errors: list[Exception | None] = [OSError(errno.EIO, "I/O error"), None]
    disk.read_error = lambda: errors.pop(0) if errors else None
    assert (await manager.retrieve("k0")).equals(batch(0))
    errors += [OSError(errno.EIO, "I/O error"), OSError(errno.EIO, "I/O error")]
    with pytest.raises(CorruptEntry, match="I/O error"):
        await manager.retrieve("k1")


async def test_e18_closing_sends_those_who_wait_away_and_may_be_done_twice_at_once(
    manager: HybridManager, disk: Disk
) -> None:
    disk.hold_writes()
    await fill(manager, 10)
    waiting = asyncio.create_task(manager.store("late", batch(0, 9000)))
    await until(lambda: manager.stats().waits == 1 and disk.writes_begun == 1)
    closing = [asyncio.create_task(manager.close()) for _ in range(2)]
    await settle()
    with pytest.raises(ManagerClosed):
        await waiting
    disk.go_on()
    await asyncio.gather(*closing)
    with pytest.raises(ManagerClosed):
        manager.retrieve_nowait("k5")


async def test_h7_segments_that_are_dead_are_removed_and_sparse_ones_rewritten(tmp_path, disk: Disk) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.spill.segment_bytes = 20 * VALUE
    manager = HybridManager("h", DataFlow(mode="hybrid", memory_limit_mb=TEN), workspace)
    await fill(manager, 100)
    await manager.flush()
    assert workspace.spill.num_segments >= 4
    for n in range(100):
        if n % 5:
            await manager.delete(f"k{n}")
    await until(lambda: workspace.spill.disk_bytes <= workspace.spill.live_bytes * 2 + 2 * 21 * VALUE)
    assert workspace.spill.rewritten_bytes > 0
    for n in range(0, 100, 5):
        assert (await manager.retrieve(f"k{n}")).equals(batch(n))
    for n in range(0, 100, 5):
        await manager.delete(f"k{n}")
    await until(lambda: workspace.spill.num_segments == 0)
    await manager.close()
    await workspace.close()
