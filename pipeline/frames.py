"""What travels on an edge: batches of data, and the control frames that never overtake them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from types import UnionType
from typing import Any, ClassVar, Protocol, TypeAlias, Union, get_origin, get_type_hints

import msgspec
import numpy as np
import pyarrow as pa

TIME_COLUMNS = ("ts_event", "ts_recv")
"""Columns that carry event time and receive time, as timestamp[ns, UTC]; in rows, int nanoseconds."""
NS_UTC = pa.timestamp("ns", tz="UTC")


class Row(msgspec.Struct, frozen=True, gc=False):
    """Base for row structs: fields of type int, float, str, bytes, bool, or any of them with None.

    `arrow_schema` may be given where the default mapping (int64, float64, utf8, binary, bool, and
    timestamp[ns, UTC] for fields named `ts_...`) is not what is wanted.
    """

    arrow_schema: ClassVar[pa.Schema | None] = None


class Batch:
    """An immutable batch of rows, held as columns (`pyarrow.RecordBatch`) or as a list of structs, whichever was made.

    `columns` of a row batch converts once and keeps the result. `rows` of a column batch is an uncached
    iterator, because kept structs weigh five times the columns. `source` names the container that sent it,
    `first_seq` counts its first row in that container's output.
    """

    __slots__ = ("_columns", "_max_ts", "_min_ts", "_num_bytes", "_rows", "first_seq", "num_rows", "source")

    def __init__(
        self,
        columns: pa.RecordBatch | None = None,
        rows: Sequence[msgspec.Struct] | None = None,
        *,
        source: str = "",
        first_seq: int = 0,
    ) -> None:
        if (columns is None) == (rows is None):
            raise TypeError("a Batch holds either columns or rows")
        self._columns = columns
        self._rows = rows
        self.num_rows: int = columns.num_rows if columns is not None else len(rows or ())
        self.source = source
        self.first_seq = first_seq
        self._num_bytes: int | None = None
        self._min_ts: int | None = None
        self._max_ts: int | None = None

    @classmethod
    def from_columns(cls, columns: pa.RecordBatch) -> Batch:
        return cls(columns)

    @classmethod
    def from_rows(cls, rows: Sequence[msgspec.Struct]) -> Batch:
        return cls(None, rows)

    @classmethod
    def from_pydict(cls, values: dict[str, Any], schema: pa.Schema | None = None) -> Batch:
        return cls(pa.RecordBatch.from_pydict(values, schema=schema))

    def __repr__(self) -> str:
        kind = "columns" if self._columns is not None else "rows"
        return f"Batch({self.num_rows} {kind} from {self.source or '?'})"

    @property
    def is_rows(self) -> bool:
        """Whether the batch was made from rows and nobody has asked for its columns yet."""
        return self._columns is None

    @property
    def columns(self) -> pa.RecordBatch:
        if self._columns is None:
            self._columns = columns_from_rows(self._rows or ())
        return self._columns

    @property
    def rows(self) -> Iterable[Any]:
        if self._rows is not None:
            return self._rows
        return iter_rows(self.columns)

    @property
    def schema(self) -> pa.Schema:
        return self.columns.schema

    @property
    def record(self) -> str | None:
        """The kind of record its rows are, as the metadata of their schema says; None where it says nothing."""
        if self._columns is not None:
            metadata = self._columns.schema.metadata
        else:
            schema = getattr(type(self._rows[0]), "arrow_schema", None) if self._rows else None
            metadata = None if schema is None else schema.metadata
        return record_of(metadata)

    @property
    def num_bytes(self) -> int:
        """Bytes this batch keeps alive: exact for columns, estimated from the first row for rows."""
        if self._num_bytes is None:
            if self._columns is not None:
                self._num_bytes = self._columns.get_total_buffer_size()
            else:
                self._num_bytes = self.num_rows * row_bytes(self._rows[0]) if self._rows else 0
        return self._num_bytes

    @property
    def min_ts(self) -> int | None:
        """Smallest event time in nanoseconds, None where there is no time column or no row."""
        if self._min_ts is None and self.num_rows:
            self._min_ts = self._extreme(min, np.min)
        return self._min_ts

    @property
    def max_ts(self) -> int | None:
        """Largest event time in nanoseconds, None where there is no time column or no row."""
        if self._max_ts is None and self.num_rows:
            self._max_ts = self._extreme(max, np.max)
        return self._max_ts

    @property
    def last_seq(self) -> int:
        return self.first_seq + self.num_rows - 1

    def times(self) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """Event time per row, int64 nanoseconds; `ts_recv` where `ts_event` is null; None without a time column."""
        columns = self.columns
        names = columns.schema.names
        found = [columns.column(names.index(name)) for name in TIME_COLUMNS if name in names]
        if not found:
            return None
        times = _filled(found) if found[0].null_count else found[0]
        if times.type != NS_UTC:
            times = times.cast(NS_UTC)
        stamps: np.ndarray[Any, np.dtype[np.int64]] = times.view(pa.int64()).to_numpy(zero_copy_only=False)
        return stamps

    def stamped(self, source: str, first_seq: int) -> Batch:
        """This batch as sent by `source`; a light copy sharing the data where it already bears a stamp."""
        batch = Batch(self._columns, None if self._columns is not None else self._rows) if self.source else self
        batch.source, batch.first_seq = source, first_seq
        return batch

    def slice(self, offset: int, length: int | None = None) -> Batch:
        """A view of some rows; shares memory with this batch."""
        if length is None:
            length = self.num_rows - offset
        if self._columns is not None:
            part = Batch(self._columns.slice(offset, length))
        else:
            part = Batch(None, (self._rows or ())[offset : offset + length])
        part.source, part.first_seq = self.source, self.first_seq + offset
        return part

    def with_columns(self, **arrays: Any) -> Batch:
        """This batch with columns added or replaced; arrays of `num_rows` values (Arrow, numpy or list)."""
        columns = self.columns
        for name, values in arrays.items():
            array = values if isinstance(values, pa.Array) else pa.array(values)
            index = columns.schema.get_field_index(name)
            if index < 0:
                columns = columns.append_column(name, array)
            else:
                columns = columns.set_column(index, name, array)
        return Batch(columns)

    def _extreme(self, of_rows: Callable[[Iterable[int]], int], of_array: Callable[[Any], Any]) -> int | None:
        if self._columns is None:
            return _row_extreme(self._rows or (), of_rows)
        names = self._columns.schema.names
        if all(
            self._columns.column(names.index(name)).null_count == self.num_rows
            for name in TIME_COLUMNS
            if name in names
        ):
            return None
        times = self.times()
        return None if times is None else int(of_array(times))


def receive_times(batch: Batch) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """When each row was received, int64 ns; event time where nobody noted it; None without a time column."""
    columns = batch.columns
    at = columns.schema.get_field_index("ts_recv")
    if at < 0 or columns.column(at).null_count:
        return batch.times()
    times = columns.column(at)
    stamps: np.ndarray[Any, np.dtype[np.int64]] = (
        (times if times.type == NS_UTC else times.cast(NS_UTC)).view(pa.int64()).to_numpy(zero_copy_only=False)
    )
    return stamps


def first_rows(batches: Sequence[Batch], rows: int) -> tuple[Batch, ...]:
    """The first `rows` rows of batches of several kinds of record that cover the same time; see `parts_of`."""
    return next(parts_of(batches, rows), ())


def parts_of(batches: Sequence[Batch], rows: int) -> Iterator[tuple[Batch, ...]]:
    """Batches of several kinds of record that cover the same time, cut to so many rows together, all but the last.

    First is what was received first; what came in one message (`ingest_seq`) stands in the order of the batches.
    """
    if sum(batch.num_rows for batch in batches) <= rows:
        yield tuple(batches)
        return
    if len(batches) == 1:
        yield from (
            (batches[0].slice(start, min(rows, batches[0].num_rows - start)),)
            for start in range(0, batches[0].num_rows, rows)
        )
        return
    keys = []
    for kind, batch in enumerate(batches):
        times, names = receive_times(batch), batch.columns.schema.names
        at = np.zeros(batch.num_rows, np.int64) if times is None else np.maximum.accumulate(times)
        seqs = batch.columns.column("ingest_seq").to_numpy() if "ingest_seq" in names else np.zeros(len(at), np.uint64)
        keys.append((np.full(len(at), kind), seqs, at))
    kinds, seqs, at = (np.concatenate(column) for column in zip(*keys, strict=True))
    order = kinds[np.lexsort((kinds, seqs, at))]
    begun = [0] * len(batches)
    for start in range(0, len(order), rows):
        counts = np.bincount(order[start : start + rows], minlength=len(batches)).tolist()
        yield tuple(batch.slice(at, count) for batch, at, count in zip(batches, begun, counts, strict=True) if count)
        begun = [at + count for at, count in zip(begun, counts, strict=True)]


def record_of(metadata: Mapping[bytes, bytes] | None) -> str | None:
    """What a schema's metadata says of the kind of its rows under `record`."""
    said = None if metadata is None else metadata.get(b"record")
    return None if said is None else said.decode()


class Stored(Protocol):
    """A batch that was under way on a disk: never in memory but while it is copied."""

    @property
    def num_rows(self) -> int: ...

    def read(self) -> Batch:
        """Blocking, in any thread. Raises `CorruptEntry`, `StorageFailed`."""


def _filled(found: Sequence[pa.Array]) -> pa.Array:
    """The first of these columns, and where it is null the next."""
    import pyarrow.compute as pc

    times = pc.coalesce(*found)
    if times.null_count:
        # A row without a stamp stands with the one before it, or, at the start, with the first that has one.
        times = pc.fill_null(pc.fill_null_backward(pc.fill_null_forward(times)), 0)
    return times


class Watermark(msgspec.Struct, frozen=True):
    """No row with an event time below `ts` (ns) will follow; an `idle` input has nothing and holds nobody up."""

    ts: int | None
    idle: bool = False


CHECKPOINT = "checkpoint"
"""The kind of barriers at which containers take a cut. A newer one makes those that are still under way void."""


class Barrier(msgspec.Struct, frozen=True):
    """A mark every container answers to before it goes on: checkpoint, flush, step, phase end, stop."""

    id: int
    kind: str


class End(msgspec.Struct, frozen=True):
    """Nothing follows on this edge."""


Frame: TypeAlias = Batch | Watermark | Barrier | End


class Result(msgspec.Struct, frozen=True):
    """A value for the container's data manager: replaces `key`, or extends its series with `append`.

    `member` names the portfolio (group member) it belongs to; empty for the container itself.
    """

    key: str
    value: Any
    append: bool = False
    member: str = ""


class MemberRows(msgspec.Struct, frozen=True):
    """Rows of one key for many members of a group at once; each member's rows extend its own series.

    `members[i]` gets rows `offsets[i]` to `offsets[i + 1]` of `columns`, in their order; `offsets` is int64, one longer
    than `members`, from 0 to the number of rows. A thousand members are one value, not a thousand.
    """

    key: str
    members: Sequence[str]
    offsets: Any
    columns: pa.RecordBatch


_FRAMES = (Batch, Watermark)


def as_item(rows: Any) -> Batch | tuple[Batch, ...] | Watermark:
    """Rows in any form a person has them in: Batch, RecordBatch, Table, dict of columns, `Row`s, or a watermark.

    A tuple of batches holds several kinds of record of the same time, and stays one.
    """
    if isinstance(rows, _FRAMES):
        return rows
    if isinstance(rows, tuple) and rows and all(isinstance(batch, Batch) for batch in rows):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return Batch(rows)
    if isinstance(rows, pa.Table):
        return Batch(pa.RecordBatch.from_struct_array(rows.to_struct_array().combine_chunks()))
    if isinstance(rows, dict):
        return Batch(pa.RecordBatch.from_pydict(rows))
    if isinstance(rows, Row):
        return Batch.from_rows([rows])
    if isinstance(rows, Sequence) and rows and all(isinstance(row, Row) for row in rows):
        return Batch.from_rows(rows)
    raise TypeError(
        f"expected a Batch, RecordBatch, Table, dict of columns, Row, list of Rows or Watermark, "
        f"found {type(rows).__name__}; a frame goes into pyarrow.Table.from_pandas(frame)"
    )


def row_bytes(row: msgspec.Struct) -> int:
    """Bytes one struct row weighs, fields included, counted on this row."""
    return sys.getsizeof(row) + sum(sys.getsizeof(value) for value in msgspec.structs.astuple(row))


def columns_from_rows(rows: Sequence[msgspec.Struct]) -> pa.RecordBatch:
    """Arrow columns of rows of one struct type; one comprehension per field, which beats zip at any size."""
    if not rows:
        return pa.RecordBatch.from_pydict({})
    schema = row_schema(type(rows[0]))
    arrays = [pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@lru_cache(maxsize=256)
def row_schema(row_type: type[msgspec.Struct]) -> pa.Schema:
    """The Arrow schema of a struct type: its own `arrow_schema`, else by annotation."""
    declared = getattr(row_type, "arrow_schema", None)
    if isinstance(declared, pa.Schema):
        return declared
    hints = get_type_hints(row_type)
    return pa.schema([(name, _arrow_type(row_type, name, hints[name])) for name in row_type.__struct_fields__])


def iter_rows(columns: pa.RecordBatch) -> Iterator[Any]:
    """Struct rows of a record batch, made one by one; timestamps as int nanoseconds, decimals as Decimal."""
    row_type = _row_type(columns.schema)
    lists = [
        (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
        for column in columns.columns
    ]
    return (row_type(*values) for values in zip(*lists, strict=True))


@lru_cache(maxsize=256)
def _row_type(schema: pa.Schema) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        "BatchRow",
        [(name, Any) for name in schema.names],
        namespace={"arrow_schema": schema},
        frozen=True,
        gc=False,
    )


_ARROW_TYPES: dict[type, pa.DataType] = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.utf8(),
    bytes: pa.binary(),
    bool: pa.bool_(),
}


def _arrow_type(row_type: type, name: str, hint: Any) -> pa.DataType:
    choices = hint.__args__ if isinstance(hint, UnionType) or get_origin(hint) is Union else (hint,)
    kinds = [kind for kind in choices if kind is not type(None)]
    if kinds == [int] and name.startswith("ts_"):
        return NS_UTC
    if len(kinds) == 1 and kinds[0] in _ARROW_TYPES:
        return _ARROW_TYPES[kinds[0]]
    raise TypeError(
        f"{row_type.__name__}.{name}: expected int, float, str, bytes or bool, found {hint}; "
        f"give {row_type.__name__} an `arrow_schema` class variable"
    )


def _row_extreme(rows: Sequence[Any], extreme: Callable[[Iterable[int]], int]) -> int | None:
    """Over the known times; `ts_recv` counts where `ts_event` is None, as in columns."""
    names = [name for name in TIME_COLUMNS if hasattr(rows[0], name)]
    if not names:
        return None
    try:
        return extreme(map(attrgetter(names[0]), rows))
    except TypeError:  # some stamps are None
        known = [next((ts for name in names if (ts := getattr(row, name)) is not None), None) for row in rows]
        stamps = [ts for ts in known if ts is not None]
        return extreme(stamps) if stamps else None
