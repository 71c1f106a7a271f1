"""A loop whose time is the test's, and an I/O executor that takes as many of its rounds as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.errors import ManagerClosed
from pipeline.storage.executor import IoExecutor

MAX_ROUNDS = 20_000


class SteppedLoop(asyncio.SelectorEventLoop):
    """Counts its rounds and calls somebody before one of them; time passes only when told.

    With `leaps` it also passes where everybody waits for it.
    """

    leaps = False

    def __init__(self) -> None:
        self.rounds = 0
        self.seconds = 0.0
        self.calls: dict[int, Callable[[], object]] = {}
        super().__init__()

    def time(self) -> float:
        return self.seconds

    def _run_once(self) -> None:
        self.rounds += 1
        call = self.calls.pop(self.rounds, None)
        if call is not None:
            call()
        assert self.rounds < MAX_ROUNDS, "somebody goes round and round"
        due = any(timer.when() <= self.seconds and not timer.cancelled() for timer in self._scheduled)  # type: ignore[attr-defined]
        if not (self._ready or due):  # type: ignore[attr-defined]
            timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            if self.leaps and timers:
                self.seconds = min(timers)
            else:
                assert self.calls, "everybody waits and nobody comes"
                self.calls.pop(min(self.calls))()
        super()._run_once()  # type: ignore[misc]


class SteppedIo(IoExecutor):
    """Runs each job in a thread while the loop waits, `steps` rounds after it came; its future is done as much later.

    So a job is on its way for a known number of rounds, and a caller can be cancelled in each of them.
    """

    def __init__(self, steps: int = 2) -> None:
        super().__init__(1)
        self.steps = steps
        self.jobs = 0
        self.cancelled_jobs = 0
        """Jobs whose future somebody cancelled instead of his own waiting."""
        self.pending: list[tuple[Any, ...]] = []
        self._pool = ThreadPoolExecutor(1)
        self._closed = False

    def submit(self, owner: Hashable, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        if self._closed:
            raise ManagerClosed("the I/O executor is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        future.add_done_callback(lambda future: future.cancelled() or future.exception())
        job = (call, *args)
        twin = [other for other in self.pending if len(other) == len(job) and all(map(_is_same, other, job))]
        assert not twin, "the same job is on its way twice"
        self.pending.append(job)
        self.jobs += 1
        outcome: list[Any] = []

        def later(rounds: int, then: Callable[[], None]) -> None:
            loop.call_soon(later, rounds - 1, then) if rounds else then()

        def run() -> None:
            try:
                outcome.append(self._pool.submit(call, *args).result())
            except BaseException as error:
                outcome.append(error)
            later(self.steps, done)

        def done() -> None:
            del self.pending[next(at for at, other in enumerate(self.pending) if other is job)]
            if future.cancelled():
                self.cancelled_jobs += 1
            elif isinstance(outcome[0], BaseException):
                future.set_exception(outcome[0])
            else:
                future.set_result(outcome[0])

        later(self.steps, run)
        return future

    async def close(self) -> None:
        self._closed = True
        while self.pending:
            await asyncio.sleep(0)
        self._pool.shutdown()


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (callable(one) and callable(other) and type(one) is type(other) and one == other)
