"""What a checkpoint keeps of a batch that was under way, until it is written."""

from __future__ import annotations

from collections.abc import Callable

from ..frames import Batch, Stored


def _nothing() -> None:
    pass


class Kept:
    """One batch: in memory, its bytes charged, or on the edge's disk, where it stays readable; until `close`."""

    __slots__ = ("_let_go", "content", "is_open", "num_bytes", "on_move", "stays")

    def __init__(self, content: Batch | Stored, let_go: Callable[[], None], num_bytes: int = 0) -> None:
        self.content, self._let_go = content, let_go
        self.num_bytes = num_bytes
        """Charged for it; what is on loan is on its way to disk, or one batch from there."""
        self.on_move: Callable[[int], None] = lambda num_bytes: None
        """Called with the bytes that are charged no more."""
        self.is_open = True
        self.stays = False
        """It has to be in memory."""

    def move(self, content: Stored, let_go: Callable[[], None]) -> None:
        """It is on disk now, and need not be in memory."""
        self._let_go()
        freed, self.num_bytes = self.num_bytes, 0
        self.content, self._let_go = content, let_go
        self.on_move(freed)

    def close(self) -> None:
        """Let go of it; idempotent."""
        let_go, self._let_go, self.is_open = self._let_go, _nothing, False
        let_go()
