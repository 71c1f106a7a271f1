"""What a container reads from: one edge as it comes, or several merged by event time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..checkpoints.cuts import InboxCut, LaneCut
from ..errors import EdgeClosed
from ..frames import Barrier, Batch, End, Frame, Watermark
from .bell import Bell
from .edge import Edge
from .under_way import Recording

NEVER = -(1 << 63)
FOREVER = (1 << 63) - 1


class Inbox:
    """Frames of all inputs in one order that depends on the data alone, never on which task ran first.

    With several inputs the row with the smallest (event time, input rank) comes next, and a row comes only when no
    other input can still send an earlier one: it has a later row, a later watermark, has ended or is idle. Within one
    input the recorded order stands even where its stamps step back. Rows without a time column come as they arrive and
    hold nobody up.
    """

    def __init__(self, edges: Sequence[Edge]) -> None:
        self.edges = tuple(edges)
        self._bell = Bell()
        for edge in edges:
            edge.arrived = self._bell
        self._lanes = [_Lane(edge, rank) for rank, edge in enumerate(edges)]
        self._watermark = NEVER
        self._idle = False
        self._merged = len(edges) > 1
        self.recording: Recording | None = None
        """What is under way at the barrier that was received last."""
        self._barrier_id = -1
        self._requested: Barrier | None = None

    def receive_nowait(self) -> Frame | None:
        """The next frame, or None when one must be waited for. Raises `EdgeClosed` when an input has failed.

        A barrier comes when the first input has reached it; from then on it is recorded what the others still send
        before theirs. One that is not newer than the last does not come.
        """
        if self._requested is not None:
            barrier, self._requested = self._requested, None
            if barrier.id > self._barrier_id:
                return self._begin(barrier, None)
        if self._merged:
            return self._merge()
        edge = self.edges[0]
        frame = edge.receive_nowait()
        while isinstance(frame, Barrier):
            if frame.id > self._barrier_id:
                return self._begin(frame, self._lanes[0])
            frame = edge.receive_nowait()
        if isinstance(frame, End) and edge.failure is not None:
            raise EdgeClosed(f"input '{edge.source}' failed before its end") from edge.failure
        return frame

    @property
    def is_waiting(self) -> bool:
        """Whether its container waits for something to arrive."""
        return self._bell.waiting

    def request(self, barrier: Barrier) -> None:
        """Give this barrier next, unless one as new has come: no input would bring it, or not soon."""
        self._requested = barrier
        self._bell.ring()

    def reached(self, barrier: Barrier) -> None:
        """The only input has brought this barrier, past the inbox."""
        self._begin(barrier, self._lanes[0])

    def go_on(self, cut: InboxCut) -> None:
        """Begin where a checkpoint left an equal inbox."""
        self._watermark = NEVER if cut.watermark is None else cut.watermark
        self._idle = cut.idle
        for lane, left in zip(self._lanes, cut.lanes, strict=True):
            lane.go_on(left, self._merged)

    def _begin(self, barrier: Barrier, reached: _Lane | None) -> Barrier:
        """The cut of this container: note where every input stands, and record the rest of those still before it."""
        if self.recording is not None and not self.recording.is_complete:
            self.recording.close("a newer checkpoint was begun")
        self._barrier_id = barrier.id
        watermark = None if self._watermark == NEVER else self._watermark
        self.recording = recording = Recording(barrier, watermark, self._idle)
        for lane in self._lanes:
            recording.add(lane.edge, lane.left(), passed=lane is reached, head_of=lane.head)
        return barrier

    async def receive(self) -> Frame:
        while (frame := self.receive_nowait()) is None:
            await self._bell.wait()
        return frame

    def finish(self, batch: Batch) -> None:
        """Work on a received batch is done; credit goes back once all parts of the sent batch are done."""
        if not self._merged:
            self.edges[0].finish(batch)
            return
        for lane in self._lanes:
            lane.return_credit()

    def leave(self) -> None:
        """Read no more: what was not handed on counts as dropped."""
        for lane in self._lanes:
            lane.leave()

    def _merge(self) -> Frame | None:
        for lane in self._lanes:
            barrier = lane.fill(self._barrier_id)
            if barrier is not None:
                return self._begin(barrier, lane)
        if (watermark := self._advance()) is not None:
            return watermark
        ready = [lane for lane in self._lanes if lane.head is not None]
        if not ready:
            return End() if all(lane.ended for lane in self._lanes) else None
        timeless = next((lane for lane in ready if lane.is_timeless), None)
        if timeless is not None:
            return timeless.take_below(FOREVER)
        first = min(ready, key=lambda lane: (lane.head_ts, lane.rank))
        limit = FOREVER
        for lane in self._lanes:
            if lane is first:
                continue
            floor = lane.floor
            if floor < first.head_ts or (floor == first.head_ts and lane.rank < first.rank):
                return None
            # Rows at exactly `floor` go first when this input ranks before the other one.
            limit = min(limit, floor + 1 if first.rank < lane.rank and floor < FOREVER else floor)
        return first.take_below(limit)

    def _advance(self) -> Watermark | None:
        """The smallest watermark over the inputs that hold anybody up, when it has moved."""
        holding = [lane.promised for lane in self._lanes if not lane.idle or lane.head is not None]
        if not holding:
            if self._idle or all(lane.ended for lane in self._lanes):
                return None
            self._idle = True
            return Watermark(None if self._watermark == NEVER else self._watermark, idle=True)
        lowest = min(holding)
        if lowest > self._watermark and lowest != FOREVER:
            self._watermark, self._idle = lowest, False
            return Watermark(lowest)
        return None


class _Lane:
    """One input of a merge: its current batch, how far it is read, and what its producer has promised."""

    __slots__ = (
        "_done",
        "_newest",
        "_order",
        "_position",
        "edge",
        "ended",
        "head",
        "idle",
        "is_timeless",
        "rank",
        "watermark",
    )

    def __init__(self, edge: Edge, rank: int) -> None:
        self.edge, self.rank = edge, rank
        self.head: Batch | None = None
        self.ended = self.idle = self.is_timeless = False
        self.watermark = NEVER
        self._order: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        self._position = 0
        self._newest = NEVER
        """The latest time of all rows that came: who steps back stands with it, wherever its producer cut."""
        self._done: list[Batch] = []

    def fill(self, newest: int) -> Barrier | None:
        """Take frames until there is a batch, the end, nothing more, or a barrier newer than `newest`: it is given."""
        while self.ended and self.edge.receive_nowait() is not None:
            pass  # its producer went on from a checkpoint, and does again what it did before its end
        while self.head is None and not self.ended:
            frame = self.edge.receive_nowait()
            if frame is None:
                return None
            if isinstance(frame, Batch):
                self.idle = False
                if frame.num_rows == 0:
                    self._done.append(frame)
                    continue
                self.head, self._position = frame, 0
                times = frame.times()
                self.is_timeless = times is None
                self._order = None
                if times is not None:
                    self._order = np.maximum(np.maximum.accumulate(times), self._newest)
                    self._newest = int(self._order[-1])
            elif isinstance(frame, Watermark):
                self.idle = frame.idle
                if frame.ts is not None and frame.ts > self.watermark:
                    self.watermark = frame.ts
            elif isinstance(frame, Barrier):
                if frame.id > newest:
                    return frame
            else:
                if self.edge.failure is not None:
                    raise EdgeClosed(f"input '{self.edge.source}' failed before its end") from self.edge.failure
                self.ended = True
                self.watermark = FOREVER
        return None

    def left(self) -> LaneCut:
        """Where this input stands, between two frames of its consumer; what its edge holds is yet to be added."""
        head, order, at = self.head, self._order, self._position
        return LaneCut(
            source=self.edge.source,
            records=sorted(self.edge.records),
            finished_rows=self.edge.finished_rows + (0 if head is None else at),
            head=None if head is None else head.slice(at) if at else head,
            order=None if head is None or order is None else order[at:],
            newest=None if self._newest == NEVER else self._newest,
            watermark=None if self.watermark in (NEVER, FOREVER) else self.watermark,
            idle=self.idle,
            timeless=self.is_timeless,
            ended=self.ended,
        )

    def go_on(self, left: LaneCut, merged: bool) -> None:
        """Stand where a checkpoint left an equal input; a consumer of one input takes frames as they come."""
        assert merged or left.head is None
        self.edge.go_on(left.finished_rows, left.frames, left.head)
        self.idle, self.is_timeless, self.ended = left.idle, left.timeless, left.ended and merged
        self.watermark = FOREVER if self.ended else NEVER if left.watermark is None else left.watermark
        self.head, self._order, self._position = left.head, left.order, 0
        self._newest = NEVER if left.newest is None else left.newest

    @property
    def head_ts(self) -> int:
        return NEVER if self._order is None else int(self._order[self._position])

    @property
    def floor(self) -> int:
        """No row of this input to come is earlier than this."""
        if self.head is not None:
            return self.head_ts
        return FOREVER if self.idle or self.ended or self.is_timeless else self.watermark

    @property
    def promised(self) -> int:
        """The watermark as its consumer may see it: not beyond rows that are still to be handed on."""
        return min(self.watermark, self.head_ts) if self.head is not None else self.watermark

    def take_below(self, limit: int) -> Batch:
        """The rows of the head before `limit`, at least one."""
        assert self.head is not None
        stop = self.head.num_rows
        if self._order is not None and limit < FOREVER:
            stop = max(self._position + 1, int(np.searchsorted(self._order, limit, side="left")))
        whole = self._position == 0 and stop == self.head.num_rows
        part = self.head if whole else self.head.slice(self._position, stop - self._position)
        self._position = stop
        if stop == self.head.num_rows:
            self._done.append(self.head)
            self.head = self._order = None
        return part

    def return_credit(self) -> None:
        for batch in self._done:
            self.edge.finish(batch)
        self._done.clear()

    def leave(self) -> None:
        self.return_credit()
        if self.head is not None:
            self.edge.abandon(self.head, self._position)
            self.head = None
        self.edge.detach()
