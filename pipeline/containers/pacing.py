"""Cuts what a feed has read to what is due, and waits for the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np

from ..frames import Batch, Watermark, receive_times
from ..timeline import Pace, merged


class Paced:
    """One feed on its timeline: batches become parts that are due together, in order.

    Rows before `from_ns`, which only warm up, are due at once. `promise` sends a watermark: while a feed waits,
    others' rows must not wait for it in a merge.
    """

    def __init__(
        self,
        pace: Pace,
        promise: Callable[[Watermark], Awaitable[None]],
        *,
        lateness_ns: int = 0,
        from_ns: int | None = None,
    ) -> None:
        self.pace, self.lateness_ns, self.from_ns = pace, lateness_ns, from_ns
        self._promise = promise

    async def parts(self, item: Batch | tuple[Batch, ...]) -> AsyncIterator[Batch | tuple[Batch, ...]]:
        """The item itself where nothing has to wait, else its rows up to each moment at which some are due."""
        batches = item if isinstance(item, tuple) else (item,)
        if not self.pace.timeline.holds:
            yield item
            return
        found = [receive_times(batch) for batch in batches]
        # What is recorded to step back comes when what was before it came.
        stamps = [np.maximum(np.maximum.accumulate(times), self.pace.reached) for times in found if times is not None]
        if len(stamps) < len(batches):
            yield item
            return
        together = merged(stamps)
        begun, at = [0] * len(batches), 0
        while at < len(together):
            stop = 0 if self.from_ns is None else int(np.searchsorted(together, self.from_ns))
            if stop <= at:
                if self.pace.timeline.is_shared:
                    await self._tell_next(batches, begun)
                stop = await self.pace.reach(together, at)
            if stop == at:
                return  # it was stopped while it waited
            ends = [int(np.searchsorted(times, together[stop - 1], side="right")) for times in stamps]
            cut = zip(batches, begun, ends, strict=True)
            parts = [batch.slice(start, end - start) for batch, start, end in cut if end > start]
            yield tuple(parts) if isinstance(item, tuple) else parts[0]
            at, begun = sum(ends), ends

    async def _tell_next(self, batches: tuple[Batch, ...], begun: list[int]) -> None:
        """No row to come is earlier than the earliest that is left, but for the lateness."""
        left = [batch.slice(at).min_ts for batch, at in zip(batches, begun, strict=True) if at < batch.num_rows]
        newest = min((ts for ts in left if ts is not None), default=None)
        if newest is not None:
            await self._promise(Watermark(newest - self.lateness_ns))
