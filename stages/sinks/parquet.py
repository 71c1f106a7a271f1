"""Writes what it receives as parquet files that appear whole or not at all.

Rows are cut into row groups of a fixed number of rows, dealt in turns to shards, each written by a thread of its
own: the same rows give the same bytes, however they were batched. The parquet feed weaves shards together again.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyarrow as pa

from pipeline import Batch, Context, SchemaMismatch, Sink, Stage, StorageFailed
from stages.schemas import SHARD_KEY

from .encoding import canonical, encoding_options

if TYPE_CHECKING:
    import pyarrow.parquet as pq

QUEUED_GROUPS = 2
"""Row groups a shard may hold, the one being written included; the sink waits for room beyond it."""


class ParquetSink(Stage, frozen=True):
    """Parquet files in the run's folder, sharded over writer threads.

    ```yaml
    containers:
      save:
        type: parquet
        inputs: [data]
        path: trades
        shards: 2
        compression: zstd
    ```

    `path` is a folder below the run's, named after the container by default; it holds one file per shard and
    appears when all is written and on disk. A sink that received nothing leaves nothing.
    """

    is_feed: ClassVar[bool | None] = False

    tuning: ClassVar[frozenset[str]] = frozenset({"path", "shards", "row_group_rows", "compression"})

    path: str | None = None
    shards: int = 2
    row_group_rows: int = 262_144
    compression: Literal["snappy", "zstd", "lz4", "none"] = "snappy"

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= 64:
            raise ValueError(f"shards: expected 1 to 64, found {self.shards}")
        if not 1 <= self.row_group_rows <= 16_777_216:
            raise ValueError(f"row_group_rows: expected 1 to 16777216, found {self.row_group_rows}")
        if self.path is not None:
            _refuse_escape(self.path)

    def build(self, context: Context) -> ParquetSinkLogic:
        if context.folder is None:
            raise ValueError("a parquet sink needs the folder of a run; build it with Context(folder=...)")
        return ParquetSinkLogic(self, context.folder, self.path or context.name)


class ParquetSinkLogic(Sink):
    """Gathers row groups on the loop and hands them to the shards' threads, waiting for room.

    It gives no state: half a parquet file cannot be gone on with. Brought back, it is given all its input again and
    writes everything anew, and since the folder appears once it is whole, each row is in it once.
    """

    def __init__(self, recipe: ParquetSink, folder: Path, path: str) -> None:
        _refuse_escape(path)
        self._recipe = recipe
        self._target = folder.resolve() / path
        if not self._target.parent.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"path: expected a folder below {folder}, found {path}")
        self._partial = self._target.with_name(f".{self._target.name}.partial")
        self._replaced = self._target.with_name(f".{self._target.name}.replaced")
        self._shards: list[_Shard] = []
        self._schema: pa.Schema | None = None
        self._pieces: list[pa.RecordBatch] = []
        self._held = 0
        self._groups = 0
        self._rows = 0
        self._failed: BaseException | None = None

    def warm(self) -> None:
        """Clear away what a process that died has left; the folder it was about to replace is put back."""
        shutil.rmtree(self._partial, ignore_errors=True)
        if self._replaced.exists():
            if self._target.exists():
                shutil.rmtree(self._replaced, ignore_errors=True)
            else:
                self._replaced.rename(self._target)

    async def on_batch(self, batch: Batch) -> None:
        """Raises `SchemaMismatch` where columns change mid-stream, `StorageFailed` where the disk does not serve."""
        columns = batch.columns
        self._check(columns.schema, batch.source)
        taken = 0
        while columns.num_rows - taken >= self._recipe.row_group_rows - self._held:
            piece = columns.slice(taken, self._recipe.row_group_rows - self._held)
            taken += piece.num_rows
            self._pieces.append(piece)
            await self._hand_over()
        if taken < columns.num_rows:
            self._pieces.append(columns.slice(taken))
            self._held += columns.num_rows - taken
        self._rows += columns.num_rows

    async def on_end(self) -> None:
        """Writes what is held, makes it durable and visible, and counts it as committed."""
        if self._failed:
            raise self._failed
        if self._pieces:
            await self._hand_over()
        if self._shards:
            await self._waited(*[write for shard in self._shards for write in shard.pending])
            await self._waited(*[shard.submit(shard.finish, len(self._shards)) for shard in self._shards])
            await self._waited(self._shards[0].submit(self._publish))
        self.committed_rows = self._rows

    def progress(self) -> str:
        return f"{self._rows:,} rows in {self._groups} row groups"

    def close(self) -> None:
        """Ends the threads; what was not published is removed."""
        for shard in self._shards:
            shard.close()
        if self._shards:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _check(self, schema: pa.Schema, source: str) -> None:
        if self._failed:
            raise self._failed
        if self._schema is None:
            self._schema = schema
        elif not schema.equals(self._schema):
            known = set(self._schema)
            changed = [f"{field.name} {field.type}" for field in schema if field not in known]
            gone = [name for name in self._schema.names if name not in schema.names]
            raise SchemaMismatch(
                f"expected the columns of the first batch, found {', '.join(changed) or 'another order of columns'}"
                f"{' and no ' + ', '.join(gone) if gone else ''} in a batch from {source or 'the input'}; "
                "give each kind of record a sink of its own"
            )

    async def _hand_over(self) -> None:
        """Give the gathered rows to the next shard once it has room."""
        assert self._schema is not None
        place = self._groups % self._recipe.shards
        if place == len(self._shards):
            file = self._partial / f"part-{place:02d}.parquet"
            self._shards.append(_Shard(file, self._schema, self._recipe, place))
        shard = self._shards[place]
        while len(shard.pending) >= QUEUED_GROUPS:
            await self._waited(shard.pending[0])
            shard.pending.popleft()
        pieces, self._pieces, self._held = self._pieces, [], 0
        self._groups += 1
        shard.submit(shard.write, pieces)

    async def _waited(self, *futures: Future[None]) -> None:
        try:
            for future in futures:
                await asyncio.wrap_future(future)
        except (OSError, pa.ArrowException) as error:
            self._failed = StorageFailed(
                f"writing {self._target} failed: {error}; nothing was published, the rows are still with the sender"
            )
            raise self._failed from error

    def _publish(self) -> None:
        """Give the complete folder its name; one of an earlier run is replaced."""
        _sync_folder(self._partial)
        if self._target.exists():
            shutil.rmtree(self._replaced, ignore_errors=True)
            self._target.rename(self._replaced)
            self._partial.rename(self._target)
            shutil.rmtree(self._replaced)
        else:
            self._partial.rename(self._target)
        _sync_folder(self._target.parent)


class _Shard:
    """One file and the thread that writes it."""

    def __init__(self, file: Path, schema: pa.Schema, recipe: ParquetSink, place: int) -> None:
        self._file = file
        self._schema = schema
        self._recipe = recipe
        self._place = place
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"penstock-parquet-{place}")
        self._writer: pq.ParquetWriter | None = None
        self.pending: deque[Future[None]] = deque()

    def submit(self, work: Callable[..., None], *arguments: Any) -> Future[None]:
        """Run `work` in the shard's thread after what was submitted before."""
        future = self._thread.submit(work, *arguments)
        self.pending.append(future)
        return future

    def write(self, pieces: list[pa.RecordBatch]) -> None:
        if self._writer is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            from pyarrow.parquet import ParquetWriter

            self._writer = ParquetWriter(
                self._file, self._schema, compression=self._recipe.compression, **encoding_options(self._schema)
            )
        table = canonical(pa.Table.from_batches(pieces))
        self._writer.write_table(table, row_group_size=table.num_rows)

    def finish(self, shards: int) -> None:
        """Complete the file, which says which of how many shards it is, and wait until it is on the disk."""
        assert self._writer is not None
        writer, self._writer = self._writer, None
        writer.add_key_value_metadata({SHARD_KEY.decode(): f"{self._place}/{shards}"})
        writer.close()
        with self._file.open("rb") as written:
            os.fsync(written.fileno())

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                writer.close()
            except (OSError, pa.ArrowException):
                pass  # The file is about to be removed.


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_escape(path: str) -> None:
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise ValueError(f"path: expected a folder below the run's, found {path!r}")
