"""Edges within the pool of the process: a quarter for what may wait, room for what must go on, an error in the end."""

from __future__ import annotations

import asyncio

import anyio
import numpy as np
import pytest

from pipeline.edges.edge import Edge, EdgePolicy
from pipeline.edges.in_flight import EdgesAccount
from pipeline.errors import BudgetExceeded
from pipeline.frames import Batch
from pipeline.pool import Pool
from pipeline.testing import VirtualClock


class Holder:
    """Holds bytes of a pool and does nothing else."""

    charged = 0
    name = "somebody"

    def __init__(self, pool: Pool, num_bytes: int) -> None:
        self.pool = pool
        self.charged = num_bytes
        pool.take(self, num_bytes)

    def give(self, num_bytes: int) -> None:
        self.charged -= num_bytes
        self.pool.give(self, num_bytes)


def batch(rows: int = 100) -> Batch:
    """8 bytes a row."""
    return Batch.from_pydict({"n": np.zeros(rows)})


def edge(account: EdgesAccount, target: str = "b", when_full: str = "block") -> Edge:
    return Edge("a", target, EdgePolicy(when_full=when_full), account)


async def test_an_edge_that_holds_something_stops_at_a_quarter_of_the_pool() -> None:
    account = EdgesAccount(Pool(8000))
    line = edge(account)
    assert [line.send_nowait(batch()) for _ in range(3)] == [True, True, False]
    assert account.charged == 1600
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.send, batch())
        await anyio.wait_all_tasks_blocked()
        assert line.stats().sent_batches == 2
        frame = await line.receive()
        assert isinstance(frame, Batch)
        line.finish(frame)
    assert line.stats().sent_batches == 3
    assert account.charged == account.pool.charged == 1600  # type: ignore[union-attr]


async def test_an_edge_that_holds_nothing_takes_a_batch_above_the_quarter_so_that_the_work_goes_on() -> None:
    pool = Pool(8000)
    account = EdgesAccount(pool)
    first, second = edge(account), edge(account, "c")
    assert first.send_nowait(batch(500)) and second.send_nowait(batch(400))
    assert pool.charged == 7200
    assert not edge(account, "d").send_nowait(batch(200)), "but never above the pool"


async def test_a_batch_on_several_edges_is_charged_once_to_the_pool() -> None:
    pool = Pool(1000)
    account = EdgesAccount(pool)
    lines = [edge(account, name) for name in "bcd"]
    shared = batch(100)
    assert all(line.send_nowait(shared) for line in lines)
    assert pool.charged == 800
    for line in lines:
        frame = await line.receive()
        assert isinstance(frame, Batch)
        line.finish(frame)
    assert pool.charged == 0


async def test_a_producer_waits_for_the_pool_until_somebody_gives_room_back() -> None:
    pool = Pool(1000)
    holder = Holder(pool, 900)
    line = edge(EdgesAccount(pool))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.send, batch())
        await anyio.wait_all_tasks_blocked()
        assert line.stats().sent_batches == 0
        holder.give(699)
        await anyio.wait_all_tasks_blocked()
        assert line.stats().sent_batches == 0, "one byte too few"
        holder.give(1)
    assert line.stats().sent_batches == 1
    assert pool.peak == 1000
    assert not pool.wanted


async def test_a_producer_that_is_cancelled_while_it_waits_leaves_the_line() -> None:
    pool = Pool(1000)
    holder = Holder(pool, 900)
    line = edge(EdgesAccount(pool))
    sending = asyncio.ensure_future(line.send(batch()))
    await anyio.wait_all_tasks_blocked()
    assert pool.wanted == 800
    sending.cancel()
    await asyncio.wait((sending,))
    assert pool.wanted == 0
    assert pool.admits(holder, 100)


async def test_a_producer_fails_after_thirty_seconds_and_the_error_says_who_has_the_pool() -> None:
    pool, clock = Pool(1000), VirtualClock()
    Holder(pool, 900)
    line = edge(EdgesAccount(pool, clock))
    sending = asyncio.ensure_future(line.send(batch()))
    await anyio.wait_all_tasks_blocked()
    await clock.advance(29)
    await anyio.wait_all_tasks_blocked()
    assert not sending.done()
    await clock.advance(2)
    with pytest.raises(
        BudgetExceeded, match=r"a -> b: no room .* 800 bytes within 30 s: .*process_memory_mb.*somebody 900"
    ):
        await sending


async def test_a_batch_larger_than_the_pool_fails_at_once() -> None:
    line = edge(EdgesAccount(Pool(500)))
    with pytest.raises(BudgetExceeded, match=r"a batch of 800 bytes: .*process_memory_mb.*or make the batches smaller"):
        await line.send(batch())


async def test_a_lossy_edge_drops_and_counts_what_the_pool_has_no_room_for() -> None:
    pool = Pool(1000)
    Holder(pool, 900)
    line = edge(EdgesAccount(pool), when_full="drop_newest")
    await line.send(batch())
    assert line.stats().dropped_rows == 100
    assert pool.charged == 900


async def test_rows_that_conflate_give_their_bytes_back_in_one_step() -> None:
    pool = Pool(1 << 16)
    account = EdgesAccount(pool)
    policy = EdgePolicy(max_rows=100, when_full="conflate")
    line = Edge("a", "b", policy, account)
    for start in range(0, 300, 60):
        names = [f"i{n % 50}" for n in range(start, start + 60)]
        await line.send(Batch.from_pydict({"instrument_id": names, "n": list(range(60))}))
        assert pool.charged == account.charged == line.stats().in_flight_bytes
    stats = line.stats()
    assert stats.sent_rows == 300 == stats.dropped_rows + stats.in_flight_rows


async def test_room_that_came_and_went_while_a_producer_woke_is_found_again() -> None:
    pool = Pool(1000)
    holder = Holder(pool, 900)
    line = edge(EdgesAccount(pool))
    sending = asyncio.ensure_future(line.send(batch()))
    await anyio.wait_all_tasks_blocked()
    for _ in range(3):
        holder.give(700)  # the producer is called, and wakes in another step
        holder.charged += 700
        pool.take(holder, 700)  # as eviction takes room for its copies
        await asyncio.sleep(0)
    holder.give(700)
    await sending
    assert line.stats().sent_batches == 1


async def test_room_that_is_made_while_a_sender_begins_to_wait_leaves_nobody_listening() -> None:
    """The next send on the same edge waits on the same bell."""
    pool = Pool(8000)
    holder = Holder(pool, 8000)
    line = edge(EdgesAccount(pool))
    async with anyio.create_task_group() as tasks:

        async def send_two() -> None:
            await line.send(batch(900))
            await line.send(batch(900))

        tasks.start_soon(send_two)
        asyncio.get_running_loop().call_soon(holder.give, 8000)
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            frame = await line.receive()
            assert isinstance(frame, Batch)
            line.finish(frame)
    assert line.stats().received_rows == 1800
