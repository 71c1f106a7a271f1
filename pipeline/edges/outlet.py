"""Where a container's output leaves: stamped, counted, and sent to every edge."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter_ns

from ..frames import Barrier, Batch, Frame, Row, Watermark, row_bytes
from .bell import Bell
from .edge import Edge

YIELD_NS = 1_000_000
"""A container that never had to wait gives way to the others after this long."""
LINGER_SECONDS = 0.005
"""How long a row may wait for others before its batch is closed."""
GATHER_ROWS = 512
GATHER_BYTES = 256 * 1024


class Outlet:
    """The producer's end of all edges of one container."""

    def __init__(self, name: str, *, several: bool = False) -> None:
        """`several`: whether it sends several kinds of record, which are counted by kind."""
        self.name = name
        self.edges: tuple[Edge, ...] = ()
        """Where what is sent goes now; nowhere while it is muted."""
        self._attached: tuple[Edge, ...] = ()
        self._muted = False
        self.sent_rows = 0
        self.sent_batches = 0
        self.sent_records: dict[str, int] = {}
        """Rows sent by their kind of record, where there are several."""
        self._several = several
        self._selective = False
        self.watermark: int | None = None
        self.yields = 0
        self._since_ns = perf_counter_ns()

    def stamp(self, batch: Batch) -> Batch:
        """The batch as this container's own, its rows counted."""
        batch = batch.stamped(self.name, self.sent_rows)
        self.sent_rows += batch.num_rows
        self.sent_batches += 1
        if self._several or self._selective:
            record = batch.record or ""
            self.sent_records[record] = self.sent_records.get(record, 0) + batch.num_rows
        return batch

    def edges_for(self, batch: Batch) -> Sequence[Edge]:
        """The edges a batch goes to: all but those that carry only other kinds of record."""
        if not self._selective:
            return self.edges
        record = batch.record
        return [edge for edge in self.edges if not edge.records or record in edge.records]

    def attach(self, edge: Edge) -> None:
        self._attached = (*self._attached, edge)
        self._selective = self._selective or bool(edge.records)
        self.mute(self._muted)

    def detach(self, edge: Edge) -> None:
        """Forget an edge nobody reads any more."""
        self._attached = tuple(other for other in self._attached if other is not edge)
        self.mute(self._muted)

    def mute(self, muted: bool) -> None:
        """Whether what is sent is only counted: it was sent before a checkpoint, and comes again."""
        self._muted = muted
        self.edges = () if muted else self._attached

    async def send(self, frame: Frame) -> None:
        """Send to every edge, waiting for each that is full."""
        for edge in self.edges:
            if not edge.send_nowait(frame):
                await edge.send(frame)

    async def send_barrier(self, barrier: Barrier) -> None:
        """Send to the edges of the run; who reads from outside is no part of a checkpoint."""
        for edge in self._attached:
            if not edge.outside and not edge.send_nowait(barrier):
                await edge.send(barrier)

    async def send_watermark(self, watermark: Watermark) -> None:
        """A newer watermark replaces one that has not been read."""
        if watermark.ts is not None:
            self.watermark = watermark.ts
        await self.send(watermark)

    async def give_way(self) -> None:
        """Let the others run if this container has run for a millisecond."""
        if perf_counter_ns() - self._since_ns > YIELD_NS:
            self.yields += 1
            await asyncio.sleep(0)
            self._since_ns = perf_counter_ns()

    def fail(self, error: BaseException) -> None:
        for edge in self._attached:
            edge.fail(error)


class Gatherer:
    """Makes batches of single rows: full at 512 rows or 256 KiB, or at once when a consumer waits for one."""

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self.opened = Bell()
        """Rings when a batch is opened; whoever waits closes it when it has lingered."""
        self.closed_batches = 0
        self.has_ended = False
        self._rows: list[Row] = []
        self._limit = GATHER_ROWS

    def add(self, row: Row) -> bool:
        """Take one row; True when the batch should be closed now."""
        rows = self._rows
        if not rows:
            self._limit = row_limit(row)
            self.opened.ring()
        rows.append(row)
        if len(rows) >= self._limit:
            return True
        for edge in self.outlet.edges:
            if edge.arrived.waiting and edge.is_empty:
                return True
        return False

    def end(self) -> None:
        """No more rows will be added; who waits for one is told."""
        self.has_ended = True
        self.opened.ring()

    @property
    def is_open(self) -> bool:
        return bool(self._rows)

    def close(self) -> Batch | None:
        """The open batch, if there is one."""
        if not self._rows:
            return None
        rows, self._rows = self._rows, []
        self.closed_batches += 1
        return Batch.from_rows(rows)


def row_limit(row: Row) -> int:
    """Rows of this size that make a full batch."""
    return max(1, min(GATHER_ROWS, GATHER_BYTES // row_bytes(row)))
