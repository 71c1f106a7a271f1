"""What a feed reads ahead of what it sends, as far as the pool has room for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from ..edges.in_flight import EdgesAccount
from ..threads import Workers, settled

T = TypeVar("T")
AHEAD_PARTS: Final = 16
"""All feeds together read ahead no more than one of so many parts of the pool: it is no reason for others to wait."""


class Claim:
    """Bytes of a batch that is being read."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes


class ReadAhead(Generic[T]):
    """Pulls in a thread, the next thing while the last one is sent; it is charged as large as the last one was.

    Where the pool has no room for it, the next is pulled when the last has been sent: then there is one in hand, as
    with a feed that does not read ahead. `size` tells how large a thing is.
    """

    def __init__(
        self, account: EdgesAccount | None, workers: Workers, pull: Callable[[], T], size: Callable[[T], int]
    ) -> None:
        self._account = account if account is not None and account.pool is not None else None
        self._workers, self._pull, self._size = workers, pull, size
        self._coming: asyncio.Future[T] | None = None
        self._claim: Claim | None = None

    async def next(self) -> T:
        """What comes next; the one after it is begun if there is room."""
        if self._coming is None:
            self._coming = self._workers.submit(self._pull)
        coming = self._coming
        await settled(coming)
        self._coming = None
        self._release()
        item = coming.result()
        if item is not None and self._may_read_beside(item):
            self._coming = self._workers.submit(self._pull)
        return item

    async def close(self) -> None:
        """Wait for what is being pulled and let go of it, whatever it came to."""
        try:
            if self._coming is not None:
                await settled(self._coming)
        finally:
            self._release()

    def _may_read_beside(self, item: T) -> bool:
        account = self._account
        if account is None:
            return True
        num_bytes = self._size(item)
        pool = account.pool
        assert pool is not None
        if not num_bytes:
            return True
        if AHEAD_PARTS * (account.ahead + num_bytes) > pool.limit or not pool.admits(self, num_bytes):
            return False
        self._claim = Claim(num_bytes)
        account.charge(self._claim)
        account.ahead += num_bytes
        return True

    def _release(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            assert self._account is not None
            self._account.ahead -= claim.num_bytes
            self._account.release(claim)
