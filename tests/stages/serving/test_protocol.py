"""The server speaks as Binance does: streams, subscriptions, books and refusals."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pipeline import InputError
from pipeline.testing import VirtualClock
from stages.messages import MessageKind, Messages, RawMessage
from stages.serving import ReplayServer, Stall
from tests.stages.serving.parts import COINM, SPOT, USDM, asked, books, connect, made, recording, trade

BTC, ETH = "btcusdt@trade", "ethusdt@trade"
TRADES = made(*(trade(number, symbol) for number in range(1, 4) for symbol in ("BTCUSDT", "ETHUSDT")))


async def said(socket: ClientConnection, method: str, params: list[Any] | None = None, id: int = 1) -> Any:
    """Say something to the server, and what it answers."""
    await socket.send(msgspec.json.encode({"method": method, "params": params or [], "id": id}).decode())
    return msgspec.json.decode(await socket.recv())


def long(number: int) -> bytes:
    """A trade in 20 kB, so that few of them fill a socket."""
    return trade(number)[:-2] + b',"x":"' + b"-" * 20_000 + b'"}}'


async def rest(socket: ClientConnection) -> list[Any]:
    """All that still comes, until the connection is closed in whatever way."""
    got = []
    with suppress(ConnectionClosed):
        async for text in socket:
            got.append(msgspec.json.decode(text))
    return got


async def test_a_combined_stream_says_which_stream_and_a_raw_one_does_not() -> None:
    async with ReplayServer(recording(TRADES), wait_for=2) as server:
        assert server.venue == "binance_spot"
        base = server.websocket_url
        async with connect(f"{base}/stream?streams={BTC}/{ETH}") as both, connect(f"{base}/ws/{ETH}") as one:
            combined, raw = await rest(both), await rest(one)
    assert combined == [msgspec.json.decode(payload) for payload in TRADES.payloads()]
    assert raw == [message["data"] for message in combined if message["stream"] == ETH]


async def test_a_client_subscribes_and_unsubscribes_over_its_socket_and_gets_no_more_than_it_asked_for() -> None:
    clock = VirtualClock()
    async with ReplayServer(recording(TRADES), speed=1, clock=clock, wait_for=1) as server:
        async with connect(f"{server.websocket_url}/ws") as socket:
            assert await said(socket, "LIST_SUBSCRIPTIONS", id=3) == {"result": [], "id": 3}
            assert await said(socket, "GET_PROPERTY", ["combined"], id=4) == {"result": False, "id": 4}
            assert await said(socket, "SUBSCRIBE", [ETH]) == {"result": None, "id": 1}
            assert await said(socket, "SET_PROPERTY", ["combined", True]) == {"result": None, "id": 1}
            await clock.advance(0.1)
            assert msgspec.json.decode(await socket.recv())["data"]["t"] == 1
            assert await said(socket, "SUBSCRIBE", [BTC], id=8) == {"result": None, "id": 8}
            assert await said(socket, "LIST_SUBSCRIPTIONS", id=9) == {"result": [ETH, BTC], "id": 9}
            assert await said(socket, "UNSUBSCRIBE", [ETH], id=10) == {"result": None, "id": 10}
            await clock.advance(0.3)
            assert msgspec.json.decode(await socket.recv()) == msgspec.json.decode(trade(2))
            await clock.advance(0.1)
            assert msgspec.json.decode(await socket.recv()) == msgspec.json.decode(trade(3))


async def test_what_cannot_be_done_is_told_as_an_error() -> None:
    async with ReplayServer(recording(TRADES)) as server, connect(f"{server.websocket_url}/stream") as socket:
        await socket.send("{")
        assert "Invalid JSON" in msgspec.json.decode(await socket.recv())["error"]["msg"]
        assert (await said(socket, "DANCE", id=5))["error"]["msg"] == "Invalid request: unknown method DANCE"
        assert (await said(socket, "SUBSCRIBE", [7], id=6))["id"] == 6
        assert (await said(socket, "GET_PROPERTY", ["combined"]))["result"] is True


async def test_who_asks_for_another_speed_of_a_stream_gets_what_was_recorded_of_it(recordings: Path) -> None:
    async with ReplayServer(recording(USDM.read(recordings, 300))) as server:
        async with connect(f"{server.websocket_url}/public/stream?streams=btcusdt@depth@100ms") as socket:
            got = await rest(socket)
    assert {message["stream"] for message in got} == {"btcusdt@depth@100ms"}
    assert {message["data"]["e"] for message in got} == {"depthUpdate"} and len(got) > 10


async def test_messages_that_were_recorded_from_a_raw_stream_are_known_by_their_address_or_by_themselves() -> None:
    payloads = [msgspec.json.encode(msgspec.json.decode(payload)["data"]) for payload in TRADES.payloads()]
    base = TRADES.slice(0)
    raw = Messages.of(
        RawMessage(message.ts_recv, at, MessageKind.RECEIVED, "one", url, payloads[at])
        for at, message in enumerate(base)
        for url in ["wss://stream.binance.com/ws/ethusdt@trade" if at % 2 else "wss://stream.binance.com/ws"]
    )
    async with ReplayServer(recording(raw)) as server, connect(f"{server.websocket_url}/ws/{ETH}/{BTC}") as socket:
        assert [message["t"] for message in await rest(socket)] == [1, 1, 2, 2, 3, 3]


async def test_nothing_is_at_other_addresses(recordings: Path) -> None:
    async with ReplayServer(recording(SPOT.read(recordings, 100))) as server:
        with pytest.raises(InvalidStatus, match="404"):
            await connect(f"{server.websocket_url}/elsewhere")
        assert (await asked(f"{server.http_url}/api/v3/exchangeInfo"))[0] == 404
        assert (await asked(f"{server.http_url}/api/v3/depth"))[1]["code"] == -1102
        assert (await asked(f"{server.http_url}/api/v3/depth?symbol=BTCUSDT&limit=x"))[1]["code"] == -1100
        assert (await asked(f"{server.http_url}/api/v3/depth?symbol=NOPE"))[:2] == (
            400, {"code": -1121, "msg": "Invalid symbol."}
        )  # fmt: skip


async def test_a_request_weighs_what_the_venue_says_and_too_many_are_refused_until_the_next_minute(
    recordings: Path,
) -> None:
    clock = VirtualClock(1_700_000_010_000_000_000)
    file = SPOT.read(recordings, 100)
    async with ReplayServer(recording(file), clock=clock, weight_per_minute=60) as server:
        url = f"{server.http_url}/api/v3/depth?symbol=BTCUSDT"
        for limit, used in ((100, "5"), (1000, "55"), (5, "60")):
            status, book, headers = await asked(f"{url}&limit={limit}")
            assert (status, headers["X-MBX-USED-WEIGHT-1M"]) == (200, used)
            assert len(book["bids"]) == len(book["asks"]) == limit
        status, book, headers = await asked(url)
        assert (status, book["code"], headers["Retry-After"]) == (429, -1003, "30")
        await clock.advance(30)
        assert (await asked(url))[0] == 200


async def test_the_book_is_as_of_the_moment_that_the_stream_has_reached(recordings: Path) -> None:
    """Before the recording's own snapshot it is told as that has it."""
    clock = VirtualClock()
    file = COINM.read(recordings, 1500)
    [at] = [at for at, kind in enumerate(file.kind.tolist()) if kind == MessageKind.RESPONSE]
    own = msgspec.json.decode(file.raw(at))
    words = ("lastUpdateId", "bids", "asks", "symbol", "pair", "T")
    depth = COINM.streams[2]
    stalls = [Stall(stream=depth, message=number, seconds=1) for number in (3, 100, 400, 700)]
    truth = books(COINM, file)
    before = 0
    async with ReplayServer(recording(file), faults=stalls, clock=clock) as server:
        url = f"{server.http_url}/dapi/v1/depth?symbol=BTCUSD_PERP&limit=1000"
        async with connect(f"{server.websocket_url}/ws/{depth}") as socket:
            for stall in stalls:
                numbers = []
                while len(numbers) < stall.message - 1 - before:
                    numbers.append(msgspec.json.decode(await socket.recv())["u"])
                before = stall.message - 1
                book = (await asked(url))[1]
                if stall is stalls[0]:
                    assert [book[word] for word in words] == [own[word] for word in words]
                else:
                    assert book["lastUpdateId"] == numbers[-1]
                    last = max(number for number in truth if number <= numbers[-1])
                    for side, levels in zip(("bids", "asks"), truth[last], strict=True):
                        assert [(Decimal(price), Decimal(size)) for price, size in book[side][:20]] == levels
                while not clock._sleepers:
                    await asyncio.sleep(0)
                assert (await asked(f"{server.http_url}/dapi/v1/time"))[1] == {"serverTime": server.now_ns // 10**6}
                await clock.advance(1)
            await rest(socket)


async def test_what_was_asked_otherwise_is_answered_as_it_once_was() -> None:
    info = b'{"timezone":"UTC","serverTime":1,"rateLimits":[],"symbols":[]}'
    messages = [
        *TRADES,
        RawMessage(
            int(TRADES.ts_recv[-1]),
            6,
            MessageKind.RESPONSE,
            "http",
            "https://api.binance.com/api/v3/exchangeInfo",
            info,
        ),
    ]
    async with ReplayServer(recording(Messages.of(messages))) as server:
        assert (await asked(f"{server.http_url}/api/v3/exchangeInfo"))[1] == msgspec.json.decode(info)


async def test_time_begins_with_the_first_subscription_and_goes_at_the_speed_that_was_asked_for() -> None:
    clock = VirtualClock()
    async with ReplayServer(recording(TRADES), speed=50, clock=clock) as server:
        await clock.advance(60)
        assert server.figures()["messages"] == 0
        async with connect(f"{server.websocket_url}/ws/{BTC}") as socket:
            assert msgspec.json.decode(await socket.recv())["t"] == 1
            await clock.advance(0.0039)
            assert server.figures()["messages"] == 2
            await clock.advance(0.0001)
            assert msgspec.json.decode(await socket.recv())["t"] == 2
            await clock.advance(1)
            assert [message["t"] for message in await rest(socket)] == [3]
        assert server.figures()["max_lag_ms"] == 0


async def test_all_clients_get_the_same_and_one_that_comes_late_gets_the_rest() -> None:
    clock = VirtualClock()
    async with ReplayServer(recording(TRADES), speed=1, clock=clock, wait_for=2) as server:
        url = f"{server.websocket_url}/ws/{BTC}/{ETH}"
        async with connect(url) as first:
            await anyio.wait_all_tasks_blocked()
            assert server.figures()["messages"] == 0
            async with connect(url) as second:
                one = [await first.recv()]
                await clock.advance(0.25)
                async with connect(url) as late:
                    await clock.advance(1)
                    one += [text async for text in first]
                    assert [text async for text in second] == one
                    assert [text async for text in late] == one[3:]
        async with connect(url) as too_late:
            assert [text async for text in too_late] == [] and too_late.close_code == 1000


async def test_a_recording_that_loops_begins_again_when_clients_are_back() -> None:
    async with ReplayServer(recording(TRADES), at_end="loop") as server:
        for _ in range(3):
            async with connect(f"{server.websocket_url}/ws/{BTC}") as socket:
                assert [message["t"] for message in await rest(socket)] == [1, 2, 3]
                assert socket.close_code == 1012


async def test_a_client_that_is_too_slow_is_closed_where_time_does_not_wait_for_it() -> None:
    clock = VirtualClock()
    many = made(*(long(number) for number in range(1500)), every_ms=0)
    async with ReplayServer(recording(many), venue="binance_spot", speed=1, clock=clock, queue_bytes=100_000) as server:
        async with connect(f"{server.websocket_url}/ws/{BTC}", max_queue=1) as socket:
            await server.finished()
            assert server.figures()["too_slow"] == 1
            got = await rest(socket)
            assert 0 < len(got) < 1500
            assert (socket.close_code, socket.close_reason[:8]) == (1008, "too slow")


async def test_everyone_waits_for_the_slowest_where_nothing_is_due() -> None:
    many = made(*(long(number) for number in range(1500)), every_ms=0)
    async with ReplayServer(recording(many), venue="binance_spot", queue_bytes=10_000, wait_for=2) as server:
        url = f"{server.websocket_url}/ws/{BTC}"
        async with connect(url, max_queue=1) as slow, connect(url) as quick:
            taking = asyncio.create_task(rest(quick))
            while not server.figures()["messages"]:
                await asyncio.sleep(0)
            await anyio.wait_all_tasks_blocked()
            held = server.figures()["messages"]
            assert held < 1500
            assert len(await rest(slow)) == len(await taking) == 1500


async def test_what_cannot_be_served_is_told_on_entering(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        async with ReplayServer(tmp_path / "empty"):
            pass
    with pytest.raises(InputError, match="expected a recording to serve, found no message"):
        async with ReplayServer(recording(made())):
            pass
    with pytest.raises(InputError, match=r"no venue is called 'binanc_spot'; did you mean"):
        async with ReplayServer(recording(TRADES), venue="binanc_spot"):
            pass
    async with ReplayServer(recording(TRADES)) as server:
        with pytest.raises(InputError, match="expected a port to serve at"):
            async with ReplayServer(recording(TRADES), port=server.address[1]):
                pass
    for wrong in ({"speed": 0}, {"wait_for": 0}):
        with pytest.raises(ValueError, match="expected"):
            ReplayServer(recording(TRADES), **wrong)  # type: ignore[arg-type]
