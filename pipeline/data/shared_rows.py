"""Rows of a group's members kept together, in whole chunks, with each member's bytes on an account of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ..errors import BudgetExceeded, NotResident, SchemaMismatch
from ..storage import codecs, segments
from ..storage.log import Extent
from ..storage.sizing import compact
from ..storage.workspace import Workspace
from ..threads import settled
from .base import DataStats, Key, key_bytes
from .policy import DataFlow

BLOCK_MEMBERS: Final = 128
"""Members whose rows a chunk holds at most, so that they can be brought in order without reading all others."""
HIGH, LOW = 0.90, 0.75
"""Shares of a member's budget: above the first its oldest chunks go to disk, down to the second."""
Ints = np.ndarray[Any, np.dtype[np.int64]]


class Chunk:
    """Consecutive rows of some members: `places[i]` has rows `offsets[i]` to `offsets[i + 1]`, charged `sizes[i]`."""

    __slots__ = ("block", "columns", "context", "extent", "offsets", "places", "sizes", "writing")

    def __init__(self, block: int, places: Ints, offsets: Ints, columns: pa.RecordBatch) -> None:
        self.block, self.places, self.offsets = block, places, offsets
        self.columns: pa.RecordBatch | None = columns
        rows = np.diff(offsets)
        self.sizes: Ints = -(-rows * columns.nbytes // max(1, columns.num_rows))
        self.extent: Extent | None = None
        self.context: tuple[Any, ...] = ()
        self.writing: asyncio.Future[None] | None = None

    def rows_of(self, place: int) -> tuple[int, int] | None:
        """Where the rows of one member begin and end."""
        at = int(np.searchsorted(self.places, place))
        if at == len(self.places) or self.places[at] != place:
            return None
        return int(self.offsets[at]), int(self.offsets[at + 1])


class SharedRows:
    """Series of many members in modes `memory` and `hybrid`, appended to many at a time. Lives on one loop.

    A member costs eight numbers here, whatever it keeps. What a hybrid member may not hold any more leaves memory in
    whole chunks, oldest first, and with it the rows of the others in the chunk. A chunk in which one member's rows are
    more than its whole budget stays the sender's, who waits until it is on disk.
    """

    def __init__(self, name: str, workspace: Workspace) -> None:
        self._name, self._workspace = name, workspace
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
                f"{self._name}: expected {key!r} to have the columns it had before ({', '.join(schema.names)}), "
                f"found {', '.join(columns.schema.names)}, or other types"
            )
        places = np.array([self._places[member] for member in members], np.int64)
        chunks = list(self._cut(places, np.asarray(offsets, np.int64), columns))
        for chunk in chunks:
            self._check_memory_mode(key, chunk)
        held = self._chunks.setdefault(key, [])
        holds = self._holds.setdefault(key, np.zeros(len(self._limits), np.bool_))
        for chunk in chunks:
            try:
                await self._make_room(chunk)
            except BaseException:
                if chunk.extent is not None:
                    self._workspace.spill.free(chunk.extent)
                raise
            held.append(chunk)
            holds[chunk.places] = True

    def _cut(self, places: Ints, offsets: Ints, columns: pa.RecordBatch) -> list[Chunk]:
        """Chunks of one block of members and one kind of account each, members in order of their places."""
        order = np.lexsort((places, self._spills[places], places // BLOCK_MEMBERS))
        if not np.array_equal(order, np.arange(len(order))):
            begins, lengths = offsets[:-1][order], np.diff(offsets)[order]
            columns = columns.take(pa.array(_ranges(begins, lengths)))
            places, offsets = places[order], np.append(0, np.cumsum(lengths))
        blocks = 2 * (places // BLOCK_MEMBERS) + self._spills[places]
        cuts = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(places)]
        chunks = []
        for first, last in pairwise(cuts):
            begin, end = int(offsets[first]), int(offsets[last])
            if last > first:
                rows = compact(columns.slice(begin, end - begin))
                chunks.append(Chunk(int(blocks[first]), places[first:last], offsets[first : last + 1] - begin, rows))
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

    async def _make_room(self, chunk: Chunk) -> None:
        """Charge the chunk to its members, after older ones have left where they must; or write it at once."""
        limits = self._limits[chunk.places]
        wanted = self._charged[chunk.places] + chunk.sizes
        if self._spills[chunk.places[0]] and (wanted > HIGH * limits).any():
            while (wanted > LOW * limits).any():
                oldest = next((old for old in self._resident if old.block == chunk.block), None)
                if oldest is None:
                    break
                await self._spill(oldest)
                wanted = self._charged[chunk.places] + chunk.sizes
            if (wanted > limits).any():
                await self._spill(chunk)
                return
        self._charge(chunk.places, chunk.sizes)
        self._resident.append(chunk)

    def _charge(self, places: Ints, sizes: Ints) -> None:
        self._charged[places] += sizes
        self._peaks[places] = np.maximum(self._peaks[places], self._charged[places])

    async def _spill(self, chunk: Chunk) -> None:
        """Move a chunk to disk; it is charged until it is there, whoever waits for that."""
        if chunk.writing is None:
            chunk.writing = asyncio.ensure_future(self._write(chunk))
        try:
            await settled(chunk.writing)
            chunk.writing.result()
        finally:
            if chunk.writing is not None and chunk.writing.done():
                chunk.writing = None

    async def _write(self, chunk: Chunk) -> None:
        columns = chunk.columns
        assert columns is not None
        contexts: list[tuple[Any, ...]] = []
        generation = next(self._workspace.generations)
        extents = await self._workspace.spill.append(self, partial(_encoded, columns, generation, contexts))
        chunk.extent, chunk.context, chunk.columns = extents[0], contexts[0], None
        share = chunk.extent.num_bytes * chunk.sizes // max(1, int(chunk.sizes.sum()))
        self._counts[2:, chunk.places] += np.stack([share, np.ones_like(share), chunk.sizes])
        if chunk in self._resident:
            self._resident.remove(chunk)
            self._charged[chunk.places] -= chunk.sizes

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
        for chunk, begin, end in self._pieces(member, key):
            columns = await self._read(chunk)
            yield columns.slice(begin, end - begin)

    async def retrieve(self, member: str, key: Key) -> pa.Table:
        return pa.Table.from_batches([batch async for batch in self.iter_batches(member, key)])

    def retrieve_nowait(self, member: str, key: Key) -> pa.Table:
        """The same if all of it is in memory; raises `NotResident` where some is on disk."""
        found = []
        for chunk, begin, end in self._pieces(member, key):
            if chunk.columns is None:
                raise NotResident(f"{member}: {key!r} is on disk; await retrieve reads it")
            found.append(chunk.columns.slice(begin, end - begin))
        return pa.Table.from_batches(found)

    async def in_order(self, key: Key, names: Sequence[str]) -> AsyncIterator[tuple[list[str], Ints, pa.RecordBatch]]:
        """All rows of the members named, in that order: per block of members its names, a number into them for each
        row, and the rows."""
        chunks = self._chunks[key]
        for first in range(0, len(names), BLOCK_MEMBERS):
            block = list(names[first : first + BLOCK_MEMBERS])
            rank = np.full(len(self._names), -1, np.int64)
            rank[[self._places[name] for name in block]] = np.arange(len(block))
            tables, ranks = [], []
            for chunk in chunks:
                here = rank[chunk.places]
                if (here >= 0).any():
                    columns = await self._read(chunk)
                    owners = np.repeat(here, np.diff(chunk.offsets))
                    if (owners < 0).any():
                        kept = np.flatnonzero(owners >= 0)
                        columns, owners = columns.take(pa.array(kept)), owners[kept]
                    tables.append(columns)
                    ranks.append(owners.astype(np.int16))
            owners = np.concatenate(ranks)
            table = pa.Table.from_batches(tables)
            if (np.diff(owners) < 0).any():
                order = np.argsort(owners, kind="stable")
                table, owners = table.unify_dictionaries().combine_chunks().take(pa.array(order)), owners[order]
            for batch in table.combine_chunks().to_batches():
                yield block, owners.astype(np.int64), batch

    def _pieces(self, member: str, key: Key) -> list[tuple[Chunk, int, int]]:
        place = self._places[member]
        found = [(chunk, rows) for chunk in self._chunks.get(key, ()) if (rows := chunk.rows_of(place)) is not None]
        if not found:
            raise KeyError(key)
        return [(chunk, begin, end) for chunk, (begin, end) in found]

    async def _read(self, chunk: Chunk) -> pa.RecordBatch:
        columns = chunk.columns
        if columns is None:
            assert chunk.extent is not None
            kind = codecs.STREAM if codecs.has_dictionaries(chunk.context[0]) else codecs.BATCH
            decode = partial(codecs.decode, kind, context=chunk.context if kind == codecs.BATCH else ())
            columns = await self._workspace.spill.read(self, chunk.extent, decode)
        return columns

    # -- leaving and looking -----------------------------------------------------------------------------------

    async def take_out(self, member: str) -> list[tuple[Key, pa.Table]]:
        """The member's series, which are not here any more: it goes on with a data manager of its own."""
        place = self._places[member]
        found = [(key, await self.retrieve(member, key)) for key in self.keys(member)]
        for holds in self._holds.values():
            holds[place] = False
        for at, chunk in enumerate(self._resident):
            if chunk.rows_of(place) is not None and chunk.writing is None:
                self._resident[at] = self._without(chunk, place)
        self._counts[:, place] = 0
        self._left.add(place)
        return found

    def _without(self, chunk: Chunk, place: int) -> Chunk:
        """The chunk's other rows, in its stead; on disk rows stay where they are and nobody asks for them."""
        assert chunk.columns is not None
        stays, lengths = chunk.places != place, np.diff(chunk.offsets)
        columns = chunk.columns.take(pa.array(np.flatnonzero(np.repeat(stays, lengths))))
        rest = Chunk(chunk.block, chunk.places[stays], np.append(0, np.cumsum(lengths[stays])), columns)
        rest.sizes = chunk.sizes[stays]
        for chunks in self._chunks.values():
            if chunk in chunks:
                chunks[chunks.index(chunk)] = rest
        return rest

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


def _ranges(begins: Ints, lengths: Ints) -> Ints:
    """The numbers of many ranges, one after another."""
    ends = np.cumsum(lengths)
    within: Ints = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(begins - (ends - lengths), lengths)
    return within


def _encoded(columns: pa.RecordBatch, generation: int, contexts: list[tuple[Any, ...]]) -> list[segments.Record]:
    """In a worker thread."""
    kind = codecs.kind_of(columns)
    found = codecs.encode(columns, kind)
    contexts.append(found.context if kind == codecs.BATCH else (columns.schema,))
    return [segments.Record(kind, 0, b"rows", generation, found.pieces)]
