"""What is in flight on all edges of a run together, in bytes, and as much of it as the pool of the process allows."""

from __future__ import annotations

from typing import Protocol

from ..clock import Clock, SystemClock
from ..pool import Pool, Waiter

POOL_PARTS = 4
"""Edges that hold something stop at one of so many parts of the pool."""


class Taker(Waiter, Protocol):
    """An edge, as far as its room in the pool goes."""

    @property
    def is_idle(self) -> bool:
        """Whether it holds no rows, those its consumer works on included."""


class Charged(Protocol):
    """What is in flight: a batch, or the place of one that comes back from disk."""

    @property
    def num_bytes(self) -> int: ...


class EdgesAccount:
    """Bytes in flight on all edges of a run, each batch charged once however many edges share it.

    With a pool every byte is charged to that as well: an edge that holds something takes no more while all of them have
    a quarter of the pool, and one that holds nothing waits until others have made room for its batch.
    """

    name = "edges"

    def __init__(self, pool: Pool | None = None, clock: Clock | None = None) -> None:
        self.pool = pool
        self.clock: Clock = clock or SystemClock()
        self.charged = 0
        self.peak_bytes = 0
        self.ahead = 0
        """Bytes of it that feeds read ahead."""
        self._holders: dict[int, int] = {}

    def admits(self, edge: Taker, batch: Charged) -> bool:
        """Whether the pool lets this batch onto this edge now."""
        if self.pool is None or id(batch) in self._holders:
            return True
        if not edge.is_idle and POOL_PARTS * (self.charged + batch.num_bytes) > self.pool.limit:
            return False
        return self.pool.admits(edge, batch.num_bytes)

    def charge(self, batch: Charged) -> None:
        holders = self._holders.get(id(batch), 0)
        self._holders[id(batch)] = holders + 1
        if not holders:
            self.charged += batch.num_bytes
            if self.charged > self.peak_bytes:
                self.peak_bytes = self.charged
            if self.pool is not None:
                self.pool.take(self, batch.num_bytes)

    def release(self, batch: Charged) -> None:
        holders = self._holders[id(batch)] - 1
        if holders:
            self._holders[id(batch)] = holders
        else:
            del self._holders[id(batch)]
            self.charged -= batch.num_bytes
            if self.pool is not None:
                self.pool.give(self, batch.num_bytes)

    def replace(self, edge: Taker, batch: Charged, smaller: Charged) -> bool:
        """Charge `smaller` in the place of a batch this edge holds; False if others hold that and there is no room."""
        is_last = self._holders[id(batch)] == 1
        need = smaller.num_bytes - (batch.num_bytes if is_last else 0)
        if self.pool is not None and need > 0 and not self.pool.admits(edge, need):
            return False
        pool, self.pool = self.pool, None
        self.release(batch)
        self.charge(smaller)
        self.pool = pool
        if pool is not None:
            if need > 0:
                pool.take(self, need)
            else:
                pool.give(self, -need)
        return True
