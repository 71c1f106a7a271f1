"""A bounded FIFO between one producer and one consumer: the place where back-pressure and loss are decided."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from ..errors import BudgetExceeded, EdgeClosed
from ..frames import CHECKPOINT, Barrier, Batch, End, Frame, Watermark
from ..pool import Pool
from .bell import Bell
from .in_flight import EdgesAccount
from .kept import Kept
from .latest import latest_rows

MIB = 1 << 20
WhenFull = Literal["block", "conflate", "drop_oldest", "drop_newest", "spill"]
LOSSLESS = ("block", "spill")
"""Policies of full edges under which no row is dropped."""
POOL_SECONDS = 30.0
"""How long an edge that holds nothing waits for the pool of the process before its producer fails."""
MAX_BARRIERS = 2
"""Barriers one edge may hold; a sender of a third waits."""


class EdgePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How much an edge holds and what it does when it is full."""

    max_rows: int = 256 * 1024
    max_bytes: int = 16 * MIB
    when_full: WhenFull = "block"
    key: str | None = None
    """Column whose latest row `conflate` keeps; None: `instrument_id`."""


REPLAY = EdgePolicy()
LIVE = EdgePolicy(max_rows=8192, max_bytes=8 * MIB)
"""Queue size is latency."""


class EdgeStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot; `sent_rows = received_rows + dropped_rows + in_flight_rows` at every instant."""

    source: str
    target: str
    sent_rows: int
    received_rows: int
    """Rows the consumer has finished."""
    dropped_rows: int
    in_flight_rows: int
    in_flight_bytes: int
    peak_rows: int
    peak_bytes: int
    sent_batches: int
    fast_sends: int
    """Sends that found room at once and did not suspend."""
    joint: bool = False
    """Whether the producer's task does the consumer's work, without a queue between them."""
    waits: int
    """Times the producer waited for room."""
    spilled_batches: int = 0
    """Batches that went through the disk (`when_full: spill`)."""
    spilled_bytes: int = 0
    on_disk_rows: int = 0
    """Of the rows in flight."""
    records: Sequence[str] = ()
    """Kinds of record it carries; empty: whatever is sent."""


class Edge:
    """Single producer, single consumer, one event loop; a deque and two bells, no lock, no task per item.

    The producer calls `send` (or `send_nowait`) and `close`; the consumer calls `receive_nowait`, waits on
    `arrived`, and calls `finish(batch)` when it has done its work on a batch: only then does the producer get the
    credit back. A batch larger than the bound passes when the edge holds nothing.
    """

    __slots__ = (
        "_barriers", "_credit", "_dropped_rows", "_finished_rows", "_frames", "_held_bytes",
        "_held_rows", "_peak_bytes", "_peak_rows", "_sent_batches", "_sent_rows", "_waits", "account", "arrived",
        "detached", "failure", "outside", "policy", "pool_need", "producer_done", "records", "source", "tap", "target",
    )  # fmt: skip
    is_joint = False

    borrower = None  # what waits here is nobody's: others wait for it

    def __init__(
        self,
        source: str,
        target: str,
        policy: EdgePolicy = REPLAY,
        account: EdgesAccount | None = None,
    ) -> None:
        self.source, self.target, self.policy = source, target, policy
        self.account = account if account is not None else EdgesAccount()
        self.arrived = Bell()
        self._credit = Bell()
        self._frames: deque[Any] = deque()
        self._barriers = 0
        self._held_rows = self._held_bytes = 0
        self._peak_rows = self._peak_bytes = 0
        self._sent_rows = self._finished_rows = self._dropped_rows = 0
        self._sent_batches = self._waits = 0
        self.producer_done = False
        self.detached = False
        self.failure: BaseException | None = None
        self.pool_need = 0
        """Bytes its producer waits for in the line of the pool."""
        self.records: frozenset[str] = frozenset()
        """Kinds of record it carries, of a producer that sends several; empty: whatever is sent."""
        self.outside = False
        """Whether it leads to somebody outside of the run, who is no part of a checkpoint."""
        self.tap: Callable[[Frame], None] | None = None
        """Called with every frame that is put on the edge, while a checkpoint records what is under way."""

    # -- the producer's end ------------------------------------------------------------------------------------

    def send_nowait(self, frame: Frame) -> bool:
        """Put the frame on the edge and return True, or return False when it must wait for room."""
        if self.detached:
            self._miss(frame)
            return True
        if self.producer_done:
            raise EdgeClosed(f"the edge {self.source} -> {self.target} is closed; nothing can be sent on it")
        if isinstance(frame, Batch):
            if not self._put(frame) and not self._make_room(frame):
                return False
        elif isinstance(frame, Watermark):
            if self._frames and isinstance(self._frames[-1], Watermark):
                self._frames[-1] = frame
                if self.tap is not None:
                    self.tap(frame)
                return True
            self._frames.append(frame)
        elif isinstance(frame, Barrier):
            if self._barriers >= MAX_BARRIERS and not self._make_void(frame):
                return False
            self._barriers += 1
            self._frames.append(frame)
        else:
            self._frames.append(frame)
            self.producer_done = True
        if self.tap is not None:
            self.tap(frame)
        self.arrived.ring()
        return True

    async def send(self, frame: Frame) -> None:
        """Put the frame on the edge, waiting for room; cancelled while waiting, the frame is not on it."""
        if self.send_nowait(frame):
            return
        self._waits += isinstance(frame, Batch)
        pool = self.account.pool
        try:
            while True:
                if pool is not None and self.is_idle and isinstance(frame, Batch):
                    await self._wait_for_pool(pool, frame)
                else:
                    await self._credit.wait()
                if self.send_nowait(frame):
                    return
        finally:
            if pool is not None:
                self.pool_need = 0
                pool.leave(self)

    async def _wait_for_pool(self, pool: Pool, batch: Batch) -> None:
        """Until it is our turn in the pool; raises `BudgetExceeded` when nobody makes room."""
        batch_bytes, name = batch.num_bytes, f"{self.source} -> {self.target}"
        what = f"{name}: no room for a batch of {batch_bytes} bytes"
        if batch_bytes > pool.limit:
            raise BudgetExceeded(f"{what}: {pool.refuse(name, batch_bytes)}; or make the batches smaller")
        if self.detached or pool.admits(self, batch_bytes):
            return
        clock = self.account.clock
        timer = asyncio.ensure_future(clock.sleep_until(clock.monotonic_ns() + int(POOL_SECONDS * 1e9)))
        timer.add_done_callback(lambda timer: self._credit.ring())
        try:
            self.pool_need = batch_bytes
            pool.line_up(self)
            if self.detached or pool.admits(self, batch_bytes):
                return  # room that lining up has made rang before anybody listened
            await self._credit.wait()
            if timer.done() and not pool.admits(self, batch_bytes):
                raise BudgetExceeded(f"{what} within {POOL_SECONDS:g} s: {pool.refuse(name, batch_bytes)}")
        finally:
            timer.cancel()

    def serve(self) -> None:
        """The pool has room for what our producer wants to send."""
        self._credit.ring()

    def fail(self, error: BaseException) -> None:
        """The producer failed: the consumer learns it after what is queued."""
        if not self.producer_done:
            self.failure = error
            self.producer_done = True
            self._frames.append(End())
            self.arrived.ring()

    # -- the consumer's end ------------------------------------------------------------------------------------

    def receive_nowait(self) -> Frame | None:
        """The next frame, or None when there is none yet."""
        if not self._frames:
            return None
        frame: Frame = self._frames.popleft()
        if isinstance(frame, Barrier):
            self._barriers -= 1
            self._credit.ring()
        return frame

    async def receive(self) -> Frame:
        """The next frame; `End` when the producer has ended. Raises what the producer failed with."""
        while (frame := self.receive_nowait()) is None:
            if self.detached:
                raise EdgeClosed(f"the edge {self.source} -> {self.target} is detached")
            await self.arrived.wait()
        if isinstance(frame, End) and self.failure is not None:
            raise EdgeClosed(f"'{self.source}' failed before its end") from self.failure
        return frame

    def finish(self, batch: Batch) -> None:
        """The consumer has done its work on a batch it received: its credit goes back to the producer."""
        self._release(batch)
        self._finished_rows += batch.num_rows
        self._credit.ring()

    def abandon(self, batch: Batch, received_rows: int) -> None:
        """The consumer leaves in the midst of a batch, of which it has taken so many rows."""
        self._release(batch)
        self._finished_rows += received_rows
        self._dropped_rows += batch.num_rows - received_rows

    def detach(self) -> None:
        """The consumer leaves: what is queued counts as dropped, and so does whatever is sent from now on."""
        if self.detached:
            return
        self.detached = True
        for frame in self._frames:
            if isinstance(frame, Batch):
                self._drop(frame)
        self._frames.clear()
        self._credit.ring()
        self.arrived.ring()

    def _make_void(self, barrier: Barrier) -> bool:
        """Take back the oldest barrier of a checkpoint, where this one is of a newer; else False."""
        for i, frame in enumerate(self._frames if barrier.kind == CHECKPOINT else ()):
            if isinstance(frame, Barrier) and frame.kind == CHECKPOINT:
                del self._frames[i]
                self._barriers -= 1
                return True
        return False

    # -- checkpoints ---------------------------------------------------------------------------------------

    @property
    def queued(self) -> Sequence[Any]:
        """What waits for the consumer, in order: control frames, and what `keep` takes."""
        return tuple(self._frames)

    def keep(self, batch: Any) -> Kept:
        """Have a batch that is queued, that was just put on the edge, or that its consumer works on, for longer."""
        self.account.charge(batch)
        return Kept(batch, partial(self.account.release, batch), batch.num_bytes)

    @property
    def finished_rows(self) -> int:
        """Rows the consumer has done its work on."""
        return self._finished_rows

    def go_on(self, finished_rows: int, frames: Sequence[Any], head: Batch | None = None) -> None:
        """Begin where a checkpoint left an equal edge: rows finished, and what was under way, its `head` received.

        Raises `BudgetExceeded` where the pool of the process is smaller than what was under way.
        """
        self._sent_rows = self._finished_rows = finished_rows
        for frame in frames if head is None else (head, *frames):
            if isinstance(frame, Batch):
                pool = self.account.pool
                if pool is not None and pool.free < frame.num_bytes:
                    why = pool.refuse(f"{self.source} -> {self.target}", frame.num_bytes)
                    raise BudgetExceeded(f"{self.source} -> {self.target}: what was under way: {why}")
                self._hold(frame)
            if frame is not head:
                self._frames.append(frame)

    # -- what it knows -----------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        return not self._frames

    @property
    def is_idle(self) -> bool:
        """Whether it holds no rows, those its consumer works on included."""
        return not self._held_rows

    def stats(self) -> EdgeStats:
        return EdgeStats(
            source=self.source,
            target=self.target,
            sent_rows=self._sent_rows,
            received_rows=self._finished_rows,
            dropped_rows=self._dropped_rows,
            in_flight_rows=self._held_rows,
            in_flight_bytes=self._held_bytes,
            peak_rows=self._peak_rows,
            peak_bytes=self._peak_bytes,
            sent_batches=self._sent_batches,
            fast_sends=self._sent_batches - self._waits,
            joint=self.is_joint,
            waits=self._waits,
            records=sorted(self.records),
        )

    # -- room --------------------------------------------------------------------------------------------------

    def has_room(self, batch: Batch) -> bool:
        """Whether the batch fits now; one larger than the bound fits when the edge holds nothing."""
        return not self._held_rows or (
            self._held_rows + batch.num_rows <= self.policy.max_rows
            and self._held_bytes + batch.num_bytes <= self.policy.max_bytes
        )

    def _put(self, batch: Batch) -> bool:
        if not self.has_room(batch) or not self.account.admits(self, batch):
            return False
        self._hold(batch)
        self._frames.append(batch)
        return True

    def _hold(self, batch: Batch) -> None:
        self._weigh(batch.num_rows, batch.num_bytes)
        self._sent_rows += batch.num_rows
        self._sent_batches += 1
        self.account.charge(batch)

    def _weigh(self, rows: int, num_bytes: int) -> None:
        self._held_rows += rows
        self._held_bytes += num_bytes
        if self._held_rows > self._peak_rows:
            self._peak_rows = self._held_rows
        if self._held_bytes > self._peak_bytes:
            self._peak_bytes = self._held_bytes

    def _make_room(self, batch: Batch) -> bool:
        """Apply the declared policy of a full edge; True when the frame is dealt with."""
        return _POLICIES[self.policy.when_full](self, batch)

    def _drop_newest(self, batch: Batch) -> bool:
        self._sent_rows += batch.num_rows
        self._sent_batches += 1
        self._dropped_rows += batch.num_rows
        return True

    def _drop_oldest(self, batch: Batch) -> bool:
        """Drop queued batches, oldest first; what the consumer is working on cannot be dropped."""
        while not self._put(batch):
            oldest = next((i for i, frame in enumerate(self._frames) if isinstance(frame, Batch)), None)
            if oldest is None:
                return False
            dropped = self._frames[oldest]
            assert isinstance(dropped, Batch)
            del self._frames[oldest]
            self._drop(dropped)
        return True

    def _conflate(self, batch: Batch) -> bool:
        """Keep the latest row of each key among what is queued and the new batch, each row where it stood.

        Rows stay on their side of every watermark. With more keys than the edge holds rows, the producer waits.
        """
        key = self.policy.key or "instrument_id"
        seen: set[object] = set()
        latest_of_new, _ = latest_rows(batch, key, seen)
        for i in range(len(self._frames) - 1, -1, -1):
            queued = self._frames[i]
            if isinstance(queued, Batch):
                kept, lost = latest_rows(queued, key, seen)
                if lost and self.account.replace(self, queued, kept):
                    self._dropped_rows += lost
                    self._held_rows -= lost
                    self._held_bytes += kept.num_bytes - queued.num_bytes
                    self._frames[i] = kept
        kept_frames = [frame for frame in self._frames if not isinstance(frame, Batch) or frame.num_rows]
        for frame in self._frames:
            if isinstance(frame, Batch) and not frame.num_rows:
                self._release(frame)
        self._frames = deque(kept_frames)
        lost_now = batch.num_rows - latest_of_new.num_rows
        if not self._put(latest_of_new):
            return False
        self._sent_rows += lost_now
        self._dropped_rows += lost_now
        return True

    def _block(self, batch: Batch) -> bool:
        return False

    def _miss(self, frame: Frame) -> None:
        """Nobody is there to receive it."""
        if isinstance(frame, Batch):
            self._drop_newest(frame)

    def _drop(self, batch: Batch) -> None:
        self._release(batch)
        self._dropped_rows += batch.num_rows

    def _release(self, batch: Batch) -> None:
        self._held_rows -= batch.num_rows
        self._held_bytes -= batch.num_bytes
        self.account.release(batch)


_POLICIES: dict[str, Callable[[Edge, Batch], bool]] = {
    "block": Edge._block,
    "conflate": Edge._conflate,
    "drop_oldest": Edge._drop_oldest,
    "drop_newest": Edge._drop_newest,
    "spill": Edge._block,
}
"""`spill` needs a disk: an edge that was given none waits."""
