"""What a container held at its end as parquet files: one per key, for a whole group together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import FlushedAway, NotResident, SchemaMismatch
from ..hashing import TableHash
from ..storage.names import file_part
from ..storage.publish import Published, TableFile
from ..storage.release import CHURN_BYTES
from ..storage.workspace import Workspace
from ..threads import settled
from .base import DataManager, Key
from .files import KEY, key_text
from .members import MemberStores
from .policy import DataFlow
from .tables import as_table

CONTAINER: Final = "container"
"""First column of a group's file: the member a row belongs to."""
GROUP_ROWS: Final = 1 << 18
GROUP_BYTES: Final = 4 << 20
"""A row group ends with the block of rows that reaches either bound; where it ends depends on the rows alone.

While one is hashed and encoded several copies of it exist, which is the memory that persisting takes.
"""
BLOCK_ROWS: Final = 1024
KEYS_AT_ONCE: Final = 2
"""Keys of a group hashed and written side by side."""
MEMBERS_A_STEP: Final = 16
"""Members looked at in one step of the loop: a fraction of a millisecond."""
SMALL_ROWS: Final = 64
"""Batches that are smaller on average become one, so that what is gathered is rows and not their descriptions."""
MAX_TEXT: Final = (1 << 31) - 1
CUT_ROWS: Final = 8 * BLOCK_ROWS
CUT_BYTES: Final = 1 << 20
"""Small batches are gathered to either before they are cut into blocks."""
Ints = np.ndarray[Any, np.dtype[np.int64]]


class Persisted(NamedTuple):
    """What one key held: its rows, their hash in canonical form, and the file they are in."""

    path: Path | None
    """None where nothing was written."""
    rows: int
    bytes: int
    hash: str
    """The same however the rows were cut, compressed or kept."""


async def persist(manager: DataManager, folder: Path, workspace: Workspace, policy: DataFlow) -> dict[Key, Persisted]:
    """Hash every key and, where the policy says so, write it to `folder/<key>.parquet`, replacing what is there.

    Equal values give equal bytes. Values are streamed, at most a row group of each in memory at a time. Raises
    `DiskFull` or `StorageFailed`; no partial file is left, files of earlier keys are.
    """
    await manager.flush()
    left: dict[Key, Persisted] = {}
    for key in manager.keys():
        try:
            schema = await _schema(manager, key)
        except FlushedAway:
            continue  # whoever took it has it
        left[key] = await RowGroups(folder, key, schema, workspace, policy).write(manager.iter_batches(key))
    return left


async def persist_members(
    stores: MemberStores, folder: Path, workspace: Workspace, policy: DataFlow
) -> dict[Key, Persisted]:
    """Like `persist` for a whole group: one file per key, its first column `container`, sorted by member name.

    Numbers of different types in one column meet in a common type; columns a member lacks are null. Raises
    `SchemaMismatch` where two members have columns of one name that have no common type.
    """
    await stores.flush()
    workspace.churned(CHURN_BYTES)  # what made the results is done
    members = sorted(stores.members())
    keys = list(dict.fromkeys(key for member in members for key in stores.keys(member)))
    limit = asyncio.Semaphore(KEYS_AT_ONCE)

    async def write(key: Key) -> Persisted:
        async with limit:
            holders = [member for member in members if key in stores.keys(member)]
            schema = await _common_schema(stores, holders, key)
            together = stores.shared.holders(key).issuperset(holders)
            batches = (_shared_batches if together else _member_batches)(stores, holders, key, schema)
            return await RowGroups(folder, key, schema, workspace, policy).write(batches)

    tasks = [asyncio.ensure_future(write(key)) for key in keys]
    try:
        for task in tasks:
            await task
    except BaseException:
        for task in tasks:
            task.cancel()
        await settled(asyncio.gather(*tasks, return_exceptions=True))
        raise
    return {key: task.result() for key, task in zip(keys, tasks, strict=True)}


class RowGroups:
    """Cuts batches into row groups that do not depend on how the batches were cut, hashes and writes them."""

    def __init__(self, folder: Path, key: Key, schema: pa.Schema, workspace: Workspace, policy: DataFlow) -> None:
        self._folder, self._workspace, self._policy = folder, workspace, policy
        self._name = f"{file_part(key)}.parquet"
        self._schema = schema.with_metadata({**(schema.metadata or {}), KEY: key_text(key)})
        self._block_sizes = _block_sizer(schema)
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._row_bytes: float | None = None
        """Of rows cut last; asking every batch how large it is costs more than writing it."""
        self._group: list[pa.RecordBatch] = []
        self._group_rows = self._group_bytes = 0

    async def write(self, batches: AsyncIterator[pa.RecordBatch]) -> Persisted:
        """Hash everything, and write and publish the file where the policy says so."""
        file = await self._create() if self._policy.persistence.on_completion else None
        hashed = TableHash()

        taken = 0

        def take(group: list[pa.RecordBatch]) -> None:
            nonlocal taken
            table = canonical(pa.Table.from_batches(group)).replace_schema_metadata(self._schema.metadata)
            for batch in table.to_batches():
                hashed.update(batch)
            if file is not None:
                file.write(table)
            taken = table.nbytes

        try:
            async for batch in batches:
                for group in self._cut(batch):
                    await self._run(take, group)
                    self._workspace.churned(taken)
            for group in self._rest():
                await self._run(take, group)
            if file is None:
                return Persisted(None, hashed.rows, 0, hashed.hexdigest())
            published: Published = await self._run(lambda: file.publish(self._name, replace=True))
        except BaseException:
            if file is not None:
                await self._run(file.discard)
            raise
        return Persisted(published.path, hashed.rows, published.num_bytes, hashed.hexdigest())

    async def _create(self) -> TableFile:
        """A file to write to; whoever is cancelled while it is made leaves none behind."""
        compression = self._policy.file_settings.compression
        making = self._workspace.io.submit(self, lambda: TableFile(self._folder, self._schema, compression=compression))
        try:
            await settled(making)
        except BaseException:
            if making.exception() is None:
                await self._run(making.result().discard)
            raise
        return making.result()

    async def _run(self, call: Callable[..., Any], *args: Any) -> Any:
        """A job that has begun is awaited to its end: no other thread may touch the file meanwhile."""
        future = self._workspace.io.submit(self, call, *args)
        await settled(future)
        return future.result()

    def _cut(self, batch: pa.RecordBatch) -> list[list[pa.RecordBatch]]:
        """Row groups that this batch completes."""
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        if self._row_bytes is None and batch.num_rows:
            self._row_bytes = batch.nbytes / batch.num_rows
        if self._pending_rows < BLOCK_ROWS:
            return []
        if self._pending_rows < CUT_ROWS and self._pending_rows * (self._row_bytes or 0.0) < CUT_BYTES:
            return []
        return self._cut_pending()

    def _cut_pending(self) -> list[list[pa.RecordBatch]]:
        table = pa.Table.from_batches(self._pending)
        if self._pending_rows < SMALL_ROWS * len(self._pending):
            table = table.combine_chunks()
        whole = self._pending_rows // BLOCK_ROWS * BLOCK_ROWS
        self._pending = table.slice(whole).to_batches()
        self._pending_rows -= whole
        sizes = self._block_sizes(table, whole // BLOCK_ROWS)
        self._row_bytes = sum(sizes) / whole
        groups = []
        begin = 0
        for number, num_bytes in enumerate(sizes, 1):
            self._group_rows += BLOCK_ROWS
            self._group_bytes += num_bytes
            if self._group_rows >= GROUP_ROWS or self._group_bytes >= GROUP_BYTES:
                self._group.extend(table.slice(begin, number * BLOCK_ROWS - begin).to_batches())
                begin = number * BLOCK_ROWS
                groups.append(self._take_group())
        self._group.extend(table.slice(begin, whole - begin).to_batches())
        return groups

    def _rest(self) -> list[list[pa.RecordBatch]]:
        groups = self._cut_pending() if self._pending_rows >= BLOCK_ROWS else []
        self._group.extend(self._pending)
        return [*groups, self._take_group()] if self._group else groups

    def _take_group(self) -> list[pa.RecordBatch]:
        group, self._group, self._group_rows, self._group_bytes = self._group, [], 0, 0
        return group


def canonical(table: pa.Table) -> pa.Table:
    """The rows in one chunk per column, dictionaries in order of first appearance: equal rows, equal bytes."""
    table = table.combine_chunks()
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(index).cast(field.type.value_type).combine_chunks()
            table = table.set_column(index, field, column.dictionary_encode().cast(field.type))
    return table


def _block_sizer(schema: pa.Schema) -> Callable[[pa.Table, int], Sequence[int]]:
    """Bytes of each block of a table as a function of the rows alone, whatever buffers they share."""
    widths = 0
    lengths: list[int] = []
    for index, field in enumerate(schema):
        if pa.types.is_binary(field.type) or pa.types.is_string(field.type) or _is_large(field.type):
            lengths.append(index)
        else:
            try:
                widths += max(1, field.type.bit_width // 8)
            except ValueError:
                widths += 64  # nested: a guess that is the same for equal rows

    def sizes(table: pa.Table, blocks: int) -> Sequence[int]:
        found = np.full(blocks, widths * BLOCK_ROWS, np.int64)
        for index in lengths if blocks else ():
            lengths_of = pc.binary_length(table.column(index))
            if lengths_of.null_count:
                lengths_of = pc.fill_null(lengths_of, 0)
            column = lengths_of.to_numpy()
            found += column[: blocks * BLOCK_ROWS].reshape(blocks, BLOCK_ROWS).sum(axis=1, dtype=np.int64)
        return [int(size) for size in found]

    return sizes


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


async def _schema(manager: DataManager, key: Key) -> pa.Schema:
    """Columns of a value, from its first batch."""
    batches = manager.iter_batches(key)
    try:
        async for batch in batches:
            return batch.schema
    finally:
        await batches.aclose()  # type: ignore[attr-defined]
    value = await manager.retrieve(key)
    return value.schema if isinstance(value, pa.Table | pa.RecordBatch) else pa.schema([])


async def _common_schema(stores: MemberStores, members: list[str], key: Key) -> pa.Schema:
    common: pa.Schema | None = None
    if stores.shared.holders(key).issuperset(members):
        return _named(stores.shared.schema(key).remove_metadata())
    seen: pa.Schema | None = None
    async for name, found in _schemas(stores, members, key):
        if found is seen or (seen is not None and found.equals(seen)):
            continue
        seen, schema = found, found.remove_metadata()
        try:
            if common is None or not schema.equals(common):
                common = schema if common is None else pa.unify_schemas([common, schema], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise SchemaMismatch(
                f"{stores.name}: the {key!r} of '{name}' does not fit the members before it: {error}"
            ) from error
    return _named(pa.schema([]) if common is None else common)  # None: every member's series is empty


def _named(common: pa.Schema) -> pa.Schema:
    """The columns with the member's name before them."""
    index = common.get_field_index(CONTAINER)
    if index >= 0:
        common = common.remove(index)  # a group's own rows carry the name already
    return common.insert(0, pa.field(CONTAINER, pa.utf8(), nullable=False))


async def _shared_batches(
    stores: MemberStores, members: list[str], key: Key, schema: pa.Schema
) -> AsyncIterator[pa.RecordBatch]:
    """Rows that are kept together, brought in order block by block."""
    others = [name for name in schema.names if name != CONTAINER]

    def dress(columns: pa.RecordBatch, names: list[str], lengths: Ints) -> pa.RecordBatch:
        arrays = [repeated(names, lengths), *(columns.column(name) for name in others)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    async for batch in stores.shared.in_order(key, members, dress):
        yield batch


def repeated(names: Sequence[str], lengths: Ints) -> pa.Array:
    """A text column with each name as many times as `lengths` says, one name after another."""
    texts = [name.encode() for name in names]
    data = b"".join([text * length for text, length in zip(texts, lengths.tolist(), strict=True)])
    if len(data) > MAX_TEXT:
        raise SchemaMismatch(f"{len(data)} bytes of member names in one column; shorten the names")
    widths = {len(text) for text in texts}
    if len(widths) == 1:
        offsets = np.arange(int(lengths.sum()) + 1, dtype=np.int32) * np.int32(widths.pop())
    else:
        offsets = np.zeros(int(lengths.sum()) + 1, np.int32)
        np.cumsum(np.repeat([len(text) for text in texts], lengths), out=offsets[1:])
    return pa.Array.from_buffers(pa.utf8(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)], 0)


async def _schemas(stores: MemberStores, members: list[str], key: Key) -> AsyncIterator[tuple[str, pa.Schema]]:
    """Columns of the members' values, read only where they cannot be known otherwise."""
    unknown = []
    for number, member in enumerate(members):
        manager = stores.own(member)
        schema = stores.shared.schema(key) if manager is None else manager.schema_nowait(key)
        if schema is not None:
            yield member, schema
        else:
            unknown.append(member)
        if number % MEMBERS_A_STEP == 0:
            await asyncio.sleep(0)
    async for names, batch in _runs(stores, unknown, key, first_only=True):
        yield names[0], batch.schema


async def _member_batches(
    stores: MemberStores, members: list[str], key: Key, schema: pa.Schema
) -> AsyncIterator[pa.RecordBatch]:
    async for names, batch in _runs(stores, members, key):
        yield _fit(batch, names, schema)


async def _runs(
    stores: MemberStores, members: list[str], key: Key, *, first_only: bool = False
) -> AsyncIterator[tuple[list[str], pa.RecordBatch]]:
    """The members' values in order, each batch with the member of each row, or one name for all its rows.

    Small values that become one row each, such as dicts, are made columns together: a thousand tables of one row
    cost a thousand times what one of a thousand rows costs. `first_only`: one batch per value, for its columns.
    Gives way to the loop every few values.
    """
    names: list[str] = []
    rows: list[Any] = []
    for number, member in enumerate(members):
        if number % MEMBERS_A_STEP == 0:
            await asyncio.sleep(0)
        row = await _one_row(stores.own(member), key)
        if row is not None:
            names.append(member)
            rows.append(row)
            if len(rows) < BLOCK_ROWS:
                continue
        if rows:
            yield names, _columns_of(rows)
            names, rows = [], []
        if row is None:
            batches = stores.iter_batches(member, key)
            try:
                async for batch in batches:
                    yield [member], batch
                    if first_only:
                        break
            finally:
                await batches.aclose()  # type: ignore[attr-defined]
    if rows:
        yield names, _columns_of(rows)


async def _one_row(manager: DataManager | None, key: Key) -> Any:
    """The value if it becomes a single row and is in memory or no Arrow data, else None."""
    if manager is None:
        return None
    try:
        value = manager.retrieve_nowait(key)
    except NotResident:
        if manager.mode != "hybrid" or manager.schema_nowait(key) is not None:
            return None
        value = await manager.peek(key)
    except KeyError:
        return None
    return value if isinstance(value, dict | msgspec.Struct) and value else None


def _columns_of(rows: list[Any]) -> pa.RecordBatch:
    return as_table(rows).combine_chunks().to_batches()[0]


def _fit(batch: pa.RecordBatch, members: list[str], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of members in the columns of the group; `members` holds one name per row, or one for all."""
    names = batch.schema.names
    arrays: list[pa.Array] = [
        pa.array(members) if len(members) > 1 else pa.repeat(pa.scalar(members[0]), batch.num_rows)
    ]
    for field in list(schema)[1:]:
        if field.name in names:
            column = batch.column(names.index(field.name))
            arrays.append(column if column.type.equals(field.type) else column.cast(field.type))
        else:
            arrays.append(pa.nulls(batch.num_rows, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
