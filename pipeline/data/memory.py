"""The `memory` data manager: everything held in memory, within a budget."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pyarrow as pa

from ..clock import Clock, SystemClock
from ..errors import BackpressureTimeout, BudgetExceeded, ManagerClosed, SchemaMismatch, ValueTooLarge
from ..pool import Pool
from .account import Account
from .base import DataManager, DataStats, Key
from .policy import DataFlow
from .series import Piece, Series, piece_bytes
from .tables import as_table
from .values import Admitted, admit, as_copied_batches, batches_size, known_schema, not_a_series

log = logging.getLogger(__name__)


class MemoryManager(DataManager):
    """Holds values up to `memory_limit_mb`; what happens above is the policy's `on_full`.

    - `reject` raises `BudgetExceeded`: the container that would wait is usually the only one that could delete.
    - `evict_oldest` drops what was stored or appended first, counts it and logs it.
    - `block` waits in line up to `admission_timeout_seconds`, then raises `BackpressureTimeout`.

    A value larger than the whole budget raises `ValueTooLarge` and evicts nothing.

    Where the budget has room but the pool of the process has not, nothing is dropped: the value waits as long as others
    can spill, with `block` until somebody gives room back, and raises `BudgetExceeded` after that time.
    """

    mode = "memory"

    def __init__(self, name: str, policy: DataFlow, *, clock: Clock | None = None, pool: Pool | None = None) -> None:
        super().__init__(name)
        self._policy = policy
        self._account = Account(policy.memory_limit_bytes, clock or SystemClock(), name, pool)
        self._values: dict[Key, Any] = {}
        """Single values, for the hit path."""
        self._entries: dict[Key, int | Series] = {}
        """Every key in order of first storing: the charge of a single value, or a series."""
        self._ages: dict[Key | Piece, Key] = {}
        """Values and pieces of series with their keys, oldest first; kept for `evict_oldest` only."""
        self._misses = self._dropped = self._dropped_bytes = 0
        self._closed = False

    async def store(self, key: Key, value: Any, *, size: int | None = None) -> str:
        uri = self._check(key)
        admitted = admit(value, size, self._policy.copy)
        await self._make_room(key, admitted.size, lambda: self._held(key), lambda: self._put(key, admitted))
        return uri

    async def append(self, key: Key, rows: Any) -> str:
        uri = self._check(key)
        batches = as_copied_batches(rows, self._policy.copy)
        self._check_series(key, batches)
        size = batches_size(batches)
        await self._make_room(key, size, lambda: 0, lambda: self._extend(key, batches, size))
        return uri

    async def retrieve(self, key: Key) -> Any:
        try:
            value = self._values[key]
        except KeyError:
            return self._find(key)
        return value

    def retrieve_nowait(self, key: Key) -> Any:
        try:
            value = self._values[key]
        except KeyError:
            return self._find(key)
        return value

    async def iter_batches(self, key: Key) -> AsyncIterator[pa.RecordBatch]:
        for batch in as_table(self._find(key)).to_batches():
            yield batch

    def schema_nowait(self, key: Key) -> pa.Schema | None:
        self._check_open()
        entry = self._entries[key]
        if isinstance(entry, Series):
            return entry.schema
        return known_schema(self._values[key])

    async def delete(self, key: Key) -> None:
        self._check(key)
        if key not in self._entries:
            raise KeyError(key)
        if self.recorder is not None:
            self.recorder.deleted(key)
        self._forget_ages(key)
        entry = self._entries.pop(key)
        self._values.pop(key, None)
        self._account.give(entry if isinstance(entry, int) else entry.size)

    def keys(self) -> Sequence[Key]:
        return list(self._entries)

    async def flush(self) -> None:
        self._check_open()

    async def close(self) -> None:
        self._closed = True
        self._account.fail(lambda: ManagerClosed(f"{self.name}: closed while the value waited for room"))
        self._account.give(self._account.charged)
        self._account.close()
        self._values.clear()
        self._entries.clear()
        self._ages.clear()

    def stats(self) -> DataStats:
        account = self._account
        return DataStats(
            mode=self.mode,
            entries=len(self._entries),
            limit_bytes=account.limit,
            charged_bytes=account.charged,
            peak_bytes=account.peak,
            misses=self._misses,
            waits=account.waits,
            dropped=self._dropped,
            dropped_bytes=self._dropped_bytes,
        )

    def _find(self, key: Key) -> Any:
        """Everything but a hit on a single value."""
        self._check(key)
        entry = self._entries.get(key)
        if entry is None:
            self._misses += 1
            raise KeyError(key)
        return entry.table() if isinstance(entry, Series) else self._values[key]

    def _check(self, key: Key) -> str:
        self._check_open()
        return self.uri(key)

    def _check_open(self) -> None:
        if self._closed:
            raise ManagerClosed(f"{self.name}: the data manager is closed")

    def _check_series(self, key: Key, batches: Sequence[pa.RecordBatch]) -> None:
        entry = self._entries.get(key)
        if isinstance(entry, int):
            raise not_a_series(self.name, key)
        (entry or Series(self.name, key)).check(batches)

    def _held(self, key: Key) -> int:
        """What replacing the key would free: an overwrite reserves only the difference."""
        entry = self._entries.get(key, 0)
        return entry if isinstance(entry, int) else entry.size

    async def _make_room(self, key: Key, size: int, held: Callable[[], int], put: Callable[[], None]) -> None:
        """Charge `size - held()` and `put`, in one step; the policy says what happens when it does not fit."""
        account = self._account
        if size > account.ceiling:
            setting = "memory_limit_mb" if account.ceiling == account.limit else "process_memory_mb"
            raise ValueTooLarge(
                f"{self.name}: the value of {key!r} takes {size} bytes, {setting} allows {account.ceiling}; "
                f"raise {setting} or use mode: hybrid. It was not stored and nothing was dropped for it"
            )
        need = size - held()
        if account.fits(need):
            account.enter(need, put)
            return
        if account.pool is not None and account.charged + need <= account.limit and account.waiting == account.short:
            # There is room in the budget itself, and for whoever of us waits already; the pool has none.
            await self._await_pool(account.pool, key, lambda: size - held(), put)
            return
        match self._policy.on_full:
            case "reject":
                raise BudgetExceeded(
                    f"{self.name}: {key!r} needs {need} bytes more, {account.limit - account.charged} of "
                    f"{account.limit} are free; delete something, raise memory_limit_mb or use mode: hybrid. "
                    "The value was not stored"
                )
            case "evict_oldest":
                self._make_youngest(key, held())  # about to be replaced: dropping it would gain nothing
                while account.charged + size - held() > account.limit:
                    self._drop_oldest()
                if not account.fits(size - held()):  # others were before us in the pool
                    assert account.pool is not None
                    await self._await_pool(account.pool, key, lambda: size - held(), put)
                    return
                account.enter(size - held(), put)
            case "block":
                request = account.queue(lambda: size - held(), put)
                if not await account.wait(request, self._policy.admission_timeout_seconds):
                    raise BackpressureTimeout(
                        f"{self.name}: nobody made room within {self._policy.admission_timeout_seconds:g} s: "
                        f"{account.charged} of {account.limit} bytes are taken; {key!r} was not stored"
                    )

    async def _await_pool(self, pool: Pool, key: Key, need: Callable[[], int], put: Callable[[], None]) -> None:
        """The pool is full: wait as long as somebody can make room in it."""
        request = self._account.queue(need, put)
        seconds = self._policy.admission_timeout_seconds
        waits = self._policy.on_full == "block" or pool.hopeful
        if not await self._account.wait(request, seconds if waits else 0.0):
            raise BudgetExceeded(
                f"{self.name}: {key!r} needs {need()} bytes more, and was not stored: {pool.refuse(self.name, need())}"
            )

    def _put(self, key: Key, admitted: Admitted) -> None:
        if self.recorder is not None:
            self.recorder.stored(key, admitted)
        self._forget_ages(key)
        self._values[key] = admitted.value
        self._entries[key] = admitted.size
        if self._policy.on_full == "evict_oldest":
            self._ages[key] = key

    def _extend(self, key: Key, batches: Sequence[pa.RecordBatch], size: int) -> None:
        series = self._entries.get(key)
        try:
            if isinstance(series, int):
                raise not_a_series(self.name, key)  # stored while we waited for room
            if series is None:
                series = self._entries[key] = Series(self.name, key, piece_bytes(self._account.limit))
            series.check(batches)
        except SchemaMismatch:
            self._account.give(size)
            raise
        if self.recorder is not None:
            self.recorder.extended(key, batches)
        begun, freed = series.extend(batches, size)
        if freed:
            self._account.give(freed)
        if begun and self._policy.on_full == "evict_oldest":
            self._ages[begun] = key

    def _forget_ages(self, key: Key) -> None:
        self._ages.pop(key, None)
        series = self._entries.get(key)
        if isinstance(series, Series) and self._ages:
            for piece in series.pieces:
                del self._ages[piece]

    def _make_youngest(self, key: Key, held: int) -> None:
        entry = self._entries.get(key)
        for age in () if not held else entry.pieces if isinstance(entry, Series) else (key,):
            self._ages[age] = self._ages.pop(age)

    def _drop_oldest(self) -> None:
        """Drop one value, or one piece of a series: whichever was stored first."""
        oldest, key = next(iter(self._ages.items()))
        del self._ages[oldest]
        entry = self._entries[key]
        if isinstance(oldest, Piece):
            assert isinstance(entry, Series)
            freed = entry.drop(oldest)
            if self.recorder is not None:
                self.recorder.dropped(key, freed)
        else:
            assert isinstance(entry, int)
            freed = entry
            if self.recorder is not None:
                self.recorder.deleted(key)
            del self._entries[key], self._values[key]
        self._dropped += 1
        self._dropped_bytes += freed
        log.warning("%s: dropped the oldest of %r, %d bytes, to make room", self.name, key, freed)
        self._account.give(freed)
