"""The memory tier: resident values, when each was used last, and which of them leaves first."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, Protocol

from .account import Account
from .block import ABSENT, Block, Slot

GROUP_BYTES: Final = 1 << 20
"""Bytes written per hop to a thread: less makes the hop a large part of the work, more delays everybody else."""
GROUP_VALUES: Final = 64
CORRECTIONS: Final = 1000
"""Entries of the queue put right in one step: about a millisecond, however many values were used meanwhile."""
SPARE_ENTRIES: Final = 64
"""Entries of values that are gone which the queue may hold besides as many as there are values."""


class Ticking(Protocol):
    """Whoever serves the hits, and so counts the uses."""

    tick: float
    """Rises by one with each use, so that no two blocks were last used at the same tick.

    A float because CPython keeps freed ones at hand, unlike ints: counting is a fifth cheaper. Exact up to 2**53.
    """


class MemoryTier:
    """Values in memory, each charged to the account while it is here; the least recently used leaves first.

    A hit is the hot path and keeps no order: it looks a block up in `blocks` and writes the rising tick into it.
    The order is found when something has to leave, from a heap of (tick, block) with one entry per block. An entry
    older than its block's last use is put back at its right place when it comes to the top, so what leaves is
    exactly the least recently used, and each correction is paid for by a use.
    """

    def __init__(self, account: Account, ticking: Ticking) -> None:
        self.account = account
        self.blocks: dict[Slot, Block] = {}
        """Everything resident, what is being written included."""
        self.leaving_bytes = 0
        self.evictions = 0
        self.evicted_bytes = 0
        self.behind = False
        """The last `shed` ended because it had corrected enough for one step; call it again in another."""
        self.put_tick = 0.0
        """Of the last `put`."""
        self.on_put: Callable[[], None] | None = None
        """Called with every `put`, where a pool wants to know who was used last."""
        self._ticking = ticking
        self._queue: list[tuple[float, Block]] = []

    @property
    def tick(self) -> float:
        return self._ticking.tick

    def put(self, block: Block) -> None:
        """Make a block the most recently used; its charge was taken by whoever admitted it."""
        ticking = self._ticking
        ticking.tick = block.used = self.put_tick = ticking.tick + 1.0
        self.blocks[block.slot] = block
        if not block.leaving:
            self._enqueue(block)
        if self.on_put is not None:
            self.on_put()

    def forget(self, block: Block) -> None:
        if self.blocks.get(block.slot) is block:
            del self.blocks[block.slot]
            self._bound_queue()

    def shed(self, target: int, *, write: bool, skip_dirty: bool = False) -> list[Block]:
        """Bring the charge towards `target`: drop clean blocks, hand out dirty ones to be written.

        Strictly least recently used first; without `write` the first dirty one ends it, because an older group is
        on its way. With `skip_dirty`, when the disk takes nothing, dirty ones are passed over. What is handed out
        stays charged until `left` or `stayed`.
        """
        self.behind = False
        if skip_dirty:
            self._shed_clean(target)
            return []
        group: list[Block] = []
        size = 0
        corrections = CORRECTIONS
        queue = self._queue
        while queue and self.account.charged - self.leaving_bytes > target:
            tick, block = queue[0]
            if self.blocks.get(block.slot) is not block:
                self._dequeue()  # left or forgotten, by another way
                continue
            if block.used != tick:
                if corrections == 0:
                    self.behind = True
                    break
                corrections -= 1
                heapq.heapreplace(queue, (block.used, block))
                continue
            if block.extent is not None:
                self._dequeue()
                self._drop(block)
                continue
            if not write or len(group) == GROUP_VALUES or (group and size + block.size > GROUP_BYTES):
                break
            self._dequeue()
            block.leaving = tick
            self.leaving_bytes += block.size
            size += block.size
            group.append(block)
        return group

    def left(self, block: Block) -> None:
        """The block is on disk: it leaves, unless it was used while it was being written."""
        unused = block.used == block.leaving
        self.stayed(block, stays=not unused)
        if unused and not block.forgotten:
            self._drop(block)
            self._bound_queue()

    def stayed(self, block: Block, *, stays: bool = True) -> None:
        """The block could not be written; it is as old as its last use. Without `stays` it is about to leave."""
        block.leaving = 0.0
        self.leaving_bytes -= block.size
        if block.forgotten:
            block.value = ABSENT
            self.account.give(block.size)
        elif stays:
            self._enqueue(block)
            if self.on_put is not None:
                self.on_put()

    def _drop(self, block: Block) -> None:
        del self.blocks[block.slot]
        block.value = ABSENT
        self.evictions += 1
        self.evicted_bytes += block.size
        self.account.give(block.size)

    def _shed_clean(self, target: int) -> None:
        clean = [block for block in self.blocks.values() if block.extent is not None and not block.leaving]
        for block in sorted(clean, key=lambda block: block.used):
            if self.account.charged - self.leaving_bytes <= target:
                break
            if self.blocks.get(block.slot) is block:  # whom the last one made room for may have replaced it
                self._drop(block)
        self._bound_queue()

    def _enqueue(self, block: Block) -> None:
        if not block.queued:
            block.queued = True
            heapq.heappush(self._queue, (block.used, block))
            self._bound_queue()

    def _dequeue(self) -> None:
        heapq.heappop(self._queue)[1].queued = False

    def _bound_queue(self) -> None:
        """Entries of blocks that are gone cost nothing to leave behind; here they go once they are the majority."""
        if len(self._queue) <= 2 * len(self.blocks) + SPARE_ENTRIES:
            return
        kept = []
        for _, block in self._queue:
            block.queued = self.blocks.get(block.slot) is block
            if block.queued:
                kept.append((block.used, block))
        heapq.heapify(kept)
        self._queue[:] = kept
