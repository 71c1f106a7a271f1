"""Live feeds that are recorded, over real sockets: all that came is in files, however it ends, and a start goes on."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from recordings import committed, plain, recorded_rows

from pipeline import Batch, Context, DiskFull, Interrupted, Pipeline, TopologyBuilder
from pipeline.storage.disk import RealDisk
from pipeline.testing import VirtualClock
from stages.messages import MessageKind
from stages.messages.captures import open_captures
from stages.recording import RecordedLive, RecordTo
from stages.recording.recorded_feed import RecordedFeed
from stages.recording.recording_feeds import record
from tests.conftest import tasks_left
from tests.patience import SECONDS
from tests.stages.live.server import LocalVenue, book, depth, local_venue, quote, trade


class Asked:
    """Whoever asked for the work."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.said: Callable[[], str] = lambda: ""

    def tell(self, said: Callable[[], str]) -> None:
        self.said = said


def feed(server: LocalVenue, folder: Path, **words: Any) -> RecordedFeed:
    recipe = RecordedLive(
        venue="binance_spot", symbols=("BTCUSDT",), websocket_url=server.ws, http_url=server.http,
        record=RecordTo(folder=str(folder), **words),
    )  # fmt: skip
    made = recipe.build(Context(clock=VirtualClock()))  # a quarter of an hour may end while a test goes on
    assert isinstance(made, RecordedFeed)
    return made


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not is_so():
            await asyncio.sleep(0)


async def test_what_a_venue_sends_is_recorded_until_it_is_stopped_and_a_new_start_goes_on(tmp_path: Path) -> None:
    async with local_venue() as server:
        server.snapshot = lambda symbol: book(100)
        for start, said in enumerate(
            ([trade(1), depth(99, 101), quote(7), trade(2)], [trade(2), trade(3), depth(102, 103), quote(9)]), 1
        ):
            asked, recorded = Asked(), feed(server, tmp_path)
            working = asyncio.ensure_future(record([recorded], asked))
            client = await server.client(start)
            for text in said:
                await client.send(text)
            await until(lambda: recorded.recorder is not None and recorded.recorder.figures().rows >= 4)  # noqa: B023
            assert "messages/s" in asked.said()
            asked.stop.set()
            done = await working
            assert dict(done.words)["recording"] == str(tmp_path)
    rows = recorded_rows(tmp_path)
    assert [row[10] for row in rows["trade"]] == ["1", "2", "3"]
    assert [row[7] for row in rows["quality_event"]].count("duplicate") == 1
    assert [row[5] for row in rows["quote"]] == [7, 9]
    messages = [message for run in open_captures(tmp_path).runs() for message in run]
    assert [message.ingest_seq for message in messages] == list(range(len(messages)))
    assert sum(message.kind == MessageKind.OPENED for message in messages) == 2
    assert len({path.name.rsplit("_")[-1] for path in committed(tmp_path)}) == 2
    assert not await tasks_left()


async def test_whoever_draws_no_more_has_the_connections_closed_before_the_recording(tmp_path: Path) -> None:
    async with local_venue() as server:
        recorded = feed(server, tmp_path)
        stream = recorded.batches()
        first = asyncio.ensure_future(anext(stream))
        await (await server.client(1)).send(trade(1))
        await first
        recorder, left = recorded.recorder, []
        assert recorder is not None
        close = recorder.close

        async def closed() -> None:
            left.extend(task for task in asyncio.all_tasks() if task.get_name().startswith("penstock"))
            await close()

        recorder.close = closed  # type: ignore[method-assign]
        await stream.aclose()
        assert not left and recorder.figures().waiting_rows == 0
        await asyncio.to_thread(recorded.close)
        async with asyncio.timeout(SECONDS):
            await server.clients[0].wait_closed()


async def test_in_a_run_containers_go_on_from_the_records_that_are_recorded(tmp_path: Path) -> None:
    async with local_venue() as server:
        graph = TopologyBuilder()
        recipe = RecordedLive(
            venue="binance_spot", symbols=("BTCUSDT",), channels=("trade",), websocket_url=server.ws,
            http_url=server.http, record=RecordTo(folder=str(tmp_path / "r")),
        )  # fmt: skip
        graph.add("market", recipe)
        pipeline = Pipeline.from_topology(graph.build(), output=tmp_path / "results")
        async with pipeline.start() as run, run.subscribe("market") as batches:
            seen: list[str] = []
            first = asyncio.ensure_future(anext(batches))
            client = await server.client(1)
            for number in (1, 2, 3):
                await client.send(trade(number))
            seen += (await first).columns["trade_id"].to_pylist()
            while len(seen) < 3:
                seen += (await anext(batches)).columns["trade_id"].to_pylist()
            run.drain()
            with pytest.raises(Interrupted):
                await run.finished()
    assert seen == ["1", "2", "3"] == [row[10] for row in recorded_rows(tmp_path / "r")["trade"]]
    assert not await tasks_left()


async def test_a_disk_without_room_ends_the_recording_and_it_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(disk: RealDisk, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with local_venue() as server:
        working = asyncio.ensure_future(record([feed(server, tmp_path)], Asked()))
        client = await server.client(1)
        monkeypatch.setattr(RealDisk, "write", full)
        await client.send(trade(1))
        with pytest.raises(DiskFull, match=r"no room on the disk .*nothing that was recorded is lost: make room"):
            await working
    assert not await tasks_left()


@pytest.mark.parametrize("roll_rows", [3, 10**6])
async def test_who_goes_on_behind_a_message_has_all_that_was_recorded_after_it_first(
    roll_rows: int, tmp_path: Path
) -> None:
    """Whole messages, in files of one roll and of many, and then what the venue sends now."""
    async with local_venue() as server:
        server.snapshot = lambda symbol: book(100)
        asked, recorded = Asked(), feed(server, tmp_path, roll_rows=roll_rows)
        working = asyncio.ensure_future(record([recorded], asked))
        client = await server.client(1)
        for said in (trade(1), depth(99, 101), quote(7), trade(2), trade(3), quote(8), depth(102, 103), trade(4)):
            await client.send(said)
        await until(lambda: recorded.recorder is not None and "book_delta" in recorded_kinds(recorded, trade=4))
        asked.stop.set()
        await working
        rows = recorded_rows(tmp_path)
        seqs = {row[10]: row[2] for row in rows["trade"]}
        going_on = feed(server, tmp_path)
        given = pa.RecordBatch.from_pydict({"ingest_seq": pa.array([0, seqs["2"]], pa.uint64())})
        going_on.had_given(Batch(given))
        found: dict[str, list[tuple[Any, ...]]] = {}
        async with aclosing(going_on.batches()) as batches:
            async for item in batches:
                for batch in item if isinstance(item, tuple) else ():
                    assert batch.record is not None
                    assert batch.columns.schema == going_on._schemas[batch.record]
                    found.setdefault(batch.record, []).extend(map(plain, batch.columns.to_pylist()))
                if len(found.get("trade", ())) == 2 and len(server.clients) == 2:
                    await server.clients[1].send(trade(5))
                if len(found["trade"]) == 3:
                    break
        await asyncio.to_thread(going_on.close)
    assert [row[10] for row in found["trade"]] == ["3", "4", "5"]
    last = max(row[2] for of_kind in rows.values() for row in of_kind)
    for kind, of_kind in rows.items():
        expected = [row for row in of_kind if row[2] > seqs["2"]]
        assert [row for row in found.get(kind, ()) if row[2] <= last] == expected, kind
    assert not await tasks_left()


def recorded_kinds(recorded: RecordedFeed, trade: int) -> set[str]:
    """Kinds of which rows have been recorded, once there are so many trades."""
    rows = recorded.interpreter.ledger.rows
    return {kind for kind, count in rows.items() if count} if rows["trade"] >= trade else set()
