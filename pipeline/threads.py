"""Worker threads for computing logic and blocking feeds, joined before a run ends."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import anyio

T = TypeVar("T")


class Workers:
    """A pool of threads that starts on first use. A job that has begun is always awaited to its end.

    `slots` is the number of threads at most: one per processor for computing, plus one per feed, since a feed
    may block for long.
    """

    def __init__(self, slots: int | None = None) -> None:
        self.slots = slots if slots is not None else (os.cpu_count() or 1)
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call in a thread. Cancellation takes effect after the call has returned, so no thread runs on unowned."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.slots, thread_name_prefix="penstock-worker")
        future = asyncio.get_running_loop().run_in_executor(self._pool, function, *args)
        with anyio.CancelScope(shield=True):
            await asyncio.wait([future])
        return future.result()

    def submit(self, function: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Begin a call whose result is awaited later, as when a feed reads ahead."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.slots, thread_name_prefix="penstock-worker")
        return asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    async def close(self) -> None:
        """Join every thread, without blocking the loop."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        joined = asyncio.Event()
        loop = asyncio.get_running_loop()

        def join() -> None:
            pool.shutdown(wait=True)
            loop.call_soon_threadsafe(joined.set)

        joiner = threading.Thread(target=join, name="penstock-joiner", daemon=True)
        joiner.start()
        with anyio.CancelScope(shield=True):
            await joined.wait()
        joiner.join()
