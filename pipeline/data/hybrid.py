"""The `hybrid` data manager: a memory tier above a segment tier, and what moves between them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final

import pyarrow as pa

from ..clock import Clock, SystemClock
from ..errors import BackpressureTimeout, DataError, DiskFull, ManagerClosed, NotResident, SchemaMismatch
from ..storage import codecs
from ..storage.workspace import Workspace
from .account import Account, reached
from .base import DataManager, DataStats, Key, key_bytes
from .block import ABSENT, Block
from .cold import SegmentTier, copied_bytes
from .hot import MemoryTier
from .outsized import Outsized, write_outsized
from .parts import Parts, restore_form
from .policy import MB, DataFlow
from .series import Piece, piece_bytes
from .tables import as_table
from .values import Admitted, admit, as_batches, batches_size, not_a_series

log = logging.getLogger(__name__)

HIGH: Final = 0.90
"""Share of the budget above which eviction starts."""
LOW: Final = 0.75
"""Share of the budget at which eviction stops."""
PROBE_SECONDS: Final = 1.0
"""How long eviction rests after the disk refused, before it tries again."""


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
        self._account = Account(policy.memory_limit_bytes, self._clock)
        self._memory = MemoryTier(self._account)
        quota = policy.disk_limit_mb
        self._disk = SegmentTier(name, workspace, None if quota is None else int(quota * MB))
        self._entries: dict[Key, Block | Parts] = {}
        self._high = int(HIGH * self._account.limit)
        self._low = int(LOW * self._account.limit)
        self._cooling = False
        """Eviction has started and goes on until LOW."""
        self._spill: asyncio.Future[Any] | None = None
        """The one group being written."""
        self._refused: BaseException | None = None
        """Why the disk took nothing last time."""
        self._resting = False
        """Nothing is written until the disk is tried again."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._hits = self._misses = self._restores = 0
        self._resident = self._memory.blocks
        self._touch = self._memory.blocks.move_to_end

    # The hit path: no lock, no await, one look-up.

    async def retrieve(self, key: Key) -> Any:
        try:
            block = self._resident[key]
        except KeyError:
            return await self._fetch(key)
        self._touch(key)
        self._hits += 1
        return block.value

    def retrieve_nowait(self, key: Key) -> Any:
        try:
            block = self._resident[key]
        except KeyError:
            return self._fetch_nowait(key)
        self._touch(key)
        self._hits += 1
        return block.value

    async def store(self, key: Key, value: Any, *, size: int | None = None) -> str:
        uri = self._check(key)
        admitted = admit(value, size)
        if admitted.size > self._account.limit:
            await self._store_outsized(key, admitted)
        else:
            block = Block(key, key_bytes(key), admitted.value, admitted.size, admitted.kind)
            await self._admit(key, lambda: block.size - self._reusable(key), lambda: self._put(key, block))
        return uri

    async def append(self, key: Key, rows: Any) -> str:
        uri = self._check(key)
        batches = as_batches(rows)
        self._check_series(key, batches)
        size = batches_size(batches)
        if size > self._account.limit:
            await self._append_outsized(key, batches, size)
        else:
            await self._admit(key, lambda: size, lambda: self._extend(key, batches, size))
        return uri

    async def iter_batches(self, key: Key) -> AsyncIterator[pa.RecordBatch]:
        entry = self._find(key)
        if isinstance(entry, Block):
            for batch in as_table(await self._load(entry)).to_batches():
                yield batch
            return
        parts = entry.pin()
        try:
            for block, batches in parts:
                if batches is not None:
                    for batch in batches:
                        yield batch
                    continue
                need = block.restore_bytes
                self._workspace.borrow(need)
                try:
                    for batch in (await asyncio.shield(self._disk.read(block))).batches:
                        yield batch
                finally:
                    self._workspace.give_back(need)
        finally:
            self._unpin(parts)

    async def delete(self, key: Key) -> None:
        self._check(key)
        entry = self._entries.pop(key)
        freed = self._forget(entry, "deleted")
        self._resting = False  # there may be room on the disk now
        self._account.give(freed)
        self._tidy()

    def keys(self) -> Sequence[Key]:
        return list(self._entries)

    async def flush(self) -> None:
        self._check_open()
        while self._spill is not None:
            await asyncio.wait((self._spill,))

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
            hits=self._hits,
            misses=self._misses,
            evictions=memory.evictions,
            evicted_bytes=memory.evicted_bytes,
            restores=self._restores,
            waits=account.waits,
        )

    # Looking up what is not simply resident.

    def _find(self, key: Key) -> Block | Parts:
        self._check(key)
        entry = self._entries.get(key)
        if entry is None:
            self._misses += 1
            raise KeyError(key)
        return entry

    def _fetch_nowait(self, key: Key) -> Any:
        entry = self._find(key)
        if not entry.resident:
            raise NotResident(f"{self.name}: {key!r} is on disk; await retrieve reads it")
        self._hits += 1
        if isinstance(entry, Block):
            self._memory.put(entry)  # used while it is being written: it will stay
            return entry.value
        for block in entry.blocks:
            self._memory.put(block)
        return entry.table([batch for block in entry.blocks for batch in block.value.batches])

    async def _fetch(self, key: Key) -> Any:
        entry = self._find(key)
        if entry.resident:
            return self._fetch_nowait(key)
        self._misses += 1
        if isinstance(entry, Block):
            return await self._load(entry)
        return await self._gather(key, entry)

    async def _gather(self, key: Key, entry: Parts) -> Any:
        """A series or an outsized value as a whole: into memory if it fits well, else on loan for the caller."""
        missing = [block for block in entry.blocks if not block.resident]
        need = sum(block.restore_bytes for block in missing)
        whole = sum(block.restored_size for block in entry.blocks)
        loan = 0 if entry.form is None and whole <= self._low else need + (whole if entry.form is not None else 0)
        if loan:
            self._workspace.borrow(loan)
        parts = entry.pin()
        try:
            batches: list[pa.RecordBatch] = []
            for block, found in parts:
                if found is None:
                    piece = await (asyncio.shield(self._disk.read(block)) if loan else self._load(block))
                    found = piece.batches
                if entry.deleted:
                    raise KeyError(key)
                batches.extend(found)
            self._restores += len(missing) if loan else 0
            return restore_form(entry.form, entry.table(batches))
        finally:
            self._unpin(parts)
            if loan:
                self._workspace.give_back(loan)

    # Restoring: room first, then one read however many ask, verified before anybody sees it.

    async def _load(self, block: Block) -> Any:
        """The value of a block wherever it is; concurrent callers share one read."""
        if block.resident:
            self._memory.put(block)
            return block.value
        if block.restoring is None:
            value = self._restore(block)
            if value is not ABSENT:
                return value
        future = block.restoring
        assert future is not None
        block.waiters += 1
        try:
            if block.request is not None and not await reached(
                block.request.done, self._clock, self._policy.admission_timeout_seconds
            ):
                raise BackpressureTimeout(self._why(f"{block.slot!r} could not be read back"))
            return await asyncio.shield(future)
        finally:
            block.waiters -= 1
            if block.waiters == 0 and block.request is not None and self._account.withdraw(block.request):
                self._end_restore(block)

    def _restore(self, block: Block) -> Any:
        """Start bringing a block back; the value, if the page cache had it."""
        value = ABSENT
        need = block.restore_bytes
        if need > self._account.limit:
            self._workspace.borrow(need)
            self._begin_restore(block)
            self._read(block, need, on_loan=True)
        elif self._account.fits(need):
            self._account.take(need)
            value = self._disk.read_nowait(block)
            if value is not ABSENT:
                self._restored(block, value)
            else:
                self._begin_restore(block)
                self._read(block, need, on_loan=False)
        else:
            self._begin_restore(block)
            block.request = self._account.queue(lambda: need, lambda: self._read_admitted(block, need))
        self._tidy()
        return value

    def _begin_restore(self, block: Block) -> None:
        block.restoring = asyncio.get_running_loop().create_future()
        block.restoring.add_done_callback(lambda future: future.cancelled() or future.exception())

    def _read_admitted(self, block: Block, need: int) -> None:
        block.request = None
        self._read(block, need, on_loan=False)

    def _read(self, block: Block, need: int, *, on_loan: bool) -> None:
        job = self._disk.read(block)
        job.add_done_callback(lambda job: self._read_done(block, need, on_loan, job))

    def _read_done(self, block: Block, need: int, on_loan: bool, job: asyncio.Future[Any]) -> None:
        error = job.exception()
        future = block.restoring
        if on_loan:
            self._workspace.give_back(need)
        elif error is not None or block.forgotten:
            self._account.give(need)
        else:
            self._restored(block, job.result())
        if error is not None:
            log.error("%s: %s", self.name, error)
        elif on_loan:
            self._restores += 1
        self._end_restore(block)
        if future is not None and not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(job.result())
        self._tidy()

    def _restored(self, block: Block, value: Any) -> None:
        """The value is in memory again, with a clean copy on disk; its encoded form is let go."""
        encoded = block.restore_bytes - block.restored_size
        block.value = value
        block.size = block.restored_size
        self._restores += 1
        self._memory.put(block)
        if encoded:
            self._account.give(encoded)

    def _end_restore(self, block: Block) -> None:
        block.restoring = block.request = None
        self._free_if_forgotten(block)

    # Admission: room first, in line.

    async def _admit(self, key: Key, need: Callable[[], int], put: Callable[[], None]) -> None:
        account = self._account
        wanted = need()
        if account.fits(wanted):
            account.take(wanted)
            put()
        else:
            request = account.queue(need, put)
            self._tidy()
            if not await account.wait(request, self._policy.admission_timeout_seconds):
                raise BackpressureTimeout(self._why(f"{key!r} was not stored")) from self._refused
        if account.charged > self._high:
            self._tidy()

    def _why(self, consequence: str) -> str:
        reason = f"; the disk refuses: {self._refused}" if self._refused else ""
        return (
            f"{self.name}: no room within {self._policy.admission_timeout_seconds:g} s beside "
            f"{self._account.charged} of {self._account.limit} bytes, {consequence}{reason}"
        )

    def _put(self, key: Key, block: Block) -> None:
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
                    self._end_restore(block)
            self._free_if_forgotten(block)
        return freed

    def _free_if_forgotten(self, block: Block) -> None:
        if block.forgotten and block.extent is not None and not block.pins and block.restoring is None:
            extent, block.extent = block.extent, None
            self._disk.free(extent)

    def _unpin(self, parts: Sequence[tuple[Block, Any]]) -> None:
        for block, _ in parts:
            block.pins -= 1
            self._free_if_forgotten(block)

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
        if not batches:
            return
        series.schema = series.schema or batches[0].schema
        tail = series.blocks[-1] if series.blocks else None
        if tail is not None and tail.open and tail.size < piece_bytes(self._account.limit):
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
            old = self._entries.get(key)
            self._entries[key] = outsized.entry(self.name)
            if old is not None:
                self._account.give(self._forget(old, "replaced"))

        await self._write_through(outsized, put)

    async def _append_outsized(self, key: Key, batches: list[pa.RecordBatch], size: int) -> None:
        outsized = Outsized(key, batches, codecs.BATCHES, size)

        def put() -> None:
            self._check_series(key, batches)
            series = self._series(key)
            series.schema = series.schema or batches[0].schema
            series.blocks.extend(outsized.blocks)

        await self._write_through(outsized, put)

    async def _write_through(self, outsized: Outsized, put: Callable[[], None]) -> None:
        """Write, then take effect in one step. A caller who is cancelled has stored nothing."""
        self._disk.check_room(outsized.size)

        async def run() -> None:
            try:
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
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    # Eviction.

    def _tidy(self) -> None:
        """Start or continue eviction if the budget asks for it. Never waits; at most one group is being written."""
        account = self._account
        if self._closing is not None:
            return
        if account.charged > self._high or account.waiting:
            self._cooling = True
        while self._cooling:
            before = account.charged
            target = self._low
            if account.waiting:
                target = min(target, account.limit - account.wanted)
            group = self._memory.shed(target, write=self._spill is None, skip_dirty=self._resting)
            if group:
                self._write(group)
            elif account.charged - self._memory.leaving_bytes <= self._low and not account.waiting:
                self._cooling = False
            elif account.charged == before:
                return  # a write is under way, or there is nothing to evict

    def _write(self, group: list[Block]) -> None:
        copies = copied_bytes(group)
        # As far as the budget has room; the rest comes from the process's reserve, so that eviction always
        # progresses, and half of the room stays for those who store meanwhile.
        charged = min(copies, (self._account.limit - self._account.charged) // 2)
        self._account.take(charged)
        self._workspace.lend(copies - charged)
        try:
            self._disk.check_room(sum(block.size for block in group))
            spill = self._disk.write(group)
        except DataError as error:
            spill = asyncio.get_running_loop().create_future()
            spill.set_exception(error)
        self._spill = spill
        spill.add_done_callback(lambda spill: self._written(group, charged, copies - charged, spill))

    def _written(self, group: list[Block], charged: int, lent: int, spill: asyncio.Future[Any]) -> None:
        self._spill = None
        self._workspace.give_back(lent)
        error = spill.exception()
        if error is None:
            self._refused = None
            for block, (extent, context) in zip(group, spill.result(), strict=True):
                block.settle(extent, context)
                self._memory.left(block)
                self._free_if_forgotten(block)
        else:
            self._rest(error)
            for block in reversed(group):
                self._memory.stayed(block)
        self._account.give(charged)
        self._tidy()

    def _rest(self, error: BaseException) -> None:
        """The disk took nothing: everything stays in memory, and we try again in a while."""
        level = logging.WARNING if isinstance(error, DiskFull) else logging.ERROR
        log.log(level, "%s: eviction rests, the values stay in memory: %s", self.name, error)
        self._refused, self._resting = error, True
        if self._closing is not None:
            return

        async def probe() -> None:
            await self._clock.sleep_until(self._clock.monotonic_ns() + int(PROBE_SECONDS * 1e9))
            self._resting = False
            self._tidy()

        self._spawn(probe()).set_name(_PROBE)

    # Closing.

    def _check(self, key: Key) -> str:
        self._check_open()
        return self.uri(key)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise ManagerClosed(f"{self.name}: the data manager is closed")

    async def _close(self) -> None:
        self._account.fail(lambda: ManagerClosed(f"{self.name}: closed while waiting for room"))
        for task in list(self._tasks):
            if task.get_name() == _PROBE:
                task.cancel()
        blocks = [
            block
            for entry in self._entries.values()
            for block in ([entry] if isinstance(entry, Block) else entry.blocks)
        ]
        for block in blocks:
            if block.request is not None and block.restoring is not None and not block.restoring.done():
                block.restoring.set_exception(ManagerClosed(f"{self.name}: closed while waiting for room"))
        reading = [block.restoring for block in blocks if block.restoring is not None and block.request is None]
        pending = [future for future in (*reading, *self._tasks, self._spill) if future is not None]
        if pending:
            await asyncio.wait(pending)
        while self._spill is not None:
            await asyncio.wait((self._spill,))
        for entry in self._entries.values():
            self._account.give(self._forget(entry, "deleted"))
        self._entries.clear()


_PROBE: Final = "penstock-probe"
