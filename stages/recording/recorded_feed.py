"""A live feed whose messages are recorded before they are interpreted, and whose records go to files too."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
import pyarrow.compute as pc

from pipeline import Batch, Context, Watermark
from stages.interpreting import Interpreted
from stages.live.feed import LiveFeed
from stages.messages import Messages

from .ingesting import take_in
from .missed import rows_behind
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
        self._schemas = recipe.schemas(recipe.named_venue.scales)
        self._stopped = False
        self._newest: int | None = None
        """Number of the newest message of which something had been given, where a run goes on from a checkpoint."""

    async def batches(self) -> AsyncGenerator[tuple[Batch, ...] | Watermark]:
        venue = self.session.venue
        async with open_recorder(self.to.folder, self._settings) as recorder:
            self.recorder = recorder
            if self._newest is not None:
                async with aclosing(self._missed(recorder, self._newest)) as missed:
                    async for recorded in missed:
                        yield recorded
            if self.to.backfill:
                await take_in(recorder, self.to.backfill, venue=venue.name, stopped=lambda: self._stopped)
            if self._stopped:
                return
            self.interpreter = recorder.stream(venue).interpreter
            async with aclosing(super().batches()) as live:
                async for batches in live:
                    yield batches

    def had_given(self, batch: Batch) -> None:
        self._newest = max(self._newest or 0, pc.max(batch.columns.column("ingest_seq")).as_py() or 0)

    async def _missed(self, recorder: Recorder, after: int) -> AsyncGenerator[tuple[Batch, ...]]:
        """What was recorded and had not been given when the last checkpoint was taken."""
        await recorder.roll()
        rows = rows_behind(recorder.folder, self.session.venue.name, after, self._schemas)
        try:
            while (found := await recorder.folder.apart(next, rows, None)) is not None:
                yield tuple(Batch(batch) for batch in found)
        finally:
            await recorder.folder.apart(rows.close)  # type: ignore[attr-defined]

    async def interpreted(self, messages: Messages) -> list[Interpreted]:
        assert self.recorder is not None
        return await self.recorder.take(messages, self.session.venue)

    def stop(self) -> bool:
        self._stopped = True
        return super().stop()

    def metrics(self) -> Mapping[str, Any]:
        recorded = {} if self.recorder is None else {"recorded": msgspec.structs.asdict(self.recorder.figures())}
        return {**super().metrics(), **recorded}
