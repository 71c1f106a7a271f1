"""Relief for the pool: values go to disk from whoever is furthest above its guarantee, many in one hop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, Protocol

from ..clock import Clock
from ..pool import Pool
from ..storage.workspace import Workspace
from .block import Block
from .cold import copied_bytes, write_blocks
from .eviction import PROBE_SECONDS, Eviction
from .hot import GROUP_BYTES
from .victims import Victim, Victims

log = logging.getLogger(__name__)

HOP_VALUES: Final = 256
"""Values written per hop: those of members are small, and a hop costs as much as writing several."""
STEP_BYTES: Final = 4096
"""Taken from one manager before the next is looked for, where several are equally far above their guarantees."""


class Sheds(Victim, Protocol):
    """What can write the oldest of its rows when it is asked to."""

    charged: int

    def shed(self) -> tuple[int, asyncio.Future[None]] | None:
        """Write the oldest: how many bytes, and when they are on disk; None where there is nothing."""


class PoolRelief:
    """Spills for all hybrid managers of a run, however far each is below its own budget.

    Nobody is taken below its guarantee while anybody is above; when nobody is any more, only for somebody who would
    otherwise wait in vain. Of a manager the least recently used values go first, clean ones at once. One hop at a time.
    """

    def __init__(self, pool: Pool, workspace: Workspace, clock: Clock) -> None:
        self._pool, self._workspace, self._clock = pool, workspace, clock
        self.victims: Victims[Eviction | Sheds] = Victims()
        self._managers = 0
        self._probe: asyncio.Task[None] | None = None
        self._flight: asyncio.Future[Any] | None = None
        self._tables: dict[Sheds, int] = {}
        """Tables that write for us, and how much."""
        self._cooling = False
        self._resting = False
        self._busy = False
        """Bytes are being given back one by one, which asks for relief each time; we look once at the end."""
        self.refused: BaseException | None = None
        """Why the disk took nothing last time."""

    @staticmethod
    def join(workspace: Workspace, clock: Clock) -> PoolRelief | None:
        """A manager joins the one of this run, made now if there was none; None without a pool."""
        pool = workspace.pool
        if pool is None:
            return None
        if not isinstance(pool.relief, PoolRelief):
            pool.relief = PoolRelief(pool, workspace, clock)
        pool.relief._managers += 1
        return pool.relief

    @property
    def hopeful(self) -> bool:
        """Whether there is something to spill, or on its way to disk."""
        return not self._resting and (self._flight is not None or bool(self._tables) or bool(self.victims))

    def note(self, victim: Eviction | Sheds) -> None:
        """Something was stored: this one is the most recently used, and may have more than before."""
        self.victims.note(victim)

    def leave(self, victim: Eviction | Sheds) -> None:
        """The manager closes."""
        self.victims.forget(victim)
        self._managers -= 1
        if not self._managers and self._probe is not None:
            self._probe.cancel()

    def press(self) -> None:
        """Make room until the pool is down to its low mark and nobody waits for it."""
        pool = self._pool
        if self._busy:
            return
        self._busy = True
        try:
            self._make_room(pool)
        finally:
            self._busy = False

    def _make_room(self, pool: Pool) -> None:
        if pool.charged > pool.high or pool.wanted:
            self._cooling = True
        while self._cooling and self._flight is None and not self._resting:
            before = pool.charged
            excess = before - sum(self._tables.values()) - min(pool.low, pool.limit - pool.wanted)
            if excess <= 0:
                self._cooling = bool(self._tables)
                return
            parts = self._gather(excess)
            if parts:
                self._write(parts)
            elif pool.charged == before:
                self._cooling = bool(self._tables)  # nothing there to spill, or the tables press again
                return

    def _gather(self, excess: int) -> Mapping[Eviction, list[Block]]:
        """Values to be written for so many bytes; clean ones are dropped here and now, and tables begin to write."""
        parts: dict[Eviction, list[Block]] = {}
        size = values = 0
        pool, victims = self._pool, self.victims
        began = pool.charged - sum(self._tables.values())
        while size < GROUP_BYTES and values < HOP_VALUES:
            wanted = excess - size - (began - (pool.charged - sum(self._tables.values())))
            victim = victims.furthest(pool.managers) if wanted > 0 else None
            if victim is None:
                break
            borrowed = victim.borrowed
            if borrowed <= 0 and not pool.wanted:
                break  # what is left is guaranteed
            if not isinstance(victim, Eviction):
                self._begin_table(victim)
                continue
            if victim.spill is not None:
                self._pass_over(victim)
                continue
            step = min(wanted, max(STEP_BYTES, victims.ahead()))
            dropped = victim.dropped  # of the pool's charge nothing can be told: who waits may have what comes free
            group = victim.shed(step if borrowed <= 0 else min(step, borrowed))
            parts.setdefault(victim, []).extend(group)
            size += sum(block.size for block in group)
            values += len(group)
            if victim.is_empty or (not group and victim.dropped == dropped):
                victims.forget(victim)  # or its disk refuses: it is noted when that is tried again
        parts = {victim: group for victim, group in parts.items() if group}
        for victim in parts:
            victim.spill = asyncio.get_running_loop().create_future()  # held for what we are about to write
        return parts

    def _pass_over(self, victim: Eviction) -> None:
        """It is writing already, and is noted again when that is done."""
        self.victims.forget(victim)
        assert victim.spill is not None
        victim.spill.add_done_callback(lambda _: self.press())

    def _begin_table(self, table: Sheds) -> None:
        """Its oldest rows go to disk; it comes back when they are there."""
        self.victims.forget(table)
        begun = None if table in self._tables else table.shed()  # what was stored meanwhile has noted it again
        if begun is None:
            return
        num_bytes, writing = begun
        self._tables[table] = num_bytes

        def written(_: asyncio.Future[None]) -> None:
            del self._tables[table]
            error = None if writing.cancelled() else writing.exception()
            if error is not None:
                self._rest(error)
            else:
                self._pool.spilled_bytes += num_bytes
            if table.charged:
                self.note(table)
            self.press()

        writing.add_done_callback(written)

    def _write(self, parts: Mapping[Eviction, list[Block]]) -> None:
        blocks = [block for group in parts.values() for block in group]
        copies = copied_bytes(blocks)
        written = self._workspace.reserve.during(copies, lambda: write_blocks(self._workspace, self, blocks))
        self._flight = written
        for eviction in parts:
            eviction.spill = written
        written.add_done_callback(lambda written: self._written(parts, written))

    def _written(self, parts: Mapping[Eviction, list[Block]], written: asyncio.Future[Any]) -> None:
        self._flight = None
        error = written.exception()
        self._busy = True
        if error is None:
            self.refused = None
            results = iter(written.result())
            for eviction, group in parts.items():
                self._pool.spills += len(group)
                size = sum(block.size for block in group)
                self._pool.spilled_bytes += size
                eviction.settle(group, list(islice(results, len(group))))
                self._workspace.churned(size)
        else:
            self._rest(error)
            for eviction, group in parts.items():
                eviction.unsettle(group)
        self._busy = False
        self.press()

    def _rest(self, error: BaseException) -> None:
        """The disk took nothing: everything stays in memory, and we try again in a while."""
        log.warning("spilling for the pool rests, the values stay in memory: %s", error)
        self.refused, self._resting = error, True

        async def probe() -> None:
            await self._clock.sleep_until(self._clock.monotonic_ns() + int(PROBE_SECONDS * 1e9))
            self._resting = False
            self.press()

        self._probe = asyncio.get_running_loop().create_task(probe())
