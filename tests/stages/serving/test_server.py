"""A recording served on a port of this machine is what the venue sent, to clients that know nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import anyio
import pytest
from websockets.exceptions import ConnectionClosedError

from pipeline import InputError
from pipeline.testing import VirtualClock
from stages.messages import Messages
from stages.serving import ReplayServer, Snapshot, Stall
from tests.conftest import tasks_left
from tests.stages.serving.parts import (
    COINM,
    SPOT,
    USDM,
    Part,
    Taker,
    asked,
    best_quotes,
    books,
    connect,
    deltas,
    made,
    recording,
    stored,
    trade,
)

BTC, ETH = "btcusdt@trade", "ethusdt@trade"


@pytest.mark.parametrize("part", [SPOT, USDM, COINM], ids=lambda part: part.venue)
async def test_what_a_client_stores_is_what_the_file_says(part: Part, recordings: Path) -> None:
    file = part.read(recordings, 2500)
    async with ReplayServer(recording(file), wait_for=2) as server:
        assert server.venue == part.venue
        taker = Taker(server, part)
        await taker.take_all(lambda: connect(f"{server.websocket_url}/ws/somebody@trade"))
        await server.finished()
    got = Messages.of(taker.got)
    assert taker.closed == [(1000, "end of the recording")]
    assert stored(part, got, records=("trade", "quote")) == stored(part, file, records=("trade", "quote"))
    served, direct = books(part, got), books(part, file)
    assert len(direct) > 100 and {number: served[number] for number in direct} == direct
    joined = min(direct)
    assert len(deltas(part, file, joined)) > 500 and deltas(part, got, joined) == deltas(part, file, joined)
    said = {number: best for number, best in best_quotes(part, file).items() if number in served}
    assert len(said) > 10
    assert {number: [side[:1] for side in served[number]] for number in said} == said
    assert await tasks_left() == set()


@pytest.mark.parametrize("part", [SPOT, USDM, COINM], ids=lambda part: part.venue)
async def test_the_documented_procedure_leads_to_the_right_book(part: Part, recordings: Path) -> None:
    """The book is fetched while updates come, as fast as they can, and fits them. They wait for it at the latest where
    there would be too few behind it."""
    file = part.read(recordings, 2500)
    clock = VirtualClock()
    stall = Stall(stream=part.streams[2], message=60, seconds=1)
    async with ReplayServer(recording(file), queue_bytes=10_000, clock=clock, faults=[stall]) as server:
        taker = Taker(server, part)
        taking = asyncio.create_task(taker.take())
        while not (taker.statuses and clock._sleepers):
            await asyncio.sleep(0)
        await clock.advance(1)
        await taking
        assert taker.statuses == [200]
    got = Messages.of(taker.got)
    rows = stored(part, got)
    assert [row["kind"] for row in rows["quality_event"]] == ["disconnect"]
    assert rows["trade"] == stored(part, file)["trade"] and rows["quote"] == stored(part, file)["quote"]
    served, direct = books(part, got), books(part, file)
    joined = min(served)
    assert {number: best for number, best in served.items() if number > joined} == {
        number: best for number, best in direct.items() if number > joined
    }
    rest = deltas(part, file, joined)
    assert len(rest) > 100 and deltas(part, got, joined) == rest
    assert await tasks_left() == set()


async def test_a_server_that_is_left_leaves_nothing_behind_whoever_is_waiting(recordings: Path) -> None:
    """One client does not read, one waits for an answer that never comes, one for messages that are not due."""
    file = SPOT.read(recordings, 1000)
    faults = [Snapshot(request=1, status="timeout")]
    async with ReplayServer(recording(file), speed=0.001, faults=faults, clock=VirtualClock()) as server:
        unanswered = asyncio.create_task(asked(f"{server.http_url}/api/v3/depth?symbol=BTCUSDT"))
        idle = await connect(f"{server.websocket_url}/ws/{SPOT.streams[0]}")
        waiting = await connect(f"{server.websocket_url}/ws")
        await anyio.wait_all_tasks_blocked()
    with pytest.raises(aiohttp.ClientError):
        await unanswered
    for socket in (idle, waiting):
        await socket.wait_closed()
        assert socket.close_code == 1001
    await anyio.wait_all_tasks_blocked()
    assert await tasks_left() == set()


async def test_a_recording_that_cannot_be_read_further_ends_with_its_error_and_clients_are_told(
    recordings: Path,
) -> None:
    file = SPOT.read(recordings, 100)
    opened = 0

    def runs() -> Iterator[Messages]:
        nonlocal opened
        opened += 1
        yield file
        if opened > 1:
            raise InputError("the disk is gone")

    server = await ReplayServer(runs).__aenter__()
    async with connect(f"{server.websocket_url}/ws/{SPOT.streams[1]}") as socket:
        with suppress(ConnectionClosedError):
            async for _ in socket:
                pass
        assert (socket.close_code, socket.close_reason) == (1011, "the recording cannot be read further")
    with pytest.raises(InputError, match="the disk is gone"):
        await server.finished()
    with pytest.raises(InputError, match="the disk is gone"):
        await server.__aexit__(None, None, None)
    assert await tasks_left() == set()


async def test_streams_that_the_recording_does_not_have_are_told_to_whoever_serves_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client with a mistyped symbol waits for ever, and is answered as the venue does: without a word."""
    async with (
        ReplayServer(recording(made(trade(1), trade(2))), wait_for=2) as server,
        connect(f"{server.websocket_url}/stream?streams=btcusdt@trade/btcsudt@trade") as socket,
    ):
        for stream in ("btcusdt@nothing", "btcsudt@trade"):
            await socket.send(f'{{"method":"SUBSCRIBE","params":["{stream}"],"id":1}}')
            assert '"result":null' in str(await socket.recv())
        assert [record.getMessage() for record in caplog.records if record.name == "penstock.serving"] == [
            f"client 1 asked for {stream}: the recording begins without; it has btcusdt@trade"
            for stream in ("btcsudt@trade", "btcusdt@nothing")
        ]
