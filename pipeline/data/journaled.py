"""A data manager whose every change is in the journal before it is acknowledged, and comes back from there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from ..errors import CorruptEntry, ManagerClosed
from ..storage.workspace import Workspace
from . import files
from .base import DataManager, DataStats, Key
from .buffer import Item
from .damaged import DamagedKeys, LostFile
from .file import FileManager
from .journaling import Journaled
from .kept_files import KeptFiles, stored_file
from .recording import Recording
from .records import FILED
from .replay import Change, Index
from .rewriting import Piece, Rewriter
from .streaming import StreamingManager
from .values import Admitted, admit


class JournaledManager(Journaled, DataManager):
    """Any data manager, made durable. Answers as the one inside does; what it costs is the way to the journal.

    A change takes effect inside and becomes a record in the same step of the loop; a caller waits for both, and one who
    is cancelled changes nothing about either. Where the journal has no room the change stands, and its caller gets
    `DiskFull`, as does every later one until there is room; when it fails for good, `StorageFailed`.

    After a crash `restore_journal` (see `replay`) gives a new one of these, with an empty manager inside, what the
    journal holds; files and spilled values of the dead process are not needed.

    A checkpoint of what has been changed up to now: `await recorded()`, then, with no await between, `cut()` and the
    journal's `mark()`; when it is committed, `committed(cut)`.
    """

    def __init__(self, inner: DataManager, recording: Recording, workspace: Workspace) -> None:
        super().__init__(inner.name)
        self.inner, self.recording, self._workspace = inner, recording, workspace
        self._kept: KeptFiles | None = None
        self.mode = inner.mode
        inner.recorder = recording
        if not recording.passing:
            recording.rewriter = Rewriter(recording, self._pieces)
            self._keep_files(recording.rewriter)
        self._adopted: list[Change] = []
        self._from_files: list[Key] = []
        self.lost: list[LostFile] = []
        """Files that were found lost or damaged when the store came back."""
        self._damaged: DamagedKeys | None = None
        self.before_it_comes_back: Callable[[], Awaitable[None]] | None = None
        """Makes room, where no record tells of a file of an earlier process."""
        self._reordered = False
        self._closed = False
        self._read_directly()

    def _read_directly(self) -> None:
        """Reading has nothing to do with the journal: no call in between."""
        inner = self.inner
        self.retrieve = inner.retrieve  # type: ignore[method-assign]
        self.retrieve_nowait = inner.retrieve_nowait  # type: ignore[method-assign]
        self.iter_batches = inner.iter_batches  # type: ignore[method-assign]
        self.peek = inner.peek  # type: ignore[method-assign]
        self.schema_nowait = inner.schema_nowait  # type: ignore[method-assign]

    def _keep_files(self, rewriter: Rewriter) -> None:
        """Files of a `file` manager are themselves what lasts, unless a checkpoint may need what was before them."""
        workspace = self._workspace
        root, commits = workspace.root, workspace.commits
        if not isinstance(self.inner, FileManager) or workspace.scope or workspace.checkpointed:
            return
        if root is not None and commits is not None:
            self._kept = self.inner.kept = KeptFiles(self.recording, commits, root.path, workspace.io)
            rewriter.tell_again = self._tell_again

    async def _tell_again(self, key: Key) -> bool | None:
        assert isinstance(self.inner, FileManager) and self._kept is not None
        await self.inner.flush()
        try:
            self._kept.tell_again(key, self.inner.entry(key))
        except KeyError:
            self.recording.live.forgotten((None, key), self.recording.gen)
        await self.recording.settle()
        return True

    async def _tell_damaged_again(self, key: Key) -> bool | None:
        assert self._damaged is not None
        if key not in self._damaged:
            return False
        told = self._damaged.tell_again(key)
        await self.recording.settle()
        return told or None

    def used_files(self) -> set[Path]:
        """Files that hold something, or held it."""
        used = set() if self._damaged is None else self._damaged.files()
        if isinstance(self.inner, FileManager | StreamingManager):
            used |= self.inner.used()
        return used

    @property
    def container(self) -> str:
        """Its name in the journal."""
        return self.recording.container

    async def store(self, key: Key, value: Any, *, size: int | None = None) -> str:
        if self.recording.behind:
            await self.recording.catch_up()
        uri = await self.inner.store(key, value, size=size)
        if self._damaged is not None:
            self._damaged.dropped(key, self._read_directly)
        await self.recording.acknowledged()
        return uri

    async def append(self, key: Key, rows: Any) -> str:
        if self.recording.behind:
            await self.recording.catch_up()
        self._check(key)
        uri = await self.inner.append(key, rows)
        await self.recording.acknowledged()
        return uri

    async def delete(self, key: Key) -> None:
        recording = self.recording
        if recording.behind:
            await recording.catch_up_to_delete()
        if self._damaged is not None and key in self._damaged:
            if self._closed:
                raise ManagerClosed(f"{self.name}: the data manager is closed")
            self.recording.deleted(key)
            self._damaged.dropped(key, self._read_directly)
        else:
            await self.inner.delete(key)
        await recording.delete_acknowledged(key)

    async def retrieve(self, key: Key) -> Any:
        self._check(key)
        return await self.inner.retrieve(key)

    def retrieve_nowait(self, key: Key) -> Any:
        self._check(key)
        return self.inner.retrieve_nowait(key)

    def iter_batches(self, key: Key) -> AsyncIterator[pa.RecordBatch]:
        self._check(key)
        return self.inner.iter_batches(key)

    async def peek(self, key: Key) -> Any:
        self._check(key)
        return await self.inner.peek(key)

    def schema_nowait(self, key: Key) -> pa.Schema | None:
        self._check(key)
        return self.inner.schema_nowait(key)

    def _check(self, key: Key) -> None:
        if self._damaged is not None:
            self._damaged.check(key)

    def keys(self) -> Sequence[Key]:
        keys = [*self.inner.keys(), *(self._damaged.keys() if self._damaged is not None else ())]
        if self._reordered:
            births = self.recording.births
            return sorted(keys, key=lambda key: births.get((None, key), 0))
        return keys

    async def flush(self) -> None:
        """As the manager inside does it, and everything is in the journal."""
        await self.inner.flush()
        await self.recording.settle()

    async def close(self, deadline_seconds: float | None = None) -> None:
        """Close the manager inside; its records stay, and give everything back."""
        try:
            if isinstance(self.inner, StreamingManager):
                await self.inner.close(deadline_seconds)
            else:
                await self.inner.close()
        finally:
            if not self._closed:
                self._closed = True
                if self._kept is not None:
                    await self._kept.close()
                if self._damaged is not None:
                    await self._damaged.close()
                await self.recording.close()

    def stats(self) -> DataStats:
        stats = self.inner.stats()
        if self._damaged is not None:
            number = len(self._damaged)
            stats = msgspec.structs.replace(stats, entries=stats.entries + number, corrupt=stats.corrupt + number)
        return self.recording.on_top(stats)

    # Coming back.

    async def indexed(self, index: Index) -> None:
        """The journal has been looked through and nothing has been taken back yet."""
        if self.before_it_comes_back is not None and not index.tells_of_files:
            await self.before_it_comes_back()

    def index(self) -> Index:
        self.recording.restoring = True
        return Index(passing=self.recording.passing)

    async def restore_change(self, change: Change) -> None:
        if self.recording.passing:
            self._adopted.append(change)
            return
        if change.kind == FILED:
            await self._restore_files(change)
            return
        if self._damaged is not None and change.key in self._damaged:
            self._damaged.has_rows(change.key)
            return
        self.recording.replaying = change.gen
        try:
            if not change.series:
                await self.inner.store(change.key, change.value, size=change.head.size or None)
            elif change.value:
                await self.inner.append(change.key, pa.Table.from_batches(change.value))
            else:
                await self.inner.append(change.key, [])
        finally:
            self.recording.replaying = None

    async def _restore_files(self, change: Change) -> None:
        workspace, key = self._workspace, change.key
        assert workspace.root is not None and workspace.commits is not None
        stored = [stored_file(workspace.root.path, key, plain) for plain in change.value["files"]]
        _, up_to, whole, _ = change.head.numbers
        if self._kept is not None:
            assert isinstance(self.inner, FileManager)
            faults = await workspace.io.submit(self, files.faults, stored)
            found = [LostFile(each.file.path, key, why) for each, why in zip(stored, faults, strict=True) if why]
            self.lost += found
            self.inner.corrupt.update(lost.path for lost in found)
            await self._kept.list_again(stored, workspace.root.manifest.files)
            await self.inner.attach(key, stored, up_to, series=change.series, whole=bool(whole))
            return
        if self._damaged is None:
            self._damaged = DamagedKeys(KeptFiles(self.recording, workspace.commits, workspace.root.path, workspace.io))
        self._damaged.told(change, stored)
        if key in self._damaged:
            return
        try:
            values = [await workspace.io.submit(self, files.read_file, file, key) for file in stored]
        except CorruptEntry as error:
            await self._set_aside(change, error)
            return
        self._from_files.append(key)
        self.recording.replaying = change.gen
        try:
            if not change.series:
                await self.inner.store(change.key, values[0], size=change.head.size or None)
            for batches in values if change.series else ():
                await self.inner.append(change.key, pa.Table.from_batches(batches))
        finally:
            self.recording.replaying = None

    async def _set_aside(self, change: Change, error: CorruptEntry) -> None:
        """One of its files is not as it was: nothing of the key is held, all of it stays where it is."""
        assert self._damaged is not None
        self._damaged.found(change, error)
        if change.key not in self.inner.keys():
            return
        self.recording.replaying = change.gen
        try:
            await self.inner.delete(change.key)
        finally:
            self.recording.replaying = None

    async def _keep_damaged(self) -> None:
        """What is lost is told of; from now on calls look whether a key is among it."""
        damaged, root = self._damaged, self._workspace.root
        if damaged is None or root is None:
            return
        await damaged.all_told(root.manifest.files)
        if not damaged:
            self._damaged = None
            return
        self.lost += damaged.lost()
        self._from_files = [key for key in self._from_files if key not in damaged]
        for name in ("retrieve", "retrieve_nowait", "iter_batches", "peek", "schema_nowait"):
            del self.__dict__[name]
        if self.recording.rewriter is not None:
            self.recording.rewriter.tell_again = self._tell_damaged_again

    async def restored(self, index: Index) -> None:
        self.recording.resume(index.last_gen, index.live, index.births, index.series)
        self._reordered = True
        await self._keep_damaged()
        while self._from_files:  # this mode keeps no files: from now on the journal holds what was in them
            assert self.recording.rewriter is not None
            await self.recording.rewriter.rewrite(None, self._from_files.pop())
        if isinstance(self.inner, StreamingManager) and self.recording.passing:
            flushed, flushing = index.flushed, index.flushing
            if flushing is not None and flushed is not None and flushing[2] <= flushed[2]:
                flushing = None
            self.inner.adopt(_items(self._adopted), flushed[1] + 1 if flushed else 0, flushing)
            self._adopted = []

    async def _pieces(self, member: str | None, key: Key) -> AsyncIterator[Piece]:
        if (member, key) not in self.recording.series:
            yield admit(await self.inner.peek(key), None)
            return
        some = False
        async for batch in self.inner.iter_batches(key):
            some = True
            yield batch
        if not some:
            schema = self.inner.schema_nowait(key)
            yield None if schema is None else pa.RecordBatch.from_pylist([], schema=schema)


def _items(changes: Sequence[Change]) -> list[Item]:
    """What a streaming manager buffers, from what was recorded."""
    items = []
    for change in changes:
        for value in change.value if change.series else [change.value]:
            admitted = admit(value, change.head.size or None)
            if change.series:
                admitted = Admitted(value, admitted.size, 0)
            item = Item(change.key, admitted, change.series, getattr(value, "num_rows", 1))
            item.gen = change.gen
            items.append(item)
    return items
