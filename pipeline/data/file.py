"""The `file` data manager: every value a file of its own, every series a row of part files."""

from __future__ import annotations

import asyncio
import logging
import sys
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..clock import Clock, SystemClock
from ..errors import BackpressureTimeout, CorruptEntry, DataError, ManagerClosed, NotResident, SchemaMismatch
from ..storage.manifest import STORE
from ..storage.names import file_part
from ..storage.workspace import Workspace
from . import files
from .account import Account
from .alarm import Alarm
from .base import DataManager, DataStats, Key
from .evolution import fitted, lost_by_parquet, widened
from .files import StoredFile
from .part_files import Part, PartSeries, stream_parts
from .policy import MB, DataFlow
from .publishing import Publishing
from .series import Piece
from .values import Admitted, admit, as_copied_batches, batches_size, not_a_series, series_table

if TYPE_CHECKING:
    from .kept_files import KeptFiles

log = logging.getLogger(__name__)


def _nothing() -> None:
    """Nobody wants to know."""


class FileManager(Publishing, DataManager):
    """Keeps values on disk in `file_settings.format`; memory holds only rows of series not yet worth a file.

    Files appear whole or not at all, are never overwritten, and live in `store/<container>` below the workspace's
    folder. `store` returns when the file is on disk; `append` returns at once while there is room in the buffer of
    `memory_limit_mb`. Rows become a file when they are many, large or old enough (`file_settings.roll_*`), at `flush`
    and at `close`; rows of other types (`schema_evolution: widen`) never share one. When publishing a part fails its
    rows stay readable in memory, the next call raises `DiskFull` or `StorageFailed`, and `flush` tries again.
    """

    mode = "file"

    def __init__(self, name: str, policy: DataFlow, workspace: Workspace, *, clock: Clock | None = None) -> None:
        super().__init__(name)
        self.kept: KeptFiles | None = None
        """Who sees to it that files outlive the process; None: they do not."""
        self._policy = policy
        self._io = workspace.io
        self.folder = workspace.folder / STORE / file_part(name)
        self._account = Account(policy.memory_limit_bytes, clock or SystemClock(), name, workspace.pool)
        settings = policy.file_settings
        self._part_bytes = max(1, min(int(settings.roll_mb * MB), self._account.ceiling // 4))
        self._part_rows = settings.roll_rows or sys.maxsize
        self._alarm = Alarm(clock or SystemClock(), settings.roll_seconds, self._too_old)
        self._rolling = False
        """Whether a part has enough rows to become a file."""
        self._entries: dict[Key, Part | PartSeries] = {}
        self._open: dict[Part, Key] = {}
        """Parts of series whose rows are in memory, oldest first."""
        self._numbers = files.numbers()
        self._publishing: asyncio.Task[None] | None = None
        self._flushing = False
        self._failure: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._abandoned: set[asyncio.Task[Any]] = set()
        """Writes whose callers were cancelled."""
        self._disk_bytes = 0
        self.corrupt: set[Path] = set()
        """Files that were found not to be as they were written."""
        self._misses = self._restores = self._flushes = self._flushed_rows = 0
        self._closing: asyncio.Task[None] | None = None

    async def store(self, key: Key, value: Any, *, size: int | None = None) -> str:
        uri = self._check(key)
        await self.write(key, admit(value, size, self._policy.copy))
        return uri

    async def append(self, key: Key, rows: Any) -> str:
        uri = self._check(key)
        batches = as_copied_batches(rows, self._policy.copy)
        await self.extend(key, batches, batches_size(batches))
        return uri

    async def write(self, key: Key, admitted: Admitted, then: Callable[[], None] = _nothing) -> None:
        """Publish a value; `then` is called in the step in which it takes effect."""
        self._raise_failure()
        charge = min(admitted.size, self._account.ceiling)
        tasks: list[asyncio.Task[None]] = []

        def begin() -> None:
            tasks.append(self._spawn(self._write(key, admitted, charge, then)))

        try:
            await self._make_room(key, charge, begin)
            await asyncio.shield(tasks[0])
        except asyncio.CancelledError:
            self._abandoned.update(tasks)  # room may have come in the very step in which the caller was cancelled
            raise

    async def extend(
        self, key: Key, batches: list[pa.RecordBatch], size: int, then: Callable[[], None] = _nothing
    ) -> None:
        """Append batches of `size` bytes; `then` is called in the step in which they take effect."""
        self._raise_failure()
        self._widened(key, batches)
        # A run of rows larger than the budget is the caller's until its file is there; it is charged as far as
        # the budget goes, so that nothing else is buffered beside it.
        charge = min(size, self._account.ceiling)

        def put() -> None:
            self._extend(key, batches, charge)
            then()

        await self._make_room(key, charge, put)
        if size > self._account.ceiling:
            await self.flush()

    def _extend(self, key: Key, batches: list[pa.RecordBatch], charge: int) -> None:
        """Add rows whose room was taken; in this step they belong to the series."""
        try:
            schema = self._widened(key, batches)  # again: we may have waited for room
            batches = [fitted(batch, schema) for batch in batches]
        except SchemaMismatch:
            self._account.give(charge)
            raise
        series = self._entries.get(key)
        if series is None:
            series = self._entries[key] = PartSeries()
        assert isinstance(series, PartSeries)
        gen = self.recorder.extended(key, batches) if self.recorder is not None else 0
        if not batches:
            return
        if series.schema is None and self._policy.file_settings.format == "parquet":
            self._spawn(self._warn_of_types(key, schema))
        same = series.schema is not None and series.schema.equals(schema)
        series.schema = schema
        tail = series.parts[-1] if series.parts and same else None
        if tail is None or not tail.takes_more(self._part_bytes, self._part_rows):
            tail = Part(Piece(list(batches), charge))
            series.parts.append(tail)
            self._open[tail] = key
        else:
            assert tail.piece is not None
            freed = tail.piece.add(batches, charge)
            if freed:
                self._account.give(freed)
        tail.first_gen, tail.last_gen = tail.first_gen or gen, gen
        tail.rows += sum(batch.num_rows for batch in batches)
        self._rolling = self._rolling or tail.rows >= self._part_rows
        self._alarm.set()
        self._publish_due()

    async def _warn_of_types(self, key: Key, schema: pa.Schema) -> None:
        """F-4: what parquet would not give back as it was is written as arrow, and that is told at the start."""
        lost = await self._io.submit(self, lost_by_parquet, schema)
        if lost:
            log.warning("%s: %r is written as arrow files: parquet would lose %s", self.name, key, ", ".join(lost))

    async def retrieve(self, key: Key) -> Any:
        entry = self._find(key)
        parts = entry.pin()
        try:
            if isinstance(entry, Part):
                self._restores += 1
                return await self._read(entry, key)
            schema = entry.schema
            batches: list[pa.RecordBatch] = []
            for part, found in parts:
                if found is None:
                    self._restores += 1
                    found = await self._read(part, key)
                batches.extend(found)
            return series_table(schema, [fitted(batch, schema) for batch in batches])
        finally:
            self._unpin(parts)

    def retrieve_nowait(self, key: Key) -> Any:
        entry = self._find(key)
        if isinstance(entry, Part) or any(part.piece is None for part in entry.parts):
            raise NotResident(f"{self.name}: {key!r} is on disk; await retrieve reads it")
        batches = [fitted(batch, entry.schema) for _, found in entry.snapshot() for batch in found or ()]
        return series_table(entry.schema, batches)

    async def iter_batches(self, key: Key) -> AsyncIterator[pa.RecordBatch]:
        entry = self._find(key)
        schema = entry.schema if isinstance(entry, PartSeries) else None
        parts = entry.pin()
        try:
            async with aclosing(stream_parts(parts, key, self._io, self, self._spawn)) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    yield batch if schema is None else fitted(batch, schema)
        finally:
            self._unpin(parts)

    async def delete(self, key: Key) -> None:
        self._check(key)
        entry = self._entries.pop(key)
        if self.recorder is not None:
            self.recorder.deleted(key)
        self._forget(entry)

    def keys(self) -> Sequence[Key]:
        return list(self._entries)

    async def flush(self) -> None:
        self._check_open()
        await self._flush()

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    def stats(self) -> DataStats:
        account = self._account
        return DataStats(
            mode=self.mode,
            entries=len(self._entries),
            limit_bytes=account.limit,
            charged_bytes=account.charged,
            peak_bytes=account.peak,
            disk_bytes=self._disk_bytes,
            misses=self._misses,
            restores=self._restores,
            flushes=self._flushes,
            flushed_rows=self._flushed_rows,
            waits=account.waits,
            corrupt=len(self.corrupt),
        )

    def entry(self, key: Key) -> Part | PartSeries | None:
        """Where the key is."""
        return self._entries.get(key)

    def used(self) -> set[Path]:
        """Files that hold something."""
        entries = self._entries.values()
        parts = [part for entry in entries for part in ([entry] if isinstance(entry, Part) else entry.parts)]
        return {part.stored.file.path for part in parts if part.stored is not None}

    async def attach(self, key: Key, stored: Sequence[StoredFile], up_to: int, *, series: bool, whole: bool) -> None:
        """Take back files of an earlier process: a value, or parts of a series behind those it has, or all of them."""
        if not series:
            self._entries[key] = Part(None, stored[0])
        else:
            entry = self._entries.get(key)
            if whole or not isinstance(entry, PartSeries):
                entry = self._entries[key] = PartSeries()
            place = bisect_right(entry.parts, up_to, key=lambda part: part.last_gen)  # rows behind may be back already
            entry.parts[place:place] = [Part(None, file) for file in stored]
            for part in entry.parts[place : place + len(stored)]:
                part.last_gen = up_to
            if stored and place + len(stored) == len(entry.parts):
                entry.schema = await self._io.submit(self, files.last_schema, stored, key) or entry.schema
        self._disk_bytes += sum(file.file.num_bytes for file in stored)

    def holds(self, key: Key) -> bool:
        return key in self._entries

    def series_schema(self, key: Key) -> pa.Schema | None:
        """Columns of a series; None where there is none yet. Raises `SchemaMismatch` for a stored value."""
        entry = self._entries.get(key)
        if isinstance(entry, Part):
            raise not_a_series(self.name, key)
        return entry.schema if entry is not None else None

    def _find(self, key: Key) -> Part | PartSeries:
        self._check(key)
        entry = self._entries.get(key)
        if entry is None:
            self._misses += 1
            raise KeyError(key)
        return entry

    def _check(self, key: Key) -> str:
        self._check_open()
        return self.uri(key)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise ManagerClosed(f"{self.name}: the data manager is closed")

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _widened(self, key: Key, batches: Sequence[pa.RecordBatch]) -> pa.Schema | None:
        """The columns of the series with these rows; raises `SchemaMismatch` where they do not belong to it."""
        schema = self.series_schema(key)
        if not batches:
            return schema
        return widened(self.name, key, schema, batches[0].schema, self._policy.schema_evolution)

    async def _make_room(self, key: Key, size: int, put: Callable[[], None] = _nothing) -> None:
        account = self._account
        if account.fits(size):
            account.take(size)
            put()
            return
        request = account.queue(lambda: size, put)
        self._publish_due()
        seconds = self._policy.admission_timeout_seconds
        if not await account.wait(request, seconds):
            raise BackpressureTimeout(
                f"{self.name}: {account.no_room(size, seconds)}, {key!r} was not stored"
                + (f"; the disk refuses: {self._failure}" if self._failure else "")
            )

    async def _read(self, part: Part, key: Key) -> Any:
        assert part.stored is not None
        path = part.stored.file.path
        try:
            return await asyncio.shield(self._io.submit(self, files.read_file, part.stored, key))
        except CorruptEntry:
            self.corrupt.add(path)
            raise

    async def _write(self, key: Key, admitted: Admitted, charge: int, then: Callable[[], None]) -> None:
        """Write, then take effect in one step; a caller who was cancelled by then has stored nothing."""
        write = partial(
            files.write_file,
            self.folder,
            self._numbers,
            key,
            admitted.kind,
            admitted.value,
            self._policy.file_settings,
        )
        try:
            stored = await self._io.submit(self, write)
            await self._list(stored)
        finally:
            self._account.give(charge)
        part = Part(None, stored)
        self._disk_bytes += stored.file.num_bytes
        if asyncio.current_task() in self._abandoned:
            self._forget(part)
            return
        if self.recorder is not None:
            self.recorder.stored(key, admitted) if self.kept is None else self.kept.holds_value(
                key, stored, admitted.size
            )
        old = self._entries.get(key)
        self._entries[key] = part
        if old is not None:
            self._forget(old)
        then()

    async def _list(self, stored: StoredFile) -> None:
        """See to it that the file outlives the process, where that is wanted; it is gone again where that fails."""
        if self.kept is None:
            return
        try:
            await self.kept.list_file(stored)
        except DataError:
            await self._io.submit(self, stored.file.path.unlink, True)
            raise

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._abandoned.discard)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    def _forget(self, entry: Part | PartSeries) -> None:
        for part in [entry] if isinstance(entry, Part) else entry.parts:
            part.forgotten = True
            self._open.pop(part, None)
            if part.piece is not None and not part.leaving:
                self._account.give(part.piece.size)
                part.piece = None
            self._remove(part)

    def _remove(self, part: Part) -> None:
        """Unlink the file of a forgotten part once nobody reads it."""
        if part.forgotten and part.pins == 0 and part.stored is not None:
            stored, part.stored = part.stored, None
            self._disk_bytes -= stored.file.num_bytes
            self.corrupt.discard(stored.file.path)
            if self.kept is not None:
                self.kept.remove(stored)
            else:
                self._io.submit(self, stored.file.path.unlink, True)

    def _unpin(self, parts: Sequence[tuple[Part, Any]]) -> None:
        for part, _ in parts:
            part.pins -= 1
            self._remove(part)

    async def _close(self) -> None:
        self._account.fail(lambda: ManagerClosed(f"{self.name}: closed while waiting for room"))
        self._alarm.cancel()
        try:
            if self._tasks:
                await asyncio.wait(set(self._tasks))
            await self._flush()
        finally:
            self._account.give(self._account.charged)
            self._account.close()
            self._entries.clear()
            self._open.clear()
