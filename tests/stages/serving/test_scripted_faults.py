"""Faults are played exactly where the script says, and a client's interpreter tells each of them once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pipeline import ConfigError, InputError
from pipeline.testing import VirtualClock
from stages.messages import Messages
from stages.serving import (
    Cut,
    Disconnect,
    Drop,
    Duplicate,
    Fault,
    Refuse,
    Reorder,
    ReplayServer,
    Snapshot,
    Stall,
    load_faults,
)
from stages.serving.script import Script
from stages.venues import venue_named
from tests.stages.serving.parts import (
    COINM,
    SPOT,
    USDM,
    Part,
    Taker,
    asked,
    books,
    connect,
    made,
    recording,
    stored,
    trade,
)

BTC, ETH = "btcusdt@trade", "ethusdt@trade"


def played(*faults: Fault, count: int = 6) -> list[int]:
    """Numbers of trades that leave, of so many that come."""
    script = Script(faults, 0)
    left = []
    for number in range(1, count + 1):
        assert not list(script.moments(number, BTC))
        left += [int(shown.data) for shown in script.shown(BTC, str(number).encode())]
    assert not script.waiting
    return left


def test_messages_are_dropped_repeated_swapped_and_cut() -> None:
    assert played() == [1, 2, 3, 4, 5, 6]
    assert played(Drop(stream=BTC, message=2)) == [1, 3, 4, 5, 6]
    assert played(Drop(stream=BTC, message=2, count=3)) == [1, 5, 6]
    assert played(Duplicate(stream=BTC, message=2)) == [1, 2, 2, 3, 4, 5, 6]
    assert played(Reorder(stream=BTC, message=2)) == [1, 3, 2, 4, 5, 6]
    assert played(Reorder(stream=BTC, message=6)) == [1, 2, 3, 4, 5]
    script = Script([Cut(stream=BTC, message=1), Cut(stream=BTC, message=2, keep=3)], 0)
    found = []
    for text in (b"123456", b"123456"):
        list(script.moments(0, BTC))
        found += [shown.data for shown in script.shown(BTC, text)]
    assert found == [b"123", b"123"]


def test_faults_of_a_stream_count_its_messages_alone_and_one_that_never_acts_is_told() -> None:
    fault, other = Drop(stream=ETH, message=2), Drop(stream=ETH, message=9)
    script = Script([fault, other], 0)
    left = []
    for stream, number in ((BTC, 1), (ETH, 1), (BTC, 2), (ETH, 2), (BTC, 3)):
        assert not list(script.moments(0, stream))
        left += [(shown.stream, number) for shown in script.shown(stream, b"")]
    assert left == [(BTC, 1), (ETH, 1), (BTC, 2), (BTC, 3)]
    assert list(script.waiting) == [other]


def test_what_happens_at_a_moment_happens_before_the_first_message_that_is_due_then() -> None:
    faults = [Stall(at="1s", seconds=1), Disconnect(message=3), Refuse(message=1, stream=ETH, seconds=1)]
    script = Script(faults, 1_000_000_000)
    seen = [
        [type(fault).__name__ for fault in script.moments(ts, stream)]
        for ts, stream in ((1_000_000_000, BTC), (2_000_000_000, ETH), (2_000_000_001, BTC), (3_000_000_000, BTC))
    ]
    assert seen == [[], ["Stall", "Refuse"], ["Disconnect"], []]


# -- over a socket -------------------------------------------------------------------------------------------------


async def taken(part: Part, file: Messages, faults: Sequence[Fault]) -> Messages:
    """What a client has that got the book before time began."""
    async with ReplayServer(recording(file), faults=faults, wait_for=2) as server:
        taker = Taker(server, part)
        await taker.take_all(lambda: connect(f"{server.websocket_url}/ws/somebody@trade"))
        assert server.figures()["unplayed"] == []
        again = Taker(server, part)
        assert await again.fetch() == 200
    return Messages.of([*taker.got, msgspec.structs.replace(again.got[0], ts_recv=10**6, ingest_seq=10**6)])


@pytest.mark.parametrize("part", [SPOT, USDM, COINM], ids=lambda part: part.venue)
@pytest.mark.parametrize(
    ("fault", "of_trades", "of_depth"),
    [
        (Drop, "gap", "gap"),
        (Duplicate, "duplicate", "duplicate"),
        (Cut, "parse_error", "parse_error"),
    ],
)
async def test_each_fault_is_told_once_of_the_right_channel_and_the_book_is_right_again(
    fault: Any, of_trades: str, of_depth: str, part: Part, recordings: Path
) -> None:
    file = part.read(recordings, 1200)
    trades, _, depth = part.streams
    got = await taken(part, file, [fault(stream=trades, message=5), fault(stream=depth, message=40)])
    told = stored(part, got)["quality_event"]
    kinds = [(row["kind"], row["channel"] if row["channel"] == "trade" else "depth") for row in told]
    resyncs = [] if fault is Duplicate else [("resync", "depth")]
    assert sorted(kinds) == sorted([(of_trades, "trade"), (of_depth, "depth"), *resyncs])
    assert {row["instrument_id"] for row in told} == {f"{part.symbol}.{venue_named(part.venue).suffix}"}
    if fault is Duplicate:
        assert stored(part, got)["trade"] == stored(part, file)["trade"]
    served, direct = books(part, got), books(part, file)
    assert served[max(served)] == direct[max(direct)]


async def numbers(socket: ClientConnection) -> AsyncIterator[int]:
    """Of the trades that come until the connection is closed."""
    with suppress(ConnectionClosed):
        async for text in socket:
            yield msgspec.json.decode(text)["t"]


async def test_all_are_disconnected_at_once_and_nothing_is_lost_while_nothing_is_due(recordings: Path) -> None:
    """At full speed the replay waits for who was disconnected; the book was never in doubt."""
    file = SPOT.read(recordings, 1500)
    faults = [Disconnect(message=300), Disconnect(message=600, code=None), Disconnect(message=900, code=1012)]
    async with ReplayServer(recording(file), faults=faults, queue_bytes=10_000) as server:
        taker = Taker(server, SPOT)
        await taker.take(connections=4)
    got = Messages.of(taker.got)
    assert [code for code, _ in taker.closed] == [1001, 1006, 1012, 1000]
    rows, direct = stored(SPOT, got), stored(SPOT, file)
    assert rows["trade"] == direct["trade"] and rows["quote"] == direct["quote"]
    kinds = [row["kind"] for row in rows["quality_event"]]
    assert kinds == ["disconnect", "reconnect"] * 3 + ["disconnect"]


async def test_what_is_lost_while_nobody_is_connected_is_a_gap(recordings: Path) -> None:
    file = SPOT.read(recordings, 1500)
    async with ReplayServer(recording(file), faults=[Disconnect(message=400, lose=300)], queue_bytes=10_000) as server:
        taker = Taker(server, SPOT)
        await taker.take(connections=2)
    got = Messages.of(taker.got)
    rows, direct = stored(SPOT, got), stored(SPOT, file)
    gaps = {row["channel"]: row for row in rows["quality_event"] if row["kind"] == "gap"}
    assert gaps.keys() == {"trade", None}
    assert {row["instrument_id"] for row in gaps.values()} == {"BTCUSDT.BINANCE"}
    gap = gaps["trade"]
    assert len(rows["trade"]) == len(direct["trade"]) - gap["missing"]
    served, direct_books = books(SPOT, got), books(SPOT, file)
    last = max(direct_books)
    assert max(served) == last and served[last] == direct_books[last]
    assert [row["kind"] for row in rows["quality_event"]].count("resync") == 1


async def test_one_client_is_disconnected_and_the_others_go_on() -> None:
    messages = made(*(trade(number) for number in range(1, 5)))
    async with ReplayServer(recording(messages), faults=[Disconnect(message=3, client=2)], wait_for=2) as server:
        url = f"{server.websocket_url}/ws/{BTC}"
        async with connect(url) as first, connect(url) as second:
            assert [number async for number in numbers(second)] == [1, 2] and second.close_code == 1001
            async with connect(url) as third:
                one = [number async for number in numbers(first)]
                other = [number async for number in numbers(third)]
    assert (one, other) == ([1, 2, 3, 4], [3, 4])


async def test_a_stall_lasts_as_long_as_it_says_and_then_what_is_late_goes_at_once() -> None:
    clock = VirtualClock()
    messages = made(*(trade(number) for number in range(1, 6)))
    async with ReplayServer(recording(messages), speed=1, clock=clock, faults=[Stall(at="100ms", seconds=3)]) as server:
        async with connect(f"{server.websocket_url}/ws/{BTC}") as socket:
            await socket.recv()
            await clock.advance(3)
            assert server.figures()["messages"] == 1
            await clock.advance(0.1)
            assert [number async for number in numbers(socket)] == [2, 3, 4, 5]
        assert server.figures()["max_lag_ms"] == 2900


async def test_nobody_gets_in_for_as_long_as_connections_are_refused() -> None:
    clock = VirtualClock()
    messages = made(*(trade(number) for number in range(1, 4)))
    faults = [Refuse(message=2, seconds=5), Disconnect(message=2)]
    async with ReplayServer(recording(messages), clock=clock, faults=faults) as server:
        url = f"{server.websocket_url}/ws/{BTC}"
        async with connect(url) as socket:
            assert [number async for number in numbers(socket)] == [1]
        with pytest.raises(InvalidStatus, match="503"):
            await connect(url)
        assert (await asked(f"{server.http_url}/api/v3/ping"))[0] == 503
        await clock.advance(5)
        async with connect(url) as socket:
            assert [number async for number in numbers(socket)] == [2, 3]


async def test_requests_for_books_are_refused_as_the_script_says(recordings: Path) -> None:
    faults = [
        Snapshot(request=1, status=429, retry_seconds=7), Snapshot(request=2, status=418),
        Snapshot(request=3, count=2, status=500), Snapshot(request=6, status="timeout"),
    ]  # fmt: skip
    async with ReplayServer(recording(SPOT.read(recordings, 100)), faults=faults) as server:
        url = f"{server.http_url}/api/v3/depth?symbol=BTCUSDT&limit=5"
        status, body, headers = await asked(url)
        assert (status, body["code"], headers["Retry-After"]) == (429, -1003, "7")
        assert [(await asked(url))[0] for _ in range(4)] == [418, 500, 500, 200]
        unanswered = asyncio.create_task(asked(url))
        while not server._unanswered:
            await asyncio.sleep(0)
        assert not unanswered.done()
        unanswered.cancel()
        await asyncio.wait([unanswered])
        assert unanswered.cancelled(), "this was to be never answered"
        assert (await asked(url))[0] == 200
        async with anyio.create_task_group() as group:
            group.start_soon(asked, f"{server.http_url}/api/v3/time")
    assert server.figures()["unplayed"] == []


# -- from a file ---------------------------------------------------------------------------------------------------

GOOD = """
faults:
  - {do: drop, stream: btcusdt@trade, message: 7, count: 2}
  - {do: duplicate, stream: btcusdt@trade, message: 9}
  - {do: reorder, stream: btcusdt@trade, message: 11}
  - {do: cut, stream: btcusdt@trade, message: 13, keep: 20}
  - {do: stall, at: 30s, seconds: 2}
  - {do: disconnect, message: 500, lose: 20}
  - {do: refuse, at: 1m, seconds: 5}
  - {do: snapshot, request: 2, status: timeout}
"""
BAD = """
faults:
  - {do: dorp, stream: btcusdt@trade, message: 7}
  - {do: drop, stream: btcusdt@trade}
  - {do: drop, stream: btcusdt@trade, message: 0}
  - {do: cut, stream: btcusdt@trade, message: 1, kep: 3}
  - {do: stall, at: soon, seconds: 2}
  - {do: stall, seconds: 2}
  - {do: disconnect, message: 1, code: 12}
  - {do: snapshot, request: 1, status: 200}
"""


def test_a_file_lists_faults(tmp_path: Path) -> None:
    (tmp_path / "faults.yaml").write_text(GOOD)
    assert load_faults(tmp_path / "faults.yaml") == (
        Drop(stream=BTC, message=7, count=2),
        Duplicate(stream=BTC, message=9),
        Reorder(stream=BTC, message=11),
        Cut(stream=BTC, message=13, keep=20),
        Stall(at="30s", seconds=2),
        Disconnect(message=500, lose=20),
        Refuse(at="1m", seconds=5),
        Snapshot(request=2, status="timeout"),
    )


def test_everything_that_is_wrong_with_a_file_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(BAD)
    with pytest.raises(ConfigError) as caught:
        load_faults(file)
    told = [str(problem).removeprefix(str(file)) for problem in caught.value.problems]
    for number, words in enumerate(
        (
            "found 'dorp'; did you mean 'drop'?",
            "expected also 'message'", "message to be 1 or more, found 0", "cut has no setting 'kep'; did you mean",
            "expected a duration such as '1m', found 'soon'", "expected either message or at", "found 12", "found 200",
        )
    ):  # fmt: skip
        assert told[number].startswith(f":{number + 3}: faults.{number}") and words in told[number]
    for text, words in (
        ("faults: [", "expected YAML"),
        ("falts: []", "falts"),
        ("- 1", "found a list; such as"),
        ("", "found nothing"),
        ("faults: 1", "found faults: '1'; such as"),
        ("faults: [1]", "expected a fault, found '1'"),
        ("faults: [{do: zzz}]", "known: drop, duplicate, reorder, cut, stall, disconnect, refuse, snapshot"),
        ("faults: [{do: stall, at: 5, seconds: 1}]", "a duration is such as 5s"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=words):
            load_faults(file)
    with pytest.raises(InputError, match="cannot be read"):
        load_faults(tmp_path / "nowhere.yaml")
