"""Our own live feed, over a real socket to a server that plays a recording, stores what the recording says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stages.interpreting import Interpreter, Interpreting
from stages.live.conduct import Conduct
from stages.live.session import Session
from stages.messages import Messages
from stages.serving import Cut, Disconnect, Drop, Duplicate, Fault, ReplayServer, Snapshot
from stages.venues import venue_named
from tests.conftest import tasks_left
from tests.stages.serving.parts import COINM, SPOT, USDM, Part, books, deltas, recording, stored

SECOND = 1_000_000_000


async def lived(part: Part, file: Messages, speed: float | None, faults: Sequence[Fault] = ()) -> Messages:
    """All messages of a session with the server, until the recording has ended and the book is whole."""
    venue = venue_named(part.venue)
    plans = venue.connections([part.symbol], [name.partition("@")[2] for name in part.streams], "ws://x")
    async with ReplayServer(
        recording(file),
        speed=speed,
        faults=faults,
        wait_for=len(plans),
        queue_bytes=100_000 if speed is None else 8 << 20,
    ) as server:
        plans = venue.connections(
            [part.symbol], [name.partition("@")[2] for name in part.streams], server.websocket_url
        )
        interpreter = Interpreter(venue, Interpreting())
        runs: list[Messages] = []
        conduct = Conduct(first_retry=0.01, longest_retry=0.05)
        async with Session(venue, plans, http_url=server.http_url, conduct=conduct) as session:
            ending = asyncio.create_task(server.finished())
            ended: set[str] = set()
            while (messages := await session.messages()) is not None:
                ended |= {message.source for message in messages if b"end of the recording" in message.payload}
                runs.append(messages)
                for needed in interpreter.interpret(messages).requests:
                    session.request(needed.instrument_id)
                books = interpreter.books
                whole = all(books.state(name).name == "LIVE" for name in books.instruments_kept())
                if len(ended) == len(plans) and whole:
                    session.stop()
            await ending
        assert server.figures()["unplayed"] == []
    return Messages.concat(runs)


def window(messages: Messages, seconds: float) -> Messages:
    """So many seconds of a recording."""
    return messages.slice(0, int(np.searchsorted(messages.ts_recv, messages.ts_recv[0] + int(seconds * SECOND))))


def told(part: Part, messages: Messages) -> list[tuple[str, str | None]]:
    """What is wrong with the data; that connections come and go is not."""
    rows = stored(part, messages).get("quality_event", [])
    return [(row["kind"], row["channel"]) for row in rows if row["kind"] not in ("disconnect", "reconnect")]


@pytest.mark.parametrize(
    ("part", "speed", "seconds"),
    [(SPOT, 1, 0.7), (COINM, 1, 0.7), (SPOT, 50, 15), (USDM, 50, 10), (COINM, 50, 10), (USDM, None, 10)],
    ids=lambda value: value.venue if isinstance(value, Part) else str(value),
)
async def test_a_live_feed_stores_what_the_file_says(
    part: Part, speed: float | None, seconds: float, recordings: Path
) -> None:
    file = window(part.read(recordings, 4000), seconds)
    got = await lived(part, file, speed)
    rows, direct = stored(part, got), stored(part, file)
    assert rows["trade"] == direct["trade"] and rows["quote"] == direct["quote"]
    assert told(part, got) == []
    served, books_of_file = books(part, got), books(part, file)
    joined = max(min(served), min(books_of_file))
    assert served[max(served)] == books_of_file[max(books_of_file)]
    assert {number: served[number] for number in served if number > joined} == {
        number: books_of_file[number] for number in books_of_file if number > joined
    }
    assert deltas(part, got, joined) == deltas(part, file, joined)
    assert await tasks_left() == set()


@pytest.mark.parametrize(
    ("part", "speed"),
    [(SPOT, 50), (COINM, 50), (USDM, None)],
    ids=lambda value: value.venue if isinstance(value, Part) else str(value),
)
async def test_a_live_feed_tells_each_fault_once_and_stores_all_else(
    part: Part, speed: float | None, recordings: Path
) -> None:
    """A trade is missing, one comes twice, one is spoilt; so it goes with updates of the book, and snapshots fail."""
    file = part.read(recordings, 2500)
    trades, _, depth = part.streams
    # far enough apart that the book is whole again in between; where nothing is due it is so only at the end
    books_faults: list[Fault] = [Drop(stream=depth, message=60)] if speed is None else [
        Duplicate(stream=depth, message=40), Drop(stream=depth, message=60)
    ]  # fmt: skip
    faults = [
        Drop(stream=trades, message=5), Duplicate(stream=trades, message=9), Cut(stream=trades, message=13),
        *books_faults, Snapshot(request=1, status=429, retry_seconds=0), Snapshot(request=2, status=500),
    ]  # fmt: skip
    got = await lived(part, file, speed, faults)
    lines = stored(part, got)["quality_event"]
    of_trades = sorted(row["kind"] for row in lines if row["channel"] == "trade")
    assert of_trades == ["duplicate", "gap", "parse_error"]
    left_out = {5, 13}
    kept = [row for number, row in enumerate(stored(part, file)["trade"], 1) if number not in left_out]
    assert stored(part, got)["trade"] == kept and stored(part, got)["quote"] == stored(part, file)["quote"]
    served, direct = books(part, got), books(part, file)
    assert served[max(served)] == direct[max(direct)]


async def test_a_live_feed_comes_back_when_all_its_connections_are_closed_at_once(recordings: Path) -> None:
    """What was sent meanwhile is one gap of trades, which says how many, and the book is right again."""
    file = USDM.read(recordings, 3000)
    sent = [payload for payload in file.payloads() if payload.startswith(b'{"stream"')]
    lost = sum(USDM.streams[0].encode() in payload[:40] for payload in sent[1499:1899])
    assert lost
    got = await lived(USDM, file, None, [Disconnect(message=1500, lose=400)])
    rows, direct = stored(USDM, got), stored(USDM, file)
    kinds = [row["kind"] for row in rows["quality_event"]]
    assert kinds.count("disconnect") >= 2 and kinds.count("reconnect") >= 2
    (gap,) = [row for row in rows["quality_event"] if row["kind"] == "gap" and row["channel"] == "trade"]
    assert gap["missing"] == lost and len(rows["trade"]) == len(direct["trade"]) - lost
    served, books_of_file = books(USDM, got), books(USDM, file)
    assert served[max(served)] == books_of_file[max(books_of_file)]
