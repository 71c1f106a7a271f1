"""A live feed in a run, over real sockets: records come out, books are made whole, and nothing is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import Interrupted, Pipeline, TopologyBuilder
from stages.live import Live
from tests.conftest import tasks_left
from tests.stages.live.server import LocalVenue, book, depth, local_venue, quote, trade


def pipeline(server: LocalVenue, folder: Path, **settings: Any) -> Pipeline:
    graph = TopologyBuilder()
    recipe = Live(venue="binance_spot", symbols=("BTCUSDT",), websocket_url=server.ws, http_url=server.http, **settings)
    graph.add("market", recipe)
    return Pipeline.from_topology(graph.build(), output=folder)


class Rows:
    """What a subscriber of a live feed has seen, by kind of record."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.tables: dict[str, list[pa.RecordBatch]] = {}

    async def until(self, kind: str, rows: int) -> pa.Table:
        while sum(batch.num_rows for batch in self.tables.get(kind, ())) < rows:
            batch = await anext(self.batches)
            self.tables.setdefault(batch.record, []).append(batch.columns)
        return pa.Table.from_batches(self.tables[kind])


async def test_records_of_a_live_feed_come_out_and_books_are_made_whole_from_a_snapshot(tmp_path: Path) -> None:
    async with local_venue() as server:
        server.snapshot = lambda symbol: book(100)
        async with pipeline(server, tmp_path).start() as run, run.subscribe("market") as batches:
            rows = Rows(batches)
            first = asyncio.ensure_future(rows.until("trade", 2))
            client = await server.client(1)
            for said in (trade(1), depth(99, 101), quote(7), trade(2)):
                await client.send(said)
            trades = await first
            assert trades["trade_id"].to_pylist() == ["1", "2"]
            deltas = await rows.until("book_delta", 6)
            assert server.asked == ["/api/v3/depth?symbol=BTCUSDT&limit=1000"]
            assert deltas["action"].to_pylist() == [4, 1, 1, 1, 1, 1], (
                "a clear, and what is in the book, update applied"
            )
            await client.send(depth(102, 102, "97"))
            deltas = await rows.until("book_delta", 7)
            assert deltas["sequence"].to_pylist()[-1] == 102
            run.drain()
            with pytest.raises(Interrupted):
                await run.finished()
    assert not await tasks_left()
