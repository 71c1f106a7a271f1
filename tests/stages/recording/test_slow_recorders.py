"""A venue that is ten times faster than its recorder waits: its socket is not read, and then is read again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from recordings import recorded_rows

from pipeline import Context
from stages.interpreting import Interpreted
from stages.live.buffer import Bound
from stages.live.conduct import Conduct
from stages.messages import Messages
from stages.messages.captures import open_captures
from stages.recording import RecordedLive, RecordTo
from stages.recording.recorded_feed import RecordedFeed
from tests.conftest import tasks_left
from tests.stages.live.server import local_venue, trade

COUNT, BOUND, READ = 6000, 500, 256 * 1024
PADDING = '"X":"' + "x" * 3000 + '",'


class Slow(RecordedFeed):
    """Records nothing before all has to wait for it, as long as the venue has more."""

    sending: asyncio.Future[None]

    async def interpreted(self, messages: Messages) -> list[Interpreted]:
        while not (self.sending.done() or self.session.buffer.is_full):
            await asyncio.sleep(0)
        return await super().interpreted(messages)


def padded(number: int) -> str:
    return trade(number).replace('"M":true', PADDING + '"M":true')


async def test_a_recorder_that_is_slow_makes_the_venue_wait_and_stores_every_trade(tmp_path: Path) -> None:
    async with local_venue() as server:
        recipe = RecordedLive(
            venue="binance_spot", symbols=("BTCUSDT",), channels=("trade",), websocket_url=server.ws,
            http_url=server.http, record=RecordTo(folder=str(tmp_path), durability="process"),
        )  # fmt: skip
        assert recipe.record is not None
        feed = Slow(recipe, recipe.record, Context(), conduct=Conduct(bound=Bound(messages=BOUND)))
        waited = 0

        async def burst() -> None:
            client = await server.client(1)
            for number in range(COUNT):
                await client.send(padded(number))

        feed.sending = asyncio.ensure_future(burst())
        seen = 0
        async for item in feed.batches():
            waited += not feed.sending.done()
            for batch in item if isinstance(item, tuple) else ():
                seen += batch.num_rows if batch.record == "trade" else 0
            if seen == COUNT:
                feed.stop()
        await feed.sending
        figures: dict[str, Any] = dict(feed.session.figures())
        await asyncio.to_thread(feed.close)
    most = BOUND + READ // len(padded(0)) + 2
    assert figures["most_waiting"] <= most and feed.session.buffer.most_bytes <= most * (len(padded(COUNT)) + 200)
    assert figures["waits_for_consumer"] >= 5 and figures["rescues"] == 0 and waited >= 5
    assert [row[10] for row in recorded_rows(tmp_path)["trade"]] == [str(number) for number in range(COUNT)]
    texts = [text for run in open_captures(tmp_path).runs() for text in run.payloads() if text.startswith(b'{"stream"')]
    assert texts == [padded(number).encode() for number in range(COUNT)]
    assert "gap" not in feed.metrics()["quality"]
    assert not await tasks_left()
