"""Data managers of all modes within one pool: its limit holds to the byte, and the order is spill, wait, fail."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from data_support import Disk, HandClock, batch, rows, settle, until

from pipeline.data import DataFlow, DataManager, MemberStores, build_manager, persist_members
from pipeline.data.account import Account
from pipeline.errors import BackpressureTimeout, BudgetExceeded, NotResident
from pipeline.pool import Pool
from pipeline.storage.workspace import Workspace
from pipeline.testing.managers import check_data_manager

VALUE = 8200
"""Bytes charged for `batch(n)`."""
MODES = ("memory", "streaming", "file", "hybrid")


@pytest.fixture
def pool() -> Pool:
    """Room for twenty values: spilling starts with the nineteenth and leaves fifteen."""
    return Pool(20 * VALUE)


@pytest.fixture
async def pooled(tmp_path: Path, pool: Pool) -> AsyncIterator[Workspace]:
    workspace = Workspace(tmp_path / "work", pool=pool)
    yield workspace
    await workspace.close()
    assert pool.charged == 0
    assert pool.peak <= pool.limit
    assert workspace.loaned_bytes == 0


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def manager(name: str, mode: str, workspace: Workspace, clock: HandClock, **more: object) -> DataManager:
    flow = DataFlow(mode=mode, memory_limit_mb=10, **more)  # type: ignore[arg-type]
    return build_manager(name, flow, workspace, clock=clock)


def resident(manager: DataManager) -> list[str]:
    """Keys of values that are in memory; looking counts as a use."""
    found = []
    for key in manager.keys():
        try:
            manager.retrieve_nowait(key)
        except NotResident:
            continue
        found.append(str(key))
    return found


async def quiet(pool: Pool) -> None:
    """Until nothing is on its way to disk for the pool."""
    await until(lambda: pool.charged <= pool.low)


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_passes_the_examination_in_a_pool_smaller_than_its_budgets(mode: str, tmp_path: Path) -> None:
    pool = Pool(1 << 20 if mode == "hybrid" else 64 << 20)
    workspace = Workspace(tmp_path / "work", pool=pool)
    await check_data_manager(
        lambda policy: build_manager("examined", msgspec.structs.replace(policy, mode=mode), workspace)
    )
    await workspace.close()
    assert pool.charged == 0
    assert 0 < pool.peak <= pool.limit


async def test_a_thousand_members_of_ten_megabytes_stay_within_a_pool_of_one(tmp_path: Path) -> None:
    pool = Pool(1 << 20)
    workspace = Workspace(tmp_path / "work", pool=pool)
    stores = MemberStores("group", lambda member: DataFlow(mode="hybrid", memory_limit_mb=10), workspace)
    charged = set()
    for n in range(1000):
        await stores.store(f"m{n:03}", "value", batch(n))
        await stores.append(f"m{n:03}", "series", rows(n, 100))
        charged.add(pool.charged == stores.stats().charged_bytes if n % 50 == 0 else True)
    assert charged == {True}, "the pool has what its members have, to the byte"
    stats = stores.stats()
    held = stats.charged_bytes + stats.evicted_bytes
    assert held >= 1000 * (VALUE + 1000) > 8 * pool.limit
    assert pool.spills == stats.evictions > 1000
    assert pool.spilled_bytes == stats.evicted_bytes
    for n in range(1000):
        assert (await stores.retrieve(f"m{n:03}", "value")).equals(batch(n))
        assert (await stores.retrieve(f"m{n:03}", "series")).column("n").to_pylist() == list(range(n, n + 100))
    await stores.close()
    await workspace.close()
    assert pool.charged == 0
    assert pool.high < pool.peak <= pool.limit


async def test_below_ninety_percent_of_the_pool_nothing_is_spilled(
    pooled: Workspace, pool: Pool, clock: HandClock, disk: Disk
) -> None:
    managers = [manager(f"h{n}", "hybrid", pooled, clock) for n in range(18)]
    for n, each in enumerate(managers):
        await each.store("k", batch(n))
    await settle()
    assert disk.writes_begun == pool.spills == 0
    for each in managers:
        await each.close()


async def test_the_manager_stored_to_longest_ago_spills_first_and_one_read_since_is_spared(
    pooled: Workspace, pool: Pool, clock: HandClock
) -> None:
    managers = [manager(f"h{n}", "hybrid", pooled, clock) for n in range(19)]
    for n, each in enumerate(managers[:18]):
        await each.store("k", batch(n))
    await managers[1].retrieve("k")
    await managers[18].store("k", batch(18))
    await quiet(pool)
    gone = [each.name for each in managers if not resident(each)]
    assert gone == ["h0", "h2", "h3", "h4"], "four leave: nineteen were there, fifteen may stay"
    assert pool.spills == 4
    assert pool.spilled_bytes == 4 * VALUE
    assert [each.stats().evictions for each in managers[:6]] == [1, 0, 1, 1, 1, 0]
    assert (await managers[0].retrieve("k")).equals(batch(0))
    for each in managers:
        await each.close()


async def test_small_values_of_many_managers_go_to_disk_in_one_hop(
    pooled: Workspace, pool: Pool, clock: HandClock, disk: Disk
) -> None:
    managers = [manager(f"h{n}", "hybrid", pooled, clock) for n in range(19)]
    for n, each in enumerate(managers):
        await each.store("k", batch(n))
    await quiet(pool)
    assert disk.writes_begun == 1
    assert len(disk.written) == 4
    for each in managers:
        await each.close()


async def test_a_store_waits_until_others_have_spilled_and_later_ones_do_not_overtake_it(
    pooled: Workspace, pool: Pool, clock: HandClock, disk: Disk
) -> None:
    hybrid, waiting, late = (manager(name, "hybrid", pooled, clock) for name in ("h", "w", "l"))
    disk.hold_writes()
    for n in range(20):
        await hybrid.store(f"k{n}", batch(n))
    first = asyncio.ensure_future(waiting.store("big", batch(1, rows=4000)))
    await settle()
    second = asyncio.ensure_future(late.store("small", b"x"))
    await settle()
    assert not first.done() and not second.done()
    assert pool.charged == pool.limit
    assert resident(hybrid) == [f"k{n}" for n in range(20)], "what is being written stays readable"
    disk.go_on()
    await asyncio.gather(first, second)
    assert pool.waits == 2
    assert (await waiting.retrieve("big")).equals(batch(1, rows=4000))
    for each in (hybrid, waiting, late):
        await each.close()


@pytest.mark.parametrize("on_full", ["reject", "evict_oldest"])
async def test_where_nobody_can_spill_the_error_names_the_pool_and_who_holds_it(
    on_full: str, pooled: Workspace, clock: HandClock
) -> None:
    large, small = manager("large", "memory", pooled, clock), manager("small", "memory", pooled, clock, on_full=on_full)
    for n in range(15):
        await large.store(f"k{n}", batch(n))
    for n in range(5):
        await small.store(f"k{n}", batch(n))
    with pytest.raises(BudgetExceeded) as caught:
        await small.store("more", batch(0))
    assert str(caught.value) == (
        f"small: 'more' needs {VALUE} bytes more, and was not stored: the pool of the process (process_memory_mb) "
        f"has 0 of {20 * VALUE} bytes free, most is held by large {15 * VALUE}, small {5 * VALUE} bytes; raise "
        "process_memory_mb, or let its holders spill with mode: hybrid"
    )
    assert len(small.keys()) == 5, "nothing is dropped for the pool's sake"
    await small.delete("k0")
    await small.store("more", batch(0))
    await large.close()
    await small.close()


async def test_a_memory_that_blocks_is_served_when_another_manager_gives_room_back(
    pooled: Workspace, clock: HandClock
) -> None:
    other, blocking = manager("o", "memory", pooled, clock), manager("b", "memory", pooled, clock, on_full="block")
    for n in range(20):
        await other.store(f"k{n}", batch(n))
    storing = asyncio.ensure_future(blocking.store("k", batch(7)))
    await settle()
    assert not storing.done()
    await other.delete("k3")
    await storing
    assert blocking.retrieve_nowait("k").equals(batch(7))
    failing = asyncio.ensure_future(blocking.store("l", batch(8)))
    await settle()
    clock.advance(31)
    with pytest.raises(BudgetExceeded, match="process_memory_mb"):
        await failing
    cancelled = asyncio.ensure_future(blocking.store("l", batch(8)))
    await settle()
    cancelled.cancel()
    await settle()
    await other.delete("k4")
    await other.store("k4", batch(4))
    await other.close()
    await blocking.close()


async def test_a_memory_manager_waits_while_hybrid_ones_spill(
    pooled: Workspace, pool: Pool, clock: HandClock, disk: Disk
) -> None:
    hybrid, memory = manager("h", "hybrid", pooled, clock), manager("m", "memory", pooled, clock)
    disk.hold_writes()
    for n in range(20):
        await hybrid.store(f"k{n}", batch(n))
    storing = asyncio.ensure_future(memory.store("k", batch(5)))
    await settle()
    assert not storing.done()
    disk.go_on()
    await storing
    assert pool.spills >= 1
    await hybrid.close()
    await memory.close()


async def test_a_full_disk_leaves_the_values_in_memory_and_is_tried_again(
    pooled: Workspace, pool: Pool, clock: HandClock, disk: Disk
) -> None:
    hybrid, other = manager("h", "hybrid", pooled, clock), manager("o", "hybrid", pooled, clock)
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    for n in range(20):
        await hybrid.store(f"k{n}", batch(n))
    storing = asyncio.ensure_future(other.store("k", batch(0)))
    await until(lambda: pool.relief is not None and pool.relief.refused is not None)
    assert resident(hybrid) == [f"k{n}" for n in range(20)]
    clock.advance(31)
    with pytest.raises(BackpressureTimeout, match=r"process_memory_mb.*most is held by h 164000.*No space left"):
        await storing
    disk.error = None
    storing = asyncio.ensure_future(other.store("k", batch(0)))
    await settle()
    clock.advance(2)
    await storing
    await quiet(pool)
    assert (await hybrid.retrieve("k0")).equals(batch(0))
    await hybrid.close()
    await other.close()


async def test_a_quota_of_one_manager_leaves_its_values_where_they_are(
    pooled: Workspace, pool: Pool, clock: HandClock
) -> None:
    kept = manager("kept", "hybrid", pooled, clock, disk_limit_mb=0.001)
    spilled = manager("spilled", "hybrid", pooled, clock)
    for n in range(10):
        await kept.store(f"k{n}", batch(n))
    for n in range(12):
        await spilled.store(f"k{n}", batch(n))
    await quiet(pool)
    assert kept.stats().evictions == 0
    assert spilled.stats().evictions == pool.spills >= 5
    await kept.close()
    await spilled.close()


async def test_a_manager_may_close_while_its_values_are_on_their_way(
    pooled: Workspace, pool: Pool, clock: HandClock, disk: Disk
) -> None:
    managers = [manager(f"h{n}", "hybrid", pooled, clock) for n in range(19)]
    disk.hold_writes()
    for n, each in enumerate(managers):
        await each.store("k", batch(n))
    await until(lambda: disk.writes_begun == 1)
    closing = [asyncio.ensure_future(each.close()) for each in managers]
    await settle()
    assert [future.done() for future in closing[:4]] == [False] * 4
    disk.go_on()
    await asyncio.gather(*closing)
    assert pooled.spill.live_bytes == 0


@pytest.mark.parametrize("mode", ["streaming", "file"])
async def test_buffers_of_the_other_modes_wait_for_the_pool_too(
    mode: str, pooled: Workspace, pool: Pool, clock: HandClock
) -> None:
    holder, buffering = manager("holder", "memory", pooled, clock), manager("b", mode, pooled, clock)
    for n in range(20):
        await holder.store(f"k{n}", batch(n))
    appending = asyncio.ensure_future(buffering.append("s", rows(0, 100)))
    await settle()
    assert not appending.done()
    await holder.delete("k0")
    await appending
    await holder.store("k0", batch(0, rows=10))
    waiting = asyncio.ensure_future(buffering.append("s", batch(0, rows=2000)["v"].to_pandas().to_frame("n")))
    await settle()
    clock.advance(31)
    with pytest.raises(BackpressureTimeout, match="process_memory_mb"):
        await waiting
    await holder.close()
    assert (await buffering.retrieve("s")).num_rows == 100
    await buffering.close()


async def test_what_is_written_at_the_end_is_the_same_with_a_pool_and_nothing_becomes_resident_for_it(
    tmp_path: Path,
) -> None:
    left = []
    for pool in (None, Pool(1 << 16)):
        workspace = Workspace(tmp_path / f"work{len(left)}", pool=pool)
        stores = MemberStores("g", lambda member: DataFlow(mode="hybrid", memory_limit_mb=1), workspace)
        for n in range(50):
            await stores.store(f"m{n:02}", "table", batch(n, rows=1500))
            await stores.append(f"m{n:02}", "series", rows(n, 700))
            await stores.store(f"m{n:02}", "figures", {"sharpe": n / 7, "name": f"m{n}", "none": None})
        before = stores.stats().charged_bytes
        files = await persist_members(stores, tmp_path / f"out{len(left)}", workspace, DataFlow())
        assert stores.stats().charged_bytes <= before
        left.append(
            [(key, found.rows, found.hash, found.path and found.path.read_bytes()) for key, found in files.items()]
        )
        await stores.close()
        await workspace.close()
        assert pool is None or pool.spills > 90
    assert left[0] == left[1]
    assert [(key, count) for key, count, _, _ in left[0]] == [("table", 75_000), ("series", 35_000), ("figures", 50)]


async def test_a_value_larger_than_the_pool_is_refused_or_goes_straight_to_disk(
    pooled: Workspace, pool: Pool, clock: HandClock
) -> None:
    table = pa.table({"n": list(range(100_000))})
    hybrid, memory = manager("h", "hybrid", pooled, clock), manager("m", "memory", pooled, clock)
    await hybrid.store("t", table)
    assert [each.num_rows async for each in hybrid.iter_batches("t")] and pool.charged == 0
    with pytest.raises(Exception, match="process_memory_mb allows 164000"):
        await memory.store("t", table)
    await hybrid.close()
    await memory.close()


async def test_a6_who_lines_up_takes_the_room_that_is_made_in_that_very_step() -> None:
    """Relief may drop clean values at once: nobody comes by later to say so."""
    pool = Pool(130, HandClock())
    account, other = Account(100, HandClock(), "a", pool), Account(100, HandClock(), "b", pool)
    account.take(80)
    other.take(50)

    class AtOnce:
        hopeful, refused = True, None

        def press(self) -> None:
            if other.charged:
                other.give(50)

    taken: list[int] = []
    account.queue(lambda: 30, lambda: taken.append(30))  # its own limit keeps it waiting
    pool.relief = AtOnce()
    account.give(10)  # now the pool would
    assert taken == [30]
    assert (account.charged, other.charged, pool.charged) == (100, 0, 100)
    account.give(100)
    account.close()
    other.close()


async def test_m4_what_a_waiter_frees_is_given_back_once_its_value_is_there() -> None:
    """A-6: giving back asks for relief, which would drop, and count again, the very value that is being replaced."""
    account = Account(100, HandClock())
    account.take(100)
    need, seen = [50], list[int]()
    account.queue(lambda: need[0], lambda: seen.append(account.charged))
    assert not seen
    need[0] = -40  # meanwhile another has stored a larger value under the same key
    account.serve()
    assert seen == [100]
    assert account.charged == 60
    account.give(60)
