"""An edge whose overflow goes to disk and comes back in order: the producer goes on, nothing is lost."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, TypeAlias

import msgspec

from ...errors import DataError
from ...frames import Batch, Frame, Stored, Watermark
from ...storage import codecs
from ...storage.extents import Extent
from ...storage.workspace import Workspace
from ..edge import Edge, EdgePolicy, EdgeStats
from ..in_flight import POOL_PARTS, EdgesAccount
from ..kept import Kept
from .checkpointing import bring_back, keep, move_kept
from .place import Form, Place, as_batch, decode, encode, source

log = logging.getLogger(__name__)

Victim: TypeAlias = Callable[[int], int]
"""Of so many batches in memory, in the order they are needed, the last of them just arriving: which goes to disk."""

PROBE_SECONDS: Final = 1.0
"""How long the edge acts as one that blocks after the disk refused, before it tries again."""
MAX_KEY_BYTES: Final = 65_535
PARTS: Final = 128
"""What is on its way to disk, and what is read ahead, is one batch, or this part of the bound where that is more."""


def needed_last(count: int) -> int:
    """The newest. Memory then keeps what it holds until it is consumed: at a backlog of twice the memory half of the
    batches never see the disk, while any order by age writes and reads nearly all of them."""
    return count - 1


def open_edge(source: str, target: str, policy: EdgePolicy, account: EdgesAccount, workspace: Workspace) -> Edge:
    """The edge a policy asks for."""
    if policy.when_full == "spill":
        return SpillingEdge(source, target, policy, account, workspace)
    return Edge(source, target, policy, account)


class SpillingEdge(Edge):
    """The bound is what it holds in memory; what does not fit waits in the run's spill log, in its place in the order.

    All bytes in memory stay within the bound, those on their way to disk and back included: a part of it is kept free
    for each. Where the disk refuses, the edge acts as one that blocks and tries again every second; a batch that
    cannot be read back fails the consumer.
    """

    __slots__ = (
        "_asked", "_away", "_away_rows", "_broken", "_choose", "_coming_bytes", "_flight", "_hand", "_leaving",
        "_leaving_bytes", "_part_bytes", "_part_rows", "_probe", "_queued", "_reads", "_resting", "_spilled",
        "_spilled_bytes", "_workspace", "refused",
    )  # fmt: skip

    def __init__(
        self,
        source: str,
        target: str,
        policy: EdgePolicy,
        account: EdgesAccount | None,
        workspace: Workspace,
        choose: Victim = needed_last,
    ) -> None:
        super().__init__(source, target, policy, account)
        self._workspace, self._choose = workspace, choose
        self._part_rows, self._part_bytes = policy.max_rows // PARTS, policy.max_bytes // PARTS
        """Kept free for the way to disk, and as much for the way back."""
        self._leaving: list[Place] = []
        """To be written when the group under way is done."""
        self._flight: asyncio.Future[list[Extent]] | None = None
        self._away: list[tuple[int, Place]] = []
        """On disk only; a heap, the first to be needed on top."""
        self._reads: dict[asyncio.Future[Any], None] = {}
        self._hand: dict[int, Place] = {}
        """What the consumer works on, by the identity of the batch."""
        self._asked = False
        """The consumer waits for what is on disk."""
        self._queued = 0
        """Batches that stay in memory until they are received."""
        self._leaving_bytes = self._coming_bytes = self._away_rows = 0
        self._spilled = self._spilled_bytes = 0
        self._resting = False
        self._probe: asyncio.Task[None] | None = None
        self._broken: BaseException | None = None
        """Why a batch could not be read back."""
        self.refused: BaseException | None = None
        """Why the disk took nothing last time."""

    def stats(self) -> EdgeStats:
        return msgspec.structs.replace(
            super().stats(),
            in_flight_rows=self._held_rows + self._away_rows,
            spilled_batches=self._spilled,
            spilled_bytes=self._spilled_bytes,
            on_disk_rows=self._away_rows,
        )

    # -- the producer's end ------------------------------------------------------------------------------------

    def has_room(self, batch: Batch) -> bool:
        """Whether the batch may stay in memory until it is consumed."""
        staying = self._held_bytes - self._leaving_bytes - self._coming_bytes
        return not self._held_rows or (
            self._fits(batch.num_rows + 2 * self._part_rows, batch.num_bytes)
            and staying + batch.num_bytes + 2 * self._part_bytes <= self.policy.max_bytes
        )

    def _put(self, batch: Batch) -> bool:
        self._part_rows = max(self._part_rows, batch.num_rows)
        self._part_bytes = max(self._part_bytes, batch.num_bytes)
        if not self.has_room(batch) or not self.account.admits(self, batch):
            return False
        self._accept(batch)
        return True

    def _make_room(self, batch: Batch) -> bool:
        """Send the batch that is needed last to disk."""
        if self._resting:
            return False
        if not self._fits(batch.num_rows, batch.num_bytes):
            if self._queued and self._flight is None:  # what stayed because the disk had refused it
                self._send_away(self._choose(self._queued))
            return False
        if self._leaving_bytes and self._leaving_bytes + batch.num_bytes > self._part_bytes:
            return False  # until what goes before it has been written
        chosen = self._choose(self._queued + 1)
        self._accept(batch)
        self._send_away(chosen)
        return True

    def _send_away(self, chosen: int) -> None:
        """The batch that stands at `chosen` among those that stay in memory."""
        if chosen == self._queued - 1:
            place = next(frame for frame in reversed(self._frames) if isinstance(frame, Place) and frame.way == "stays")
        else:
            staying = (frame for frame in self._frames if isinstance(frame, Place) and frame.way == "stays")
            place = next(islice(staying, chosen, None))
        place.way = "leaves"
        self._queued -= 1
        self._leaving_bytes += place.num_bytes
        self._leaving.append(place)
        if self._flight is None:
            self._write()

    def _accept(self, batch: Batch) -> None:
        place = Place(batch, self._sent_batches)
        self._sent_rows += place.num_rows
        self._sent_batches += 1
        self._take(place, batch)
        self._frames.append(place)
        self._queued += 1

    def _fits(self, rows: int, num_bytes: int) -> bool:
        """Whether so much more may be in memory."""
        policy = self.policy
        return self._held_rows + rows <= policy.max_rows and self._held_bytes + num_bytes <= policy.max_bytes

    # -- the consumer's end ------------------------------------------------------------------------------------

    def receive_nowait(self) -> Frame | None:
        """The next frame, or None when there is none yet. Raises `CorruptEntry` when it was lost on the disk."""
        if self._broken is not None:
            raise self._broken
        place = self._frames[0] if self._frames else None
        if not isinstance(place, Place):
            return super().receive_nowait()
        batch = place.batch
        self._asked = batch is None
        if batch is not None:
            self._frames.popleft()
            place.gone = True
            self._hand[id(batch)] = place
            if place.way == "comes":
                self._arrive(place)
            elif place.way == "stays":
                self._queued -= 1
        self._read_ahead()
        return batch

    def finish(self, batch: Batch) -> None:
        super().finish(batch)
        self._read_ahead()

    def _release(self, batch: Batch) -> None:
        self._give(self._hand.pop(id(batch)))

    def detach(self) -> None:
        if self.detached:
            return
        self.detached = True
        for place in self._frames:
            if isinstance(place, Place):
                self._dropped_rows += place.num_rows
                place.gone = True
                if place.way == "away":
                    self._away_rows -= place.num_rows
                    self._free(place)
                    continue
                if place.way == "comes" and place.batch is not None:
                    self._arrive(place)
                self._give(place)
        self._frames.clear()
        self._away.clear()
        self._credit.ring()
        self.arrived.ring()

    # -- checkpoints -------------------------------------------------------------------------------------------

    def keep(self, batch: Batch | Place) -> Kept:
        """Where it is on disk, or gets there, it is kept there."""
        place: Place = batch if isinstance(batch, Place) else self._hand.get(id(batch)) or self._frames[-1]
        if self._broken is not None:
            raise self._broken
        return keep(place, self.account, self._workspace)

    async def bring_back(self, frames: Sequence[Batch | Stored | Watermark]) -> list[Any]:
        """What a checkpoint has of an equal edge, for `go_on`: on disk again, but for what half the bound holds."""
        policy, pool = self.policy, self.account.pool
        room = policy.max_bytes if pool is None else min(policy.max_bytes, pool.limit // POOL_PARTS)
        return await bring_back(frames, policy.max_rows // 2, room // 2, self._append, self._workspace)

    def go_on(self, finished_rows: int, frames: Sequence[Any], head: Batch | None = None) -> None:
        """Begin where a checkpoint left an equal edge, with what `bring_back` has made of its frames."""
        self._sent_rows = self._finished_rows = finished_rows
        for frame in frames if head is None else (head, *frames):
            if isinstance(frame, Place):
                self._put_back(frame)
            elif not isinstance(frame, Batch):
                self._frames.append(frame)
            else:
                self._accept(frame)
                if frame is head:
                    assert self.receive_nowait() is head

    def _put_back(self, place: Place) -> None:
        place.order = self._sent_batches
        self._sent_rows += place.num_rows
        self._sent_batches += 1
        self._part_rows = max(self._part_rows, place.num_rows)
        self._frames.append(place)
        self._is_away(place)

    async def close(self) -> None:
        """Let go of everything; what a thread writes or reads is waited for."""
        self.detach()
        if self._probe is not None:
            self._probe.cancel()
        while self._flight is not None or self._reads:
            await asyncio.wait([*self._reads, *([self._flight] if self._flight is not None else [])])
            await asyncio.sleep(0)  # who was to be told of it comes before us
        for place in list(self._hand.values()):
            self._give(place)
        self._hand.clear()

    # -- bytes -------------------------------------------------------------------------------------------------

    def _take(self, place: Place, claim: Batch | Place) -> None:
        self._weigh(place.num_rows, place.num_bytes)
        if self.account.admits(self, claim):
            self.account.charge(claim)
            place.claim = claim
        else:
            self._workspace.lend(place.num_bytes)
            place.claim = None

    def _give(self, place: Place) -> None:
        """Rows and bytes are held no more; bytes a thread still holds are given back when it returns."""
        self._held_rows -= place.num_rows
        place.released = True
        if place.way == "stays":
            self._give_bytes(place)

    def _give_bytes(self, place: Place) -> None:
        self._held_bytes -= place.num_bytes
        claim, place.claim, place.batch = place.claim, None, None
        if claim is not None:
            self.account.release(claim)
        else:
            self._workspace.give_back(place.num_bytes)

    # -- to disk -----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        """Write what waits for it, as one group; what the consumer has taken meanwhile needs no copy."""
        group, self._leaving = self._leaving, []
        for place in [place for place in group if place.gone]:
            self._stay(place)
        group = [place for place in group if not place.gone]
        if not group:
            return
        forms: list[Form] = []
        copies = sum(place.num_bytes for place in group)
        begin = partial(self._append, group, forms)
        self._flight = flight = self._workspace.reserve.during(copies, begin)
        flight.add_done_callback(lambda flight: self._written(group, forms, flight))

    def _append(self, group: Sequence[Place], forms: list[Form]) -> asyncio.Future[list[Extent]]:
        key = f"{self.source} -> {self.target}".encode()[:MAX_KEY_BYTES]
        sources = [(key, next(self._workspace.generations), source(place.batch)) for place in group]
        return self._workspace.spill.append(self, partial(encode, sources, forms))

    def _written(
        self,
        group: Sequence[Place],
        forms: Sequence[Form],
        flight: asyncio.Future[list[Extent]],
    ) -> None:
        self._flight = None
        error = flight.exception()
        if error is not None:
            self._rest(error)
            for place in group:
                self._stay(place)
        else:
            self.refused = None
            for place, extent, form in zip(group, flight.result(), forms, strict=True):
                place.lies(extent, form)
                self._spilled += 1
                self._spilled_bytes += extent.length
                move_kept(place, self._workspace)
                if place.gone:
                    self._free(place)
                    self._stay(place)
                else:
                    self._leave(place)
        self._read_ahead()
        if self._flight is None:
            self._write()
        self._credit.ring()

    def _stay(self, place: Place) -> None:
        place.way = "stays"
        self._queued += not place.gone
        self._leaving_bytes -= place.num_bytes
        if place.released:
            self._give_bytes(place)

    def _leave(self, place: Place) -> None:
        assert place.extent is not None
        self._leaving_bytes -= place.num_bytes
        self._held_rows -= place.num_rows
        self._give_bytes(place)
        self._is_away(place)

    def _is_away(self, place: Place) -> None:
        place.is_away()
        self._part_bytes = max(self._part_bytes, place.num_bytes)
        self._away_rows += place.num_rows
        heapq.heappush(self._away, (place.order, place))

    def _rest(self, error: BaseException) -> None:
        """The disk took nothing: what is here stays, and the producer waits until there is room or a disk."""
        log.warning("%s -> %s: spilling rests, batches stay in memory: %s", self.source, self.target, error)
        self.refused, self._resting = error, True
        clock = self.account.clock

        async def probe() -> None:
            await clock.sleep_until(clock.monotonic_ns() + int(PROBE_SECONDS * 1e9))
            self._resting = False
            self._credit.ring()

        if not self.detached:
            self._probe = asyncio.get_running_loop().create_task(probe())

    # -- and back ----------------------------------------------------------------------------------------------

    def _read_ahead(self) -> None:
        """Read what is needed next, as far as a part of the bound goes."""
        while self._away:
            place = self._away[0][1]
            if self._asked and self._frames[0] is place:
                stuck = not self._hand and self._flight is None
                if not stuck and not self._fits(place.num_rows, place.num_bytes):
                    return
            else:
                spare = max(0, self._part_bytes - self._leaving_bytes)  # for one that leaves
                if self._coming_bytes and self._coming_bytes + place.num_bytes > self._part_bytes:
                    return
                if not self._fits(place.num_rows + self._part_rows, place.num_bytes + spare):
                    return
            heapq.heappop(self._away)
            self._read(place)

    def _read(self, place: Place) -> None:
        assert place.extent is not None
        place.way = "comes"
        self._away_rows -= place.num_rows
        self._coming_bytes += place.num_bytes
        self._take(place, place)
        copies = place.extent.length if place.kind in codecs.COPYING else 0
        self._workspace.lend(copies)
        read: asyncio.Future[Any]
        try:
            read = self._workspace.spill.read(self, place.extent, partial(decode, place.kind, place.context))
        except DataError as error:
            read = asyncio.get_running_loop().create_future()
            read.set_exception(error)
        self._reads[read] = None
        read.add_done_callback(lambda read: self._was_read(place, copies, read))

    def _was_read(self, place: Place, copies: int, read: asyncio.Future[Any]) -> None:
        del self._reads[read]
        self._workspace.give_back(copies)
        error = read.exception()
        self._free(place)
        if error is not None:
            log.error(
                "%s -> %s: %d rows, %d bytes from row %d on are lost: %s",
                self.source, self.target, place.num_rows, place.num_bytes, place.origin[1], error,
            )  # fmt: skip
            self._broken = error
        if place.gone or error is not None:
            self._arrive(place)
            if place.released:
                self._give_bytes(place)
        else:
            place.batch = as_batch(read.result(), place.origin)
        self.arrived.ring()

    def _arrive(self, place: Place) -> None:
        place.way = "stays"
        self._coming_bytes -= place.num_bytes

    def _free(self, place: Place) -> None:
        if place.extent is not None:
            extent, place.extent = place.extent, None
            self._workspace.spill.free(extent)
