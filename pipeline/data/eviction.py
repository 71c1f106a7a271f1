"""Eviction: when it starts and stops, one group on its way at a time, and what happens when the disk refuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from ..clock import Clock
from ..errors import DiskFull
from ..pool import HIGH, LOW
from ..storage.extents import Extent
from ..storage.workspace import Workspace
from .block import Block
from .cold import SegmentTier, copied_bytes
from .hot import MemoryTier

log = logging.getLogger(__name__)

PROBE_SECONDS: Final = 1.0
"""How long eviction rests after the disk refused, before it tries again."""


def _nothing() -> None:
    """Nobody waits."""


class Eviction:
    """Moves the least recently used blocks from the memory tier to the segment tier, never waiting itself.

    Starts at 90 % of the manager's budget and stops at 75 %; where the pool of the process is short, its relief takes
    blocks with `shed` and brings them back with `settle` or `unsettle`.
    """

    def __init__(self, name: str, memory: MemoryTier, disk: SegmentTier, workspace: Workspace, clock: Clock) -> None:
        self._name, self._memory, self._disk, self._workspace, self._clock = name, memory, disk, workspace, clock
        self._account = memory.account
        self.high = int(HIGH * self._account.limit)
        self.low = int(LOW * self._account.limit)
        self.refused: BaseException | None = None
        """Why the disk took nothing last time."""
        self.resting = False
        """Nothing is written until the disk is tried again."""
        self.on_refused: Callable[[], None] = _nothing
        """Is called when the disk takes nothing: who waits for something to leave memory waits in vain."""
        self.spill: asyncio.Future[Any] | None = None
        """The one group being written."""
        self._cooling = False
        """Eviction has started and goes on until `low`."""
        self._probe: asyncio.Task[None] | None = None
        self._continuing: asyncio.Handle | None = None
        self._stopped = False

    @property
    def tick(self) -> float:
        """Rises with every use of the manager."""
        return self._memory.tick

    @property
    def put_tick(self) -> float:
        """What it was when something was stored last."""
        return self._memory.put_tick

    @property
    def dropped(self) -> int:
        """Values that have left memory so far."""
        return self._memory.evictions

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in memory but what is on its way to disk."""
        return self._account.charged <= self._memory.leaving_bytes

    @property
    def borrowed(self) -> int:
        """Bytes above the guarantee that are not on their way to disk; negative below it."""
        return self._account.charged - self._memory.leaving_bytes - self._account.guarantee

    def tidy(self) -> None:
        """Start or continue eviction if the budget asks for it. Never waits; at most one group is being written."""
        account = self._account
        if self._stopped:
            return
        if account.charged > self.high or account.waiting:
            self._cooling = True
        while self._cooling:
            before = account.charged
            target = self.low
            if account.waiting:
                target = min(target, account.limit - account.wanted)
            group = self._memory.shed(target, write=self.spill is None, skip_dirty=self.resting)
            if group:
                self._write(group)
            if self._memory.behind:
                self._continue_soon()
                return
            if group:
                continue
            if account.charged - self._memory.leaving_bytes <= self.low and not account.waiting:
                self._cooling = False
            elif account.charged == before:
                return  # a write is under way, or there is nothing to evict

    def _continue_soon(self) -> None:
        """Go on in another step of the loop, so that finding the oldest among many values delays nobody."""
        if self._continuing is None:

            def go_on() -> None:
                self._continuing = None
                self.tidy()

            self._continuing = asyncio.get_running_loop().call_soon(go_on)

    def _write(self, group: list[Block]) -> None:
        copies = copied_bytes(group)
        # As far as the budget has room; the rest comes from the process's reserve, where nobody but eviction waits, so
        # that it always progresses, and half of the room stays for those who store meanwhile.
        room = self._account.limit - self._account.charged
        if self._account.pool is not None:
            room = min(room, self._account.pool.free)
        charged = min(copies, room // 2)
        self._account.take(charged)

        def begin() -> asyncio.Future[Any]:
            self._disk.check_room(sum(block.size for block in group))
            return self._disk.write(group)

        self.spill = self._workspace.reserve.during(copies - charged, begin)
        self.spill.add_done_callback(lambda spill: self._written(group, charged, spill))

    def _written(self, group: list[Block], charged: int, spill: asyncio.Future[Any]) -> None:
        self.spill = None
        if self._memory.on_put is not None:
            self._memory.on_put()  # the pool's relief may have passed us over meanwhile
        error = spill.exception()
        if error is None:
            self.refused = None
            for block, (extent, context) in zip(group, spill.result(), strict=True):
                block.settle(extent, context)
                self._memory.left(block)
                self._disk.release(block)
        else:
            alone = isinstance(error, DiskFull) and len(group) > 1 and self._disk.has_places and not self._stopped
            if not alone:
                self._rest(error)
            for block in group[1:] if alone else group:
                self._memory.stayed(block)
            if alone:  # there may be a place for one of them
                self._account.give(charged)
                self._write(group[:1])
                return
        self._account.give(charged)
        self.tidy()

    def shed(self, num_bytes: int) -> list[Block]:
        """Let go of so many bytes for the pool: clean blocks at once, dirty ones are handed out to be written."""
        if self._stopped:
            return []
        group: list[Block] = []
        while not group:
            target = max(0, self._account.charged - self._memory.leaving_bytes - num_bytes)
            group = self._memory.shed(target, write=self.spill is None, skip_dirty=self.resting)
            if not self._memory.behind:
                break
        try:
            self._disk.check_room(sum(block.size for block in group))
        except DiskFull as error:
            self._rest(error)
            self.unsettle(group)
            return []
        return group

    def settle(self, group: list[Block], written: list[tuple[Extent, tuple[Any, ...]]]) -> None:
        """What `shed` handed out is on disk."""
        self.spill = self.refused = None
        self._disk.count(written)
        for block, (extent, context) in zip(group, written, strict=True):
            block.settle(extent, context)
            self._memory.left(block)
            self._disk.release(block)
        self.tidy()

    def unsettle(self, group: list[Block]) -> None:
        """What `shed` handed out stays in memory."""
        self.spill = None
        for block in group:
            self._memory.stayed(block)

    def _rest(self, error: BaseException) -> None:
        """The disk took nothing: everything stays in memory, and we try again in a while."""
        level = logging.WARNING if isinstance(error, DiskFull) else logging.ERROR
        log.log(level, "%s: eviction rests, the values stay in memory: %s", self._name, error)
        self.refused, self.resting = error, True
        self.on_refused()
        if self._stopped or self._probe is not None:
            return

        async def probe() -> None:
            await self._clock.sleep_until(self._clock.monotonic_ns() + int(PROBE_SECONDS * 1e9))
            self._probe = None
            self.try_again()
            self.tidy()
            if self._account.pool is not None:
                self._account.pool.press()

        self._probe = asyncio.get_running_loop().create_task(probe())

    def try_again(self) -> None:
        """There may be room on the disk now; the pool's relief, which has passed us over, is to know of us first."""
        if self.resting:
            self.resting = False
            if self._memory.on_put is not None:
                self._memory.on_put()

    async def flush(self) -> None:
        """Return when nothing is being written."""
        while self.spill is not None:
            await asyncio.wait((self.spill,))

    async def stop(self) -> None:
        """Start nothing more and wait for what is on its way."""
        self._stopped = True
        if self._probe is not None:
            self._probe.cancel()
        await self.flush()
