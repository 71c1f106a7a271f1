"""The unit that moves between memory and disk: a single value, or one piece of a series."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..storage import codecs
from ..storage.sizing import ENTRY_BYTES
from .base import Key, key_bytes

if TYPE_CHECKING:
    from ..storage.extents import Extent
    from .account import Request

ABSENT: Final[Any] = object()
"""Stands for a value that is on disk only."""


class Block:
    """One value and where it is; never reused for another value, so its identity is its generation.

    | state | value | extent | leaving | restoring |
    |---|---|---|---|---|
    | in memory | there | - | no | - |
    | in memory, clean | there | there | no | - |
    | evicting | there | - | yes | - |
    | on disk | ABSENT | there | no | - |
    | restoring | ABSENT | there | no | future |
    """

    __slots__ = (
        "_record_key", "context", "extent", "forgotten", "kind", "leaving", "pins", "queued", "request",
        "restored_size", "restoring", "seal", "size", "slot", "used", "value", "waiters",
    )  # fmt: skip

    def __init__(self, slot: Key | None, record_key: bytes | None, value: Any, size: int, kind: int) -> None:
        self.slot: Slot = self if slot is None else slot
        """Its place in the memory tier: the key of a single value, the block itself in a series."""
        self._record_key = record_key
        self.value = value
        self.size = size
        """Bytes charged while the value is in memory."""
        self.kind = kind
        self.context: tuple[Any, ...] = ()
        self.seal: int | None = None
        """Checksum of its bytes as they were when it was stored, where values are checked."""
        self.extent: Extent | None = None
        self.restored_size = size
        """Bytes charged after it has been read from disk."""
        self.used = 0.0
        """The memory tier's tick of its last use."""
        self.queued = False
        """Whether the memory tier's queue has an entry for it."""
        self.leaving = 0.0
        """`used` as it was when a thread began to write it, else 0. Until the thread returns the value stays in
        memory, and charged."""
        self.forgotten = ""
        """`replaced` or `deleted` once the key no longer means this block."""
        self.restoring: asyncio.Future[Any] | None = None
        self.request: Request | None = None
        """The restore's place in the queue for room."""
        self.waiters = 0
        self.pins = 0
        """Readers that will still need the extent, even if the block is forgotten meanwhile."""

    @property
    def record_key(self) -> bytes:
        """The key as its records bear it; made anew for a single value, whose slot says it already."""
        if self._record_key is None:
            assert not isinstance(self.slot, Block)
            return key_bytes(self.slot)
        return self._record_key

    @property
    def resident(self) -> bool:
        return self.value is not ABSENT

    @property
    def open(self) -> bool:
        """Whether rows may still be added: no thread reads it and no copy of it is on disk."""
        return self.value is not ABSENT and not self.leaving and self.extent is None

    @property
    def reusable_size(self) -> int:
        """Bytes that forgetting the block frees at once."""
        return self.size if self.value is not ABSENT and not self.leaving else 0

    def settle(self, extent: Extent, context: tuple[Any, ...]) -> None:
        """The value is on disk now, too."""
        self.extent, self.context = extent, context
        if self.kind not in codecs.COPYING:
            # Read back, the value looks into the payload and keeps all of it alive.
            self.restored_size = extent.length + ENTRY_BYTES

    @property
    def restore_bytes(self) -> int:
        """Bytes needed while it is read: the value, and its encoded form where the value is no view into that."""
        assert self.extent is not None
        return self.restored_size + (self.extent.length if self.kind in codecs.COPYING else 0)


Slot: TypeAlias = Key | Block
