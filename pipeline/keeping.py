"""What a container keeps: its results and, where asked, its output; and what it leaves on disk at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import xxhash

from .data import DataFlow, DataManager, DataStats, MemberStores, PersistedFile, persist, persist_members
from .data.base import Key
from .errors import BudgetExceeded, ValueTooLarge
from .frames import Batch, Result
from .hashing import TableHash, hash_value
from .storage.workspace import Workspace

OUTPUT = "output"
"""The key under which a container's kept output is found."""
WINDOW_ROWS = 8192
"""Rows gathered before a part of a recent window is stored."""


class KeptKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a container, or of all members of a group together, at its end."""

    key: str
    rows: int
    hash: str
    """Over the rows in canonical form, members in order of name."""
    path: str | None
    """Relative to the phase's folder; None where nothing is persisted."""


class Keeper:
    """A container's data manager with the policy of what goes into it.

    `keep_output` all appends every output batch to the key `output`; recent keeps the newest rows that fit beside
    the results, and gives way to them.
    """

    def __init__(
        self,
        name: str,
        store: DataManager | MemberStores,
        policy: DataFlow,
        workspace: Workspace,
        folder: Path,
        keep_output: Literal["none", "recent", "all"] = "none",
    ) -> None:
        self.name, self.store, self.policy = name, store, policy
        self.workspace, self.folder = workspace, folder
        self.keep_output_mode = keep_output
        self.kept: list[KeptKey] = []
        self.kept_output: KeptKey | None = None
        self.leftovers: dict[tuple[str, Key], Any] = {}
        self._window: RecentWindow | None = (
            RecentWindow(store) if keep_output == "recent" and isinstance(store, DataManager) else None
        )

    @property
    def keeps_output(self) -> bool:
        return self.keep_output_mode != "none"

    async def keep(self, result: Result) -> None:
        """Store one result on the account of the container or the member it names."""
        try:
            await self._store(result)
        except (BudgetExceeded, ValueTooLarge):
            if self._window is None or not await self._window.give_way():
                raise
            await self.keep(result)

    async def _store(self, result: Result) -> None:
        if isinstance(self.store, MemberStores):
            if result.append:
                await self.store.append(result.member, result.key, result.value)
            else:
                await self.store.store(result.member, result.key, result.value)
        elif result.append:
            await self.store.append(result.key, result.value)
        else:
            await self.store.store(result.key, result.value)

    async def keep_output(self, batch: Batch) -> None:
        if self._window is not None:
            await self._window.add(batch)
        elif isinstance(self.store, DataManager):
            await self.store.append(OUTPUT, batch.columns)

    async def complete(self) -> None:
        """Flush, hash what is held, and write it to the phase's folder where the policy says so."""
        if self._window is not None:
            await self._window.settle()
        if isinstance(self.store, MemberStores):
            await self._complete_members(self.store)
        else:
            await self._complete_single(self.store)

    async def _complete_single(self, store: DataManager) -> None:
        await store.flush()
        files: Mapping[Key, PersistedFile] = {}
        if self.policy.persistence.on_completion and store.keys():
            files = await persist(store, self.folder, self.workspace, self.policy)
        for key in store.keys():
            digest, rows = await _hash_key(store, key)
            file = files.get(key)
            kept = KeptKey(key=_text(key), rows=rows, hash=digest, path=self._relative(file))
            if key == OUTPUT and self.keeps_output:
                self.kept_output = kept
            else:
                self.kept.append(kept)
            if file is None and store.mode == "memory":
                self.leftovers[self.name, key] = store.retrieve_nowait(key)

    async def _complete_members(self, stores: MemberStores) -> None:
        files: Mapping[Key, PersistedFile] = {}
        if self.policy.persistence.on_completion:
            files = await persist_members(stores, self.folder, self.workspace, self.policy)
        digests: dict[Key, Any] = {}
        rows: dict[Key, int] = {}
        for member in sorted(stores.members()):
            store = stores.manager(member)
            await store.flush()
            for key in store.keys():
                digest, count = await _hash_key(store, key)
                digests.setdefault(key, xxhash.xxh3_128()).update(f"{member}\0{digest}".encode())
                rows[key] = rows.get(key, 0) + count
                if key not in files and store.mode == "memory":
                    self.leftovers[member, key] = store.retrieve_nowait(key)
        for key in digests:
            self.kept.append(
                KeptKey(
                    key=_text(key), rows=rows[key], hash=digests[key].hexdigest(), path=self._relative(files.get(key))
                )
            )

    def member_stats(self) -> dict[str, DataStats]:
        """Each member's account, where this is a group."""
        return dict(self.store.member_stats()) if isinstance(self.store, MemberStores) else {}

    def _relative(self, file: PersistedFile | None) -> str | None:
        return None if file is None else file.path.relative_to(self.folder.parent.parent).as_posix()

    async def close(self) -> None:
        await self.store.close()


class RecentWindow:
    """The newest output rows that fit in a memory manager's budget beside the results."""

    def __init__(self, store: DataManager) -> None:
        self.store = store
        self.dropped_rows = 0
        self._parts: list[pa.Table] = []
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0

    async def add(self, batch: Batch) -> None:
        self._pending.append(batch.columns)
        self._pending_rows += batch.num_rows
        if self._pending_rows >= WINDOW_ROWS:
            await self.settle()

    async def settle(self) -> None:
        """Store what is pending as the newest part of the window, dropping the oldest parts that no longer fit."""
        if not self._pending:
            return
        self._parts.append(pa.Table.from_batches(self._pending))
        self._pending, self._pending_rows = [], 0
        while self._parts:
            try:
                await self.store.store(OUTPUT, pa.concat_tables(self._parts))
                return
            except (BudgetExceeded, ValueTooLarge):
                self._drop_oldest()

    async def give_way(self) -> bool:
        """Free room for a result: drop the older half of the window; False when there is nothing left to drop."""
        if not self._parts:
            return False
        for _ in range((len(self._parts) + 1) // 2):
            self._drop_oldest()
        if self._parts:
            await self.store.store(OUTPUT, pa.concat_tables(self._parts))
        else:
            await self.store.delete(OUTPUT)
        return True

    def _drop_oldest(self) -> None:
        self.dropped_rows += self._parts.pop(0).num_rows


async def _hash_key(store: DataManager, key: Key) -> tuple[str, int]:
    """Hash and rows of one value; a table is read batch by batch, so a spilled series never comes back whole."""
    table = TableHash()
    try:
        async for batch in store.iter_batches(key):
            table.update(batch)
    except TypeError:
        return hash_value(await store.retrieve(key))
    return table.hexdigest(), table.rows


def _text(key: Key) -> str:
    return key if isinstance(key, str) else key.hex()
