"""A venue that is faster than its consumer waits: memory is bounded, nothing is lost, and reading always resumes."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.testing import VirtualClock
from stages.live.buffer import Bound, Buffer
from stages.messages import MessageKind
from tests.stages.live.server import SPOT, Taking, figure, local_venue, session_of, trade, with_limits

RECEIVED = MessageKind.RECEIVED
PADDING = "x" * 3000


def big(number: int) -> str:
    return f'{{"result":"{PADDING}","id":{number}}}'


@pytest.mark.parametrize("bound", [Bound(messages=500), Bound(num_bytes=1_500_000)], ids=["messages", "bytes"])
async def test_a_burst_ten_times_the_buffer_is_taken_slowly_and_whole(bound: Bound) -> None:
    count, read = 5000, 256 * 1024  # a socket is read so many bytes at a time
    async with local_venue() as server, session_of(server, conduct={"bound": bound}) as session:
        client = await server.client(1)

        async def burst() -> None:
            for number in range(count):
                await client.send(big(number))

        sending = asyncio.ensure_future(burst())
        await figure(session, "waits_for_consumer", 1)
        for _ in range(200):
            await asyncio.sleep(0)
        assert not sending.done(), "the server waits"
        assert session.buffer.is_full
        taking = Taking(session)
        while session.buffer.added < 1 + count:  # as slow as can be: it takes nothing before all has to wait for it
            if session.buffer.is_full:
                taking.got += await session.messages() or ()
            await asyncio.sleep(0)
        got = await taking.count(RECEIVED, count)
        await sending
        assert [message.payload.decode() for message in got] == [big(number) for number in range(count)]
        figures = session.figures()
        most = bound.messages if bound.messages == 500 else bound.num_bytes // len(big(0))
        assert figures["most_waiting"] <= most + read // len(big(0)) + 2
        assert figures["waits_for_consumer"] >= 5
        assert figures["rescues"] == 0


async def test_several_connections_wait_together_and_all_of_them_are_read_again() -> None:
    symbols = ["A", "B", "C"]
    venue = with_limits(SPOT, streams_per_connection=1)
    conduct = {"bound": Bound(messages=100)}
    async with local_venue() as server, session_of(server, symbols=symbols, venue=venue, conduct=conduct) as session:
        clients = [await server.client(number) for number in (1, 2, 3)]

        async def burst(at: int) -> None:
            for number in range(1000):
                await clients[at].send(trade(number, symbols[at]))

        sending = [asyncio.ensure_future(burst(at)) for at in range(3)]
        got = await Taking(session).count(RECEIVED, 3000)
        await asyncio.gather(*sending)
        for symbol in symbols:
            mine = [message.payload.decode() for message in got if f'"{symbol}"'.encode() in message.payload]
            assert mine == [trade(number, symbol) for number in range(1000)]


async def test_a_socket_that_is_not_read_is_not_taken_for_dead() -> None:
    clock = VirtualClock()
    conduct = {"bound": Bound(messages=3)}
    async with local_venue() as server, session_of(server, conduct=conduct, clock=clock) as session:
        client = await server.client(1)
        for number in range(3):
            await client.send(trade(number))
        await figure(session, "waits_for_consumer", 1)
        for _ in range(5):
            await clock.advance(60)
        taking = Taking(session)
        await taking.count(RECEIVED, 3)
        await client.send(trade(3))
        await taking.count(RECEIVED, 4)
        assert "CLOSED" not in dict(taking.said())


async def test_the_watch_reads_again_where_somebody_forgot_to() -> None:
    clock = VirtualClock()
    async with local_venue() as server, session_of(server, clock=clock) as session:
        taking = Taking(session)
        client = await server.client(1)
        await figure(session, "opened", 1)
        await taking.count(MessageKind.OPENED, 1)
        session.buffer.free.clear()
        session._follow_the_buffer()
        await client.send(trade(1))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(session.buffer) == 0, "nobody reads"
        await clock.advance(1)
        await taking.count(RECEIVED, 1)
        assert session.figures()["rescues"] == 1


async def test_a_full_session_can_be_stopped_and_gives_what_it_holds() -> None:
    async with local_venue() as server, session_of(server, conduct={"bound": Bound(messages=1 + 10)}) as session:
        client = await server.client(1)
        for number in range(10):
            await client.send(trade(number))
        await figure(session, "waits_for_consumer", 1)
        session.stop()
        got = await Taking(session).rest()
        assert [message.payload.decode() for message in got if message.kind == RECEIVED] == [
            trade(number) for number in range(10)
        ]
        assert got[-1].kind == MessageKind.CLOSED


def test_a_buffer_holds_at_its_bound_and_frees_at_half_of_it() -> None:
    told: list[str] = []
    buffer = Buffer(Bound(messages=4096), lambda: 5, lambda: told.append("hold"), lambda: told.append("free"))
    for number in range(4096):
        assert told == []
        buffer.add(RECEIVED, "one", "ws://x", b"%d" % number)
    assert told == ["hold"]
    assert len(buffer.take()) == 2048 and told == ["hold", "free"]
    assert not buffer.relieve()
    assert buffer.take().payloads()[-1] == b"4095"
    assert not buffer.arrived.is_set() and buffer.num_bytes == 0


def test_stamps_never_step_back_although_the_clock_does() -> None:
    times = iter([10, 30, 20, 40])
    buffer = Buffer(Bound(), lambda: next(times), lambda: None, lambda: None)
    for _ in range(4):
        buffer.add(RECEIVED, "one", "ws://x", b"")
    buffer.add(RECEIVED, "one", "ws://x", b"", 35)
    run = buffer.take()
    assert run.ts_recv.tolist() == [10, 30, 30, 40, 40]
    assert run.ingest_seq.tolist() == [0, 1, 2, 3, 4]


def test_one_message_larger_than_a_run_is_a_run() -> None:
    buffer = Buffer(Bound(), lambda: 1, lambda: None, lambda: None)
    for size in (17 << 20, 1, 16 << 20, 1):
        buffer.add(RECEIVED, "one", "ws://x", bytes(size))
    assert [len(buffer.take()) for _ in range(4)] == [1, 1, 1, 1]
