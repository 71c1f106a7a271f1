"""Edges: bounds in rows and bytes, credit on finish, declared losses, each row accounted for."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edges.bell import Bell
from pipeline.edges.edge import Edge, EdgePolicy
from pipeline.edges.in_flight import EdgesAccount
from pipeline.errors import EdgeClosed
from pipeline.frames import Barrier, Batch, End, Row, Watermark


class Tick(Row, frozen=True):
    instrument_id: str
    n: int


def rows(*numbers: int, key: str = "A") -> Batch:
    return Batch.from_rows([Tick(key, n) for n in numbers])


def columns(*numbers: int) -> Batch:
    return Batch.from_pydict({"instrument_id": ["A"] * len(numbers), "n": list(numbers)})


def numbers(batch: Batch) -> list[int]:
    return [row.n for row in batch.rows]


def edge(max_rows: int = 4, when_full: str = "block", max_bytes: int = 1 << 20, **more: object) -> Edge:
    return Edge("a", "b", EdgePolicy(max_rows=max_rows, max_bytes=max_bytes, when_full=when_full, **more))


def balanced(edge: Edge) -> bool:
    stats = edge.stats()
    return stats.sent_rows == stats.received_rows + stats.dropped_rows + stats.in_flight_rows


async def test_send_waits_until_a_slow_reader_finishes_a_batch() -> None:
    line = edge(max_rows=4)
    sent = []

    async def produce() -> None:
        for n in range(10):
            await line.send(columns(n))
            sent.append(n)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await anyio.wait_all_tasks_blocked()
        assert sent == [0, 1, 2, 3]
        first = await line.receive()
        await anyio.wait_all_tasks_blocked()
        assert sent == [0, 1, 2, 3], "receiving gives no credit"
        line.finish(first)
        await anyio.wait_all_tasks_blocked()
        assert sent == [0, 1, 2, 3, 4]
        for _ in range(9):
            line.finish(await line.receive())
    assert line.stats().peak_rows == 4
    assert line.stats().received_rows == 10
    assert line.stats().waits + line.stats().fast_sends == 10
    assert line.stats().fast_sends >= 4
    assert balanced(line)


async def test_the_bound_in_bytes_holds_too() -> None:
    one = columns(1).num_bytes
    line = edge(max_rows=1000, max_bytes=2 * one)
    assert line.send_nowait(columns(1))
    assert line.send_nowait(columns(2))
    assert not line.send_nowait(columns(3))
    assert line.stats().peak_bytes == 2 * one


async def test_a_batch_larger_than_the_bound_passes_when_the_edge_is_empty() -> None:
    line = edge(max_rows=2)
    assert line.send_nowait(columns(1, 2, 3, 4, 5))
    assert not line.send_nowait(columns(6))
    batch = await line.receive()
    line.finish(batch)
    assert line.send_nowait(columns(6))


async def test_control_frames_pass_a_full_edge_and_never_overtake() -> None:
    line = edge(max_rows=1)
    line.send_nowait(columns(1))
    assert line.send_nowait(Watermark(5))
    assert line.send_nowait(End())
    kinds = [type(await line.receive()) for _ in range(3)]
    assert kinds == [Batch, Watermark, End]


async def test_a_newer_watermark_replaces_one_at_the_tail() -> None:
    line = edge()
    for ts in (1, 2, 3):
        line.send_nowait(Watermark(ts))
    assert await line.receive() == Watermark(3)
    assert line.receive_nowait() is None


async def test_a_third_barrier_waits_for_the_first_to_be_received() -> None:
    line = edge()
    assert line.send_nowait(Barrier(1, "flush"))
    assert line.send_nowait(Barrier(2, "flush"))
    assert not line.send_nowait(Barrier(3, "flush"))
    await line.receive()
    assert line.send_nowait(Barrier(3, "flush"))


async def test_drop_newest_counts_what_it_refuses() -> None:
    line = edge(max_rows=2, when_full="drop_newest")
    for n in range(5):
        await line.send(columns(n))
    assert [numbers(line.receive_nowait()) for _ in range(2)] == [[0], [1]]
    assert line.stats().dropped_rows == 3
    assert balanced(line)


async def test_drop_oldest_keeps_the_newest_and_spares_the_batch_being_worked_on() -> None:
    line = edge(max_rows=2, when_full="drop_oldest")
    await line.send(columns(0))
    working = await line.receive()
    for n in range(1, 5):
        await line.send(columns(n))
    assert line.stats().dropped_rows == 3
    line.finish(working)
    assert numbers(await line.receive()) == [4]
    assert balanced(line)


@pytest.mark.parametrize("as_rows", [True, False])
async def test_conflate_keeps_the_latest_row_of_each_key_where_it_stood(as_rows: bool) -> None:
    def tick(key: str, n: int) -> Batch:
        batch = Batch.from_rows([Tick(key, n)])
        return batch if as_rows else Batch(batch.columns)

    line = edge(max_rows=3, when_full="conflate")
    for key, n in (("A", 1), ("B", 2), ("A", 3)):
        assert line.send_nowait(tick(key, n))
    line.send_nowait(Watermark(1))
    assert line.send_nowait(tick("A", 4))
    got = [line.receive_nowait() for _ in range(3)]
    assert numbers(got[0]) == [2]
    assert got[1] == Watermark(1)
    assert numbers(got[2]) == [4]
    assert line.stats().dropped_rows == 2
    assert balanced(line)


async def test_conflate_waits_when_there_are_more_keys_than_room() -> None:
    line = edge(max_rows=2, when_full="conflate")
    assert line.send_nowait(rows(1, key="A"))
    assert line.send_nowait(rows(2, key="B"))
    assert not line.send_nowait(rows(3, key="C"))
    assert balanced(line)


async def test_a_cancelled_sender_leaves_nothing_on_the_edge() -> None:
    line = edge(max_rows=1)
    line.send_nowait(columns(1))
    with anyio.move_on_after(0.01):
        await line.send(columns(2))
    stats = line.stats()
    assert (stats.sent_rows, stats.in_flight_rows) == (1, 1)
    line.finish(await line.receive())
    assert line.receive_nowait() is None


async def test_sending_after_the_end_is_an_error_that_names_the_edge() -> None:
    line = edge()
    line.send_nowait(End())
    with pytest.raises(EdgeClosed, match="a -> b"):
        await line.send(columns(1))


async def test_a_failed_producer_is_learnt_after_what_is_queued() -> None:
    line = edge()
    line.send_nowait(columns(1))
    line.fail(RuntimeError("boom"))
    assert numbers(await line.receive()) == [1]
    with pytest.raises(EdgeClosed, match="'a' failed"):
        await line.receive()


async def test_a_detached_consumer_frees_a_waiting_producer_and_its_rows_count_as_dropped() -> None:
    line = edge(max_rows=1)
    line.send_nowait(columns(1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.send, columns(2))
        await anyio.wait_all_tasks_blocked()
        line.detach()
    stats = line.stats()
    assert (stats.sent_rows, stats.dropped_rows) == (2, 2)  # what comes too late is counted as well
    assert (stats.in_flight_rows, stats.in_flight_bytes) == (0, 0)
    assert line.account.charged == 0


async def test_a_batch_on_three_edges_is_charged_once() -> None:
    account = EdgesAccount()
    lines = [Edge("a", name, EdgePolicy(), account) for name in "bcd"]
    batch = columns(1, 2, 3)
    for line in lines:
        await line.send(batch)
    assert account.charged == batch.num_bytes
    for line in lines:
        line.finish(await line.receive())
    assert account.charged == 0
    assert account.peak_bytes == batch.num_bytes


async def test_a_bell_cancelled_while_waiting_can_be_waited_on_again() -> None:
    bell = Bell()
    with anyio.move_on_after(0.01):
        await bell.wait()
    task = asyncio.ensure_future(bell.wait())
    await checkpoint()
    bell.ring()
    await task
    assert not bell.waiting


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 4)), max_size=40),
    st.sampled_from(["drop_oldest", "drop_newest", "conflate"]),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_whatever_is_lost_is_counted(sends: list[tuple[str, int]], when_full: str, bound: int, random: object) -> None:
    line = Edge("a", "b", EdgePolicy(max_rows=bound, when_full=when_full))
    working: list[Batch] = []
    received = 0
    for key, count in sends:
        line.send_nowait(Batch.from_rows([Tick(key, n) for n in range(count)]))
        assert balanced(line)
        if random.random() < 0.4 and (frame := line.receive_nowait()) is not None:
            working.append(frame)
        if working and random.random() < 0.5:
            batch = working.pop()
            received += batch.num_rows
            line.finish(batch)
    while (frame := line.receive_nowait()) is not None:
        working.append(frame)
    for batch in working:
        received += batch.num_rows
        line.finish(batch)
    stats = line.stats()
    assert stats.in_flight_rows == stats.in_flight_bytes == 0
    assert stats.received_rows == received
    assert stats.sent_rows == received + stats.dropped_rows
    assert line.account.charged == 0
