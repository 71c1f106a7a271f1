"""Relief for the pool: the values of whole managers go to disk, those least recently used first, many in one hop."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, Protocol

from ..clock import Clock
from ..errors import DataError
from ..pool import Pool
from ..storage.workspace import Workspace
from .block import Block
from .cold import copied_bytes, write_blocks
from .eviction import PROBE_SECONDS, Eviction
from .hot import GROUP_BYTES

log = logging.getLogger(__name__)

HOP_VALUES: Final = 256
"""Values written per hop: those of members are small, and a hop costs as much as writing several."""


class Sheds(Protocol):
    """What can write the oldest of its rows when it is asked to, and presses again when that is done."""

    charged: int

    def shed(self) -> bool: ...


class PoolRelief:
    """Spills for all hybrid managers of a run, however far each is below its own budget.

    Managers stand in line as they were last stored to; one that was read since then is put back to the end when its
    turn comes. Of a manager the least recently used values go first, clean ones at once. One hop at a time.
    """

    def __init__(self, pool: Pool, workspace: Workspace, clock: Clock) -> None:
        self._pool, self._workspace, self._clock = pool, workspace, clock
        self._line: OrderedDict[Eviction, float] = OrderedDict()
        """Managers that hold something which could go, with their ticks when they were put here."""
        self.tables: list[Sheds] = []
        """What keeps rows of many together: its turn comes when no manager has anything left to spill."""
        self._managers = 0
        self._probe: asyncio.Task[None] | None = None
        self._flight: asyncio.Future[Any] | None = None
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
        return not self._resting and (
            self._flight is not None or bool(self._line) or any(table.charged for table in self.tables)
        )

    def note(self, eviction: Eviction) -> None:
        """Something was stored: this manager is the most recently used."""
        self._line[eviction] = eviction.tick
        self._line.move_to_end(eviction)

    def leave(self, eviction: Eviction | None = None) -> None:
        """The manager closes."""
        if eviction is not None:
            self._line.pop(eviction, None)
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
            excess = before - min(pool.low, pool.limit - pool.wanted)
            if excess <= 0:
                self._cooling = False
                return
            parts = self._gather(excess)
            if parts:
                self._write(parts)
            elif pool.charged == before:
                if not any(table.shed() for table in self.tables):
                    self._cooling = False  # nothing there to spill
                return  # who writes presses again

    def _gather(self, excess: int) -> list[tuple[Eviction, list[Block]]]:
        """Values to be written for so many bytes; clean ones are dropped here and now."""
        parts: list[tuple[Eviction, list[Block]]] = []
        size = values = 0
        began = self._pool.charged
        for _ in range(2 * len(self._line)):  # once round to spare those that were read, once to take
            wanted = excess - size - (began - self._pool.charged)
            if wanted <= 0 or size >= GROUP_BYTES or values >= HOP_VALUES or not self._line:
                break
            eviction, noted = next(iter(self._line.items()))
            if eviction.tick != noted or eviction.spill is not None:
                self.note(eviction)
                continue
            group = eviction.shed(wanted)
            if group:
                eviction.spill = asyncio.get_running_loop().create_future()  # held for what we are about to write
                parts.append((eviction, group))
                size += sum(block.size for block in group)
                values += len(group)
            if eviction.is_empty:
                self._line.pop(eviction, None)
            else:
                self.note(eviction)
        return parts

    def _write(self, parts: Sequence[tuple[Eviction, list[Block]]]) -> None:
        blocks = [block for _, group in parts for block in group]
        copies = copied_bytes(blocks)
        self._workspace.lend(copies)
        try:
            written = write_blocks(self._workspace, self, blocks)
        except DataError as error:
            written = asyncio.get_running_loop().create_future()
            written.set_exception(error)
        self._flight = written
        for eviction, _ in parts:
            eviction.spill = written
        written.add_done_callback(lambda written: self._written(parts, copies, written))

    def _written(
        self, parts: Sequence[tuple[Eviction, list[Block]]], copies: int, written: asyncio.Future[Any]
    ) -> None:
        self._flight = None
        self._workspace.give_back(copies)
        error = written.exception()
        self._busy = True
        if error is None:
            self.refused = None
            results = iter(written.result())
            for eviction, group in parts:
                self._pool.spills += len(group)
                size = sum(block.size for block in group)
                self._pool.spilled_bytes += size
                eviction.settle(group, list(islice(results, len(group))))
                self._workspace.churned(size)
        else:
            self._rest(error)
            for eviction, group in parts:
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
