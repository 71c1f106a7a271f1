"""Worker threads for computing logic and blocking feeds, joined before a run ends."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


async def settled(future: asyncio.Future[Any]) -> None:
    """Return when the future is done, whatever it came to and however often the caller is cancelled meanwhile.

    Cancellation, anyio's or asyncio's own, takes effect afterwards: what has begun is never left unowned.
    """
    import anyio  # whoever only looks into folders needs none

    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


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
        future = self.submit(function, *args)
        await settled(future)
        return future.result()

    def submit(self, function: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Begin a call whose result is awaited later, as when a feed reads ahead."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.slots, thread_name_prefix="penstock-worker")
        return asyncio.get_running_loop().run_in_executor(self._pool, _called, function, args)

    async def close(self) -> None:
        """Join every thread, without blocking the loop."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        loop = asyncio.get_running_loop()
        joined: asyncio.Future[None] = loop.create_future()

        def join() -> None:
            pool.shutdown(wait=True)
            loop.call_soon_threadsafe(joined.set_result, None)

        joiner = threading.Thread(target=join, name="penstock-joiner", daemon=True)
        joiner.start()
        try:
            await settled(joined)
        finally:
            joiner.join()


def detached(function: Callable[..., T], *args: object) -> asyncio.Future[T]:
    """Begin a call that may never return, in a thread of its own that nobody joins and no process waits for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())  # though nobody may ask any more

    def settle(give: Callable[[Any], None], what: object) -> None:
        if not future.done():
            give(what)

    def work() -> None:
        try:
            give, what = future.set_result, _called(function, args)
        except BaseException as error:
            give, what = future.set_exception, error  # type: ignore[assignment]
        try:
            loop.call_soon_threadsafe(settle, give, what)
        except RuntimeError:
            pass  # the loop has been closed meanwhile; nobody waits for the answer any more

    threading.Thread(target=work, name="penstock-detached", daemon=True).start()
    return future


def _called(function: Callable[..., T], args: tuple[object, ...]) -> T:
    """The call itself. A future takes every error but StopIteration, on which it would never wake its waiter."""
    try:
        return function(*args)
    except StopIteration as error:
        raise RuntimeError("a call raised StopIteration: `next()` on an iterator that had ended?") from error
