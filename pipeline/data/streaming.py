"""The `streaming` data manager: a small buffer in front of a flush callback, or of the container's own files."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from ..clock import Clock, SystemClock
from ..errors import (
    BackpressureTimeout,
    DataError,
    FlushedAway,
    ManagerClosed,
    NotResident,
    ReentrantDeadlock,
)
from ..storage.workspace import Workspace
from .account import Account, reached
from .alarm import Alarm
from .base import DataManager, DataStats, Key
from .buffer import BatchId, Buffer, FlushCallback, FlushRecorder, Item, KeyState, Place, StreamItem, pending, refilled
from .file import FileManager
from .flights import Flights, Late, ended
from .policy import MB, DataFlow
from .tables import as_table
from .values import Admitted, admit, as_copied_batches, batches_size, check_series, not_a_series, series_table

__all__ = ["BatchId", "FlushCallback", "StreamItem", "StreamingManager"]


class StreamingManager(DataManager):
    """Buffers rows and flushes them by number, bytes or age, one flush in flight, in order.

    While a flush is under way the next rows gather in a second buffer; when that is full too, `store` and `append`
    wait. Without a callback of yours items go to files, and `retrieve` answers from files and buffers together;
    with one, a key that was flushed raises `FlushedAway`.

    A flush that fails is tried again as `streaming_settings` say, its rows first in line and readable. After the last
    attempt they become dead letters, or every later `store`, `append`, `flush` and `close` raises `StorageFailed` (or
    `DiskFull`) saying which rows they are. What is not flushed when the manager closes is in the journal, where there
    is one, or in a file of dead letters.
    """

    mode = "streaming"
    recorder: FlushRecorder | None = None

    def __init__(
        self,
        name: str,
        policy: DataFlow,
        workspace: Workspace,
        *,
        flush: FlushCallback | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name)
        settings = policy.streaming_settings
        self._clock = clock or SystemClock()
        self._files: FileManager | None = None
        limit = policy.memory_limit_bytes
        if flush is None:
            limit //= 2  # the other half buffers what is on its way to files
            half = msgspec.structs.replace(policy, memory_limit_mb=policy.memory_limit_mb / 2)
            self._files = FileManager(name, half, workspace, clock=self._clock)
        self._flights = Flights(name, settings, workspace, self._clock, flush, self._files)
        self._account = self.borrower = Account(limit, self._clock, name, workspace.pool)
        limit = self._account.ceiling
        self._timeout = policy.admission_timeout_seconds
        self._copies = policy.copy
        self._max_rows = settings.buffer_size
        self._max_bytes = min(int(settings.buffer_mb * MB), limit // 2)
        self._alarm = Alarm(self._clock, settings.max_age_seconds, self._too_old)
        self._keys: dict[Key, KeyState] = {}
        self._active = Buffer(0)
        self._flying: Buffer | None = None
        self._flight: asyncio.Task[None] | None = None
        self._line: deque[Place] = deque()
        self._failure: DataError | None = None
        self._misses = self._flushes = self._flushed_rows = self._waits = 0
        self._closing: asyncio.Task[None] | None = None

    async def store(self, key: Key, value: Any, *, size: int | None = None) -> str:
        uri = self._check(key)
        admitted = admit(value, size, self._copies)
        rows = getattr(admitted.value, "num_rows", 1)
        await self._enter(key, [Item(key, admitted, False, rows)], None)
        return uri

    async def append(self, key: Key, rows: Any) -> str:
        uri = self._check(key)
        batches = as_copied_batches(rows, self._copies)
        self._check_series(key, batches)
        items = [Item(key, Admitted(batch, batches_size([batch]), 0), True, batch.num_rows) for batch in batches]
        await self._enter(key, items, batches)
        return uri

    async def retrieve(self, key: Key) -> Any:
        state, pending, filed = self._look(key)
        if not state.series and pending:
            return pending[-1].admitted.value
        series, schema = state.series, state.schema
        stored = await filed.retrieve(key) if filed is not None else None
        if not series:
            return stored
        batches = [] if stored is None else stored.to_batches()
        return series_table(schema, batches + [item.admitted.value for item in pending])

    def retrieve_nowait(self, key: Key) -> Any:
        state, pending, filed = self._look(key)
        if not state.series and pending:
            return pending[-1].admitted.value
        if filed is not None:
            raise NotResident(f"{self.name}: {key!r} has been flushed to disk; await retrieve reads it")
        return series_table(state.schema, [item.admitted.value for item in pending])

    async def iter_batches(self, key: Key) -> AsyncIterator[pa.RecordBatch]:
        state, pending, filed = self._look(key)
        if not state.series and pending:
            for batch in as_table(pending[-1].admitted.value).to_batches():
                yield batch
            return
        if filed is not None:
            async for batch in filed.iter_batches(key):
                yield batch
        for item in pending:
            yield item.admitted.value

    async def delete(self, key: Key) -> None:
        self._check(key)
        if key not in self._keys:
            raise KeyError(key)
        while self._flying is not None and any(item.key == key for item in self._flying.rest()):
            self._raise_failure()
            self._refuse_in_callback("delete")
            assert self._flight is not None
            await asyncio.wait((self._flight,))
        if self._keys.pop(key, None) is None:
            raise KeyError(key)
        if self.recorder is not None:
            self.recorder.deleted(key)
        self._account.give(self._active.remove(key))
        if self._files is not None and self._files.holds(key):
            await self._files.delete(key)
        self.serve()

    def keys(self) -> Sequence[Key]:
        return list(self._keys)

    async def flush(self) -> None:
        self._check_open()
        await self._flush()

    async def close(self, deadline_seconds: float | None = None) -> None:
        """Flush and release everything. What is not flushed by the deadline is kept where it lasts, and told of."""
        if self._closing is not None and self._closing.done():
            return
        self._refuse_in_callback("close")
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(deadline_seconds))
            self._closing.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._closing)

    def stats(self) -> DataStats:
        below = self._files.stats() if self._files is not None else DataStats(mode=self.mode, limit_bytes=0)
        return DataStats(
            mode=self.mode,
            entries=len(self._keys),
            limit_bytes=self._account.limit + (below.limit_bytes or 0),
            charged_bytes=self._account.charged + below.charged_bytes,
            peak_bytes=self._account.peak + below.peak_bytes,
            disk_bytes=below.disk_bytes,
            misses=self._misses,
            restores=below.restores,
            flushes=self._flushes,
            flushed_rows=self._flushed_rows,
            waits=self._waits + below.waits,
            retries=self._flights.attempts.retries,
            timeouts=self._flights.attempts.timeouts,
            dead_letters=self._flights.letters.rows,
        )

    def used(self) -> set[Path]:
        """Files that hold something."""
        return self._files.used() if self._files is not None else set()

    def adopt(self, items: Sequence[Item], next_row: int, announced: tuple[int, int, int] | None) -> None:
        """Take back what was buffered when a process died; a batch that had been tried is tried again as it was.

        `announced` are its first and last row and its last generation; other rows count from `next_row` on.
        """
        if announced is not None:
            tried = [item for item in items if item.gen <= announced[2]]
            self._active = refilled(announced[0], tried, self._account, self._keys)
            self._active.announced = True
            self._start_flush()
            items, next_row = items[len(tried) :], announced[1] + 1
        self._active = refilled(next_row, items, self._account, self._keys)
        if self._active.items:
            self._alarm.set()
        self._start_flush_if_due()

    # Entering the buffer.

    async def _enter(self, key: Key, items: list[Item], batches: list[pa.RecordBatch] | None) -> None:
        """Put items into the active buffer, in one step, when there is room for them."""
        size = sum(item.admitted.size for item in items)
        # What is larger than the budget stays the caller's, who waits until it is flushed; it is charged as far as
        # the budget goes, so that nothing else is held beside it.
        charge = min(size, self._account.ceiling)
        self._raise_failure()
        if self._line or not self._fits(charge):
            await self._wait_in_line(key, charge)
        try:
            if batches is not None:
                self._check_series(key, batches)  # again: we may have waited
            state = self._keys.get(key)
            if state is None:
                state = self._keys[key] = KeyState()
            state.series = batches is not None
            state.schema = None if batches is None else state.schema or (batches[0].schema if batches else None)
            gen = 0
            if self.recorder is not None:
                told = self.recorder
                gen = told.stored(key, items[0].admitted) if batches is None else told.extended(key, batches)
            for item in items:
                item.gen = gen
                item.charge = min(item.admitted.size, charge)
                charge -= item.charge
                self._account.take(item.charge)
                self._active.add(item)
            if self._active.items:
                self._alarm.set()
            self._start_flush_if_due()
        finally:
            self.serve()
        if size > self._account.ceiling and (self._flying is None or _flushing.get() is not self._flying):
            await self._flush()

    def _fits(self, charge: int) -> bool:
        if not self._fits_alone(charge):
            return False
        pool = self._account.pool
        return pool is None or charge <= 0 or pool.admits(self, charge)

    def _fits_alone(self, charge: int) -> bool:
        """Whether it fits as far as our own buffers go."""
        if self._flying is not None and self._is_full():
            return False
        return self._account.charged + charge <= self._account.limit

    @property
    def pool_need(self) -> int:
        """Bytes the first in our line would take of the pool."""
        charge = self._line[0].charge if self._line else 0
        return charge if self._fits_alone(charge) else 0

    def _is_full(self) -> bool:
        return self._active.rows >= self._max_rows or self._active.bytes >= self._max_bytes

    async def _wait_in_line(self, key: Key, charge: int) -> None:
        """Return when we are first and the charge fits; the caller enters in the same step."""
        self._refuse_in_callback("store")
        self._waits += 1
        place = Place(charge)
        self._line.append(place)
        pool = self._account.pool
        try:
            while True:
                if self._flying is None:
                    self._start_flush()
                if pool is not None and self.pool_need:
                    pool.line_up(self)
                if not await reached(place.turn, self._clock, self._timeout):
                    if pool is not None and self.pool_need:
                        room = self._account.no_room(charge, self._timeout)
                        raise BackpressureTimeout(f"{self.name}: {room}, {key!r} was not stored")
                    raise BackpressureTimeout(
                        f"{self.name}: the flush under way has made no room within {self._timeout:g} s; "
                        f"{key!r} was not stored"
                    )
                self._check_open()
                self._raise_failure()
                if self._line[0] is place and self._fits(charge):
                    self._line.remove(place)
                    return
                place.turn = asyncio.get_running_loop().create_future()
        except BaseException:
            self._line.remove(place)
            self.serve()
            raise

    def serve(self) -> None:
        """Tell the first in line to look whether it fits now; the pool calls this too."""
        if self._line:
            self._line[0].call()
        elif self._account.pool is not None:
            self._account.pool.leave(self)

    # Flushing.

    def _start_flush_if_due(self) -> None:
        if self._flying is None and self._failure is None and self._is_full():
            self._start_flush()

    def _start_flush(self) -> None:
        if not self._active.items or self._failure is not None or self._flying is not None:
            return
        self._alarm.cancel()
        self._flying = self._active
        self._active = Buffer(self._flying.last_seq + 1)
        context = contextvars.copy_context()
        context.run(_flushing.set, self._flying)
        landing = self._flights.land(self._flying, self._keys, self.recorder)
        self._flight = asyncio.get_running_loop().create_task(landing, context=context)
        self._flight.add_done_callback(partial(self._landed, self._flying))

    def _landed(self, buffer: Buffer, flight: asyncio.Task[None]) -> None:
        """However a flight has ended, cancelled before its first step too."""
        error = asyncio.CancelledError() if flight.cancelled() else flight.exception()
        if error is not None:
            self._fail(buffer, error)
            return
        self._flushes += 1
        self._flushed_rows += buffer.rows
        self._flying = self._flight = None
        self._account.give(buffer.charged)
        if self._line:
            self.serve()
        self._start_flush_if_due()

    def _fail(self, buffer: Buffer, error: BaseException) -> None:
        self._failure = self._flights.failed(buffer, error, self._active.rows)
        for place in self._line:
            place.call()

    async def _too_old(self) -> None:
        """Rows get old only if nothing else flushes them first."""
        buffer = self._active
        if self._flight is not None:
            await asyncio.wait((self._flight,))
        if buffer is self._active:
            self._start_flush()

    async def _flush(self) -> None:
        self._refuse_in_callback("flush")
        while True:
            self._raise_failure()
            if self._flight is not None:
                await asyncio.wait((self._flight,))
            elif self._active.items:
                self._start_flush()
            else:
                break
        if self._files is not None:
            await self._files.flush()

    async def _close(self, deadline_seconds: float | None) -> None:
        for place in self._line:
            place.call()
        failure: BaseException | None = None
        try:
            if not await ended(self._flush(), self._clock, deadline_seconds):
                failure = Late(f"not flushed within {deadline_seconds:g} s")
                if self._flight is not None:
                    self._flight.cancel()
                    await asyncio.wait((self._flight,))
        except BaseException as error:
            failure = error
        try:
            if failure is not None:
                failure = await self._flights.leave((self._flying, self._active), failure, self.recorder)
        finally:
            self._alarm.cancel()
            await self._flights.close()
            if self._files is not None:
                await self._files.close()
            self._account.give(self._account.charged)
            self._account.close()
            self._active, self._flying = Buffer(0), None
            self._keys.clear()
        if failure is not None:
            raise failure

    # Looking up.

    def _find(self, key: Key) -> KeyState:
        self._check(key)
        state = self._keys.get(key)
        if state is None:
            self._misses += 1
            raise KeyError(key)
        return state

    def _look(self, key: Key) -> tuple[KeyState, list[Item], FileManager | None]:
        """What a key is, what of it is buffered, and the files where they hold some of it."""
        state = self._find(key)
        found = pending(key, self._flying, self._active)
        if state.flushed and self._files is None and (state.series or not found):
            raise self._flushed_away(key)
        return state, found, self._files if self._files is not None and self._files.holds(key) else None

    def _check(self, key: Key) -> str:
        self._check_open()
        return self.uri(key)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise ManagerClosed(f"{self.name}: the data manager is closed")

    def _check_series(self, key: Key, batches: Sequence[pa.RecordBatch]) -> None:
        state = self._keys.get(key)
        if state is not None and not state.series:
            raise not_a_series(self.name, key)
        if batches:
            check_series(self.name, key, state.schema if state else None, batches[0].schema)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _refuse_in_callback(self, call: str) -> None:
        """A callback that waited here would wait for its own end."""
        if self._flying is not None and _flushing.get() is self._flying:
            raise ReentrantDeadlock(f"{self.name}: {call} inside the flush callback would wait for the callback itself")

    def _flushed_away(self, key: Key) -> FlushedAway:
        letter = self._keys[key].letter
        if letter is not None:
            return FlushedAway(f"{self.name}: nobody took {key!r}; it is among the dead letters in {letter}")
        return FlushedAway(f"{self.name}: {key!r} went to the flush callback; ask whoever received it")


_flushing: contextvars.ContextVar[Buffer | None] = contextvars.ContextVar("flushing", default=None)
"""The buffer whose flush this task works for."""
