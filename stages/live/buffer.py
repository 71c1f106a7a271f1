"""Messages between the sockets and who takes them: in the order they came, and never many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

import msgspec
import numpy as np
import pyarrow as pa

from stages.messages import MessageKind, Messages
from stages.schemas import Names

OVERHEAD_BYTES = 200
"""What a message takes beside its payload, roughly."""
RUN_MESSAGES, RUN_BYTES = 2048, 16 << 20
"""A run that is taken has no more of either."""
ENOUGH_MESSAGES = 512
"""Who gathers takes so many at once."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """How much may wait: when either is reached, sockets are no longer read until half of it is taken."""

    messages: int = 65_536
    num_bytes: int = 64 << 20


class Buffer:
    """Stamps and numbers messages, and holds them until they are taken.

    When the bound is reached `hold` is called, and `free` once no more than half of it is left. What one read of a
    socket brought is still taken in, so that at most as much as that of each connection lies above the bound.
    """

    def __init__(
        self, bound: Bound, now_ns: Callable[[], int], hold: Callable[[], None], free: Callable[[], None]
    ) -> None:
        self.bound = bound
        self.num_bytes = self.most_bytes = self.most_messages = 0
        self.added = self.holds = 0
        """Messages in all, and how often sockets had to wait."""
        self.arrived = asyncio.Event()
        """Something is there, or nothing will be any more."""
        self.enough = asyncio.Event()
        """So much is there that it is worth taking."""
        self.free = asyncio.Event()
        """Not full: sockets may be read."""
        self.free.set()
        self.is_closed = False
        self._now_ns, self._on_hold, self._on_free = now_ns, hold, free
        self._sources, self._urls = Names(), Names()
        self._rows: list[tuple[int, int, int, int, bytes]] = []
        self._now = self._newest = self._taken = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_full(self) -> bool:
        return not self.free.is_set()

    def stamp(self) -> int:
        """Wall time now, ns; never before an earlier one, although wall clocks step back."""
        self._now = max(self._now, self._now_ns())
        return self._now

    def add(self, kind: MessageKind, source: str, url: str, payload: bytes, ts_recv: int | None = None) -> None:
        """A message of now, or of when its bytes came, but never before the one before it. Never waits."""
        if self.is_closed:
            return
        self._newest = max(self._newest, self.stamp() if ts_recv is None else ts_recv)
        self._rows.append((self._newest, kind, self._sources.code(source), self._urls.code(url), payload))
        self.added += 1
        self.num_bytes += len(payload) + OVERHEAD_BYTES
        self.most_messages = max(self.most_messages, len(self._rows))
        self.most_bytes = max(self.most_bytes, self.num_bytes)
        self.arrived.set()
        if len(self._rows) >= ENOUGH_MESSAGES:
            self.enough.set()
        if not self.is_full and (len(self._rows) >= self.bound.messages or self.num_bytes >= self.bound.num_bytes):
            self.holds += 1
            self.free.clear()
            self._on_hold()

    def take(self) -> Messages:
        """What has waited longest, at most a run of it, and at least one message where there is any."""
        rows = self._run()
        del self._rows[: len(rows)]
        self.num_bytes -= sum(len(row[4]) + OVERHEAD_BYTES for row in rows)
        if len(self._rows) < ENOUGH_MESSAGES:
            self.enough.clear()
        if not self._rows and not self.is_closed:
            self.arrived.clear()
        self.relieve()
        columns = np.array([row[:4] for row in rows], np.int64).reshape(-1, 4).T
        first = self._taken
        self._taken += len(rows)
        return Messages(
            columns[0],
            np.arange(first, self._taken, dtype=np.uint64),
            columns[1].astype(np.int8),
            list(self._sources.names),
            columns[2].astype(np.int16),
            list(self._urls.names),
            columns[3].astype(np.int32),
            pa.array([row[4] for row in rows], pa.large_binary()),
        )

    def relieve(self) -> bool:
        """Let sockets be read again where they wait although there is room; whether that was so."""
        low = len(self._rows) * 2 <= self.bound.messages and self.num_bytes * 2 <= self.bound.num_bytes
        if not self.is_full or not low:
            return False
        self.free.set()
        self._on_free()
        return True

    def close(self) -> None:
        """Nothing is added any more; what is there can still be taken."""
        self.is_closed = True
        self.arrived.set()
        self.enough.set()

    def _run(self) -> list[tuple[int, int, int, int, bytes]]:
        rows: list[tuple[int, int, int, int, bytes]] = []
        room = RUN_BYTES
        for row in islice(self._rows, RUN_MESSAGES):
            room -= len(row[4])
            if rows and room < 0:
                break
            rows.append(row)
        return rows
