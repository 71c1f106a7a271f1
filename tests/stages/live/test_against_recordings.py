"""A live feed that follows a served recording has the rows of the recording itself, and an event for each fault."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import Context
from stages.interpreting import Interpreter, Interpreting
from stages.live import Live
from stages.live.conduct import Conduct
from stages.live.feed import LiveFeed
from stages.messages import Messages
from stages.serving import Disconnect, Drop, Fault, ReplayServer, Snapshot
from stages.venues import venue_named
from tests.patience import SECONDS
from tests.stages.serving.parts import SPOT, recording

INSTRUMENT = "BTCUSDT.BINANCE"
MESSAGES = 6000


def joined(batches: list[pa.RecordBatch]) -> dict[str, pa.Table]:
    found: dict[str, list[pa.RecordBatch]] = {}
    for batch in batches:
        found.setdefault(batch.schema.metadata[b"record"].decode(), []).append(batch)
    return {kind: pa.Table.from_batches(parts) for kind, parts in found.items()}


async def followed(messages: Messages, trades: int, *faults: Fault) -> dict[str, pa.Table]:
    """What a live feed makes of the recording, until it has so many trades and is at the end of it."""
    batches: list[pa.RecordBatch] = []
    async with ReplayServer(recording(messages), venue=SPOT.venue, faults=faults) as server:
        addresses = {"websocket_url": server.websocket_url, "http_url": server.http_url}
        recipe = Live(venue=SPOT.venue, symbols=(SPOT.symbol,), **addresses)
        feed = LiveFeed(recipe, Context(), Conduct(first_retry=0.01, longest_retry=0.02))
        try:
            async with asyncio.timeout(SECONDS):
                async for item in feed.batches():
                    if isinstance(item, tuple):
                        batches += [batch.columns for batch in item]
                    if feed.interpreter.ledger.rows["trade"] >= trades and said(batches[-1], "1000"):
                        feed.stop()
        finally:
            await asyncio.to_thread(feed.close)
    return joined(batches)


def said(batch: pa.RecordBatch, word: str) -> bool:
    """Whether the last event tells that the recording has ended."""
    if batch.schema.metadata[b"record"] != b"quality_event":
        return False
    return any(word in (detail or "") for detail in batch.column("detail").to_pylist())


def direct(messages: Messages) -> dict[str, pa.Table]:
    interpreter = Interpreter(venue_named(SPOT.venue), Interpreting())
    return joined(list(interpreter.interpret(messages).batches))


def plain(table: pa.Table, *columns: str) -> list[Any]:
    return table.select(list(columns)).to_pylist()


TRADE = ("ts_event", "trade_id", "price", "size", "aggressor_side")
QUOTE = ("sequence", "bid_price", "bid_size", "ask_price", "ask_size")


async def test_a_recording_that_is_followed_live_leaves_its_own_rows(recordings: Path) -> None:
    messages = SPOT.read(recordings, MESSAGES)
    wanted = direct(messages)
    live = await followed(messages, wanted["trade"].num_rows)
    assert plain(live["trade"], *TRADE) == plain(wanted["trade"], *TRADE)
    assert plain(live["quote"], *QUOTE) == plain(wanted["quote"], *QUOTE)
    assert set(live["quality_event"]["kind"].to_pylist()) <= {"disconnect", "reconnect"}


async def test_what_goes_wrong_on_the_way_is_told_and_nothing_else_is_missing(recordings: Path) -> None:
    messages = SPOT.read(recordings, MESSAGES)
    wanted = direct(messages)
    live = await followed(
        messages, wanted["trade"].num_rows - 1,
        Snapshot(request=1, status=429, retry_seconds=0),
        Drop(stream="btcusdt@trade", message=100),
        Disconnect(message=4000),
    )  # fmt: skip
    trades = plain(wanted["trade"], *TRADE)
    assert plain(live["trade"], *TRADE) == trades[:99] + trades[100:]
    assert plain(live["quote"], *QUOTE) == plain(wanted["quote"], *QUOTE)
    told = live["quality_event"].filter(pc.equal(live["quality_event"]["channel"], "trade"))
    assert plain(told, "kind", "instrument_id", "missing") == [
        {"kind": "gap", "instrument_id": INSTRUMENT, "missing": 1}
    ]
    assert set(live["quality_event"]["kind"].to_pylist()) == {"gap", "disconnect", "reconnect"}
