"""Rows of a group's members kept together, in whole chunks, with each member's bytes on an account of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ..clock import Clock
from ..errors import BudgetExceeded, DataError, NotResident, SchemaMismatch
from ..storage import codecs
from ..storage.sizing import compact
from ..storage.workspace import Workspace
from ..threads import settled
from .account import Turn
from .base import DataStats, Key, key_bytes
from .chunks import BLOCK_MEMBERS, Chunk, Ints, encoded, merged, ranges
from .policy import DataFlow
from .relief import PoolRelief

HIGH, LOW = 0.90, 0.75
"""Shares of a member's budget: above the first its oldest chunks go to disk, down to the second."""
TURN_SECONDS: Final = 30.0
"""How long rows wait for the pool before they are refused, or written at once where they may be."""


class SharedRows:
    """Series of many members in modes `memory` and `hybrid`, appended to many at a time. Lives on one loop.

    A member costs eight numbers here, whatever it keeps. What a hybrid member may not hold any more leaves memory in
    whole chunks, oldest first, and with it the rows of the others in the chunk; so it does where the process's pool is
    short. A chunk for which there is no room even so stays the sender's, who waits until it is on disk.
    """

    def __init__(self, name: str, workspace: Workspace, clock: Clock) -> None:
        self.name, self._workspace, self.pool = name, workspace, workspace.pool
        self._clock = clock
        self.recorder: Callable[[Key, Sequence[str], Sequence[int], Any], None] | None = None
        """Is told of rows in the step in which they are kept: members, where the rows of each begin, columns."""
        self.charged = 0
        """Bytes of all members together."""
        self.tick = self.put_tick = 0.0
        """Counts what was appended; who reads has no part in what leaves."""
        self._leaving = 0
        """Bytes on their way to disk."""
        self._budgets = 0
        """The sum of the members' limits."""
        self._relief: PoolRelief | None = None
        self._names: list[str] = []
        self._places: dict[str, int] = {}
        self._left: set[int] = set()
        self._limits = np.zeros(0, np.int64)
        self._spills = np.zeros(0, np.bool_)
        self._counts = np.zeros((5, 0), np.int64)
        """By member: bytes charged and their peak, bytes on disk, chunks evicted and bytes in them."""
        self._holds: dict[Key, np.ndarray[Any, np.dtype[np.bool_]]] = {}
        self._chunks: dict[Key, list[Chunk]] = {}
        self._schemas: dict[Key, pa.Schema] = {}
        self._resident: deque[Chunk] = deque()

    def __contains__(self, member: str) -> bool:
        place = self._places.get(member)
        return place is not None and place not in self._left

    def members(self) -> list[str]:
        """Members that have rows here."""
        return [name for place, name in enumerate(self._names) if place not in self._left]

    def admit(self, member: str, policy: DataFlow) -> None:
        """Open an account for a member."""
        if member in self._places:
            return
        if self.pool is not None and self._relief is None:
            self._relief = PoolRelief.join(self._workspace, self._clock)
        if self.pool is not None:
            self.pool.join(policy.memory_limit_bytes)
        self._budgets += policy.memory_limit_bytes
        place = self._places[member] = len(self._names)
        self._names.append(member)
        if place >= len(self._limits):
            more = max(64, place)
            self._limits = np.append(self._limits, np.zeros(more, np.int64))
            self._spills = np.append(self._spills, np.zeros(more, np.bool_))
            self._counts = np.concatenate([self._counts, np.zeros((5, more), np.int64)], axis=1)
            for key, holds in self._holds.items():
                self._holds[key] = np.append(holds, np.zeros(more, np.bool_))
        self._limits[place] = policy.memory_limit_bytes
        self._spills[place] = policy.mode == "hybrid"

    async def append(self, key: Key, members: Sequence[str], offsets: Ints, columns: pa.RecordBatch) -> None:
        """Extend the series of admitted members, each named once. Returns when every account is within its limit.

        Raises `BudgetExceeded` for a member in mode `memory` that has no room, `SchemaMismatch` where the columns
        differ from those the key had before; then nothing of these rows is kept. Raises `DiskFull` or `StorageFailed`;
        then rows of members further on are not kept.
        """
        key_bytes(key)
        schema = self._schemas.setdefault(key, columns.schema)
        if not schema.equals(columns.schema):
            raise SchemaMismatch(
                f"{self.name}: expected {key!r} to have the columns it had before ({', '.join(schema.names)}), "
                f"found {', '.join(columns.schema.names)}, or other types"
            )
        places = np.array([self._places[member] for member in members], np.int64)
        chunks = list(self._cut(places, np.asarray(offsets, np.int64), columns))
        for chunk in chunks:
            self._check_memory_mode(key, chunk)
        self._chunks.setdefault(key, [])
        self._holds.setdefault(key, np.zeros(len(self._limits), np.bool_))
        for chunk in chunks:
            try:
                await self._make_room(key, chunk)
            except BaseException:
                if chunk not in self._chunks[key]:
                    for extent in chunk.extents:
                        self._workspace.spill.free(extent)
                raise

    def _cut(self, places: Ints, offsets: Ints, columns: pa.RecordBatch) -> list[Chunk]:
        """One chunk, members in order of their places; two where some spill and some may not."""
        order = np.lexsort((places, self._spills[places]))
        if not np.array_equal(order, np.arange(len(order))):
            begins, lengths = offsets[:-1][order], np.diff(offsets)[order]
            columns = columns.take(pa.array(ranges(begins, lengths)))
            places, offsets = places[order], np.append(0, np.cumsum(lengths))
        border = int(np.count_nonzero(~self._spills[places]))
        chunks = []
        for first, last in ((0, border), (border, len(places))):
            if last > first:
                begin, end = int(offsets[first]), int(offsets[last])
                rows = compact(columns.slice(begin, end - begin))
                chunks.append(Chunk(places[first:last], offsets[first : last + 1] - begin, rows))
        return chunks

    def _check_memory_mode(self, key: Key, chunk: Chunk) -> None:
        if self._spills[chunk.places[0]]:
            return
        free = self._limits[chunk.places] - self._charged[chunk.places]
        over = np.flatnonzero(chunk.sizes > free)
        if len(over):
            first = int(over[0])
            place = int(chunk.places[first])
            raise BudgetExceeded(
                f"{self._names[place]}: {key!r} needs {chunk.sizes[first]} bytes more, {free[first]} of "
                f"{self._limits[place]} are free; delete something, raise memory_limit_mb or use mode: hybrid. "
                "The value was not stored"
            )

    async def _make_room(self, key: Key, chunk: Chunk) -> None:
        """Charge the chunk to its members, after older ones have left where they must; or write it at once."""
        limits = self._limits[chunk.places]
        wanted = self._charged[chunk.places] + chunk.sizes
        if self._spills[chunk.places[0]]:
            if (wanted > HIGH * limits).any():
                while (tight := chunk.places[wanted > LOW * limits]).size:
                    oldest = next((old for old in self._resident if np.isin(tight, old.places).any()), None)
                    if oldest is None:
                        break
                    try:
                        await self._spill(oldest)
                    except DataError:
                        if (wanted > limits).any():
                            raise
                        break  # the disk refuses, and there is room as yet
                    wanted = self._charged[chunk.places] + chunk.sizes
            while self._is_short(chunk) and self._resident and self.borrowed + chunk.num_bytes > 0:
                await self._spill(self._resident[0])
                wanted = self._charged[chunk.places] + chunk.sizes
            if (wanted > limits).any() or (self._is_short(chunk) and not await self._wait_for_pool(key, chunk)):
                rows = chunk.columns
                await self._spill(chunk)
                self._keep(key, chunk, rows)
            elif chunk not in self._resident:
                self._hold(key, chunk)
        elif not self._is_short(chunk):
            self._hold(key, chunk)
        elif not await self._wait_for_pool(key, chunk):
            assert self.pool is not None
            size = chunk.num_bytes
            why = self.pool.refuse(self.name, size)
            raise BudgetExceeded(f"{self.name}: {key!r} needs {size} bytes more, and was not stored: {why}")

    def _is_short(self, chunk: Chunk) -> bool:
        """Whether the pool has no room for a chunk now."""
        return self.pool is not None and not self.pool.admits(self, chunk.num_bytes)

    async def _wait_for_pool(self, key: Key, chunk: Chunk) -> bool:
        """Hold the chunk as soon as others have made room for it; False where they do not.

        A caller who is cancelled in the very step in which it is held has stored it.
        """
        assert self.pool is not None
        turn = Turn(self.pool, self, chunk.num_bytes, partial(self._hold, key, chunk))
        return await turn.wait(self._clock, TURN_SECONDS if self.pool.hopeful else 0.0)

    def _hold(self, key: Key, chunk: Chunk) -> None:
        """In memory, on the members' accounts."""
        self._keep(key, chunk, chunk.columns)
        self._resident.append(chunk)
        self._charge(chunk, 1)

    def _keep(self, key: Key, chunk: Chunk, rows: pa.RecordBatch) -> None:
        self._chunks[key].append(chunk)
        self._holds[key][chunk.places] = True
        if self.recorder is not None:
            names = [self._names[place] for place in chunk.places.tolist()]
            self.recorder(key, names, chunk.offsets.tolist(), rows)

    def _charge(self, chunk: Chunk, sign: int) -> None:
        """The chunk's bytes to its members' accounts and the pool, or back from them."""
        charged, num_bytes = self._charged, sign * chunk.num_bytes
        charged[chunk.places] += sign * chunk.sizes
        self.charged += num_bytes
        if sign > 0:
            self.tick = self.put_tick = self.tick + 1.0
            self._peaks[chunk.places] = np.maximum(self._peaks[chunk.places], charged[chunk.places])
        if self.pool is not None:
            if sign > 0:
                self.pool.take(self, num_bytes)
                if self._relief is not None and self._spills[chunk.places[0]]:
                    self._relief.note(self)
                self.pool.press()
            else:
                self.pool.give(self, -num_bytes)

    @property
    def guarantee(self) -> int:
        """Bytes of the pool that are the members' own, whatever others have."""
        assert self.pool is not None
        return self.pool.guarantee(self._budgets, len(self._places) - len(self._left))

    @property
    def borrowed(self) -> int:
        """Bytes above the guarantee that are not on their way to disk."""
        return self.charged - self._leaving - self.guarantee

    def shed(self) -> tuple[int, asyncio.Future[None]] | None:
        """Begin to write the oldest chunk for the pool: its bytes, and when it is on disk; None where none can be."""
        chunk = next((chunk for chunk in self._resident if self._spills[chunk.places[0]]), None)
        if chunk is None:
            return None
        if chunk.writing is None:
            assert self.pool is not None
            self.pool.spills += len(chunk.cuts) - 1
        return chunk.num_bytes, self._begin_writing(chunk)

    async def _spill(self, chunk: Chunk) -> None:
        """Move a chunk to disk; it is charged until it is there, whoever waits for that."""
        writing = self._begin_writing(chunk)
        await settled(writing)
        writing.result()

    def _begin_writing(self, chunk: Chunk) -> asyncio.Future[None]:
        if chunk.writing is None:
            self._leaving += chunk.num_bytes * (chunk in self._resident)
            chunk.writing = asyncio.ensure_future(self._write(chunk))
            chunk.writing.add_done_callback(lambda written: self._written(chunk, written))
        return chunk.writing

    def _written(self, chunk: Chunk, written: asyncio.Future[None]) -> None:
        chunk.writing = None
        if chunk in self._resident:
            self._leaving -= chunk.num_bytes  # it could not be written
        if not written.cancelled() and written.exception() is None and self._relief is not None:
            self._relief.press()

    async def _write(self, chunk: Chunk) -> None:
        generation = next(self._workspace.generations)
        parts = [chunk.part(number) for number in range(len(chunk.cuts) - 1)]
        chunk.extents = await self._workspace.spill.append(self, partial(encoded, parts, generation))
        chunk.columns = None
        share = sum(extent.num_bytes for extent in chunk.extents) * chunk.sizes // max(1, chunk.num_bytes)
        self._counts[2:, chunk.places] += np.stack([share, np.ones_like(share), chunk.sizes])
        if chunk in self._resident:
            self._resident.remove(chunk)
            self._leaving -= chunk.num_bytes
            self._charge(chunk, -1)
        self._workspace.churned(chunk.num_bytes)

    @property
    def _charged(self) -> Ints:
        charged: Ints = self._counts[0]
        return charged

    @property
    def _peaks(self) -> Ints:
        peaks: Ints = self._counts[1]
        return peaks

    # -- reading -----------------------------------------------------------------------------------------------

    def keys(self, member: str) -> list[Key]:
        place = self._places[member]
        return [key for key, holds in self._holds.items() if holds[place]]

    def schema(self, key: Key) -> pa.Schema:
        """The columns every member has under this key."""
        return self._schemas[key]

    def holders(self, key: Key) -> set[str]:
        """Members that have this key."""
        return {self._names[place] for place in np.flatnonzero(self._holds[key])} if key in self._holds else set()

    async def iter_batches(self, member: str, key: Key) -> AsyncIterator[pa.RecordBatch]:
        """One member's rows, piece by piece. Raises KeyError."""
        for chunk, (part, begin, end) in self._pieces(member, key):
            columns = await self._read(chunk, part)
            yield columns.slice(begin, end - begin)

    async def retrieve(self, member: str, key: Key) -> pa.Table:
        return pa.Table.from_batches([batch async for batch in self.iter_batches(member, key)])

    def retrieve_nowait(self, member: str, key: Key) -> pa.Table:
        """The same if all of it is in memory; raises `NotResident` where some is on disk."""
        found = []
        for chunk, (part, begin, end) in self._pieces(member, key):
            if chunk.columns is None:
                raise NotResident(f"{member}: {key!r} is on disk; await retrieve reads it")
            found.append(chunk.part(part).slice(begin, end - begin))
        return pa.Table.from_batches(found)

    async def in_order(
        self, key: Key, names: Sequence[str], dress: Callable[[pa.RecordBatch, list[str], Ints], pa.RecordBatch]
    ) -> AsyncIterator[pa.RecordBatch]:
        """All rows of the members named, in that order, a block of members at a time.

        Rows of some members are shown to `dress` before they are brought in order, with the names of these members and
        how many rows each has; what it makes of them is passed on. Long runs of rows are not copied.
        """
        chunks = self._chunks[key]
        for first in range(0, len(names), BLOCK_MEMBERS):
            rank = np.full(len(self._names), -1, np.int64)
            block = [self._places[name] for name in names[first : first + BLOCK_MEMBERS]]
            rank[block] = np.arange(len(block))
            parts: list[pa.RecordBatch] = []
            runs: list[Ints] = []
            for chunk in chunks:
                for number, (start, stop) in enumerate(pairwise(chunk.cuts)):
                    places, offsets = chunk.places[start:stop], chunk.offsets[start : stop + 1]
                    wanted = rank[places] >= 0
                    if wanted.any():
                        columns = await self._read(chunk, number)
                        own = [self._names[place] for place in places.tolist()]
                        begins = offsets[:-1] - offsets[0]
                        runs.append(
                            np.stack([rank[places], np.full_like(places, len(parts)), begins, np.diff(offsets)])
                        )
                        runs[-1] = runs[-1][:, wanted]
                        parts.append(dress(columns, own, np.diff(offsets)))
            for batch in merged(parts, np.concatenate(runs, axis=1)):
                yield batch

    def _pieces(self, member: str, key: Key) -> list[tuple[Chunk, tuple[int, int, int]]]:
        place = self._places[member]
        found = [(chunk, rows) for chunk in self._chunks.get(key, ()) if (rows := chunk.rows_of(place)) is not None]
        if not found:
            raise KeyError(key)
        return found

    async def _read(self, chunk: Chunk, part: int) -> pa.RecordBatch:
        if chunk.columns is not None:
            return chunk.part(part)
        kind = codecs.STREAM if codecs.has_dictionaries(chunk.schema) else codecs.BATCH
        decode = partial(codecs.decode, kind, context=(chunk.schema,))
        return await self._workspace.spill.read(self, chunk.extents[part], decode)

    # -- leaving and looking -----------------------------------------------------------------------------------

    async def take_out(self, member: str) -> list[tuple[Key, pa.Table]]:
        """The member's series, which are not here any more: it goes on with a data manager of its own."""
        place = self._places[member]
        found = [(key, await self.retrieve(member, key)) for key in self.keys(member)]
        for holds in self._holds.values():
            holds[place] = False
        for chunk in [chunk for chunk in self._resident if chunk.rows_of(place) is not None and chunk.writing is None]:
            self._drop(chunk, place)
        self._counts[:, place] = 0
        self._left.add(place)
        self._budgets -= int(self._limits[place])
        if self.pool is not None:
            self.pool.part(int(self._limits[place]))
        return found

    def _drop(self, chunk: Chunk, place: int) -> None:
        """A resident chunk without one member's rows; those on disk stay there and nobody asks for them."""
        assert chunk.columns is not None
        stays, lengths = chunk.places != place, np.diff(chunk.offsets)
        columns = chunk.columns.take(pa.array(np.flatnonzero(np.repeat(stays, lengths))))
        rest = Chunk(chunk.places[stays], np.append(0, np.cumsum(lengths[stays])), columns)
        self._charge(chunk, -1)
        self._resident[self._resident.index(chunk)] = rest
        self._charge(rest, 1)
        for chunks in self._chunks.values():
            if chunk in chunks:
                chunks[chunks.index(chunk)] = rest

    async def close(self) -> None:
        """Wait for what is on its way to disk, and give the pool back what is held."""
        for chunk in list(self._resident):
            if chunk.writing is not None:
                await settled(chunk.writing)
        if self._relief is not None:
            self._relief.leave(self)
            self._relief = None
        if self.pool is not None:
            self.pool.part(self._budgets, len(self._places) - len(self._left))
            self._budgets = 0
        while self._resident:
            self._charge(self._resident.pop(), -1)
        self._chunks.clear()

    def stats(self, member: str) -> DataStats:
        place = self._places[member]
        charged, peak, disk, evictions, evicted = self._counts[:, place].tolist()
        return DataStats(
            mode="hybrid" if self._spills[place] else "memory",
            entries=len(self.keys(member)),
            limit_bytes=int(self._limits[place]),
            charged_bytes=charged,
            peak_bytes=peak,
            disk_bytes=disk,
            evictions=evictions,
            evicted_bytes=evicted,
        )
