"""A folder of recordings, held by one process: appending to its log, publishing files, letting old segments go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import pyarrow as pa

from ..errors import CorruptEntry, DataError, ManagerClosed
from ..storage.entries import Entry, Mark
from ..storage.executor import IoExecutor
from ..storage.journal import Journal
from ..storage.manifest import CHECKPOINTS, read_whole, segment_number
from ..storage.publish import digest_file, publish_bytes
from ..storage.recovery import Recovered
from ..storage.root import StorageRoot
from ..storage.segments import SEGMENT_BYTES
from ..threads import settled
from .files import RecordFile, entry_of, sweep, withdraw
from .reading import CONTAINER, Recorded, encoded, read_recording

T = TypeVar("T")
ROWS: Final = 1
"""Kind of the journal's records."""
log = logging.getLogger("penstock.recording")


class CommittedFiles(NamedTuple):
    """What one commit added."""

    files: int
    rows: int
    num_bytes: int


class Expired(NamedTuple):
    """What was let go."""

    segments: int
    num_bytes: int


def open_recording(
    folder: str | Path,
    *,
    durability: Literal["process", "durable"] = "durable",
    time: str = "ts_recv",
    repair: bool = False,
    segment_bytes: int = SEGMENT_BYTES,
) -> RecordFolder:
    """A folder to record in, to be entered with `async with`; one process holds it at a time.

    durability: what is on disk before `append` returns: `process` survives a kill, `durable` a loss of power.
    time:       column (ns) of the files whose first and last value the manifest tells.
    repair:     open a folder whose manifest is damaged in the middle, with what can be read of it.

    Entering recovers: a torn tail of the log is cut, files that were not committed are removed. Raises `StorageFailed`
    (held by another process, whose pid it tells; of a newer format; the system refuses) or `DiskFull`.
    """
    return RecordFolder(Path(folder), durability, time, repair, segment_bytes)


class RecordFolder:
    """What `open_recording` gives. Rows are acknowledged by `append`, files by `publish`.

    A row is in the log from its `append` on, and in the files of exactly one commit later. After a crash the log is
    read from `covered` on (`runs`), with the `state` that was committed with it: no row is lost, none comes twice.
    """

    def __init__(self, folder: Path, durability: str, time: str, repair: bool, segment_bytes: int) -> None:
        self.folder, self.durability = folder, durability
        self.compression: str | None = "zstd"
        self.raw_bytes = 0
        """Bytes this process has appended, as they lie on disk."""
        self.removed: Sequence[str] = ()
        """Files that a process which was killed had left, and which nobody had been told of."""
        self._time, self._repair, self._segment_bytes = time, repair, segment_bytes
        self._commits = 0
        self._mark = Mark(0, 0)
        self._root: StorageRoot | None = None
        self._io: IoExecutor
        self._journal: Journal

    async def __aenter__(self) -> RecordFolder:
        self._io = IoExecutor()
        try:
            opening = self._io.submit(self, self._open)
            try:
                root = await asyncio.shield(opening)
            except asyncio.CancelledError:
                await asyncio.wait((opening,))
                if opening.exception() is None:
                    await self._io.submit(self, opening.result().close)
                raise
        except BaseException:
            await self._io.close()
            raise
        self._root, self._journal = root, Journal(root, self._io, segment_bytes=self._segment_bytes)
        if not root.recovered.is_clean:
            log.error("%s: not everything was found as it had been left: %s", self.folder, root.recovered.lost)
        return self

    def _open(self) -> StorageRoot:
        root = StorageRoot.open(self.folder, repair=self._repair)
        try:
            self.removed = sweep(root)
        except BaseException:
            root.close()
            raise
        return root

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Sync the log and let go of the folder; idempotent. Raises what the log's end raises, closed all the same."""
        root, self._root = self._root, None
        if root is None:
            return
        try:
            await self._journal.close()
        finally:
            await self._io.submit(self, root.close)
            await self._io.close()

    # -- what is there -----------------------------------------------------------------------------------------

    @property
    def recovered(self) -> Recovered:
        """What was found damaged when the folder was opened, and what became of it."""
        return self._held().recovered

    @property
    def session(self) -> str:
        """One more than that of the process before: six digits or more."""
        return f"{self._held().epoch:06d}"

    @property
    def covered(self) -> int:
        """Everything appended up to this position is in committed files."""
        entry = self._held().manifest.checkpoints.get(CONTAINER)
        return 0 if entry is None else entry.gen or 0

    async def state(self) -> bytes | None:
        """What was committed with the last files, None where nothing was. Raises `CorruptEntry`, `StorageFailed`."""
        entry = self._held().manifest.checkpoints.get(CONTAINER)
        if entry is None or entry.file is None:
            return None
        return await self.apart(self._read_state, entry)

    def _read_state(self, entry: Entry) -> bytes:
        assert entry.file is not None
        path = self.folder / entry.file
        num_bytes, digest = digest_file(path)
        if (num_bytes, f"{digest:016x}") != (entry.bytes, entry.xxh3):
            raise CorruptEntry(CONTAINER, str(path), "it is not as it was committed; see `penstock verify`")
        return read_whole(self._held().disk, path)

    def files(self) -> Sequence[Entry]:
        """Committed files: path below the folder, rows, bytes, first and last time, xxh3."""
        return [entry for entry in list(self._held().manifest.files.values()) if entry.batch_id is not None]

    def runs(self, after: int = 0) -> Iterator[Recorded]:
        """What was appended behind a position; blocking, for a thread. See `read_recording`."""
        return read_recording(self.folder, after=after)

    # -- appending ---------------------------------------------------------------------------------------------

    async def append(self, batch: pa.RecordBatch, tag: str = "") -> int:
        """The rows are on disk, as `durability` says, when this returns: their position.

        Appends that come together share a write and a sync. A caller that is cancelled changes nothing: the rows are
        written all the same. Raises `DiskFull` (nothing was written, may be tried again), `StorageFailed`.
        """
        self._held()
        position = next(self._journal.generations)

        def encode() -> list[pa.Buffer]:
            pieces = encoded(batch, self.compression)
            self.raw_bytes += sum(map(len, pieces))
            return pieces

        written = self._journal.append(
            CONTAINER, ROWS, tag.encode(), position, encode,
            "durable" if self.durability == "durable" else "process", num_bytes=batch.nbytes,
        )  # fmt: skip
        self._mark = await asyncio.shield(written)
        return position

    async def apart(self, call: Callable[..., T], *args: Any) -> T:
        """Call something that blocks in one of the folder's threads.

        Cancellation takes effect when it has returned, so that nobody tidies up beside a call that is under way.
        """
        self._held()
        calling = self._io.submit(object(), call, *args)
        await settled(calling)
        return calling.result()

    # -- files -------------------------------------------------------------------------------------------------

    def new_file(self, folder: str, schema: pa.Schema, **options: Any) -> RecordFile:
        """A file that will lie in this folder below the root; options are of pyarrow's ParquetWriter. Blocking."""
        return RecordFile(self._held(), folder, schema, options, self._time)

    async def publish(
        self, files: Mapping[str, RecordFile] | Sequence[tuple[str, RecordFile]], *, covers: int, state: bytes
    ) -> CommittedFiles:
        """Files appear as `<name>_<session>-<n>.parquet`, all of them or none, by one commit.

        `covers` is up to where in the log they have every row, and `state` what is needed to go on from there. Raises
        `DiskFull` or `StorageFailed`: nothing is committed then, the files are gone, and the rows are in the log.
        """  # fmt: skip
        root = self._held()
        mark = self._mark if self.durability == "durable" else await self._journal.mark()
        self._commits += 1
        named = list(files.items()) if isinstance(files, Mapping) else list(files)
        suffix = f"_{self.session}-{self._commits}.parquet"
        call = partial(self._publish, root, [(f"{name}{suffix}", file) for name, file in named], covers, state, mark)
        return await self.apart(call)

    def _publish(
        self, root: StorageRoot, files: Sequence[tuple[str, RecordFile]], covers: int, state: bytes, mark: Mark
    ) -> CommittedFiles:
        before = root.manifest.checkpoints.get(CONTAINER)
        first = (0 if before is None else before.gen or 0) + 1
        number = 1 if before is None else int(Path(before.file or "0").stem) + 1
        added: list[Entry] = []
        place = f"{CHECKPOINTS}/{number:06d}.seg"
        try:
            for name, file in files:
                added.append(entry_of(root, file, name, CONTAINER, first, covers))
            kept = publish_bytes(root.path / CHECKPOINTS, Path(place).name, [state], replace=True, disk=root.disk)
            root.disk.sync_folder(root.path)
            rows = sum(entry.rows or 0 for entry in added)
            checkpoint = Entry(
                kind="checkpoint", phase=CONTAINER, file=place, bytes=kept.num_bytes, xxh3=f"{kept.digest:016x}",
                mark=mark, gen=covers, rows=rows + (0 if before is None else before.rows or 0),
            )  # fmt: skip
            root.commit([*added, checkpoint])
        except BaseException as error:
            for _, file in files:
                file.discard()
            if isinstance(error, DataError | OSError):
                withdraw(root, added)
            raise
        if before is not None and before.file is not None and before.file != place:
            with suppress(OSError):
                root.disk.unlink(root.path / before.file)
        return CommittedFiles(len(added), rows, sum(entry.bytes or 0 for entry in added))

    async def expire(self, before: int) -> Expired:
        """Remove whole segments of the log whose rows are all in files, which say that they are from before a time."""
        root = self._held()
        limit, segments, num_bytes = await self.apart(_expiring, root, self.covered, before)
        if segments:
            self._journal.trim(CONTAINER, limit)
            await self._journal.removals()
        return Expired(segments, num_bytes)

    def _held(self) -> StorageRoot:
        if self._root is None:
            raise ManagerClosed(f"{self.folder}: the recording is closed, or not yet entered: use `async with`")
        return self._root


def _expiring(root: StorageRoot, covered: int, before: int) -> tuple[int, int, int]:
    """Up to which position segments may go, how many do, and their bytes."""
    entries = list(root.manifest.files.values())
    limit = covered
    for entry in entries:
        if entry.batch_id is not None and (entry.max_ts is None or entry.max_ts >= before):
            limit = min(limit, entry.batch_id[1] - 1)
    found = [
        (entry.offsets[CONTAINER], entry.bytes) for entry in entries
        if segment_number(entry.file or "") is not None and entry.bytes is not None and entry.offsets is not None
        and 0 < entry.offsets.get(CONTAINER, 0) <= limit
    ]  # fmt: skip
    dead = root.manifest.trims.get(CONTAINER, 0)
    found = [(last, num_bytes) for last, num_bytes in found if last > dead]
    return max((last for last, _ in found), default=0), len(found), sum(num_bytes for _, num_bytes in found)
