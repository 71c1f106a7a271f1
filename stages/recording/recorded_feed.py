"""A live feed whose messages are recorded before they are interpreted, and whose records go to files too."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from pipeline import Batch, Context, Watermark
from stages.interpreting import Interpreted
from stages.live.feed import LiveFeed
from stages.messages import Messages

from .ingesting import take_in
from .recorded_live import RecordedLive
from .recorder import Recorder, open_recorder
from .settings import RecordTo


class RecordedFeed(LiveFeed):
    """As a live feed, with a recorder in place of its interpreter; held while its batches are drawn."""

    def __init__(self, recipe: RecordedLive, to: RecordTo, context: Context, **words: Any) -> None:
        super().__init__(recipe, context, **words)
        self.to = to
        self.recorder: Recorder | None = None
        """What records, while it does."""
        self._settings = to.settings(recipe)
        self._stopped = False

    async def batches(self) -> AsyncGenerator[tuple[Batch, ...] | Watermark]:
        venue = self.session.venue
        async with open_recorder(self.to.folder, self._settings) as recorder:
            self.recorder = recorder
            if self.to.backfill:
                await take_in(recorder, self.to.backfill, venue=venue.name, stopped=lambda: self._stopped)
            if self._stopped:
                return
            self.interpreter = recorder.stream(venue).interpreter
            async with aclosing(super().batches()) as live:
                async for batches in live:
                    yield batches

    async def interpreted(self, messages: Messages) -> list[Interpreted]:
        assert self.recorder is not None
        return await self.recorder.take(messages, self.session.venue)

    def stop(self) -> bool:
        self._stopped = True
        return super().stop()

    def metrics(self) -> Mapping[str, Any]:
        recorded = {} if self.recorder is None else {"recorded": msgspec.structs.asdict(self.recorder.figures())}
        return {**super().metrics(), **recorded}
