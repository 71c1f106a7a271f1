"""Files of a durable `file` manager: committed, told of in the journal, and removed only when nothing needs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import CorruptEntry, DataError
from ..storage.entries import Entry
from ..storage.executor import IoExecutor
from ..storage.group import GroupCommit
from ..storage.publish import Published
from . import records
from .base import Key
from .files import StoredFile
from .part_files import Part, PartSeries
from .recording import Recording

log = logging.getLogger(__name__)


class KeptFiles:
    """What one file manager has on disk, for the next process.

    A file is listed in the manifest before a record tells of it; from that record on the rows in it are not needed in
    the journal any more. A file that is replaced or deleted goes when the record of that is as durable as declared.
    """

    def __init__(self, recording: Recording, commits: GroupCommit, root: Path, io: IoExecutor) -> None:
        self._recording, self._commits, self._io = recording, commits, io
        self._root = root
        self._tasks: set[asyncio.Task[None]] = set()

    async def list_file(self, stored: StoredFile) -> None:
        """Commit the file; raises `DiskFull` or `StorageFailed`."""
        name, file = self._name(stored.file.path), stored.file
        entry = Entry(
            kind="add", container=self._recording.container, file=name, bytes=file.num_bytes, rows=stored.rows,
            xxh3=f"{file.digest:016x}",
        )  # fmt: skip
        await self._commits.commit([entry])

    async def list_again(self, files: Sequence[StoredFile], listed: Container[str]) -> None:
        """Commit those that a damaged manifest does not list any more, lost or not."""
        for stored in files:
            if self._name(stored.file.path) not in listed:
                await self.list_file(stored)

    def holds_value(self, key: Key, stored: StoredFile, size: int) -> int:
        """From this step on the key is the value in this file."""
        return self._recording.filed(key, [self._plain(stored)], size=size)

    def holds_part(self, key: Key, part: Part, tail: int, num_bytes: int) -> None:
        """From this step on the rows of a part are those of its file."""
        assert part.stored is not None
        plain = [self._plain(part.stored)]
        self._recording.filed(key, plain, up_to=part.last_gen, tail=tail, dead_bytes=num_bytes, series=True)

    def tell_again(self, key: Key, entry: Part | PartSeries | None) -> None:
        """Say anew, in one record, what a key consists of, so that older ones can go. Raises KeyError without a key."""
        if entry is None:
            raise KeyError(key)
        if isinstance(entry, Part):
            assert entry.stored is not None
            self._recording.filed(key, [self._plain(entry.stored)], again=True)
            return
        filed = [part for part in entry.parts if part.stored is not None]
        rest = entry.parts[len(filed) :]
        if filed != entry.parts[: len(filed)]:
            return  # a part in the middle is being written
        tail = rest[0].first_gen if rest else 0
        files = [self._plain(part.stored) for part in filed if part.stored is not None]
        up_to = tail - 1 if tail else self._recording.gen
        self._recording.filed(key, files, up_to=up_to, tail=tail, series=True, whole=True, again=True)

    def tell_files_again(self, key: Key, files: Sequence[StoredFile], *, series: bool, size: int) -> None:
        """The same for a key that is nothing but these files, whether they can be read or not."""
        plain, up_to = [self._plain(stored) for stored in files], self._recording.gen if series else 0
        self._recording.filed(key, plain, size=size, up_to=up_to, series=series, whole=True, again=True)

    def remove(self, stored: StoredFile) -> None:
        """The file is not needed any more as soon as that is in the journal."""
        task = asyncio.get_running_loop().create_task(self._remove(stored))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _remove(self, stored: StoredFile) -> None:
        try:
            await self._recording.settle()
            await self._commits.commit([Entry(kind="remove", file=self._name(stored.file.path))])
            await self._io.submit(self, stored.file.path.unlink, True)
        except DataError as error:
            log.warning("%s stays until its store is opened again: %s", stored.file.path, error)

    async def close(self) -> None:
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _plain(self, stored: StoredFile) -> dict[str, Any]:
        return {
            "path": self._name(stored.file.path),
            "bytes": stored.file.num_bytes,
            "digest": stored.file.digest,
            "format": stored.format,
            "kind": stored.kind,
            "classes": records.class_names(stored.context),
            "rows": stored.rows,
            "streams": stored.streams,
        }


def stored_file(root: Path, key: Key, plain: Mapping[str, Any]) -> StoredFile:
    """A file that a record tells of; raises `CorruptEntry` where the record does not."""
    try:
        name = PurePosixPath(plain["path"])
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"{name} is outside of {root}")
        return StoredFile(
            Published(root / name, plain["bytes"], plain["digest"]), plain["format"], plain["kind"],
            records.classes_of(plain["classes"]), plain["rows"], plain["streams"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptEntry(key, "the journal", f"a record of a file that does not say which: {error}") from error
