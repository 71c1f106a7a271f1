"""Parquet files of a recording: written under a temporary name, row group by row group, until they are published."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..storage.entries import Entry
from ..storage.manifest import QUARANTINE, SPILL, WAL
from ..storage.publish import TableFile
from ..storage.root import StorageRoot, make_folder

_NEVER: Final = (WAL, SPILL, QUARANTINE)
_LEFT: Final = re.compile(r"\.\d+-\d+\.tmp|.+_\d{6,}-\d+\.parquet")
"""Names that files of a recording have before they are committed."""


class RecordFile(TableFile):
    """Rows on their way to one file; belongs to one thread at a time. What is not published is discarded.

    Errors of the system become `DiskFull` or `StorageFailed`, and the file is gone then.
    """

    def __init__(
        self, root: StorageRoot, folder: str, schema: pa.Schema, options: Mapping[str, Any], time: str
    ) -> None:
        self.place = folder
        self.rows = 0
        self.min_ts: int | None = None
        self.max_ts: int | None = None
        self._options, self._time = dict(options), time
        make_folder(root.path / folder, root.disk)
        super().__init__(root.path / folder, schema, disk=root.disk)

    def _begin(self, compression: str) -> Any:
        options = {"compression": "zstd", "write_page_checksum": True, "version": "2.6", **self._options}
        return pq.ParquetWriter(self._sink, self.schema, **options)

    def write(self, table: pa.Table) -> None:
        """Append rows as one row group."""
        if not table.num_rows:
            return
        super().write(table)
        self.rows += table.num_rows
        if self._time in table.schema.names:
            low, high = _span(table.column(self._time))
            self.min_ts = low if self.min_ts is None else min(low, self.min_ts)
            self.max_ts = high if self.max_ts is None else max(high, self.max_ts)

    def tell(self, metadata: Mapping[bytes, bytes]) -> None:
        """What the file's metadata says beside its schema; before it is finished."""
        with self.errors("write"):
            self._writer.add_key_value_metadata(dict(metadata))

    def finish(self) -> None:
        """Nothing more is written: its descriptor is closed. Publishing does it too."""
        self._finish()


def entry_of(root: StorageRoot, file: RecordFile, name: str, container: str, first: int, last: int) -> Entry:
    """Publish a file, and give the line of the manifest that will commit it."""
    published = file.publish(name)
    return Entry(
        kind="add", phase=container, container=container, file=f"{file.place}/{name}", bytes=published.num_bytes,
        rows=file.rows, xxh3=f"{published.digest:016x}", min_ts=file.min_ts, max_ts=file.max_ts,
        batch_id=(container, first, last),
    )  # fmt: skip


def withdraw(root: StorageRoot, entries: Sequence[Entry]) -> None:
    """Remove published files that could not be committed; what stays is found when the folder is opened next."""
    for entry in entries:
        with suppress(OSError):
            root.disk.unlink(root.path / (entry.file or ""))


def sweep(root: StorageRoot) -> list[str]:
    """Remove files that a process has left which was killed before it could commit them; their names. Blocking."""
    listed = root.manifest.files
    removed = []
    for where, below, names in os.walk(root.path):
        below[:] = sorted(name for name in below if Path(where) != root.path or name not in _NEVER)
        for name in filter(_LEFT.fullmatch, sorted(names)):
            file = (Path(where) / name).relative_to(root.path).as_posix()
            if file not in listed:
                root.disk.unlink(Path(where) / name)
                removed.append(file)
    return removed


def _span(column: pa.ChunkedArray) -> tuple[int, int]:
    found = pc.min_max(column.cast(pa.int64()))
    return found["min"].as_py(), found["max"].as_py()
