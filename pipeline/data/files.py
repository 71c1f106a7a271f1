"""One value or one part of a series as one file, so that it comes back exactly. Blocking; for worker threads."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ..errors import CorruptEntry
from ..storage import codecs, segments
from ..storage.publish import Published, TableFile, WholeFile, digest_file
from .base import Key, key_bytes
from .parts import restore_form
from .policy import FileSettings
from .tables import as_table

KEY: Final = b"penstock.key"
"""Schema metadata that holds the key, percent-encoded."""
_TABULAR: Final = frozenset({codecs.BATCH, codecs.STREAM, codecs.TABLE, codecs.PANDAS, codecs.POLARS, codecs.BATCHES})
_UNREADABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)


class StoredFile(NamedTuple):
    """A published file and how to read it."""

    file: Published
    format: Literal["parquet", "arrow", "record"]
    kind: int
    context: tuple[Any, ...]
    rows: int
    streams: bool
    """Whether its batches, read one by one, have the types of the whole."""


def write_file(
    folder: Path, numbers: Iterator[int], key: Key, kind: int, value: Any, settings: FileSettings
) -> StoredFile:
    """Publish a value under a name of its own, `<number>-<8 hex of the key's hash>`; never replaces a file.

    Tables go to the format that is set; what parquet would not give back exactly becomes an arrow file, what is
    not a table a checksummed record.
    """
    if kind not in _TABULAR:
        return _write_record(folder, numbers, key, kind, value)
    table = pa.Table.from_batches(value) if kind == codecs.BATCHES else as_table(value)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: key_text(key)})
    if settings.format == "parquet":
        stored = _write_table(folder, numbers, key, kind, table, value, "parquet", settings.compression)
        if stored is not None:
            return stored
    stored = _write_table(folder, numbers, key, kind, table, value, "arrow", settings.compression)
    if stored is None:
        return _write_record(folder, numbers, key, kind, value)
    return stored


def read_file(stored: StoredFile, key: Key) -> Any:
    """The value again; raises `CorruptEntry` when a single bit of the file has changed, or it has gone."""
    verify(stored, key)
    path = stored.file.path
    if stored.format == "record":
        return _read_record(stored, key)
    return _from_table(stored.kind, _read_table(path, stored.format))


def iter_file(stored: StoredFile) -> Iterator[pa.RecordBatch]:
    """Record batches of a verified table file, a row group or message at a time."""
    path = stored.file.path
    if stored.format == "parquet":
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=65536, use_threads=False):
                yield _without_key(batch)
    else:
        with pa.OSFile(str(path), "rb") as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                yield _without_key(reader.get_batch(index))


def series_schema(stored: StoredFile, key: Key) -> pa.Schema:
    """Columns of a part of a series; raises `CorruptEntry`."""
    path = stored.file.path
    try:
        if stored.format == "parquet":
            schema = pq.read_schema(path)
        else:
            with pa.OSFile(str(path), "rb") as source:
                schema = pa.ipc.open_file(source).schema
    except (*_UNREADABLE, OSError) as error:
        raise CorruptEntry(key, str(path), f"the file cannot be read: {error}") from error
    metadata = {name: text for name, text in (schema.metadata or {}).items() if name != KEY}
    return schema.with_metadata(metadata or None)


def last_schema(stored: Sequence[StoredFile], key: Key) -> pa.Schema | None:
    """Columns of the last part that can be read; None where none can."""
    for each in reversed(stored):
        try:
            return series_schema(each, key)
        except CorruptEntry:
            continue
    return None


def verify(stored: StoredFile, key: Key) -> None:
    """Raises `CorruptEntry` unless the file has the very bytes that were published."""
    path = stored.file.path
    try:
        found = digest_file(path)
    except OSError as error:
        raise CorruptEntry(key, str(path), f"the file cannot be read: {error.strerror}") from error
    if found != (stored.file.num_bytes, stored.file.digest):
        raise CorruptEntry(key, str(path), f"checksum mismatch, {found[0]} of {stored.file.num_bytes} bytes found")


def fault(stored: StoredFile) -> str:
    """What is wrong with a file at first sight, without reading it; empty where nothing is."""
    try:
        found = os.stat(stored.file.path).st_size
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    wanted = stored.file.num_bytes
    return "" if found == wanted else f"it has {found:,} bytes, not the {wanted:,} it was written with"


def faults(stored: Sequence[StoredFile]) -> list[str]:
    """The same of each of several."""
    return [fault(each) for each in stored]


def key_text(key: Key) -> bytes:
    """A key for schema metadata, where it has to be UTF-8."""
    return key.encode() if isinstance(key, str) else b"bytes:" + key.hex().encode()


def _write_table(
    folder: Path,
    numbers: Iterator[int],
    key: Key,
    kind: int,
    table: pa.Table,
    value: Any,
    format: Literal["parquet", "arrow"],
    compression: str,
) -> StoredFile | None:
    """The table as a file of one format; None if it would not come back exactly."""
    try:
        file = TableFile(folder, table.schema, format=format, compression=compression)
    except _UNREADABLE:
        return None
    with file:
        try:
            file.write(table)
            file._finish()
        except _UNREADABLE:
            return None
        simple = _is_simple(table.schema) and kind != codecs.POLARS
        if not simple and not _same(kind, value, file.path, format):
            return None
        published = _publish(file, numbers, key, f".{format}")
    streams = simple or (format == "arrow" and kind != codecs.POLARS)
    return StoredFile(published, format, kind, (), table.num_rows, streams)


def _publish(file: WholeFile, numbers: Iterator[int], key: Key, suffix: str) -> Published:
    mark = f"{xxhash.xxh3_64_intdigest(key_bytes(key)) & 0xFFFFFFFF:08x}"
    for number in numbers:
        try:
            return file.publish(f"{number:06d}-{mark}{suffix}")
        except FileExistsError:
            continue
    raise AssertionError("numbers do not end")


def _write_record(folder: Path, numbers: Iterator[int], key: Key, kind: int, value: Any) -> StoredFile:
    encoded = codecs.encode(value, kind)
    with WholeFile(folder) as file:
        with file.errors("write"):
            fd = os.open(file.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                segments.write_records(fd, 0, [segments.Record(kind, 0, key_bytes(key), 0, encoded.pieces)])
            finally:
                os.close(fd)
        published = _publish(file, numbers, key, ".record")
    return StoredFile(published, "record", kind, encoded.context, 1, False)


def _read_record(stored: StoredFile, key: Key) -> Any:
    path = stored.file.path
    raw = key_bytes(key)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CorruptEntry(key, str(path), f"the file cannot be read: {error.strerror}") from error
    try:
        length = stored.file.num_bytes - segments.record_bytes(len(raw), 0)
        payload = segments.read_record(fd, 0, raw, length, 0, str(path))
    finally:
        os.close(fd)
    assert payload is not None
    return codecs.decode(stored.kind, payload, stored.context)


def _read_table(path: Path, format: str) -> pa.Table:
    if format == "parquet":
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
    else:
        with pa.OSFile(str(path), "rb") as source:
            table = pa.ipc.open_file(source).read_all()
    return _without_key(table)


def _without_key(data: Any) -> Any:
    metadata = {name: text for name, text in (data.schema.metadata or {}).items() if name != KEY}
    return data.replace_schema_metadata(metadata or None)


def _from_table(kind: int, table: pa.Table) -> Any:
    return table.to_batches() if kind == codecs.BATCHES else restore_form(kind, table)


def _is_simple(schema: pa.Schema) -> bool:
    """Whether parquet is known to keep these types exactly, so that nobody has to look."""
    return all(_is_simple_type(field.type) for field in schema) and len(schema) > 0


def _is_simple_type(kind: Any) -> bool:
    types = pa.types
    if types.is_timestamp(kind):
        return bool(kind.unit != "s")
    return bool(
        types.is_integer(kind)
        or types.is_float32(kind)
        or types.is_float64(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_date32(kind)
        or types.is_decimal128(kind)
    )


def _same(kind: int, value: Any, path: Path, format: str) -> bool:
    """Whether the value comes back from the file as it was."""
    try:
        table = _read_table(path, format)
    except (*_UNREADABLE, OSError):
        return False
    if kind == codecs.POLARS:
        again = _from_table(kind, table)
        return bool(again.schema == value.schema and again.equals(value))
    original = pa.Table.from_batches(value) if kind == codecs.BATCHES else as_table(value)
    return bool(table.schema.equals(original.schema, check_metadata=True) and table.equals(original))


def numbers() -> Iterator[int]:
    """File numbers of one folder; names that are taken are skipped."""
    return itertools.count()
