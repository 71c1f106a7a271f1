"""One flush, tried until it succeeds: how often, how long after each other, and how long each may take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

import xxhash

from ..clock import Clock
from ..errors import StorageFailed
from .account import reached
from .buffer import BatchId
from .policy import StreamingSettings

log = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS: Final = 60.0
Call = Callable[[], Coroutine[Any, Any, None]]


class Attempts:
    """Tries flushes of one container. An attempt is a task of ours; whoever waits for it may go, it does not.

    An attempt that takes too long is cancelled and counts as failed. Should it come to its end even so, that changes
    nothing: the next attempt has the same `batch_id`, by which its receiver knows it.
    """

    def __init__(self, name: str, settings: StreamingSettings, clock: Clock) -> None:
        self._name, self._settings, self._clock = name, settings, clock
        self.retries = 0
        self.timeouts = 0
        self._strays: set[asyncio.Task[None]] = set()

    async def run(self, call: Call, batch_id: BatchId, timeout_seconds: float | None) -> None:
        """Return once an attempt has succeeded; raises what the last one raised."""
        number = 1
        while True:
            try:
                await self._attempt(call, batch_id, timeout_seconds)
                return
            except Exception as error:
                if number >= self._settings.max_attempts:
                    raise
                seconds = self._backoff(batch_id, number)
                log.warning(
                    "%s: flushing rows %d to %d failed, attempt %d of %d: %s: %s; the next in %.3f s",
                    self._name, *batch_id[1:], number, self._settings.max_attempts, type(error).__name__, error, seconds
                )  # fmt: skip
            self.retries += 1
            number += 1
            await self._clock.sleep_until(self._clock.monotonic_ns() + int(seconds * 1e9))

    async def _attempt(self, call: Call, batch_id: BatchId, timeout_seconds: float | None) -> None:
        task = asyncio.get_running_loop().create_task(call())
        try:
            if timeout_seconds is None:
                await asyncio.wait((task,))
            elif not await reached(task, self._clock, timeout_seconds):
                self.timeouts += 1
                raise StorageFailed(f"the flush callback has not returned within {timeout_seconds:g} s")
        finally:
            if not task.done():
                self._strays.add(task)
                task.add_done_callback(lambda task: self._late(task, batch_id))
                task.cancel()
        if task.cancelled():
            raise StorageFailed("the flush callback was cancelled from inside")
        task.result()

    def _late(self, task: asyncio.Task[None], batch_id: BatchId) -> None:
        self._strays.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        how = "has ended after all" if error is None else f"has failed after all ({type(error).__name__}: {error})"
        log.warning(
            "%s: a flush of rows %d to %d that was cut off %s; that changes nothing", self._name, *batch_id[1:], how
        )  # fmt: skip

    def _backoff(self, batch_id: BatchId, number: int) -> float:
        """Between half of the wait and all of it; the same for the same attempt, so that runs can be repeated."""
        longest = min(MAX_BACKOFF_SECONDS, float(self._settings.backoff_seconds) * 2.0 ** min(number - 1, 30))
        lot = xxhash.xxh3_64_intdigest(f"{batch_id.container}\0{batch_id.first_seq}\0{number}".encode())
        return longest * (0.5 + 0.5 * lot / 2**64)

    async def close(self) -> None:
        """Let attempts that were cancelled come to their end; one that ignores it is told of and left."""
        if not self._strays:
            return
        gathered = asyncio.ensure_future(asyncio.wait(tuple(self._strays)))
        try:
            if not await reached(gathered, self._clock, self._settings.flush_timeout_seconds or 1.0):  # type: ignore[arg-type]
                log.error("%s: %d flush callbacks go on although they were cancelled", self._name, len(self._strays))
        finally:
            gathered.cancel()
