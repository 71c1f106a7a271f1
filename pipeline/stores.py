"""Durable stores without a run: data managers in a folder of their own, which give back what was acknowledged."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa

from .clock import Clock, SystemClock
from .data import DataFlow, DataManager, FlushCallback, JournaledManager, Replayed, build_manager, restore_journal
from .data.checked import checked, checked_name, megabytes
from .errors import ManagerClosed, StorageFailed
from .pool import Pool
from .storage.disk import DISK
from .storage.entries import Entry
from .storage.executor import IoExecutor
from .storage.journal import read_journal
from .storage.manifest import CHECKPOINTS, SPILL, STORE, WAL, manifest_numbers
from .storage.names import file_part
from .storage.recovery import Loss, Recovered
from .storage.root import StorageRoot
from .storage.workspace import Workspace

log = logging.getLogger(__name__)

_OURS: Final = re.compile(r"\d{6,}-[0-9a-f]{8}\.(parquet|arrow|record)|\.\d+-\d+\.tmp")
"""Names of a store's files, and of those it was writing."""
DURABLE = DataFlow(mode="hybrid", durability="durable")


def open_stores(
    folder: str | Path, *, process_memory_mb: float | None = None, repair: bool = False, clock: Clock | None = None
) -> Stores:
    """Stores in a folder, to be entered with `async with`; one process holds a folder at a time.

    `process_memory_mb` is what all of them may hold in memory together; without it each has its own limit.
    `repair` opens a folder whose manifest is damaged in the middle, with what can be read of it.
    """
    return Stores(Path(folder), process_memory_mb, repair=repair, clock=clock)


class Stores:
    """A folder that this process holds, and the stores in it. The next one finds what was acknowledged."""

    def __init__(self, folder: Path, process_memory_mb: float | None, *, repair: bool, clock: Clock | None) -> None:
        self.folder = folder
        self._pool = None if process_memory_mb is None else Pool(megabytes(process_memory_mb, "process_memory_mb"))
        self._repair, self._clock = repair, clock or SystemClock()
        self._root: StorageRoot | None = None
        self._workspace: Workspace | None = None
        self._stores: dict[str, DataManager] = {}
        self._opening: set[str] = set()

    async def __aenter__(self) -> Stores:
        io = IoExecutor(1)
        try:
            opening = io.submit(self, _open_own, self.folder, self._repair)
            try:
                root = await asyncio.shield(opening)
            except asyncio.CancelledError:
                await asyncio.wait((opening,))
                if opening.exception() is None:
                    await io.submit(self, opening.result().close)
                raise
        finally:
            await io.close()
        self._root, self._workspace = root, Workspace(self.folder, pool=self._pool, root=root)
        if not root.recovered.is_clean:
            log.error("%s: not everything was found as it had been left: %s", self.folder, root.recovered.lost)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def recovered(self) -> Recovered:
        """What was found damaged when the folder was opened, and what became of it."""
        return self._open_root().recovered

    def names(self) -> Sequence[str]:
        """Stores that have something in the folder, and those that are open."""
        return sorted({*self._kept(), *self._stores})

    async def open(
        self, name: str, data_flow: DataFlow = DURABLE, *, flush: FlushCallback | None = None
    ) -> DataManager:
        """The store of this name with what it held last, in any mode.

        With `durability: ephemeral` it begins empty. `flush` is where a store of `mode: streaming` hands its items;
        what it had not taken when the process died comes to it again, under the same `batch_id`. Raises `StorageFailed`
        where the store is open already, `ConfigError` for settings that are none, and what the data manager raises
        when it cannot hold what it held before.
        """
        root = self._open_root()
        checked(data_flow, f"{checked_name(name)}.data_flow")
        if name in self._opening or name in self._stores:
            raise StorageFailed(f"{self.folder}: store {name!r} is open already; close it first, or share it")
        self._opening.add(name)
        try:
            workspace = self._workspace
            assert workspace is not None
            left = await asyncio.shield(workspace.io.submit(self, _files_in, self.folder / STORE / file_part(name)))
            store = build_manager(name, data_flow, workspace, flush=flush, clock=self._clock)
            try:
                if isinstance(store, JournaledManager) and name in self._kept():
                    store.before_it_comes_back = partial(self._sweep, root, workspace, name, left, set())
                    await self._restore(root, workspace, store)
                used = set()
                if isinstance(store, JournaledManager):
                    used = store.used_files()
                    self._tell_lost(root, store)
                await self._sweep(root, workspace, name, left, used)
            except BaseException:
                await store.close()
                raise
            self._stores[name] = store
        finally:
            self._opening.discard(name)
        return store

    async def _restore(self, root: StorageRoot, workspace: Workspace, store: JournaledManager) -> Replayed:
        assert workspace.journal is not None
        mark = await workspace.journal.mark()
        read = partial(read_journal, self.folder / WAL, root.disk, mark)
        return await restore_journal(read, {store.container: store}, workspace.io)

    def _tell_lost(self, root: StorageRoot, store: JournaledManager) -> None:
        """Say which keys the files are of that are lost, and which are not as they were though they seemed so."""
        lost = root.recovered.lost
        for path, key, why in store.lost:
            file = path.relative_to(self.folder).as_posix()
            log.error(
                "%s: store %r: %r is damaged, replace or delete it: %s: %s", self.folder, store.name, key, file, why
            )
            known = [at for at, loss in enumerate(lost) if loss.file == file]
            for at in known:
                lost[at] = msgspec.structs.replace(lost[at], key=key)
            if not known:
                lost.append(Loss(file, why, key=key))

    async def _sweep(
        self, root: StorageRoot, workspace: Workspace, name: str, left: set[Path], used: set[Path]
    ) -> None:
        """Remove files of dead processes that nothing tells of any more."""
        assert workspace.commits is not None
        kept = {path.relative_to(self.folder).as_posix() for path in used}
        folder = f"{STORE}/{file_part(name)}/"
        listed = [file for file in root.manifest.files if file.startswith(folder) and file not in kept]
        if listed:
            await workspace.commits.commit([Entry(kind="remove", file=file) for file in sorted(listed)])
        await asyncio.shield(workspace.io.submit(self, _unlink_all, left - used))

    async def close_store(self, name: str) -> None:
        """Close one store; `open` gives it back."""
        store = self._stores.pop(name, None)
        if store is not None:
            await store.close()

    async def remove(self, name: str) -> None:
        """Close the store and forget all it held."""
        await self.close_store(name)
        assert self._workspace is not None and self._workspace.journal is not None
        journal = self._workspace.journal
        journal.trim(name, next(journal.generations))

    async def close(self) -> None:
        """Close every store and let go of the folder; idempotent. The first error is raised after all were closed,
        with the others as its notes.
        """
        root, self._root = self._root, None
        workspace = self._workspace
        if root is None or workspace is None:
            return
        errors: list[BaseException] = []
        for store in self._stores.values():
            try:
                await store.close()
            except Exception as error:
                errors.append(error)
        try:
            assert workspace.journal is not None
            await workspace.journal.close()
        except Exception as error:
            errors.append(error)
        await workspace.io.submit(self, root.close)
        try:
            await workspace.close()
        except Exception as error:
            errors.append(error)
        if errors:
            for other in errors[1:]:
                errors[0].add_note(f"and {type(other).__name__}: {other}")
            raise errors[0]

    def _open_root(self) -> StorageRoot:
        if self._root is None:
            raise ManagerClosed(f"{self.folder}: the stores are closed, or not yet entered: use `async with`")
        return self._root

    def _kept(self) -> set[str]:
        """Names in the journal."""
        root = self._open_root()
        assert self._workspace is not None and self._workspace.journal is not None
        return self._workspace.journal.containers() if root is not None else set()


def _files_in(folder: Path) -> set[Path]:
    """Files of a store's folder that have names as we give them; others are somebody else's."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return {path for path in paths if _OURS.fullmatch(path.name) and path.is_file()}


def _open_own(folder: Path, repair: bool) -> StorageRoot:
    """Raises `StorageFailed`, and touches nothing, where something lies in our places without a manifest."""
    names = DISK.names(folder)
    if not manifest_numbers(names):
        foreign = [f"{room}/{name}" for room in (STORE, WAL, SPILL, CHECKPOINTS) for name in DISK.names(folder / room)]
        if foreign:
            raise StorageFailed(
                f"{folder}: expected an empty folder, or stores with their MANIFEST, found no MANIFEST and "
                f"{', '.join(foreign[:5])}{', ...' if len(foreign) > 5 else ''}; nothing was touched: give another "
                "folder, or get the MANIFEST from a copy"
            )
    pa.array([0])  # pyarrow imports pandas for its first array of Python values: here, not on the loop
    return StorageRoot.open(folder, repair=repair)


def _unlink_all(paths: set[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
