"""The memory manager: what happens at the budget."""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pytest
from data_support import HandClock, batch, rows, settle

from pipeline.data import DataFlow
from pipeline.data.memory import MemoryManager
from pipeline.errors import BackpressureTimeout, BudgetExceeded, ManagerClosed, ValueTooLarge

VALUE = 8200


def make(on_full: str = "reject", values: float = 4, clock: HandClock | None = None) -> MemoryManager:
    return MemoryManager("m", DataFlow(memory_limit_mb=values * VALUE / (1 << 20), on_full=on_full), clock=clock)


async def test_a_full_memory_refuses_and_recommends_hybrid() -> None:
    manager = make()
    for n in range(4):
        await manager.store(f"k{n}", batch(n))
    with pytest.raises(BudgetExceeded, match="mode: hybrid"):
        await manager.store("k4", batch(4))
    assert list(manager.keys()) == ["k0", "k1", "k2", "k3"]
    assert manager.stats().charged_bytes == 4 * VALUE


async def test_a_value_larger_than_the_budget_drops_nothing() -> None:
    manager = make("evict_oldest")
    await manager.store("k0", batch(0))
    with pytest.raises(ValueTooLarge):
        await manager.store("k1", batch(1, 10_000))
    assert list(manager.keys()) == ["k0"]
    assert manager.stats().dropped == 0


async def test_replacing_reserves_only_the_difference() -> None:
    manager = make(values=4)
    await manager.store("k", batch(1, 2500))
    await manager.store("k", batch(2, 3500))
    assert (await manager.retrieve("k")).equals(batch(2, 3500))
    assert manager.stats().peak_bytes == 3500 * 8 + 200


async def test_the_oldest_is_dropped_and_counted() -> None:
    manager = make("evict_oldest")
    for n in range(4):
        await manager.store(f"k{n}", batch(n))
    await manager.store("k0", batch(10))
    await manager.store("k4", batch(4))
    assert sorted(manager.keys()) == ["k0", "k2", "k3", "k4"]
    assert (manager.stats().dropped, manager.stats().dropped_bytes) == (1, VALUE)


async def test_a_series_that_grows_beyond_the_budget_keeps_its_newest_rows() -> None:
    manager = make("evict_oldest")
    for start in range(0, 10_000, 100):
        await manager.append("s", rows(start, 100))
    numbers = (await manager.retrieve("s"))["n"].to_pylist()
    assert numbers == list(range(10_000 - len(numbers), 10_000))
    assert len(numbers) > 2500
    assert manager.stats().peak_bytes <= manager.stats().limit_bytes


async def test_single_rows_are_merged_into_few_batches() -> None:
    manager = MemoryManager("m", DataFlow(memory_limit_mb=10))
    for n in range(5000):
        await manager.append("s", rows(n, 1))
    table = await manager.retrieve("s")
    assert table["n"].to_pylist() == list(range(5000))
    assert table["n"].num_chunks < 130
    assert manager.stats().charged_bytes < 100_000


async def test_who_waits_is_served_in_the_step_that_makes_room_first_come_first_served() -> None:
    manager = make("block", clock=HandClock())
    for n in range(4):
        await manager.store(f"k{n}", batch(n))
    big = asyncio.create_task(manager.store("big", batch(9, 2000)))
    await settle()
    small = asyncio.create_task(manager.store("small", b""))
    await settle()
    await manager.delete("k0")
    await settle()
    assert not big.done()
    assert not small.done()
    await manager.delete("k1")
    assert "big" in manager.keys()
    await asyncio.gather(big)
    await manager.delete("k2")
    await small


async def test_a_waiter_that_is_cancelled_leaves_no_reservation() -> None:
    manager = make("block", clock=HandClock())
    for n in range(4):
        await manager.store(f"k{n}", batch(n))
    first, second = (asyncio.create_task(manager.store(name, batch(9))) for name in ("first", "second"))
    await settle()
    first.cancel()
    await settle()
    await manager.delete("k0")
    await second
    assert first.cancelled()
    assert manager.stats().charged_bytes == 4 * VALUE


async def test_waiting_ends_at_the_admission_timeout() -> None:
    clock = HandClock()
    manager = make("block", clock=clock)
    await manager.store("k", batch(0, 4000))
    waiting = asyncio.create_task(manager.store("late", batch(1)))
    await settle()
    clock.advance(30)
    with pytest.raises(BackpressureTimeout, match="'late' was not stored"):
        await waiting
    assert list(manager.keys()) == ["k"]


async def test_closing_sends_waiters_away() -> None:
    manager = make("block", clock=HandClock())
    await manager.store("k", batch(0, 4000))
    waiting = asyncio.create_task(manager.store("late", batch(1)))
    await settle()
    await manager.close()
    with pytest.raises(ManagerClosed):
        await waiting


async def test_a_small_slice_of_a_big_batch_does_not_pin_it() -> None:
    manager = MemoryManager("m", DataFlow(memory_limit_mb=1))
    parent = pa.RecordBatch.from_pydict({"v": list(range(500_000))})
    for n in range(20):
        await manager.store(f"k{n}", parent.slice(n * 100, 100))
    assert manager.stats().charged_bytes < 20 * 1200
    assert (await manager.retrieve("k3")).equals(parent.slice(300, 100))
