"""Records what is under way to a container at its cut: what its edges hold, and what arrives before each barrier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..checkpoints.cuts import InboxCut, LaneCut
from ..frames import Barrier, Batch, End, Frame, Watermark
from .edge import Edge

MAX_BYTES = 64 << 20
"""Rows recorded beside one cut; a checkpoint that needs more is given up."""
POOL_SHARE = 4
"""Nor more than one of so many parts of the process's pool, which lacks them until the checkpoint is written."""


class Recording:
    """The inputs of one container from its cut on, until each has come to the same barrier or to its end.

    Stopping an input until the others have come to the barrier would stop a merge by time for ever, and would let the
    barrier decide the order of rows; so a container goes on, and what it was still to be sent belongs to the cut.
    Recorded batches stay charged until `close`.
    """

    def __init__(self, barrier: Barrier, watermark: int | None, idle: bool) -> None:
        self.barrier = barrier
        self.failure = ""
        """Why it was given up; empty while it goes well."""
        self.on_complete: Callable[[], None] = lambda: None
        self._watermark, self._idle = watermark, idle
        self._edges: list[Edge] = []
        self._lanes: list[LaneCut] = []
        self._frames: list[list[Batch | Watermark]] = []
        self._open: set[int] = set()
        self._charged: list[tuple[Edge, Batch]] = []
        self._bytes = 0

    def add(self, edge: Edge, lane: LaneCut, *, passed: bool, head_of: Batch | None = None) -> None:
        """One more input; `passed` where its barrier has been received, `head_of` the batch its head is a part of."""
        number = len(self._edges)
        self._edges.append(edge)
        self._lanes.append(lane)
        self._frames.append([])
        if head_of is not None:
            self._charge(edge, head_of)
        if passed or lane.ended:
            return
        self._open.add(number)
        if edge.on_disk:
            self.close(f"what is under way to '{edge.target}' lies on disk")
            self.on_complete()
            return
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
                order=lane.order, frames=tuple(frames), watermark=lane.watermark, idle=lane.idle,
                timeless=lane.timeless, ended=lane.ended,
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
        charged, self._charged = self._charged, []
        for edge, batch in charged:
            edge.account.release(batch)

    def _hear(self, number: int, frame: Frame) -> None:
        if number not in self._open:
            return
        if isinstance(frame, Batch):
            self._charge(self._edges[number], frame)
            self._frames[number].append(frame)
        elif isinstance(frame, Watermark):
            self._frames[number].append(frame)
        elif isinstance(frame, End) or frame.id == self.barrier.id:
            self._edges[number].tap = None
            self._open.discard(number)
            if not self._open and not self.failure:
                self.on_complete()

    def _charge(self, edge: Edge, batch: Batch) -> None:
        """Hold what the edge holds too: the pool gives nothing for it now, and gets it back later."""
        edge.account.charge(batch)
        self._charged.append((edge, batch))
        self._bytes += batch.num_bytes
        pool = edge.account.pool
        limit = MAX_BYTES if pool is None else min(MAX_BYTES, pool.limit // POOL_SHARE)
        if self._bytes > limit and not self.failure:
            self.close(f"more than {limit:,} bytes were under way to '{edge.target}'")
            self.on_complete()


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
