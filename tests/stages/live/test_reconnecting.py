"""Connections that are refused, lost, or dead come back, later each time until data came; planned ones lose nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection

from pipeline.testing import VirtualClock
from stages.live.backoff import Backoff
from stages.messages import MessageKind
from tests.patience import SECONDS
from tests.stages.live.server import SPOT, LocalVenue, Taking, figure, local_venue, session_of, trade, with_limits

SHORT = with_limits(SPOT, connection_hours=600 / 3600)
"""Closes connections after ten minutes; they are renewed in the third minute before the last, or the second."""
PATIENT = {"ping_every": 1e6, "open_timeout": 1e6}
"""Sockets are real, and take no time of a clock that a test moves: nothing is given up for want of an answer."""
EARLY = {"renew_before": 180.0, "handover": 1e6, **PATIENT}
RECEIVED, OPENED, CLOSED = MessageKind.RECEIVED, MessageKind.OPENED, MessageKind.CLOSED


def test_delays_double_up_to_a_cap_are_drawn_and_begin_anew_once_it_works() -> None:
    backoff = Backoff(np.random.default_rng(1), first=1, cap=60)
    delays = [backoff.next() for _ in range(9)]
    longest = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert all(most / 2 <= delay <= most for delay, most in zip(delays, longest, strict=True))
    assert delays[-1] != delays[-2]
    assert [Backoff(np.random.default_rng(1), 1, 60).next()] == delays[:1], "drawn from the seed alone"
    for _ in range(2000):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 1


async def lose_politely(client: ServerConnection) -> None:
    await client.close(1012, "service restart")


async def lose_at_once(client: ServerConnection) -> None:
    client.transport.abort()


async def lose_within_a_message(client: ServerConnection) -> None:
    client.transport.write(b"\x81\x7e\x01\x00" + b"x" * 40)  # of 256 bytes
    client.transport.close()


async def lose_within_a_fragmented_message(client: ServerConnection) -> None:
    client.transport.write(b"\x01\x05hello")  # more is to follow
    client.transport.close()


async def speak_nonsense(client: ServerConnection) -> None:
    client.transport.write(b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    "lose",
    [lose_politely, lose_at_once, lose_within_a_message, lose_within_a_fragmented_message, speak_nonsense],
    ids=lambda lose: lose.__name__,
)
@pytest.mark.parametrize("with_data", [True, False], ids=["after data", "before data"])
async def test_however_a_connection_is_lost_it_is_told_once_and_opened_again(lose: object, with_data: bool) -> None:
    async with local_venue() as server, session_of(server) as session:
        taking = Taking(session)
        for number in (1, 2):
            client = await server.client(number)
            if with_data:
                await client.send(trade(number))
                await taking.count(RECEIVED, number)
            await lose(client)  # type: ignore[operator]
            await taking.count(CLOSED, number)
        await taking.count(OPENED, 3)
        kinds = [kind for kind, _ in taking.said()]
        assert kinds == (["OPENED", *(["RECEIVED"] if with_data else []), "CLOSED"] * 2 + ["OPENED"])


async def test_only_data_counts_as_working_not_that_a_connection_opened() -> None:
    async with local_venue() as server, session_of(server) as session:
        taking = Taking(session)
        for number in range(1, 5):
            await lose_at_once(await server.client(number))
        await taking.count(CLOSED, 4)
        client = await server.client(5)
        (connection,) = session._connections.values()
        assert connection._backoff.tries >= 4
        await client.send(trade(1))
        await taking.count(RECEIVED, 1)
        await lose_at_once(client)
        await server.client(6)
        assert connection._backoff.tries == 1


async def test_handshakes_that_are_refused_are_tried_again() -> None:
    async with local_venue() as server:
        server.refusals.extend([503, 429, 403])
        async with session_of(server) as session:
            taking = Taking(session)
            await taking.count(OPENED, 1)
            assert [kind for kind, _ in taking.said()] == ["CLOSED", "OPENED"], "told once"
            assert "HTTP 503" in taking.said()[0][1].decode()
            assert session.figures()["refused"] == 3


async def test_a_server_that_takes_connections_and_says_nothing_is_not_waited_for() -> None:
    clock = VirtualClock()
    dialled = asyncio.Event()
    writers = []

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        dialled.set()

    mutes = await asyncio.start_server(mute, "127.0.0.1", 0)
    server = LocalVenue()
    await server.close()
    server.port = mutes.sockets[0].getsockname()[1]
    async with session_of(server, clock=clock) as session:
        await dialled.wait()
        await clock.advance(10)
        (refused,) = await Taking(session).count(CLOSED, 1)
        assert b"TimeoutError: nothing came of it in 10 s" in refused.payload
    for writer in writers:
        writer.close()
    mutes.close()
    await mutes.wait_closed()


async def test_a_connection_that_does_not_even_answer_pings_is_taken_for_dead() -> None:
    clock = VirtualClock()
    async with local_venue() as server, session_of(server, clock=clock) as session:
        taking = Taking(session)
        client = await server.client(1)
        await client.send(trade(1))
        await taking.count(RECEIVED, 1)
        client.transport.pause_reading()  # it is there, but hears nothing
        await clock.advance(39)
        assert len(session.buffer) == 0
        await clock.advance(3)
        (closed,) = await taking.count(CLOSED, 1)
        assert closed.payload.startswith(b"by us: nothing was heard for 4")
        assert closed.payload.endswith(b" s, not even an answer to a ping")
        await figure(session, "opened", 2, clock)


async def test_pings_that_are_answered_keep_a_quiet_connection() -> None:
    clock = VirtualClock()
    async with local_venue() as server, session_of(server, clock=clock) as session:
        await figure(session, "opened", 1)
        (connection,) = session._connections.values()
        for _ in range(6):
            call = connection._call
            assert call is not None
            heard = call._heard_ns
            await clock.advance(21)
            async with asyncio.timeout(SECONDS):
                while call._heard_ns == heard:
                    await asyncio.sleep(0)
        assert len(server.clients) == 1 and not call.is_closed


async def test_all_connections_lost_at_once_come_back_no_faster_than_the_venue_allows() -> None:
    clock = VirtualClock()
    venue = with_limits(SPOT, streams_per_connection=1, connections_per_minute=6)
    symbols = [f"S{number}" for number in range(12)]
    words: dict[str, Any] = {"symbols": symbols, "venue": venue, "conduct": PATIENT, "clock": clock}
    async with local_venue() as server, session_of(server, **words) as session:
        taking = Taking(session)
        await figure(session, "opened", 6)
        await clock.advance(59)
        assert len(server.clients) == 6
        await clock.advance(1)
        await figure(session, "opened", 12)
        await taking.count(OPENED, 12)
        for client in server.clients:
            await client.send(trade(1))
        await taking.count(RECEIVED, 12)
        await clock.advance(60)
        for client in list(server.clients):
            client.transport.abort()
        await taking.count(CLOSED, 12)
        (host,) = {connection._host for connection in session._connections.values()}
        while host.connections.spent < 6 or clock.monotonic_ns() < 120.1e9:  # all that may call have begun to
            await asyncio.sleep(0.001)
            await clock.advance(0.05)
        began = clock.monotonic_ns()
        assert began < 150e9
        await figure(session, "opened", 18)
        await clock.advance(179.9 - began / 1e9)
        assert len(server.clients) == 18
        await figure(session, "opened", 24, clock)
        await taking.count(OPENED, 24)
        sources = [message.source for message in taking.got if message.kind == OPENED][12:]
        assert sorted(sources) == sorted({message.source for message in taking.got})


async def test_before_the_venue_would_close_a_connection_another_takes_over_and_nothing_is_missing() -> None:
    clock = VirtualClock()
    async with local_venue() as server, session_of(server, venue=SHORT, conduct=EARLY, clock=clock) as session:
        taking = Taking(session)
        first = await server.client(1)
        await first.send(trade(1))
        await taking.count(RECEIVED, 1)
        await clock.advance(600 - 181)
        assert len(server.clients) == 1
        await clock.advance(91)
        second = await server.client(2)
        await first.send(trade(2))
        await taking.count(RECEIVED, 2)
        await second.send(trade(2))
        await second.send(trade(3))
        (closed,) = await taking.count(CLOSED, 1)
        assert closed.payload == b"by us: another connection takes over"
        await taking.count(RECEIVED, 4)
        await second.send(trade(4))
        await taking.count(RECEIVED, 5)
        said = [kind if kind != "RECEIVED" else payload.decode() for kind, payload in taking.said()]
        assert said == ["OPENED", trade(1), trade(2), "CLOSED", "OPENED", trade(2), trade(3), trade(4)]
        stamps = [message.ts_recv for message in taking.got]
        assert stamps == sorted(stamps)
        assert session.figures()["handed_over"] == 1


class Noted(VirtualClock):
    """Remembers until when somebody slept."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: set[int] = set()

    async def sleep_until(self, monotonic_ns: int) -> None:
        self.deadlines.add(monotonic_ns)
        await super().sleep_until(monotonic_ns)


async def test_connections_are_renewed_at_moments_of_their_own() -> None:
    clock = Noted()
    venue = with_limits(SHORT, streams_per_connection=1)
    symbols = [f"S{number}" for number in range(8)]
    async with (
        local_venue() as server,
        session_of(server, symbols=symbols, venue=venue, conduct=EARLY, clock=clock) as session,
    ):
        await figure(session, "opened", 8)
        await clock.advance(600 - 181)
        drawn = {at / 1e9 for at in clock.deadlines if at % 10**9}  # the others are the watch's
        renewals = {at // 6 for at in drawn if 419 < at < 511}
        assert len(renewals) > 4 and len(server.clients) == 8
        await clock.advance(91)
        await figure(session, "opened", 16)


async def test_a_successor_that_fails_leaves_the_connection_as_it_was() -> None:
    clock = VirtualClock()
    async with local_venue() as server, session_of(server, venue=SHORT, conduct=EARLY, clock=clock) as session:
        taking = Taking(session)
        first = await server.client(1)
        await taking.count(OPENED, 1)
        server.refusals.extend([503])
        await clock.advance(600 - 89)
        await figure(session, "refused", 1)
        await clock.advance(0.06)
        second = await server.client(2)
        second.transport.abort()
        await first.send(trade(1))
        await taking.count(RECEIVED, 1)
        assert [kind for kind, _ in taking.said()] == ["OPENED", "RECEIVED"]


async def test_a_successor_whose_streams_are_quiet_takes_over_after_a_while() -> None:
    clock = VirtualClock()
    conduct = {**EARLY, "handover": 5.0}
    async with local_venue() as server, session_of(server, venue=SHORT, conduct=conduct, clock=clock) as session:
        await figure(session, "opened", 1)
        await clock.advance(600 - 89)
        await figure(session, "opened", 2)
        await figure(session, "handed_over", 1, clock)


async def test_a_connection_lost_while_its_successor_opens_is_succeeded_at_once() -> None:
    clock = VirtualClock()
    async with local_venue() as server, session_of(server, venue=SHORT, conduct=EARLY, clock=clock) as session:
        taking = Taking(session)
        first = await server.client(1)
        await taking.count(OPENED, 1)
        await clock.advance(600 - 89)
        second = await server.client(2)
        await figure(session, "opened", 2)
        first.transport.abort()
        await taking.count(CLOSED, 1)
        await second.send(trade(1))
        await taking.count(RECEIVED, 1)
        assert [kind for kind, _ in taking.said()] == ["OPENED", "CLOSED", "OPENED", "RECEIVED"]
        assert len(server.clients) == 2
