"""An edge between two stages that share a task: nothing waits on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..errors import EdgeClosed
from ..frames import Batch, End, Frame
from .edge import REPLAY, Edge
from .in_flight import EdgesAccount


class Joint(Edge):
    """An edge without a queue: the producer's task does the consumer's work, and sending returns when it is done.

    For consumers with one input whose logic is plain and runs on the loop: a task of their own could not run beside
    the producer's anyway, and a batch worked on at once is still in the processor's cache.
    """

    __slots__ = ("_consume",)
    is_joint = True

    def __init__(self, source: str, target: str, account: EdgesAccount | None = None) -> None:
        super().__init__(source, target, REPLAY, account)
        self._consume: Callable[[Frame], Awaitable[None]] | None = None

    def join(self, consume: Callable[[Frame], Awaitable[None]]) -> None:
        """Name the consumer's work on one frame."""
        self._consume = consume

    def send_nowait(self, frame: Frame) -> bool:
        if self.detached:
            self._miss(frame)
        return self.detached

    async def send(self, frame: Frame) -> None:
        if self.detached:
            self._miss(frame)
            return
        if self.producer_done:
            raise EdgeClosed(f"the edge {self.source} -> {self.target} is closed; nothing can be sent on it")
        assert self._consume is not None, "a joint is joined before its producer runs"
        if isinstance(frame, Batch):
            self._held_rows = self._peak_rows = frame.num_rows
            self._sent_rows += frame.num_rows
            self._sent_batches += 1
            await self._consume(frame)
            self._finished_rows += frame.num_rows
            self._held_rows = 0
        else:
            self.producer_done = isinstance(frame, End)
            await self._consume(frame)
