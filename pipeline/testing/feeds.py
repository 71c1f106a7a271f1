"""A feed that gives a list, with marks in it, and a sink that keeps what it receives."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pyarrow as pa

from ..frames import Batch, Row, Watermark
from ..stage import Context, Feed, Sink, Stage


class Mark(enum.Enum):
    """What a `ListFeed` does when it meets this among its items."""

    EOF = "the feed ends here, whatever follows"
    ABORT = "the feed fails here, as if its source had died"
    PAUSE = "the feed waits here until `ListFeed.resume()`"


class Aborted(Exception):
    """Raised by a `ListFeed` at `Mark.ABORT`."""


class Pause:
    """Shared between a `ListFeed` and its test: who waits, and the signal to go on."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self._go = anyio.Event()

    def resume(self) -> None:
        """Let a waiting feed go on, or the next pause pass at once."""
        self._go.set()

    async def wait(self) -> None:
        self.reached.set()
        await self._go.wait()
        self.reached, self._go = anyio.Event(), anyio.Event()


class ListFeed(Stage, frozen=True):
    """Gives its items in order: batches, rows, watermarks, marks, or dicts of columns.

    >>> feed = ListFeed(items=[{"price": [1.0, 2.0]}, Mark.PAUSE, {"price": [3.0]}])
    """

    items: list[Any]
    is_feed = True
    is_live: bool = False
    lateness_ns: int = 0
    pause: Pause | None = None

    @property
    def live(self) -> bool:  # type: ignore[override]
        return self.is_live

    def build(self, context: Context) -> Feed:
        return _ListFeed(self)


class _ListFeed(Feed):
    def __init__(self, recipe: ListFeed) -> None:
        self.recipe = recipe
        self.lateness_ns = recipe.lateness_ns

    async def batches(self) -> AsyncIterator[Batch | Row | Watermark]:
        for item in self.recipe.items:
            if item is Mark.EOF:
                return
            if item is Mark.ABORT:
                raise Aborted("the list says ABORT")
            if item is Mark.PAUSE:
                if self.recipe.pause is None:
                    raise TypeError("a list with Mark.PAUSE needs `pause=Pause()`, on which the test calls resume()")
                await self.recipe.pause.wait()
            elif isinstance(item, dict):
                yield Batch(pa.RecordBatch.from_pydict(item))
            else:
                yield item


class ListSink(Stage, frozen=True):
    """Keeps every batch it receives in the list given as `into`."""

    is_feed = False
    into: list[Batch]

    def build(self, context: Context) -> Sink:
        return _ListSink(self.into)


class _ListSink(Sink):
    def __init__(self, into: list[Batch]) -> None:
        self.into = into

    def on_batch(self, batch: Batch) -> None:
        self.into.append(batch)
        self.committed_rows += batch.num_rows
