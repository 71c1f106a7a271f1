"""The process's disk work: one small pool of threads, shared fairly, whose jobs nobody can orphan."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from ..errors import ManagerClosed, StorageFailed

T = TypeVar("T")


class IoExecutor:
    """Runs blocking functions in at most `threads` threads, owners taking turns.

    A job belongs to the executor: once submitted it runs exactly once, whatever happens to the task that waits
    for it. Callers therefore `await asyncio.shield(future)`. Threads start with the first job and end in `close`.
    """

    def __init__(self, threads: int = 4) -> None:
        self._limit = threads
        self._work = threading.Condition()
        self._queues: dict[Hashable, deque[_Job[Any]]] = {}
        self._turns: deque[Hashable] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closing = False
        self._ended: asyncio.Future[None] | None = None
        self._left = 0
        self._loop: asyncio.AbstractEventLoop
        self._process = os.getpid()

    @property
    def threads(self) -> int:
        """Threads alive now."""
        return len(self._threads)

    def submit(self, owner: Hashable, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Queue `call(*args)` behind the owner's earlier jobs; to be called on a running loop.

        Raises `ManagerClosed` after `close`, `StorageFailed` in a forked child, where the threads do not exist.
        """
        if os.getpid() != self._process:
            raise StorageFailed("the process was forked after its I/O threads were made; start the run in the child")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        future.add_done_callback(_mark_retrieved)
        with self._work:
            if self._closing:
                raise ManagerClosed("the I/O executor is closed")
            queue = self._queues.get(owner)
            if queue is None:
                queue = self._queues[owner] = deque()
                self._turns.append(owner)
            queue.append(_Job(loop, future, call, args))
            if self._idle:
                self._idle -= 1  # here and not when it wakes, so that the next job does not count on it too
                self._work.notify()
            elif len(self._threads) < self._limit:
                self._start_thread()
        return future

    async def close(self) -> None:
        """Finish every job that was submitted and join the threads; idempotent, and may be called concurrently."""
        if self._ended is None:
            loop = asyncio.get_running_loop()
            self._ended = loop.create_future()
            with self._work:
                self._loop, self._left = loop, len(self._threads)
                self._closing = True
                self._work.notify_all()
            if not self._threads:
                self._ended.set_result(None)
        await asyncio.shield(self._ended)
        for thread in self._threads:
            thread.join()  # each has run its last line; this waits for the interpreter's bookkeeping only
        self._threads.clear()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name=f"penstock-io-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        while True:
            with self._work:
                while not self._turns and not self._closing:
                    self._idle += 1
                    self._work.wait()
                if not self._turns:
                    break
                owner = self._turns.popleft()
                queue = self._queues[owner]
                job = queue.popleft()
                if queue:
                    self._turns.append(owner)
                else:
                    del self._queues[owner]
            job.run()
            del job
        _tell(self._loop, self._thread_ended)

    def _thread_ended(self) -> None:
        self._left -= 1
        if self._left == 0 and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


class _Job(Generic[T]):
    __slots__ = ("args", "call", "future", "loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[T],
        call: Callable[..., T],
        args: tuple[Any, ...],
    ) -> None:
        self.loop, self.future, self.call, self.args = loop, future, call, args

    def run(self) -> None:
        try:
            result = self.call(*self.args)
        except BaseException as error:
            _tell(self.loop, _fail, self.future, error)
        else:
            _tell(self.loop, _finish, self.future, result)


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        pass  # the loop was closed under us; nobody is left to hear the answer


def _finish(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _mark_retrieved(future: asyncio.Future[Any]) -> None:
    """A caller that was cancelled is not told of an error; that must not become a warning at garbage collection."""
    if not future.cancelled():
        future.exception()
