"""Reads parquet files row group by row group, those of our own schemas and others by the names of their columns.

Trades, quotes and bars are numbered through; all other kinds of record of our own keep the ordinals they were
recorded with.

Files are read in order of their names; the shards of one parquet sink are woven together again, row group by row
group, into the order in which they were written. Files whose times overlap are not merged otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import InputError
from stages.schemas import KINDS, RECORD_KINDS, SHARD_KEY, schema_of

from .columns import EXTRA, ColumnMap, map_columns
from .convert import Converter
from .counts import Counts
from .declaration import Declaration
from .heads import Heads
from .recording import Recording
from .standardizing import Standardizer
from .text import Where, converted

READ_ROWS = 65_536


def open_parquet(files: Sequence[Path], instrument: str, declared: Declaration) -> Recording:
    """The recording of parquet files that share one schema; reads their footers. Raises `InputError`.

    `instrument` names the rows of tables without such a column.
    """
    first = footer_of(files[0])
    for file in files[1:]:
        schema = footer_of(file).schema
        if not schema.equals(first.schema):
            raise InputError(
                f"{file}: expected the columns of {files[0].name}, found {', '.join(schema.names)} "
                "or other types; replay files of one schema at a time"
            )
    if first.record in KINDS and first.record not in RECORD_KINDS:
        return _open_own(files, first, declared.schema)
    mapped = map_columns(first.schema.names, declared, files[0], nameless_time=first.time_index)
    floats = frozenset(
        standard for standard, source in mapped.source.items() if pa.types.is_floating(first.schema.field(source).type)
    )
    schema = Converter(mapped, declared, float_columns=floats).schema

    def narrowed(names: frozenset[str]) -> Recording:
        fewer = replace(mapped, source={name: source for name, source in mapped.source.items() if name in names})
        return _converted(files, fewer, declared, floats, only(schema, names), instrument)

    whole = _converted(files, mapped, declared, floats, schema, instrument)
    is_plain = mapped.kind != "bar" and not set(EXTRA) & set(mapped.source)
    return replace(whole, narrowed=narrowed) if is_plain else whole


def only(schema: pa.Schema, names: frozenset[str]) -> pa.Schema:
    """The columns of a schema that are named."""
    return pa.schema([field for field in schema if field.name in names], metadata=schema.metadata)


def _converted(
    files: Sequence[Path], mapped: ColumnMap, declared: Declaration, floats: frozenset[str], schema: pa.Schema,
    instrument: str,
) -> Recording:  # fmt: skip
    """Tables known by their columns."""
    instruments = () if "instrument_id" in mapped.source else (instrument,)

    def read(counts: Counts) -> Iterator[pa.RecordBatch]:
        converter = Converter(mapped, declared, float_columns=floats)
        standard = Standardizer(schema, counts, sources=[file.name for file in files], instruments=instruments)
        columns = list(dict.fromkeys(mapped.source.values()))
        for place, rows, where in chunks(files, columns):
            standard.open(place)
            yield standard.batch(converter.columns(rows, where), where)

    return Recording(schema, tuple(files), read, mapped.unused)


def _open_own(files: Sequence[Path], first: Footer, declared: str) -> Recording:
    """Records of a kind that only we write, as they were written."""
    if declared not in ("auto", first.record):
        raise InputError(f"{files[0]}: expected records of kind {declared}, found {first.record}")
    schema = own_schema(files[0], first)
    unused = tuple(name for name in first.schema.names if name not in schema.names)
    return Recording(schema, tuple(files), standardized(files, schema, first), unused)


def own_schema(file: Path, first: Footer) -> pa.Schema:
    """The columns of our own kind of record, at the scale the file was written with. Raises `InputError`."""
    ours = schema_of(first.record)
    unknown = [field.name for field in ours if not field.nullable and field.name not in first.schema.names]
    if unknown:
        raise InputError(
            f"{file}: expected the columns of {first.record}, found none called {', '.join(unknown)}; "
            "write the file again with this version, or declare `columns`"
        )
    return pa.schema([_as_written(field, first.schema) for field in ours], metadata=ours.metadata)


def standardized(
    files: Sequence[Path], schema: pa.Schema, first: Footer
) -> Callable[[Counts], Iterator[pa.RecordBatch]]:
    """Reads files of our own as those of others are read: bars are checked, shards woven, steps back counted."""
    columns = [name for name in schema.names if name in first.schema.names]

    def read(counts: Counts) -> Iterator[pa.RecordBatch]:
        standard = Standardizer(schema, counts, sources=[file.name for file in files])
        heads = Heads() if first.record == "book_delta" else None
        for place, rows, where in chunks(files, columns):
            standard.open(place)
            given = {name: _of_type(rows.column(name), schema.field(name).type, where.at(name)) for name in columns}
            made = standard.batch(given, where)
            told = made if heads is None else heads.silent(made)
            counts.rows -= made.num_rows - told.num_rows
            yield told

    return read


def _as_written(field: pa.Field, written: pa.Schema) -> pa.Field:
    """A column of ours at the scale that it was written with."""
    scaled = pa.types.is_decimal(field.type) or pa.types.is_list(field.type)
    return field.with_type(written.field(field.name).type) if scaled and field.name in written.names else field


def _of_type(values: pa.Array, kind: pa.DataType, where: Where) -> pa.Array:
    if values.type == kind or pa.types.is_dictionary(kind):
        return values
    return converted(values, lambda part: part.cast(kind), f"a value of type {kind}", where)


def rows_of_footers(files: Sequence[Path]) -> int | None:
    """Rows of parquet files together; None where a file is of another format. Raises `InputError`."""
    if not all(file.name.lower().endswith((".parquet", ".pq")) for file in files):
        return None
    return sum(footer_of(file).rows for file in files)


class Footer:
    """What the end of a parquet file says of it."""

    def __init__(self, parquet: pq.ParquetFile) -> None:
        self.schema: pa.Schema = parquet.schema_arrow.remove_metadata()
        self.told: dict[bytes, bytes] = parquet.schema_arrow.metadata or {}
        self.record = self.told.get(b"record", b"").decode("utf-8", "replace")
        self.time_index = time_index(parquet.schema_arrow)
        self.row_groups: int = parquet.metadata.num_row_groups
        self.rows: int = parquet.metadata.num_rows
        metadata = parquet.metadata.metadata or {}
        shard, _, shards = metadata.get(SHARD_KEY, b"0/1").decode().partition("/")
        self.shard, self.shards = int(shard), int(shards)


def time_index(schema: pa.Schema) -> str | None:
    """The column that was the index of times of a pandas DataFrame, as its metadata says; None where there is none."""
    try:
        told = (schema.pandas_metadata or {}).get("index_columns", [])
    except ValueError:
        return None  # somebody else's words under pandas' key
    names = [name for name in told if isinstance(name, str) and name in schema.names]
    return next((name for name in names if pa.types.is_temporal(schema.field(name).type)), None)


def footer_of(file: Path) -> Footer:
    """Reads the end of a file. Raises `InputError`."""
    with opened(file) as parquet:
        return Footer(parquet)


def opened(file: Path) -> pq.ParquetFile:
    """Raises `InputError` where there is no complete file."""
    try:
        return pq.ParquetFile(file, pre_buffer=False, buffer_size=65_536, page_checksum_verification=True)
    except FileNotFoundError:
        raise InputError(f"{file}: expected a file, found none") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file}: expected a complete parquet file, found damage ({error}); fetch or write the file again"
        ) from error


def chunks(
    files: Sequence[Path], columns: list[str], read_rows: int = READ_ROWS
) -> Iterator[tuple[int, pa.RecordBatch, Where]]:
    """Chunks of rows with the place of their file (of shards, the first), shards of one sink in turns."""
    place = 0
    while place < len(files):
        footer = footer_of(files[place])
        together = files[place : place + footer.shards]
        footers = [footer_of(file) for file in together]
        whole = [(one.shard, one.shards) for one in footers] == [
            (shard, footer.shards) for shard in range(footer.shards)
        ]
        if not whole:
            raise InputError(
                f"{files[place]}: expected all {footer.shards} shards of one sink, in order of their names, found "
                f"{', '.join(file.name for file in together)}"
            )
        yield from _woven(together, footers, place, columns, read_rows)
        place += len(together)


def _woven(
    files: Sequence[Path], footers: Sequence[Footer], place: int, columns: list[str], read_rows: int
) -> Iterator[tuple[int, pa.RecordBatch, Where]]:
    readers = [opened(file) for file in files]
    rows = [1] * len(files)
    try:
        for group in range(max(footer.row_groups for footer in footers)):
            for shard, (file, footer) in enumerate(zip(files, footers, strict=True)):
                if group < footer.row_groups:
                    for batch in _group(file, readers[shard], group, columns, read_rows):
                        yield place, batch, Where(file, rows[shard])
                        rows[shard] += batch.num_rows
    finally:
        for parquet in readers:
            parquet.close()


def groups_of(file: Path, parquet: pq.ParquetFile, columns: list[str], read_rows: int) -> Iterator[pa.RecordBatch]:
    """All rows of a file, row group by row group. Raises `InputError`."""
    for group in range(parquet.metadata.num_row_groups):
        yield from _group(file, parquet, group, columns, read_rows)


def _group(
    file: Path, parquet: pq.ParquetFile, group: int, columns: list[str], read_rows: int
) -> Iterator[pa.RecordBatch]:
    try:
        yield from parquet.iter_batches(read_rows, row_groups=[group], columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file}: expected row group {group + 1} to be complete, found damage ({error}); "
            "fetch or write the file again"
        ) from error
