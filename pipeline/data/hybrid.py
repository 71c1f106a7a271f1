"""The `hybrid` data manager: a memory tier above a segment tier, and what moves between them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from ..clock import Clock, SystemClock
from ..errors import BackpressureTimeout, ManagerClosed, NotResident, SchemaMismatch
from ..pool import LOW
from ..storage import codecs
from ..storage.workspace import Workspace
from .account import Account
from .base import DataManager, DataStats, Key, key_bytes
from .block import ABSENT, Block
from .cold import SegmentTier, seal_of
from .eviction import Eviction
from .hot import MemoryTier
from .outsized import Outsized, write_outsized
from .parts import Parts, restore_form
from .policy import MB, DataFlow
from .relief import PoolRelief
from .restoring import Restoring
from .series import Piece, piece_bytes
from .tables import as_table
from .values import Admitted, admit, as_copied_batches, batches_size, known_schema, not_a_series

log = logging.getLogger(__name__)


class HybridManager(DataManager):
    """Holds values in memory up to `memory_limit_mb` and the least recently used ones on disk.

    Everything is decided on the loop; threads only encode, write, read and verify. A value being written stays
    readable, and charged, until the write is done. Who does not fit waits in line, first come first served, up to
    `admission_timeout_seconds`. A value larger than the whole budget goes straight to disk.

    When the disk is full or fails, values stay in memory, waiting callers get `BackpressureTimeout`, and the disk
    is tried again every second.
    """

    mode = "hybrid"

    def __init__(self, name: str, policy: DataFlow, workspace: Workspace, *, clock: Clock | None = None) -> None:
        super().__init__(name)
        self._policy = policy
        self._workspace = workspace
        self._clock = clock or SystemClock()
        self._account = Account(policy.memory_limit_bytes, self._clock, name, workspace.pool)
        self.tick = 0.0
        """Counts the uses, for the memory tier; here because one more look-up would cost a hit a tenth."""
        self._memory = MemoryTier(self._account, self)
        quota = policy.disk_limit_mb
        if policy.min_free_disk_mb is not None:
            workspace.keep_free(int(policy.min_free_disk_mb * MB))
        self._disk = SegmentTier(name, workspace, None if quota is None else int(quota * MB))
        self._entries: dict[Key, Block | Parts] = {}
        self._eviction = Eviction(name, self._memory, self._disk, workspace, self._clock)
        self._relief = PoolRelief.join(workspace, self._clock)
        if self._relief is not None:
            self._memory.on_put = partial(self._relief.victims.note, self._eviction)
        self._restoring = Restoring(
            name,
            self._memory,
            self._disk,
            self._eviction,
            workspace,
            self._clock,
            policy.admission_timeout_seconds,
            self._why,
        )
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._closing: asyncio.Task[None] | None = None
        self._misses = 0
        self._hot = self._memory.blocks
        """Single values that are in memory, by their keys; pieces of series are in it under themselves."""

    # The hit path: no lock, no await, one look-up; it is spelled out twice because a call would cost a third of it.

    async def retrieve(self, key: Key) -> Any:
        try:
            block = self._hot[key]
        except KeyError:
            return await self._fetch(key)
        self.tick = block.used = self.tick + 1.0
        return block.value

    def retrieve_nowait(self, key: Key) -> Any:
        try:
            block = self._hot[key]
        except KeyError:
            return self._fetch_nowait(key)
        self.tick = block.used = self.tick + 1.0
        return block.value

    async def store(self, key: Key, value: Any, *, size: int | None = None) -> str:
        uri = self._check(key)
        admitted = admit(value, size, self._policy.copy)
        if admitted.size > self._account.ceiling:
            await self._store_outsized(key, admitted)
        else:
            block = Block(key, None, admitted.value, admitted.size, admitted.kind)
            if self._workspace.check_values:
                block.seal = seal_of(codecs.encode(admitted.value, admitted.kind))
            await self._admit(key, lambda: block.size - self._reusable(key), lambda: self._put(key, block, admitted))
        return uri

    async def append(self, key: Key, rows: Any) -> str:
        uri = self._check(key)
        batches = as_copied_batches(rows, self._policy.copy)
        self._check_series(key, batches)
        size = batches_size(batches)
        if size > self._account.ceiling:
            await self._append_outsized(key, batches, size)
        else:
            await self._admit(key, lambda: size, lambda: self._extend(key, batches, size))
        return uri

    async def iter_batches(self, key: Key) -> AsyncIterator[pa.RecordBatch]:
        entry = self._find(key)
        if isinstance(entry, Block):
            for batch in as_table(await self._restoring.peek(entry)).to_batches():
                yield batch
            return
        parts = entry.pin()
        try:
            for block, batches in parts:
                if batches is not None:
                    for batch in batches:
                        yield batch
                    continue
                for batch in (await self._restoring.peek(block)).batches:
                    yield batch
        finally:
            self._unpin(parts)

    async def peek(self, key: Key) -> Any:
        entry = self._find(key)
        return await (self._restoring.peek(entry) if isinstance(entry, Block) else self._fetch(key))

    def schema_nowait(self, key: Key) -> pa.Schema | None:
        entry = self._find(key)
        if not isinstance(entry, Block):
            return entry.schema
        if entry.resident:
            return known_schema(entry.value)
        return entry.context[0] if entry.kind == codecs.BATCH else None

    async def delete(self, key: Key) -> None:
        self._check(key)
        entry = self._entries.pop(key)
        if self.recorder is not None:
            self.recorder.deleted(key)
        freed = self._forget(entry, "deleted")
        self._eviction.try_again()
        self._account.give(freed)
        self._eviction.tidy()

    def keys(self) -> Sequence[Key]:
        return list(self._entries)

    async def flush(self) -> None:
        self._check_open()
        await self._eviction.flush()

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    def stats(self) -> DataStats:
        account, memory = self._account, self._memory
        return DataStats(
            mode=self.mode,
            entries=len(self._entries),
            limit_bytes=account.limit,
            charged_bytes=account.charged,
            peak_bytes=account.peak,
            disk_bytes=self._disk.disk_bytes,
            misses=self._misses,
            evictions=memory.evictions,
            evicted_bytes=memory.evicted_bytes,
            restores=self._restoring.restores,
            waits=account.waits,
            corrupt=self._disk.lost,
            corrupt_bytes=self._disk.lost_bytes,
        )

    # Looking up what is not simply resident.

    def _find(self, key: Key) -> Block | Parts:
        self._check_open()
        entry = self._entries.get(key)
        if entry is None:
            key_bytes(key)  # says what is wrong with a key that could never have been stored
            self._misses += 1
            raise KeyError(key)
        return entry

    def _fetch_nowait(self, key: Key) -> Any:
        entry = self._find(key)
        if isinstance(entry, Block) or not entry.resident:
            raise NotResident(f"{self.name}: {key!r} is on disk; await retrieve reads it")
        for block in entry.blocks:
            self._memory.put(block)
        return entry.table([batch for block in entry.blocks for batch in block.value.batches])

    async def _fetch(self, key: Key) -> Any:
        entry = self._find(key)
        if isinstance(entry, Parts) and entry.resident:
            return self._fetch_nowait(key)
        self._misses += 1
        if isinstance(entry, Block):
            return await self._restoring.load(entry)
        return await self._gather(key, entry)

    async def _gather(self, key: Key, entry: Parts) -> Any:
        """A series or an outsized value as a whole: into memory if it fits well, else on loan for the caller."""
        missing = [block for block in entry.blocks if not block.resident]
        need = sum(block.restore_bytes for block in missing)
        whole = sum(block.restored_size for block in entry.blocks)
        if entry.form is not None:
            loan = need + whole  # the parts, and the value made of them
        else:
            loan = 0 if whole <= int(LOW * self._account.ceiling) else need
        if loan:
            self._workspace.borrow(loan)
        parts = entry.pin()
        try:
            batches: list[pa.RecordBatch] = []
            for block, found in parts:
                if found is None:
                    piece = await (asyncio.shield(self._disk.read(block)) if loan else self._restoring.load(block))
                    found = piece.batches
                if entry.deleted:
                    raise KeyError(key)
                batches.extend(found)
            self._restoring.restores += len(missing) if loan else 0
            return restore_form(entry.form, entry.table(batches))
        finally:
            self._unpin(parts)
            if loan:
                self._workspace.give_back(loan)

    # Admission: room first, in line.

    async def _admit(self, key: Key, need: Callable[[], int], put: Callable[[], None]) -> None:
        account = self._account
        wanted = need()
        if account.fits(wanted):
            account.enter(wanted, put)
        else:
            request = account.queue(need, put)
            self._eviction.tidy()
            if not await account.wait(request, self._policy.admission_timeout_seconds):
                raise BackpressureTimeout(self._why(f"{key!r} was not stored", need())) from self._eviction.refused
        if account.charged > self._eviction.high:
            self._eviction.tidy()
        if account.pool is not None and account.pool.charged > account.pool.high:
            account.pool.press()

    def _why(self, consequence: str, need: int) -> str:
        reason = f"; the disk refuses: {self._eviction.refused}" if self._eviction.refused else ""
        room = self._account.no_room(need, self._policy.admission_timeout_seconds)
        return f"{self.name}: {room}, {consequence}{reason}"

    def _put(self, key: Key, block: Block, admitted: Admitted) -> None:
        if self.recorder is not None:
            self.recorder.stored(key, admitted)
        old = self._entries.get(key)
        self._entries[key] = block
        if old is not None:
            self._forget(old, "replaced")
        self._memory.put(block)

    def _reusable(self, key: Key) -> int:
        entry = self._entries.get(key)
        return entry.reusable_size if entry is not None else 0

    def _forget(self, entry: Block | Parts, how: str) -> int:
        """The key no longer means this entry. The bytes returned are no longer needed: to be given back or used."""
        freed = 0
        if isinstance(entry, Parts):
            entry.deleted = how == "deleted"
        for block in [entry] if isinstance(entry, Block) else entry.blocks:
            freed += block.reusable_size
            block.forgotten = how
            self._memory.forget(block)
            if not block.leaving:
                block.value = ABSENT
            if how == "deleted" and block.restoring is not None:
                if not block.restoring.done():
                    block.restoring.set_exception(KeyError(block.slot))
                if block.request is not None:
                    self._account.withdraw(block.request)
                    self._restoring.end(block)
            self._disk.release(block)
        return freed

    def _unpin(self, parts: Sequence[tuple[Block, Any]]) -> None:
        for block, _ in parts:
            block.pins -= 1
            self._disk.release(block)

    def _check_series(self, key: Key, batches: Sequence[pa.RecordBatch]) -> None:
        entry = self._entries.get(key)
        if isinstance(entry, Block) or (entry is not None and entry.form is not None):
            raise not_a_series(self.name, key)
        (entry or Parts(self.name, key)).check(batches)

    def _series(self, key: Key) -> Parts:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Parts(self.name, key)
        assert isinstance(entry, Parts)
        return entry

    def _extend(self, key: Key, batches: list[pa.RecordBatch], size: int) -> None:
        try:
            self._check_series(key, batches)  # again: we may have waited for room
        except SchemaMismatch:
            self._account.give(size)
            raise
        series = self._series(key)
        if self.recorder is not None:
            self.recorder.extended(key, batches)
        if not batches:
            return
        series.schema = series.schema or batches[0].schema
        tail = series.blocks[-1] if series.blocks else None
        if tail is not None and tail.open and tail.size < piece_bytes(self._account.ceiling):
            freed = tail.value.add(batches, size)
            tail.size = tail.restored_size = tail.value.size
            self._memory.put(tail)
            if freed:
                self._account.give(freed)
            return
        block = Block(None, key_bytes(key), Piece(batches, size), size, codecs.BATCHES)
        series.blocks.append(block)
        self._memory.put(block)

    # Values larger than the budget: straight to disk, from the caller's memory, piece by piece.

    async def _store_outsized(self, key: Key, admitted: Admitted) -> None:
        outsized = Outsized(key, admitted.value, admitted.kind, admitted.size)

        def put() -> None:
            if self.recorder is not None:
                self.recorder.stored(key, admitted)
            old = self._entries.get(key)
            self._entries[key] = outsized.entry(self.name)
            if old is not None:
                self._account.give(self._forget(old, "replaced"))

        await self._write_through(outsized, put)

    async def _append_outsized(self, key: Key, batches: list[pa.RecordBatch], size: int) -> None:
        outsized = Outsized(key, batches, codecs.BATCHES, size)

        def put() -> None:
            self._check_series(key, batches)
            if self.recorder is not None:
                self.recorder.extended(key, batches)
            series = self._series(key)
            series.schema = series.schema or batches[0].schema
            series.blocks.extend(outsized.blocks)

        await self._write_through(outsized, put)

    async def _write_through(self, outsized: Outsized, put: Callable[[], None]) -> None:
        """Write, then take effect in one step. A caller who is cancelled has stored nothing."""
        self._disk.check_room(outsized.size)

        async def run() -> None:
            try:
                await self._disk.check_free(outsized.size)
                await write_outsized(outsized, self._disk)
                self._check_open()
                if not outsized.abandoned:
                    put()
                    outsized.kept = True
            finally:
                if not outsized.kept:
                    for block in outsized.blocks:
                        if block.extent is not None:
                            self._disk.free(block.extent)

        task = self._spawn(run())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            outsized.abandoned = True
            raise

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda task: self._tasks.pop(task, None))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    # Closing.

    def _check(self, key: Key) -> str:
        self._check_open()
        return self.uri(key)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise ManagerClosed(f"{self.name}: the data manager is closed")

    async def _close(self) -> None:
        self._account.fail(lambda: ManagerClosed(f"{self.name}: closed while waiting for room"))
        await self._eviction.stop()
        if self._relief is not None:
            self._relief.leave(self._eviction)
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        await self._restoring.finish()
        for entry in self._entries.values():
            self._account.give(self._forget(entry, "deleted"))
        self._account.close()
        self._entries.clear()
