"""Records what is under way to a container at its cut: what its edges hold, and what arrives before each barrier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..checkpoints.cuts import InboxCut, LaneCut
from ..frames import Barrier, Batch, End, Watermark
from .edge import Edge
from .kept import Kept

MAX_BYTES = 64 << 20
"""Rows recorded beside one cut; a checkpoint that needs more is given up."""
POOL_SHARE = 4
"""Nor more than one of so many parts of the process's pool, which lacks them until the checkpoint is written."""


class Recording:
    """The inputs of one container from its cut on, until each has come to the same barrier or to its end.

    Stopping an input until the others have come to the barrier would stop a merge by time for ever, and would let the
    barrier decide the order of rows; so a container goes on, and what it was still to be sent belongs to the cut.
    Recorded batches stay charged until `close`; those on the disk of an edge that spills stay there.
    """

    def __init__(self, barrier: Barrier, watermark: int | None, idle: bool) -> None:
        self.barrier = barrier
        self.failure = ""
        """Why it was given up; empty while it goes well."""
        self.on_complete: Callable[[], None] = lambda: None
        self._watermark, self._idle = watermark, idle
        self._edges: list[Edge] = []
        self._lanes: list[LaneCut] = []
        self._frames: list[list[Kept | Watermark]] = []
        self._open: set[int] = set()
        self._kept: list[Kept] = []
        self._bytes = 0

    def add(self, edge: Edge, lane: LaneCut, *, passed: bool, head_of: Batch | None = None) -> None:
        """One more input; `passed` where its barrier has been received, `head_of` the batch its head is a part of."""
        number = len(self._edges)
        self._edges.append(edge)
        self._lanes.append(lane)
        self._frames.append([])
        if head_of is not None:
            self._keep(edge, head_of).stays = True
        if passed or lane.ended:
            return
        self._open.add(number)
        for frame in edge.queued:
            self._hear(number, frame)
        if number in self._open and not edge.producer_done and not self.failure:
            edge.tap = partial(self._hear, number)

    @property
    def is_complete(self) -> bool:
        return not self._open and not self.failure

    def cut(self) -> InboxCut:
        """What was recorded, once it is complete."""
        assert self.is_complete
        lanes = [
            LaneCut(
                source=lane.source, records=lane.records, finished_rows=lane.finished_rows, head=lane.head,
                order=lane.order, newest=lane.newest,
                frames=[frame.content if isinstance(frame, Kept) else frame for frame in frames],
                watermark=lane.watermark, idle=lane.idle, timeless=lane.timeless, ended=lane.ended,
            )
            for lane, frames in zip(self._lanes, self._frames, strict=True)
        ]  # fmt: skip
        return InboxCut(lanes=lanes, watermark=self._watermark, idle=self._idle)

    def close(self, failure: str = "") -> None:
        """Listen no more and give back what was held; with `failure`, it was given up before it was complete."""
        if failure and not self.failure:
            self.failure = failure
        for number in self._open:
            self._edges[number].tap = None
        kept, self._kept = self._kept, []
        for each in kept:
            each.close()

    def _hear(self, number: int, frame: Any) -> None:
        if number not in self._open:
            return
        if isinstance(frame, Watermark):
            self._frames[number].append(frame)
        elif isinstance(frame, End | Barrier):
            if isinstance(frame, End) or frame.id == self.barrier.id:
                self._edges[number].tap = None
                self._open.discard(number)
                if not self._open and not self.failure:
                    self.on_complete()
        else:
            self._frames[number].append(self._keep(self._edges[number], frame))

    def _keep(self, edge: Edge, batch: Any) -> Kept:
        """Hold what the edge holds too: the pool gives nothing for it now, and gets it back later."""
        kept = edge.keep(batch)
        kept.on_move = self._moved
        self._kept.append(kept)
        self._bytes += kept.num_bytes
        pool = edge.account.pool
        limit = MAX_BYTES if pool is None else min(MAX_BYTES, pool.limit // POOL_SHARE)
        if self._bytes > limit and not self.failure:
            self.close(f"more than {limit:,} bytes were under way to '{edge.target}'")
            self.on_complete()
        return kept

    def _moved(self, num_bytes: int) -> None:
        self._bytes -= num_bytes


def nothing_under_way(edges: Sequence[Edge]) -> InboxCut:
    """The inputs of a container that has ended."""
    return InboxCut(
        lanes=[
            LaneCut(
                source=edge.source, records=sorted(edge.records), finished_rows=edge.finished_rows, ended=True
            )
            for edge in edges
        ]
    )  # fmt: skip
