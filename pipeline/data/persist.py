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
MEMBERS_A_STEP: Final = 16
"""Members looked at in one step of the loop: a fraction of a millisecond."""
CUT_ROWS: Final = 8 * BLOCK_ROWS
CUT_BYTES: Final = 1 << 20
"""Small batches are gathered to either before they are cut into blocks."""


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
    left: dict[Key, Persisted] = {}
    for key in keys:
        holders = [member for member in members if key in stores.keys(member)]
        schema = await _common_schema(stores, holders, key)
        together = stores.shared.holders(key).issuperset(holders)
        batches = _shared_batches if together else _member_batches
        left[key] = await RowGroups(folder, key, schema, workspace, policy).write(batches(stores, holders, key, schema))
    return left


class RowGroups:
    """Cuts batches into row groups that do not depend on how the batches were cut, hashes and writes them."""

    def __init__(self, folder: Path, key: Key, schema: pa.Schema, workspace: Workspace, policy: DataFlow) -> None:
        self._folder, self._workspace, self._policy = folder, workspace, policy
        self._name = f"{file_part(key)}.parquet"
        self._schema = schema.with_metadata({**(schema.metadata or {}), KEY: key_text(key)})
        self._block_sizes = _block_sizer(schema)
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = 0
        self._group: list[pa.RecordBatch] = []
        self._group_rows = self._group_bytes = 0

    async def write(self, batches: AsyncIterator[pa.RecordBatch]) -> Persisted:
        """Hash everything, and write and publish the file where the policy says so."""
        file: TableFile | None = await self._run(self._create) if self._policy.persistence.on_completion else None
        hashed = TableHash()

        def take(table: pa.Table) -> None:
            for batch in table.to_batches():
                hashed.update(batch)
            if file is not None:
                file.write(table)

        try:
            async for batch in batches:
                for table in self._cut(batch):
                    await self._run(take, table)
                    self._workspace.churned(table.nbytes)
            for table in self._rest():
                await self._run(take, table)
            if file is None:
                return Persisted(None, hashed.rows, 0, hashed.hexdigest())
            published: Published = await self._run(lambda: file.publish(self._name, replace=True))
        except BaseException:
            if file is not None:
                await self._run(file.discard)
            raise
        return Persisted(published.path, hashed.rows, published.num_bytes, hashed.hexdigest())

    def _create(self) -> TableFile:
        return TableFile(self._folder, self._schema, compression=self._policy.file_settings.compression)

    async def _run(self, call: Callable[..., Any], *args: Any) -> Any:
        """A job that has begun is awaited to its end: no other thread may touch the file meanwhile."""
        future = self._workspace.io.submit(self, call, *args)
        await settled(future)
        return future.result()

    def _cut(self, batch: pa.RecordBatch) -> list[pa.Table]:
        """Row groups that this batch completes."""
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self._pending_bytes += batch.nbytes
        if self._pending_rows < BLOCK_ROWS or (self._pending_rows < CUT_ROWS and self._pending_bytes < CUT_BYTES):
            return []
        return self._cut_pending()

    def _cut_pending(self) -> list[pa.Table]:
        table = pa.Table.from_batches(self._pending).combine_chunks()
        whole = self._pending_rows // BLOCK_ROWS * BLOCK_ROWS
        self._pending = table.slice(whole).to_batches()
        self._pending_rows -= whole
        self._pending_bytes = sum(batch.nbytes for batch in self._pending)
        groups = []
        begin = 0
        for number, num_bytes in enumerate(self._block_sizes(table, whole // BLOCK_ROWS), 1):
            self._group_rows += BLOCK_ROWS
            self._group_bytes += num_bytes
            if self._group_rows >= GROUP_ROWS or self._group_bytes >= GROUP_BYTES:
                self._group.extend(table.slice(begin, number * BLOCK_ROWS - begin).to_batches())
                begin = number * BLOCK_ROWS
                groups.append(self._take_group())
        self._group.extend(table.slice(begin, whole - begin).to_batches())
        return groups

    def _rest(self) -> list[pa.Table]:
        groups = self._cut_pending() if self._pending_rows >= BLOCK_ROWS else []
        self._group.extend(self._pending)
        return [*groups, self._take_group()] if self._group else groups

    def _take_group(self) -> pa.Table:
        table = canonical(pa.Table.from_batches(self._group)).replace_schema_metadata(self._schema.metadata)
        self._group, self._group_rows, self._group_bytes = [], 0, 0
        return table


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
            column = pc.fill_null(pc.binary_length(table.column(index)), 0).cast(pa.int64()).to_numpy()
            found += column[: blocks * BLOCK_ROWS].reshape(blocks, BLOCK_ROWS).sum(axis=1)
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
    async for names, owners, columns in stores.shared.in_order(key, members):
        container = pa.DictionaryArray.from_arrays(owners, pa.array(names, pa.utf8())).cast(pa.utf8())
        arrays = [container, *(columns.column(name) for name in others)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


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
