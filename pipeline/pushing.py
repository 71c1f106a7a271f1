"""A feed whose rows are pushed in by the program around it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pyarrow as pa

from .edge import Bell
from .errors import EdgeClosed
from .frames import Batch, Row, Watermark
from .stage import Context, Feed, Stage


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

    def build(self, context: Context) -> PushFeed:
        return PushFeed(self.lateness_ns)


class PushFeed(Feed):
    """Holds one pushed item at a time: who pushes waits until the one before has been taken."""

    def __init__(self, lateness_ns: int = 0) -> None:
        self.lateness_ns = lateness_ns
        self._items: deque[Batch | Watermark] = deque()
        self._arrived, self._taken = Bell(), Bell()
        self._ended = False

    async def push(self, rows: Any) -> None:
        """Hand over rows and return when the feed has room for more; one caller at a time."""
        item = as_item(rows)
        while self._items and not self._ended:
            await self._taken.wait()
        if self._ended:
            raise EdgeClosed("the feed has ended; nothing can be pushed into it")
        self._items.append(item)
        self._arrived.ring()

    def end(self) -> None:
        """Nothing more will be pushed."""
        self._ended = True
        self._arrived.ring()
        self._taken.ring()

    async def batches(self) -> AsyncIterator[Batch | Watermark]:
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
            self.end()


def as_item(rows: Any) -> Batch | Watermark:
    """Rows in any form a person has them in: Batch, RecordBatch, Table, dict of columns, `Row`s, or a watermark."""
    if isinstance(rows, Batch | Watermark):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return Batch(rows)
    if isinstance(rows, pa.Table):
        return Batch(pa.RecordBatch.from_struct_array(rows.to_struct_array().combine_chunks()))
    if isinstance(rows, dict):
        return Batch(pa.RecordBatch.from_pydict(rows))
    if isinstance(rows, Row):
        return Batch.from_rows([rows])
    if isinstance(rows, Sequence) and rows and all(isinstance(row, Row) for row in rows):
        return Batch.from_rows(rows)
    raise TypeError(
        f"expected a Batch, RecordBatch, Table, dict of columns, Row or list of Rows, found {type(rows).__name__}"
    )
