"""A root with a journal for tests of data managers, which may be left as a killed process leaves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.data import DataFlow, DataManager, build_manager, build_members
from pipeline.data.journaled import JournaledManager
from pipeline.data.journaled_members import JournaledMembers
from pipeline.data.replay import Replayed, restore_journal
from pipeline.storage.disk import DISK, Disk
from pipeline.storage.entries import Mark
from pipeline.storage.journal import Journal, read_journal
from pipeline.storage.root import StorageRoot
from pipeline.storage.workspace import Workspace
from pipeline.threads import Workers

PROCESS = DataFlow(durability="process")


class Root:
    """One process's time with a folder."""

    def __init__(self, folder: Path, root: StorageRoot, workspace: Workspace, journal: Journal) -> None:
        self.folder, self.root, self.workspace, self.journal = folder, root, workspace, journal
        self.replayed = Replayed()

    def make(self, name: str = "c", policy: DataFlow = PROCESS, **more: Any) -> JournaledManager:
        manager = build_manager(name, policy, self.workspace, **more)
        assert isinstance(manager, JournaledManager)
        return manager

    async def restore(self, *managers: JournaledManager | JournaledMembers, until: Mark | None = None) -> Replayed:
        targets = {manager.container: manager for manager in managers}
        read = partial(read_journal, self.folder / "wal", self.root.disk, until)
        return await restore_journal(read, targets, self.workspace.io)

    def members(self, policy: DataFlow = PROCESS, name: str = "g") -> JournaledMembers:
        stores = build_members(name, policy, lambda member: policy, self.workspace)
        assert isinstance(stores, JournaledMembers)
        return stores

    async def wal_bytes(self) -> int:
        return await self.workspace.io.submit(self, self._wal_bytes)

    def _wal_bytes(self) -> int:
        found = [DISK.file_bytes(path) for path in (self.folder / "wal").glob("*")]
        return sum(num_bytes or 0 for num_bytes in found)


@asynccontextmanager
async def opened(
    folder: Path, *, disk: Disk = DISK, segment_bytes: int = 64 << 20, clean: bool = True
) -> AsyncIterator[Root]:
    """Open the folder; not `clean`: it is left without closing the journal, as by a process that dies."""
    workers = Workers(1)
    root = await workers.run(partial(StorageRoot.open, folder, disk=disk))
    await workers.close()
    workspace = Workspace(folder, root=root)
    journal = Journal(root, workspace.io, segment_bytes=segment_bytes)
    workspace.journal = journal
    try:
        yield Root(folder, root, workspace, journal)
    finally:
        if clean:
            await journal.close()
        else:
            await journal.mark()
            journal._closed = True
            await asyncio.shield(workspace.io.submit(journal, journal._writer.close))
        await workspace.io.submit(root, root.close)
        await workspace.close()


async def contents(manager: DataManager) -> dict[Any, Any]:
    """Everything a manager holds, in its order."""
    return {key: await manager.retrieve(key) for key in manager.keys()}
