"""Snapshots are fetched in turn, within the host's budget, and are messages like others; so are failures."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.testing import VirtualClock
from stages.live.snapshots import _retry_after
from stages.messages import MessageKind
from tests.stages.live.server import SPOT, Answer, Taking, book, figure, local_venue, session_of, with_limits

RESPONSE, FAILED = MessageKind.RESPONSE, MessageKind.FAILED
BTC = "BTCUSDT.BINANCE"


async def test_a_snapshot_is_a_message_with_what_was_asked() -> None:
    async with local_venue() as server, session_of(server) as session:
        await figure(session, "opened", 1)
        session.request(BTC)
        (response,) = await Taking(session).count(RESPONSE, 1)
        assert response.payload == book(100)
        assert response.url == f"{server.http}/api/v3/depth?symbol=BTCUSDT&limit=1000"
        assert response.source == "binance_spot/http"


async def test_snapshots_of_many_books_keep_within_the_budget_and_their_order() -> None:
    clock = VirtualClock()
    venue = with_limits(SPOT, weight_per_minute=150)
    async with local_venue() as server, session_of(server, venue=venue, clock=clock) as session:
        taking = Taking(session)
        await figure(session, "opened", 1)
        for number in range(7):
            session.request(f"S{number}.BINANCE")
            session.request(f"S{number}.BINANCE")
        await taking.count(RESPONSE, 3)
        await clock.advance(59)
        assert len(server.asked) == 3
        await clock.advance(1)
        await figure(session, "snapshots", 6)
        await clock.advance(59)
        assert len(server.asked) == 6
        await clock.advance(1)
        await figure(session, "snapshots", 7)
        symbols = [path.partition("symbol=")[2].partition("&")[0] for path in server.asked]
        assert sorted(symbols[:3]) == ["S0", "S1", "S2"] and symbols[6:] == ["S6"]


@pytest.mark.parametrize("status", [429, 418])
async def test_a_host_that_wants_to_be_left_alone_is(status: int) -> None:
    clock = VirtualClock()
    async with local_venue() as server, session_of(server, clock=clock) as session:
        taking = Taking(session)
        await figure(session, "opened", 1)
        server.answers.append((status, {"Retry-After": "30"}, b'{"code":-1003}'))
        session.request(BTC)
        (failed,) = await taking.count(FAILED, 1)
        assert failed.payload == b'%d {"code":-1003}' % status
        session.request("ETHUSDT.BINANCE")
        session.request(BTC)
        await clock.advance(29)
        assert len(server.asked) == 1
        await figure(session, "snapshots", 2, clock)
        assert len(server.asked) == 3, "each was asked for once more, though one of them by two"


async def test_failures_are_tried_again_later_each_time_until_it_is_had() -> None:
    clock = VirtualClock()
    conduct = {"first_retry": 1.0, "longest_retry": 60.0, "snapshot_timeout": 1e6}
    async with local_venue() as server, session_of(server, clock=clock, conduct=conduct) as session:
        taking = Taking(session)
        await figure(session, "opened", 1)
        server.answers.extend([(500, {}, b"sorry")] * 4)
        session.request(BTC)
        for number, least in enumerate((0.5, 1, 2), 1):
            await figure(session, "snapshots_failed", number)
            await clock.advance(least * 0.99)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(server.asked) == number
            await clock.advance(least * 1.02)
        await figure(session, "snapshots_failed", 4)
        await figure(session, "snapshots", 1, clock)
        await taking.count(RESPONSE, 1)
        assert [message.payload for message in taking.got if message.kind == FAILED] == [b"500 sorry"] * 4


async def test_a_connection_lost_within_a_response_and_one_that_never_comes_are_failures() -> None:
    clock = VirtualClock()
    conduct = {"snapshots_at_once": 1}
    async with local_venue() as server, session_of(server, clock=clock, conduct=conduct) as session:
        taking = Taking(session)
        await figure(session, "opened", 1)
        asked, over = asyncio.Event(), asyncio.Event()

        async def never() -> Answer:
            asked.set()
            await over.wait()
            return 200, {}, b"too late"

        server.answers.append((200, {"Content-Length": "5000"}, b'{"lastUpdateId":1'))
        server.answers.append(never)
        session.request(BTC)
        (torn,) = await taking.count(FAILED, 1)
        assert torn.payload.startswith(b"0 Client")
        await clock.advance(1)
        await asked.wait()
        await clock.advance(10)
        failed = await taking.count(FAILED, 2)
        assert failed[1].payload == b"0 TimeoutError: nothing came of it in 10 s"
        await figure(session, "snapshots", 1, clock)
        over.set()


def test_how_long_to_wait_is_read_as_seconds_or_as_a_time() -> None:
    now = 1_700_000_000_000_000_000
    assert _retry_after("120", now) == 120
    assert _retry_after("Tue, 14 Nov 2023 22:14:20 GMT", now) == 60
    assert _retry_after("Tue, 14 Nov 2023 22:00:00 GMT", now) == 0
    assert _retry_after("-5", now) == 0
    assert _retry_after("soon", now) is None
    assert _retry_after(None, now) is None
