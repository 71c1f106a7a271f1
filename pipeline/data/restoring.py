"""Bringing values back: room first, then one read however many ask, verified before anybody sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..clock import Clock
from ..errors import BackpressureTimeout, ValueTooLarge
from ..storage.workspace import Workspace
from .account import reached
from .block import ABSENT, Block
from .cold import SegmentTier
from .eviction import Eviction
from .hot import MemoryTier


class Restoring:
    """Reads blocks from the segment tier into the memory tier."""

    def __init__(
        self,
        name: str,
        memory: MemoryTier,
        disk: SegmentTier,
        eviction: Eviction,
        workspace: Workspace,
        clock: Clock,
        timeout_seconds: float,
        why: Callable[[str, int], str],
    ) -> None:
        self._name, self._memory, self._disk, self._eviction = name, memory, disk, eviction
        self._workspace, self._clock, self._timeout, self._why = workspace, clock, timeout_seconds, why
        self._account = memory.account
        self._reads: dict[asyncio.Future[Any], None] = {}
        self._queued: dict[Block, None] = {}
        """Blocks for which there is no room yet."""
        eviction.on_refused = self._lend_all
        self.restores = 0
        """Values read back."""

    async def load(self, block: Block) -> Any:
        """The value of a block wherever it is; concurrent callers share one read."""
        if block.resident:
            self._memory.put(block)
            return block.value
        if block.restoring is None:
            value = self._restore(block)
            if value is not ABSENT:
                return value
        future = block.restoring
        assert future is not None
        block.waiters += 1
        try:
            request = block.request
            if request is not None:
                if await reached(request.done, self._clock, self._timeout):
                    if not request.done.cancelled():  # else somebody has begun to read it on loan
                        request.done.result()
                elif block.request is request and not self._begin_on_loan(block):
                    raise BackpressureTimeout(self._why(f"{block.slot!r} could not be read back", block.restore_bytes))
            return await asyncio.shield(future)
        finally:
            block.waiters -= 1
            if block.waiters == 0 and block.request is not None and self._account.withdraw(block.request):
                self.end(block)

    async def peek(self, block: Block) -> Any:
        """The value for the caller alone, read on loan where it is on disk: nothing has to leave for it."""
        if block.resident or block.restoring is not None:
            return await self.load(block)
        need = block.restore_bytes
        self._workspace.borrow(need)
        block.pins += 1
        try:
            value = self._disk.read_nowait(block)
            if value is ABSENT:
                value = await asyncio.shield(self._disk.read(block))
            self.restores += 1
            return value
        finally:
            self._workspace.give_back(need)
            block.pins -= 1
            self._disk.release(block)

    def _restore(self, block: Block) -> Any:
        """Start bringing a block back; the value, if the page cache had it."""
        value = ABSENT
        need = block.restore_bytes
        if need > self._account.ceiling:
            self._workspace.borrow(need)
            self._begin_restore(block)
            self._read(block, need, on_loan=True)
        elif self._account.fits(need):
            self._account.take(need)
            value = self._disk.read_nowait(block)
            if value is not ABSENT:
                self._restored(block, value, need)
            else:
                self._begin_restore(block)
                self._read(block, need, on_loan=False)
        elif self._eviction.refused is not None:  # nothing will leave memory for it
            self._workspace.borrow(need)
            self._begin_restore(block)
            self._read(block, need, on_loan=True)
        else:
            self._begin_restore(block)
            self._queued[block] = None
            block.request = self._account.queue(lambda: need, lambda: self._read_admitted(block, need))
        self._eviction.tidy()
        return value

    def _begin_on_loan(self, block: Block) -> bool:
        """Read a block that waits for room that will not come; False where there is no reason to."""
        request = block.request
        if request is None or self._eviction.refused is None:
            return False
        self._workspace.borrow(block.restore_bytes)
        if not self._account.withdraw(request):
            self._workspace.give_back(block.restore_bytes)
            return False
        block.request = None
        self._queued.pop(block, None)
        self._read(block, block.restore_bytes, on_loan=True)
        return True

    def _lend_all(self) -> None:
        """The disk takes nothing, so that no room will come."""
        for block in tuple(self._queued):
            try:
                self._begin_on_loan(block)
            except ValueTooLarge:
                return  # they wait, as before

    def _begin_restore(self, block: Block) -> None:
        block.restoring = asyncio.get_running_loop().create_future()
        block.restoring.add_done_callback(lambda future: future.cancelled() or future.exception())

    def _read_admitted(self, block: Block, need: int) -> None:
        block.request = None
        self._queued.pop(block, None)
        self._read(block, need, on_loan=False)

    def _read(self, block: Block, need: int, *, on_loan: bool) -> None:
        job = self._disk.read(block)
        self._reads[job] = None
        job.add_done_callback(lambda job: self._read_done(block, need, on_loan, job))

    def _read_done(self, block: Block, need: int, on_loan: bool, job: asyncio.Future[Any]) -> None:
        self._reads.pop(job, None)
        error = job.exception()
        future = block.restoring
        if on_loan:
            self._workspace.give_back(need)
        elif error is not None:
            self._account.give(need)
        else:
            self._restored(block, job.result(), need)
        if error is None and on_loan:
            self.restores += 1
        self.end(block)
        if future is not None and not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(job.result())
        self._eviction.tidy()

    def _restored(self, block: Block, value: Any, charged: int) -> None:
        """The value is in memory again, with a clean copy on disk; its encoded form is let go.

        A block whose key means something else by now is only for the caller who began to read it before.
        """
        if block.forgotten:
            self._account.give(charged)
            return
        encoded = charged - block.restored_size
        block.value = value
        block.size = block.restored_size
        self.restores += 1
        self._memory.put(block)
        if encoded:
            self._account.give(encoded)

    def end(self, block: Block) -> None:
        self._queued.pop(block, None)
        block.restoring = block.request = None
        self._disk.release(block)

    async def finish(self) -> None:
        """Wait for the reads under way."""
        while self._reads:
            await asyncio.wait(tuple(self._reads))
