"""Rows on their way to files, sorted by kind and instrument: in memory up to a bound, then in row groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import RecordFile, RecordFolder

from .layout import TOGETHER, folder_of, writer_options
from .message_rows import MESSAGE_ROW, SharedMessages, with_message_rows
from .settings import MAX_OPEN, ROW_GROUP_ROWS

_SMALL: Final = 256
"""Batches that are joined before there are more of them."""
_BATCH_BYTES: Final = 4096
"""What a batch takes beside its columns."""


class Partition(NamedTuple):
    """Whose rows one file has."""

    venue: str
    kind: str
    instrument: str | None


class Partitions:
    """The rows of all files that are not yet published. Everything blocks; for one thread at a time.

    Rows come in order of their messages and stay in it. `buffer_bytes` is what may wait in memory, beside one batch.
    """

    def __init__(self, folder: RecordFolder, buffer_bytes: int, row_group_rows: int = ROW_GROUP_ROWS) -> None:
        self.rows = 0
        self.num_bytes = 0
        """Of all rows since the last roll, in memory or in files."""
        self._folder, self._buffer_bytes, self._group_rows = folder, buffer_bytes, row_group_rows
        self._incoming: dict[tuple[str, str], list[pa.Table]] = {}
        self._incoming_bytes = self._sorted_bytes = 0
        self._held: dict[Partition, list[pa.Table]] = {}
        self._held_bytes: dict[Partition, int] = {}
        self._files: dict[Partition, RecordFile] = {}
        self._shared: dict[Partition, SharedMessages] = {}

    @property
    def held_bytes(self) -> int:
        """In memory now."""
        return self._incoming_bytes + self._sorted_bytes

    @property
    def is_crowded(self) -> bool:
        """Whether as many files are being written as may be."""
        return len(self._files) >= MAX_OPEN

    def add(self, venue: str, batch: pa.RecordBatch) -> None:
        """Rows of one kind, of any instruments, received on one date. Raises `DiskFull`, `StorageFailed`."""
        kind = batch.schema.metadata[b"record"].decode()
        if kind not in TOGETHER:
            batch = with_message_rows(batch)
        parts = self._incoming.setdefault((venue, kind), [])
        parts.append(pa.Table.from_batches([batch]))
        self.rows += batch.num_rows
        self.num_bytes += batch.nbytes
        self._incoming_bytes += batch.nbytes + _BATCH_BYTES
        if len(parts) >= _SMALL and len(parts[-_SMALL]) * _SMALL < self._group_rows:
            joined = _joined(parts[-_SMALL:])
            self._incoming_bytes -= sum(part.nbytes + _BATCH_BYTES for part in parts[-_SMALL:])
            self._incoming_bytes += joined.nbytes + _BATCH_BYTES
            parts[-_SMALL:] = [joined]
        if self.held_bytes > self._buffer_bytes:
            self._sort()
            self._relieve()

    def finish(self) -> list[tuple[str, RecordFile]]:
        """All rows in files, whose names begin as told; nothing is held any more."""
        self._sort()
        for partition in list(self._held):
            self._write(partition)
        done = []
        for partition, file in self._files.items():
            if partition in self._shared:
                file.tell(self._shared[partition].told())
            file.finish()
            done.append((f"{file.min_ts}_{file.max_ts}", file))
        self._begin_anew()
        return done

    def discard(self) -> None:
        """Forget all rows, and remove the files that were being written."""
        for file in self._files.values():
            file.discard()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.rows = self.num_bytes = self._incoming_bytes = self._sorted_bytes = 0
        self._incoming, self._held, self._held_bytes, self._files, self._shared = {}, {}, {}, {}, {}

    def _sort(self) -> None:
        """What came in, by instrument."""
        for (venue, kind), parts in self._incoming.items():
            if not parts:
                continue
            whole = _joined(parts)
            parts.clear()
            for instrument, rows in [(None, whole)] if kind in TOGETHER else _by_instrument(whole):
                partition = Partition(venue, kind, instrument)
                self._held.setdefault(partition, []).append(rows)
                num_bytes = rows.nbytes + _BATCH_BYTES
                self._held_bytes[partition] = self._held_bytes.get(partition, 0) + num_bytes
                self._sorted_bytes += num_bytes
        self._incoming_bytes = 0

    def _relieve(self) -> None:
        """Write full row groups, and the largest of the others until half of the room is free."""
        for partition, parts in list(self._held.items()):
            if sum(map(len, parts)) >= self._group_rows:
                self._write(partition)
        for partition in sorted(self._held, key=lambda each: -self._held_bytes[each]):
            if self.held_bytes <= self._buffer_bytes // 2:
                break
            self._write(partition)

    def _write(self, partition: Partition) -> None:
        rows = _joined(self._held.pop(partition))
        self._sorted_bytes -= self._held_bytes.pop(partition)
        file = self._files.get(partition)
        if file is None:
            first = rows.column("ts_recv")[0].value
            where = folder_of(partition.kind, partition.venue, partition.instrument, first)
            schema = rows.drop_columns([MESSAGE_ROW]).schema if MESSAGE_ROW in rows.schema.names else rows.schema
            file = self._folder.new_file(where, schema, **writer_options(schema))
            self._files[partition] = file
        if MESSAGE_ROW in rows.schema.names:
            self._shared.setdefault(partition, SharedMessages()).note(file.rows, rows.column(MESSAGE_ROW))
            rows = rows.drop_columns([MESSAGE_ROW])
        for start in range(0, rows.num_rows, 8 * self._group_rows):
            file.write(_tidied(rows.slice(start, 8 * self._group_rows)))


def _joined(parts: list[pa.Table]) -> pa.Table:
    """One table in one piece, whose words have one code each."""
    if len(parts) == 1 and parts[0].column(0).num_chunks <= 1:
        return parts[0]
    return pa.concat_tables(parts, promote_options="default").unify_dictionaries().combine_chunks()


def _by_instrument(rows: pa.Table) -> Iterator[tuple[str | None, pa.Table]]:
    """Rows of each instrument, in their order."""
    column = rows.column("instrument_id").chunk(0)
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    found = np.unique(codes)
    names = column.dictionary
    if len(found) == 1:
        yield (None if found[0] < 0 else names[int(found[0])].as_py()), rows
        return
    order = np.argsort(codes, kind="stable")
    begins = np.searchsorted(codes[order], found)
    ends = [*begins[1:].tolist(), len(order)]
    for code, begin, end in zip(found.tolist(), begins.tolist(), ends, strict=True):
        yield (None if code < 0 else names[code].as_py()), rows.take(pa.array(order[begin:end]))


def _tidied(rows: pa.Table) -> pa.Table:
    """Dictionaries with the words that occur, in order of first appearance: what others came does not show."""
    columns = [
        _with_own_words(column.combine_chunks()) if pa.types.is_dictionary(column.type) else column
        for column in rows.columns
    ]
    return pa.Table.from_arrays(columns, schema=rows.schema)


def _with_own_words(values: Any) -> Any:
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0)
    plain = values.dictionary_decode().dictionary_encode()
    if plain.type == values.type:
        return plain
    return pa.DictionaryArray.from_arrays(plain.indices.cast(values.type.index_type), plain.dictionary)
