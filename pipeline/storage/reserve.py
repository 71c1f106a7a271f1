"""Memory that only eviction may use, so that it progresses however short everything else is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from ..errors import DataError

T = TypeVar("T")

RESERVE_BYTES: Final = 8 << 20
"""Of a whole process, beside `process_memory_mb`."""


class Reserve:
    """Bytes for copies that eviction makes while it writes values to disk. Lives on one loop.

    Writes that do not fit beside each other wait, first come, first served. Whoever has some of it waits for nothing
    but the disk, so the line always moves. One write whose copies are larger than all of it goes alone.
    """

    def __init__(self, limit_bytes: int = RESERVE_BYTES) -> None:
        self.limit = limit_bytes
        self.held = 0
        self.peak = 0
        self.waits = 0
        """Writes that had to wait for others."""
        self._line: deque[tuple[int, Callable[[], None]]] = deque()

    def during(self, num_bytes: int, begin: Callable[[], asyncio.Future[T]]) -> asyncio.Future[T]:
        """What the write comes to that `begin` starts, now or when there is room; it has so many bytes meanwhile."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda future: future.cancelled() or future.exception())

        def run() -> None:
            try:
                write = begin()
            except DataError as error:
                self._give(num_bytes)
                done.set_exception(error)
            else:
                write.add_done_callback(finish)

        def finish(write: asyncio.Future[T]) -> None:
            self._give(num_bytes)
            error = write.exception()
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(write.result())

        self._line.append((num_bytes, run))
        self.waits += not self._serve() and bool(self._line)
        return done

    def _give(self, num_bytes: int) -> None:
        self.held -= num_bytes
        assert self.held >= 0, self.held
        self._serve()

    def _serve(self) -> bool:
        """Begin from the head of the line what fits; whether anything did."""
        served = False
        while self._line:
            num_bytes, run = self._line[0]
            if num_bytes and self.held and self.held + num_bytes > self.limit:
                break
            del self._line[0]
            self.held += num_bytes
            self.peak = max(self.peak, self.held)
            served = True
            run()
        return served
