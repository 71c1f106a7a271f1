"""Reads parquet files row group by row group, those of our own schemas and others by the names of their columns.

Files are read in order of their names; the shards of one parquet sink are woven together again, row group by row
group, into the order in which they were written. Files whose times overlap are not merged otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import InputError
from stages.schemas import SHARD_KEY

from .columns import map_columns
from .convert import Converter
from .counts import Counts
from .declaration import Declaration
from .recording import Recording
from .standardizing import Standardizer
from .text import Where

READ_ROWS = 65_536


def open_parquet(files: Sequence[Path], instrument: str, declared: Declaration) -> Recording:
    """The recording of parquet files that share one schema; reads their footers. Raises `InputError`.

    `instrument` names the rows of tables without such a column.
    """
    first = _footer(files[0])
    for file in files[1:]:
        schema = _footer(file).schema
        if not schema.equals(first.schema):
            raise InputError(
                f"{file}: expected the columns of {files[0].name}, found {', '.join(schema.names)} "
                "or other types; replay files of one schema at a time"
            )
    mapped = map_columns(first.schema.names, declared, files[0], nameless_time=first.time_index)
    floats = frozenset(
        standard for standard, source in mapped.source.items() if pa.types.is_floating(first.schema.field(source).type)
    )
    schema = Converter(mapped, declared, float_columns=floats).schema
    instruments = () if "instrument_id" in mapped.source else (instrument,)

    def read(counts: Counts) -> Iterator[pa.RecordBatch]:
        converter = Converter(mapped, declared, float_columns=floats)
        standard = Standardizer(schema, counts, sources=[file.name for file in files], instruments=instruments)
        columns = list(dict.fromkeys(mapped.source.values()))
        for place, rows, where in _rows(files, columns):
            standard.open(place)
            yield standard.batch(converter.columns(rows, where), where)

    return Recording(schema, tuple(files), read, mapped.unused)


def rows_of_footers(files: Sequence[Path]) -> int | None:
    """Rows of parquet files together; None where a file is of another format. Raises `InputError`."""
    if not all(file.name.lower().endswith((".parquet", ".pq")) for file in files):
        return None
    return sum(_footer(file).rows for file in files)


class _Footer:
    def __init__(self, parquet: pq.ParquetFile) -> None:
        self.schema: pa.Schema = parquet.schema_arrow.remove_metadata()
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


def _footer(file: Path) -> _Footer:
    with _open(file) as parquet:
        return _Footer(parquet)


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, pre_buffer=False, buffer_size=65_536, page_checksum_verification=True)
    except FileNotFoundError:
        raise InputError(f"{file}: expected a file, found none") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file}: expected a complete parquet file, found damage ({error}); fetch or write the file again"
        ) from error


def _rows(files: Sequence[Path], columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch, Where]]:
    """Chunks of rows with the place of their file (of shards, the first), shards of one sink in turns."""
    place = 0
    while place < len(files):
        footer = _footer(files[place])
        together = files[place : place + footer.shards]
        footers = [_footer(file) for file in together]
        whole = [(one.shard, one.shards) for one in footers] == [
            (shard, footer.shards) for shard in range(footer.shards)
        ]
        if not whole:
            raise InputError(
                f"{files[place]}: expected all {footer.shards} shards of one sink, in order of their names, found "
                f"{', '.join(file.name for file in together)}"
            )
        yield from _woven(together, footers, place, columns)
        place += len(together)


def _woven(
    files: Sequence[Path], footers: Sequence[_Footer], place: int, columns: list[str]
) -> Iterator[tuple[int, pa.RecordBatch, Where]]:
    opened = [_open(file) for file in files]
    rows = [1] * len(files)
    try:
        for group in range(max(footer.row_groups for footer in footers)):
            for shard, (file, footer) in enumerate(zip(files, footers, strict=True)):
                if group < footer.row_groups:
                    for batch in _group(file, opened[shard], group, columns):
                        yield place, batch, Where(file, rows[shard])
                        rows[shard] += batch.num_rows
    finally:
        for parquet in opened:
            parquet.close()


def _group(file: Path, parquet: pq.ParquetFile, group: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from parquet.iter_batches(READ_ROWS, row_groups=[group], columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file}: expected row group {group + 1} to be complete, found damage ({error}); "
            "fetch or write the file again"
        ) from error
