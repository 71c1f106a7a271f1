"""The memory tier: resident values in order of use, and which of them leaves first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from .account import Account
from .block import ABSENT, Block, Slot

GROUP_BYTES: Final = 1 << 20
"""Bytes written per hop to a thread: less makes the hop a large part of the work, more delays everybody else."""
GROUP_VALUES: Final = 64


class MemoryTier:
    """Values in memory, least recently used first, each charged to the account while it is here."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.blocks: OrderedDict[Slot, Block] = OrderedDict()
        """What may be evicted; a block that is being written is here only if it was used meanwhile."""
        self.leaving_bytes = 0
        self.evictions = 0
        self.evicted_bytes = 0

    def put(self, block: Block) -> None:
        """Make a block the most recently used; its charge was taken by whoever admitted it."""
        self.blocks[block.slot] = block
        self.blocks.move_to_end(block.slot)

    def forget(self, block: Block) -> None:
        if self.blocks.get(block.slot) is block:
            del self.blocks[block.slot]

    def shed(self, target: int, *, write: bool, skip_dirty: bool = False) -> list[Block]:
        """Bring the charge towards `target`: drop clean blocks, hand out dirty ones to be written.

        Strictly least recently used first; without `write` the first dirty one ends it, because an older group is
        on its way. With `skip_dirty`, when the disk takes nothing, dirty ones are passed over. What is handed out
        stays charged until `left` or `stayed`.
        """
        group: list[Block] = []
        size = 0
        while self.blocks and self.account.charged - self.leaving_bytes > target:
            block = self._oldest_clean() if skip_dirty else next(iter(self.blocks.values()))
            if block is None:
                break
            if block.extent is not None:
                del self.blocks[block.slot]
                self._drop(block)
                continue
            if block.leaving:
                del self.blocks[block.slot]  # was used while being written, but everything else more recently
                continue
            if not write or len(group) == GROUP_VALUES or (group and size + block.size > GROUP_BYTES):
                break
            del self.blocks[block.slot]
            block.leaving = True
            self.leaving_bytes += block.size
            size += block.size
            group.append(block)
        return group

    def left(self, block: Block) -> None:
        """The block is on disk: it leaves, unless it was used while it was being written."""
        block.leaving = False
        self.leaving_bytes -= block.size
        if block.forgotten:
            block.value = ABSENT
            self.account.give(block.size)
        elif self.blocks.get(block.slot) is not block:
            self._drop(block)

    def stayed(self, block: Block) -> None:
        """The block could not be written: it is the least recently used one again."""
        block.leaving = False
        self.leaving_bytes -= block.size
        if block.forgotten:
            block.value = ABSENT
            self.account.give(block.size)
        elif block.slot not in self.blocks:
            self.blocks[block.slot] = block
            self.blocks.move_to_end(block.slot, last=False)

    def _drop(self, block: Block) -> None:
        block.value = ABSENT
        self.evictions += 1
        self.evicted_bytes += block.size
        self.account.give(block.size)

    def _oldest_clean(self) -> Block | None:
        return next((block for block in self.blocks.values() if block.extent is not None), None)
