"""The memory manager: what happens at the budget."""

from __future__ import annotations

import asyncio
import contextlib

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
    """M-3."""
    manager = make("evict_oldest")
    await manager.store("k0", batch(0))
    with pytest.raises(ValueTooLarge):
        await manager.store("k1", batch(1, 10_000))
    assert list(manager.keys()) == ["k0"]
    assert manager.stats().dropped == 0


async def test_replacing_reserves_only_the_difference() -> None:
    """M-4."""
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
    """M-2, M-5."""
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
    """M-6."""
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


async def test_m2_a_series_about_to_be_replaced_is_not_dropped_piece_by_piece_for_its_own_sake() -> None:
    manager = make("evict_oldest", values=8)
    for n in range(4):
        await manager.append("s", batch(n, 1000))
    await manager.store("other", batch(9))
    await manager.store("s", batch(7, 7500))
    assert (manager.stats().dropped, manager.stats().dropped_bytes) == (1, VALUE), "`other` had to go"
    assert list(manager.keys()) == ["s"]
    assert manager.stats().charged_bytes == 7500 * 8 + 200


async def test_m4_the_old_value_is_readable_until_the_new_one_is_admitted() -> None:
    manager = make("block")
    await manager.store("k", batch(1))
    for n in range(3):
        await manager.store(f"o{n}", batch(n))
    replacing = asyncio.ensure_future(manager.store("k", batch(2, 1500)))
    await settle()
    assert not replacing.done()
    assert manager.retrieve_nowait("k").equals(batch(1))
    await manager.delete("o0")
    assert manager.retrieve_nowait("k").equals(batch(2, 1500)), "M-5: in the step of the delete"
    await replacing


async def test_m4_a_value_that_shrinks_while_another_waits_to_replace_it_is_charged_once() -> None:
    manager = make("block")
    await manager.store("k", batch(1, 2000))
    await manager.store("o", batch(2, 2000))
    waiting = asyncio.ensure_future(manager.store("k", batch(3, 2100)))
    await settle()
    await manager.store("k", batch(4, 100))
    assert manager.retrieve_nowait("k").equals(batch(4, 100))
    assert manager.stats().charged_bytes == (100 + 2000) * 8 + 400
    assert not waiting.done(), "what it would replace is smaller now, so it needs more"
    await manager.delete("o")
    await waiting
    assert manager.retrieve_nowait("k").equals(batch(3, 2100)), "whoever waited took effect last"
    assert manager.stats().charged_bytes == 2100 * 8 + 200


async def test_m2_a_small_value_does_not_overtake_a_large_one_that_waits() -> None:
    manager = make("block")
    for n in range(4):
        await manager.store(f"k{n}", batch(n))
    large = asyncio.ensure_future(manager.store("large", batch(5, 2000)))
    await settle()
    small = asyncio.ensure_future(manager.store("small", b"x"))
    await settle()
    await manager.delete("k0")
    await settle()
    assert not large.done() and not small.done(), "there would be room for the small one"
    await manager.delete("k1")
    await large
    await manager.delete("k2")
    await small


async def test_m6_every_step_of_a_wait_may_be_cancelled_and_nothing_is_left_of_it() -> None:
    for steps in range(12):
        manager = make("block")
        for n in range(4):
            await manager.store(f"k{n}", batch(n))
        waiting = asyncio.ensure_future(manager.store("w", batch(5)))
        for step in range(steps):
            await asyncio.sleep(0)
            if step == 5:
                await manager.delete("k0")
        waiting.cancel()
        await asyncio.wait((waiting,))
        held = sum(manager.retrieve_nowait(key).nbytes + 200 for key in manager.keys())
        assert manager.stats().charged_bytes == held, "to the byte, whenever it was cancelled"
        await manager.close()


async def test_m1_the_charges_are_within_the_limit_at_every_step_of_the_loop() -> None:
    """M-1: with every policy, while many store and delete at once."""
    for on_full in ("reject", "evict_oldest", "block"):
        clock = HandClock()
        manager = make(on_full, clock=clock)
        limit = manager.stats().limit_bytes
        assert limit is not None
        seen = 0

        async def work(first: int, manager: MemoryManager = manager) -> None:
            for n in range(40):
                with contextlib.suppress(BudgetExceeded, KeyError, BackpressureTimeout):
                    if (first + n) % 3:
                        await manager.store(f"k{(first * 7 + n) % 9}", batch(n, 300 + 100 * (n % 11)))
                    else:
                        await manager.delete(f"k{(first + n) % 9}")
                await asyncio.sleep(0)

        working = asyncio.gather(*(work(first) for first in range(5)))
        while not working.done():
            charged = manager.stats().charged_bytes
            seen = max(seen, charged)
            assert charged <= limit
            assert charged == sum(manager.retrieve_nowait(key).nbytes + 200 for key in manager.keys())
            await asyncio.sleep(0)
            clock.advance(0.2)
        await working
        assert seen > limit / 2
        await manager.close()
