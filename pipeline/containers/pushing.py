"""A feed whose rows are pushed in by the program around it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from ..edges.bell import Bell
from ..errors import EdgeClosed
from ..frames import Batch, Watermark, as_item
from ..stage import Context, Feed, Given, Stage


class Push(Stage, frozen=True):
    """Gives what `run.push(name, rows)` is handed, until `run.push_end(name)`.

    ```yaml
    containers:
      ticks: {type: push, lateness_ns: 0}
    ```
    """

    lateness_ns: int = 0
    """How far event time may step back, in nanoseconds."""
    live = True
    is_feed = True

    def build(self, context: Context) -> PushFeed:
        return PushFeed(self.lateness_ns)


class PushFeed(Feed):
    """Holds one pushed item at a time: who pushes waits until the one before has been taken."""

    def __init__(self, lateness_ns: int = 0) -> None:
        self.lateness_ns = lateness_ns
        self._items: deque[Batch | tuple[Batch, ...] | Watermark] = deque()
        self._arrived, self._taken = Bell(), Bell()
        self._turn = asyncio.Lock()
        self._ended = self._cut_off = False

    async def push(self, rows: Any) -> None:
        """Hand over rows and return when the feed has taken what came before; several callers take turns."""
        item = as_item(rows)
        async with self._turn:
            while self._items and not self._ended:
                await self._taken.wait()
            if self._ended:
                why = "; its run has stopped or failed: `await run.finished()` raises why" if self._cut_off else ""
                raise EdgeClosed(f"the feed has ended; nothing can be pushed into it{why}")
            self._items.append(item)
            self._arrived.ring()

    def stop(self) -> bool:
        """What has been pushed still flows on; nothing more is taken."""
        self.end()
        return True

    def end(self) -> None:
        """Nothing more will be pushed."""
        self._ended = True
        self._arrived.ring()
        self._taken.ring()

    async def batches(self) -> AsyncIterator[Given]:
        try:
            while True:
                while not self._items:
                    if self._ended:
                        return
                    await self._arrived.wait()
                item = self._items.popleft()
                self._taken.ring()
                yield item
        finally:
            self._cut_off = not self._ended  # nobody has said that it is at its end
            self.end()
