"""The memory all containers of a process share: how much of it is taken, by whom, and who waits for room."""

from __future__ import annotations

from collections import deque
from heapq import nlargest
from typing import Final, Protocol

HIGH: Final = 0.90
"""Share of a budget above which values are spilled."""
LOW: Final = 0.75
"""Share of a budget at which spilling stops."""
HOLDERS_NAMED: Final = 3


class Holder(Protocol):
    """Whoever has bytes of the pool: a data manager's account, or the edges together."""

    name: str
    charged: int


class Waiter(Protocol):
    """Whoever waits for bytes of the pool."""

    @property
    def pool_need(self) -> int:
        """Bytes it would take now; 0 when it wants none, or its own limit forbids it."""

    def serve(self) -> None:
        """There is room: take it in this step, or in another, staying first in line until then."""


class Relief(Protocol):
    """Whoever can make room by moving values to disk."""

    def press(self) -> None:
        """Begin or go on to make room; never waits."""

    @property
    def hopeful(self) -> bool:
        """Whether there is something to spill, or on its way to disk."""

    @property
    def refused(self) -> BaseException | None:
        """Why the disk took nothing last time."""


class Pool:
    """Bytes charged by all data managers and edges against `process_memory_mb`; the sum never exceeds it.

    Each manager's own limit is a ceiling within the pool, so their sum may be far above it. When the pool is short the
    order is always: spill (above 90 %, down to 75 %, the least recently used manager first), then wait, first come
    first served, then fail with an error that names the pool and who holds most of it. Lives on one loop.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self.high, self.low = int(HIGH * limit_bytes), int(LOW * limit_bytes)
        self.charged = 0
        self.peak = 0
        self.waits = 0
        """Times somebody had to wait for the pool."""
        self.spills = 0
        """Values written to disk because the pool was short, not their manager's own budget."""
        self.spilled_bytes = 0
        self.relief: Relief | None = None
        self._holders: dict[Holder, None] = {}
        self._line: deque[Waiter] = deque()
        self._serving = False

    @property
    def free(self) -> int:
        return self.limit - self.charged

    @property
    def wanted(self) -> int:
        """Bytes the first in line needs; 0 when nobody waits."""
        return self._line[0].pool_need if self._line else 0

    @property
    def hopeful(self) -> bool:
        """Whether spilling can make room."""
        return self.relief is not None and self.relief.hopeful

    def admits(self, waiter: object, need: int) -> bool:
        """Whether `need` bytes may be taken now: there is room, and nobody was here before."""
        return self.charged + need <= self.limit and (not self._line or self._line[0] is waiter)

    def take(self, holder: Holder, num_bytes: int) -> None:
        """Charge bytes that `admits` has allowed."""
        self.charged += num_bytes
        assert self.charged <= self.limit, (self.charged, self.limit)
        if self.charged > self.peak:
            self.peak = self.charged
        if holder.charged and holder not in self._holders:
            self._holders[holder] = None

    def give(self, holder: Holder, num_bytes: int) -> None:
        """Return bytes; whoever now fits is served in this same step."""
        self.charged -= num_bytes
        assert self.charged >= 0, self.charged
        if not holder.charged:
            self._holders.pop(holder, None)
        if self._line:
            self.serve()
            self.press()

    def line_up(self, waiter: Waiter) -> None:
        """Wait in line until `serve` is called; nothing happens to who is in it already."""
        if waiter not in self._line:
            self.waits += 1
            self._line.append(waiter)
        self.press()

    def leave(self, waiter: Waiter) -> None:
        """Leave the line, served or not."""
        if waiter in self._line:
            self._line.remove(waiter)
            self.serve()

    def serve(self) -> None:
        """Serve from the head of the line while it fits."""
        if self._serving:
            return  # the loop below looks again
        self._serving = True
        try:
            while self._line and self.charged + self._line[0].pool_need <= self.limit:
                first = self._line[0]
                first.serve()
                if self._line and self._line[0] is first:
                    if first.pool_need:
                        return  # it takes its bytes in a later step, and nobody before it
                    self._line.popleft()
        finally:
            self._serving = False

    def press(self) -> None:
        """Make room if the pool is short."""
        if self.relief is not None and (self._line or self.charged > self.high):
            self.relief.press()

    def shortage(self) -> str:
        """Why there is no room, who holds most of it, and what to try: the end of an error's sentence."""
        most = nlargest(HOLDERS_NAMED, self._holders, key=lambda holder: holder.charged)
        held = ", ".join(f"{holder.name} {holder.charged}" for holder in most)
        holding = f"most is held by {held} bytes" if held else "nobody holds any of it: what is asked for is more"
        refused = self.relief.refused if self.relief is not None else None
        return (
            f"the pool of the process (process_memory_mb) has {self.free} of {self.limit} bytes free, {holding}"
            + (f"; the disk refuses: {refused}" if refused else "")
            + "; raise process_memory_mb, "
            "or let its holders spill with mode: hybrid"
        )
