"""A session over real sockets: what comes is given in order, and connections that are lost come back."""

from __future__ import annotations

from pipeline.testing import VirtualClock
from stages.messages import MessageKind
from tests.stages.live.server import SPOT, LocalVenue, Taking, figure, local_venue, session_of, trade, with_limits

RECEIVED, OPENED, CLOSED, SENT = MessageKind.RECEIVED, MessageKind.OPENED, MessageKind.CLOSED, MessageKind.SENT


async def test_what_the_venue_sends_is_given_in_order_with_stamps_that_rise() -> None:
    async with local_venue() as server, session_of(server) as session:
        taking = Taking(session)
        client = await server.client(1)
        for number in range(3):
            await client.send(trade(number))
        await taking.count(RECEIVED, 3)
        session.stop()
        got = await taking.rest()
        assert taking.said() == [
            ("OPENED", b""), *(("RECEIVED", trade(number).encode()) for number in range(3)),
            ("CLOSED", b"by us: stopped"),
        ]  # fmt: skip
        assert [message.ingest_seq for message in got] == list(range(5))
        stamps = [message.ts_recv for message in got]
        assert stamps == sorted(stamps)
        assert {message.source for message in got} == {"binance_spot/1"}
        assert {message.url for message in got} == {f"{server.ws}/stream?streams=btcusdt@trade"}


async def test_subscriptions_are_sent_once_open_and_no_faster_than_the_venue_allows() -> None:
    clock = VirtualClock()
    venue = with_limits(SPOT, streams_per_request=1, messages_per_second=2)
    symbols = ["A", "B", "C", "D", "E", "F"]
    async with local_venue() as server, session_of(server, symbols=symbols, venue=venue, clock=clock) as session:
        taking = Taking(session)
        client = await server.client(1)
        sent = await taking.count(SENT, 2)
        assert [await client.recv() for _ in sent] == [message.payload.decode() for message in sent]
        assert b'"b@trade"' in sent[0].payload and b'"c@trade"' in sent[1].payload
        await clock.advance(0.5)
        assert len(session.buffer) == 0
        await clock.advance(0.5)
        assert len(await taking.count(SENT, 4)) == 4
        await clock.advance(1)
        await taking.count(SENT, 5)


async def test_it_ends_without_a_server_and_tells_once_that_there_was_none() -> None:
    clock = VirtualClock()
    server = LocalVenue()
    try:
        async with session_of(server, clock=clock) as session:
            taking = Taking(session)
            (refused,) = await taking.count(CLOSED, 1)
            assert refused.payload.startswith(b"not opened: ConnectionRefusedError")
            for tries in range(2, 7):
                await clock.advance(0.06)
                await figure(session, "refused", tries)
            assert len(session.buffer) == 0
            await server.open()
            await clock.advance(0.06)
            await server.client(1)
            await taking.count(OPENED, 1)
    finally:
        await server.close()
