"""What a container keeps: its results and, where asked, its output; and what it leaves on disk at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa

from ..data import DataFlow, DataManager, DataStats, MemberStores, Persisted, persist, persist_members
from ..data.base import Key
from ..data.journaled import JournaledManager
from ..data.journaled_members import JournaledMembers
from ..errors import BudgetExceeded, SchemaMismatch, StateMismatch, ValueTooLarge
from ..frames import Batch, MemberRows, Result
from ..storage.workspace import Workspace

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
        by_record: bool = False,
    ) -> None:
        self.name, self.store, self.policy = name, store, policy
        self.by_record = by_record
        """Whether output of several kinds of record is kept, each under the name of its kind."""
        self.workspace, self.folder = workspace, folder
        self.keep_output_mode = keep_output
        self.kept: list[KeptKey] = []
        self.kept_output: KeptKey | None = None
        self.leftovers: dict[tuple[str, Key], Any] = {}
        self._window: RecentWindow | None = (
            RecentWindow(store) if keep_output == "recent" and isinstance(store, DataManager) else None
        )
        self._note: Callable[[Batch], Awaitable[None]] | None = None

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

    async def keep_rows(self, rows: MemberRows) -> None:
        """Extend the series of many members, each on its own account."""
        if not isinstance(self.store, MemberStores):
            raise TypeError(f"'{self.name}' is no group; expected a Result, found MemberRows")
        await self.store.append_rows(rows.key, rows.members, rows.offsets, rows.columns)

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
            if self._note is not None:
                await self._note(batch)
            await self._window.add(batch)
        elif isinstance(self.store, DataManager):
            key = batch.record if self.by_record else None
            await self.store.append(key or OUTPUT, batch.columns)

    async def complete(self) -> None:
        """Flush, hash what is held, and write it to the phase's folder where the policy says so."""
        if self._window is not None:
            await self._window.settle()
        if isinstance(self.store, MemberStores):
            await self._complete_members(self.store)
        else:
            await self._complete_single(self.store)

    async def _complete_single(self, store: DataManager) -> None:
        left = await persist(store, self.folder, self.workspace, self.policy)
        for key, persisted in left.items():
            if key == OUTPUT and self.keeps_output:
                self.kept_output = self._kept(key, persisted)
            else:
                self.kept.append(self._kept(key, persisted))
            if persisted.path is None and store.mode == "memory":
                self.leftovers[self.name, key] = store.retrieve_nowait(key)

    async def _complete_members(self, stores: MemberStores) -> None:
        left = await persist_members(stores, self.folder, self.workspace, self.policy)
        self.kept = [self._kept(key, persisted) for key, persisted in left.items()]
        for member in stores.members():
            if stores.mode(member) == "memory":
                unwritten = [key for key in stores.keys(member) if left[key].path is None]
                self.leftovers.update({(member, key): stores.retrieve_nowait(member, key) for key in unwritten})

    def _kept(self, key: Key, left: Persisted) -> KeptKey:
        path = None if left.path is None else left.path.relative_to(self.folder.parent.parent).as_posix()
        return KeptKey(key=key if isinstance(key, str) else key.hex(), rows=left.rows, hash=left.hash, path=path)

    def member_stats(self) -> dict[str, DataStats]:
        """Each member's account, where this is a group."""
        return dict(self.store.member_stats()) if isinstance(self.store, MemberStores) else {}

    async def close(self) -> None:
        await self.store.close()

    # -- checkpoints -------------------------------------------------------------------------------------------

    @property
    def journaled(self) -> JournaledManager | JournaledMembers | None:
        """The data manager, where its changes are in the journal."""
        return self.store if isinstance(self.store, JournaledManager | JournaledMembers) else None

    def regenerate(self) -> None:
        """What is kept comes again from the container's input: it need not be in the journal for a checkpoint."""
        if self.journaled is not None and self.policy.durability == "ephemeral":
            self.journaled.recording.is_off = True

    def note_output(self, note: Callable[[Batch], Awaitable[None]]) -> None:
        """Hand every batch of a window to `note` instead of writing the window to the journal each time it moves."""
        if self._window is not None and self.journaled is not None:
            self.journaled.recording.left_out.add((None, OUTPUT))
            self._note = note

    @property
    def notes_output(self) -> bool:
        return self._note is not None

    def cut(self) -> int | None:
        """The number of the last change; None where changes are not in the journal."""
        return None if self.journaled is None else self.journaled.cut()

    def state(self) -> Any:
        """What of the results is not in the journal, as plain values."""
        return None if self._window is None else self._window.state()

    async def recorded(self, cut: int | None) -> None:
        """Return when changes up to a cut are written; raises `DiskFull` or `StorageFailed` where some cannot be."""
        if self.journaled is not None:
            await self.journaled.recorded(cut)

    def committed(self, cut: int | None) -> None:
        """The checkpoint of this cut is committed, and none before it is needed."""
        if self.journaled is not None and cut is not None:
            self.journaled.committed(cut)

    async def go_on(self, state: Any, output: AsyncIterator[Batch]) -> None:
        """Bring the window to what it was; everything else has come from the journal."""
        if self._window is not None and state is not None:
            await self._window.go_on(state, output)


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
        try:
            self._parts.append(pa.Table.from_batches(self._pending))
        except pa.ArrowInvalid as error:
            raise SchemaMismatch(f"the columns of the output changed: {error}") from error
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

    def state(self) -> dict[str, Any]:
        """How the rows that came were dropped, stored in parts, and gathered for the next one."""
        return {
            "dropped": self.dropped_rows,
            "parts": [part.num_rows for part in self._parts],
            "pending": [batch.num_rows for batch in self._pending],
        }

    async def go_on(self, state: Mapping[str, Any], output: AsyncIterator[Batch]) -> None:
        """Stand as with that state, given all rows that came, in order."""
        self.dropped_rows = skip = state["dropped"]
        wanted = [*state["parts"], *state["pending"]]
        cut: list[pa.RecordBatch] = []
        made: list[list[pa.RecordBatch]] = []
        async for batch in output:
            columns = batch.columns
            at = min(skip, columns.num_rows)
            skip -= at
            while at < columns.num_rows and len(made) < len(wanted):
                piece = columns.slice(at, wanted[len(made)] - sum(part.num_rows for part in cut))
                cut.append(piece)
                at += piece.num_rows
                if sum(part.num_rows for part in cut) == wanted[len(made)]:
                    made.append(cut)
                    cut = []
        if len(made) != len(wanted):
            raise StateMismatch(f"expected {sum(wanted):,} rows of output in the journal, found fewer")
        parts = len(state["parts"])
        self._parts = [pa.Table.from_batches(part) for part in made[:parts]]
        self._pending = [batch for part in made[parts:] for batch in part]
        self._pending_rows = sum(batch.num_rows for batch in self._pending)
        if self._parts:
            await self.store.store(OUTPUT, pa.concat_tables(self._parts))

    def _drop_oldest(self) -> None:
        self.dropped_rows += self._parts.pop(0).num_rows
