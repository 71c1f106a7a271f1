"""A few threads that share the work on one block, and are gone when the logic is closed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Crew:
    """Does numbered pieces of work in `size` threads, the caller's among them. Threads start with the first work."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pool: ThreadPoolExecutor | None = None

    def each(self, work: Callable[[int, int], T], count: int) -> list[T]:
        """`work(worker, piece)` for `count` pieces, in the order of pieces; `worker` is below `size`, one thread each.

        Raises what the first piece that failed raised, after all threads have come to rest.
        """
        if self.size == 1 or count == 1:
            return [work(0, piece) for piece in range(count)]
        return self.begin(work, count)()

    def begin(self, work: Callable[[int, int], T], count: int) -> Callable[[], list[T]]:
        """`each` in the other threads only, until what this gives is called: then the caller's helps, too.

        It is to be called once, before anything else is begun.
        """
        done: dict[int, T] = {}
        pieces = itertools.count()

        def go(worker: int) -> None:
            while (piece := next(pieces)) < count:
                done[piece] = work(worker, piece)

        others: list[Future[None]] = []
        if self.size > 1 and count > 0:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.size - 1, thread_name_prefix="penstock-books")
            others = [self._pool.submit(go, worker) for worker in range(1, min(self.size, count + 1))]

        def finish() -> list[T]:
            try:
                go(0)
            finally:
                wait(others)
            for other in others:
                other.result()
            return [done[piece] for piece in range(count)]

        return finish

    def close(self) -> None:
        """Join the threads."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
