"""A budget in bytes within the pool of the process, and the queue of those who wait for room in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from ..clock import Clock
from ..pool import Borrower, Pool


class Account:
    """Bytes charged against a limit. Lives on one loop; first come, first served.

    A waiter's `admit` runs in the very step that makes room for it, so nobody can slip in between, and a caller
    cancelled while it waits leaves nothing behind. With a pool every byte is charged to that as well.
    """

    __slots__ = (
        "_clock",
        "_closed",
        "_granting",
        "_queue",
        "ceiling",
        "charged",
        "limit",
        "name",
        "peak",
        "pool",
        "waits",
    )

    def __init__(self, limit: int, clock: Clock, name: str = "", pool: Pool | None = None) -> None:
        self.limit = limit
        self.ceiling = limit if pool is None else min(limit, pool.limit)
        """What a single value may weigh at most."""
        self.name, self.pool = name, pool
        self.charged = 0
        self.peak = 0
        self.waits = 0
        self._clock = clock
        if pool is not None:
            pool.join(limit)
        self._queue: deque[Request] | list[Request] = _NOBODY
        """A list of its own only once somebody has waited: an idle manager weighs next to nothing."""
        self._granting = self._closed = False

    @property
    def waiting(self) -> bool:
        return bool(self._queue)

    @property
    def wanted(self) -> int:
        """Bytes the first in the queue still needs; 0 when nobody waits."""
        return self._queue[0].need() if self._queue else 0

    @property
    def pool_need(self) -> int:
        """Bytes the first in the queue would take of the pool; 0 while the account's own limit forbids it."""
        need = self.wanted
        return max(need, 0) if self.charged + need <= self.limit else 0

    @property
    def guarantee(self) -> int:
        """Bytes of the pool that are its own, whatever others have."""
        return self.limit if self.pool is None else self.pool.guarantee(self.limit)

    @property
    def borrower(self) -> Account:
        """It waits for itself."""
        return self

    @property
    def short(self) -> bool:
        """Whether the pool keeps the first in the queue waiting, not the account's own limit."""
        return self.pool is not None and bool(self._queue) and self.charged + self.wanted <= self.limit

    def fits(self, need: int) -> bool:
        """Whether `need` bytes may be taken now: there is room, and nobody was here before."""
        return need <= 0 or (
            not self._queue
            and self.charged + need <= self.limit
            and (self.pool is None or self.pool.admits(self, need))
        )

    def fits_alone(self, need: int) -> bool:
        """Whether `need` bytes fit as far as the account's own limit goes."""
        return need <= 0 or (not self._queue and self.charged + need <= self.limit)

    def no_room(self, need: int, seconds: float) -> str:
        """What kept `need` bytes waiting so long: the pool, if the account itself has room for them."""
        if self.pool is not None and self.charged + need <= self.limit:
            return f"no room within {seconds:g} s, {self.pool.refuse(self.name, need)}"
        return f"no room within {seconds:g} s beside {self.charged} of {self.limit} bytes"

    def take(self, need: int) -> None:
        """Charge bytes that `fits` has allowed, or that were granted; negative ones are given back."""
        self.charged += need
        if self.charged > self.peak:
            self.peak = self.charged
        assert 0 <= self.charged <= self.limit, (self.charged, self.limit)
        if need < 0:
            if self.pool is not None:
                self.pool.give(self, -need)
            self.serve()
        elif self.pool is not None:
            self.pool.take(self, need)

    def enter(self, need: int, put: Callable[[], None]) -> None:
        """Charge what `fits` has allowed and let it take effect.

        What comes free by it is given back afterwards: whoever waits for that may want to replace the same value, and
        has to find what is there by then.
        """
        if need >= 0:
            self.take(need)
            put()
        else:
            put()
            self.give(-need)

    def give(self, freed: int) -> None:
        """Return bytes and admit whoever now fits, in this same step."""
        self.charged -= freed
        assert self.charged >= 0, self.charged
        if self.pool is not None:
            self.pool.give(self, freed)
        if self._queue:
            self.serve()

    def serve(self) -> None:
        """Admit from the head of the queue while it fits."""
        if self._granting:
            return  # an admission gave bytes back; the loop below looks again
        self._granting = True
        try:
            while self._queue:
                request = self._queue[0]
                need = request.need()
                if need > 0:
                    if self.charged + need > self.limit:
                        return
                    if self.pool is not None and not self.pool.admits(self, need):
                        self.pool.line_up(self)
                        if not self.pool.admits(self, need):
                            return
                        continue  # room was made at once, when nobody but we could have taken it
                del self._queue[0]
                self.enter(need, request.grant)
                if need > 0 and self.pool is not None:
                    self.pool.turn_taken(self)
            if self.pool is not None:
                self.pool.leave(self)
        finally:
            self._granting = False

    def queue(self, need: Callable[[], int], admit: Callable[[], None]) -> Request:
        """Wait in line; `need` is asked again at each turn, `admit` is called once the bytes are charged."""
        self.waits += 1
        request = Request(need, admit)
        if self._queue is _NOBODY:
            self._queue = deque()
        self._queue.append(request)
        if self.short:
            assert self.pool is not None
            self.pool.line_up(self)
        return request

    async def wait(self, request: Request, timeout_seconds: float) -> bool:
        """Whether the request was admitted in time. Otherwise, and when cancelled, the caller has left the queue."""
        try:
            if await reached(request.done, self._clock, timeout_seconds):
                request.done.result()
                return True
            return False
        finally:
            self.withdraw(request)

    def withdraw(self, request: Request) -> bool:
        """Leave the queue; False if the request was admitted already."""
        if request not in self._queue:
            return False
        self._queue.remove(request)
        request.done.cancel()
        self.serve()
        return True

    def close(self) -> None:
        """The manager has closed, and shares the pool no more."""
        if self.pool is not None and not self._closed:
            self.pool.part(self.limit)
        self._closed = True

    def fail(self, error: Callable[[], Exception]) -> None:
        """Send everybody away with an error."""
        while self._queue:
            request = self._queue[0]
            del self._queue[0]
            if not request.done.done():
                request.done.set_exception(error())
                request.done.exception()
        if self.pool is not None:
            self.pool.leave(self)


_NOBODY: Final[list[Request]] = []
"""The queue of all accounts in which nobody has ever waited; nothing is added to it."""


async def reached(future: asyncio.Future[None], clock: Clock, timeout_seconds: float) -> bool:
    """Wait until the future is done, which is not touched, or until the time is up; whether it is done."""
    timer = asyncio.ensure_future(clock.sleep_until(clock.monotonic_ns() + int(timeout_seconds * 1e9)))
    try:
        await asyncio.wait((future, timer), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return future.done()


class Request:
    """A place in the queue of an account."""

    __slots__ = ("_admit", "done", "need")

    def __init__(self, need: Callable[[], int], admit: Callable[[], None]) -> None:
        self.need = need
        self._admit = admit
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def grant(self) -> None:
        try:
            self._admit()
        except Exception as error:
            if not self.done.done():
                self.done.set_exception(error)
                self.done.exception()  # a caller that was just cancelled will not ask
        else:
            if not self.done.done():
                self.done.set_result(None)


class Turn:
    """A place in the line of the pool for one charge, which `admit` takes in the step that has room for it."""

    def __init__(self, pool: Pool, borrower: Borrower, need: int, admit: Callable[[], None]) -> None:
        self.pool_need = need
        self.borrower = borrower
        self._pool, self._admit = pool, admit
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def serve(self) -> None:
        self.pool_need = 0
        self._admit()
        if not self._done.done():
            self._done.set_result(None)
        self._pool.leave(self)

    async def wait(self, clock: Clock, timeout_seconds: float) -> bool:
        """Whether it came in time. Otherwise, and when cancelled before it did, the line is left."""
        self._pool.line_up(self)
        try:
            return await reached(self._done, clock, timeout_seconds)
        finally:
            self._pool.leave(self)
