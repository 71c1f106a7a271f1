"""A group's data managers with a journal: one for all members, rows of many of them in one record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ..clock import Clock
from ..storage.workspace import Workspace
from .base import DataManager, DataStats, Key
from .factory import is_journaled, recording_of
from .journaling import Journaled
from .members import MemberStores
from .policy import DataFlow
from .recording import Recording
from .records import ROWS
from .replay import Change, Index
from .rewriting import Piece, Rewriter
from .values import Admitted, admit


def build_members(
    name: str,
    policy: DataFlow,
    policy_of: Callable[[str], DataFlow],
    workspace: Workspace,
    *,
    clock: Clock | None = None,
) -> MemberStores:
    """A group's data managers; journaled where the group's policy or the workspace asks for it."""
    if not is_journaled(name, policy, workspace):
        return MemberStores(name, policy_of, workspace, clock=clock)
    return JournaledMembers(name, policy_of, workspace, recording_of(name, policy, workspace), clock=clock)


class JournaledMembers(Journaled, MemberStores):
    """`MemberStores` whose every change is in the journal before it is acknowledged; see `JournaledManager`."""

    def __init__(
        self,
        name: str,
        policy_of: Callable[[str], DataFlow],
        workspace: Workspace,
        recording: Recording,
        *,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name, policy_of, workspace, clock=clock)
        self.recording = recording
        recording.rewriter = Rewriter(recording, self._pieces)
        self.shared.recorder = recording.rows
        self._index: Index | None = None
        self._reordered = self._closed = False

    @property
    def container(self) -> str:
        """Its name in the journal."""
        return self.recording.container

    def _made(self, member: str, manager: DataManager) -> None:
        manager.recorder = MemberRecorder(self.recording, member)

    async def _move(self, member: str) -> None:
        keys = self.shared.keys(member)
        await super()._move(member)
        for key in keys:
            self.recording.births.setdefault((member, key), 0)  # they come before what the member is given from now on
            self.recording.series.add((member, key))

    async def store(self, member: str, key: Key, value: Any, *, size: int | None = None) -> str:
        if self.recording.behind:
            await self.recording.catch_up()
        uri = await super().store(member, key, value, size=size)
        await self.recording.acknowledged()
        return uri

    async def append(self, member: str, key: Key, rows: Any) -> str:
        if self.recording.behind:
            await self.recording.catch_up()
        uri = await super().append(member, key, rows)
        await self.recording.acknowledged()
        return uri

    async def append_rows(
        self, key: Key, members: Sequence[str], offsets: Sequence[int], columns: pa.RecordBatch
    ) -> None:
        if self.recording.behind:
            await self.recording.catch_up()
        await super().append_rows(key, members, offsets, columns)
        await self.recording.acknowledged()

    async def delete(self, member: str, key: Key) -> None:
        if self.recording.behind:
            await self.recording.catch_up()
        await super().delete(member, key)
        await self.recording.acknowledged()

    def keys(self, member: str) -> Sequence[Key]:
        keys = super().keys(member)
        if self._reordered and member not in self.shared:
            births = self.recording.births
            return sorted(keys, key=lambda key: births.get((member, key), 0))
        return keys

    async def flush(self) -> None:
        await super().flush()
        await self.recording.settle()

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            if not self._closed:
                self._closed = True
                await self.recording.close()

    def stats(self) -> DataStats:
        return msgspec.structs.replace(super().stats(), journal_bytes=self.recording.live.live_bytes)

    # Coming back.

    def index(self) -> Index:
        self._index = Index()
        return self._index

    async def indexed(self, index: Index) -> None:
        """Members keep no files that need room made for them."""

    async def restore_change(self, change: Change) -> None:
        self.recording.replaying = change.gen
        try:
            if change.kind == ROWS:
                await self._restore_rows(change)
                return
            member = change.head.member
            assert member is not None
            if not change.series:
                await super().store(member, change.key, change.value, size=change.head.size or None)
            else:
                rows = pa.Table.from_batches(change.value) if change.value else []
                await super().append(member, change.key, rows)
        finally:
            self.recording.replaying = None

    async def _restore_rows(self, change: Change) -> None:
        """Rows of those members for which they still count."""
        assert self._index is not None
        (columns,) = change.value
        names, offsets = change.head.names, np.asarray(change.head.numbers, np.int64)
        stays = np.array([self._index.counts_of(name, change.key, change.gen) for name in names], np.bool_)
        if not stays.all():
            lengths = np.diff(offsets)
            columns = columns.filter(pa.array(np.repeat(stays, lengths)))
            names = [name for name, stay in zip(names, stays, strict=True) if stay]
            offsets = np.append(0, np.cumsum(lengths[stays]))
        if names:
            await super().append_rows(change.key, names, offsets.tolist(), columns)

    async def restored(self, index: Index) -> None:
        self.recording.resume(index.last_gen, index.live, index.births, index.series)
        self._reordered = True
        self._index = None

    async def _pieces(self, member: str | None, key: Key) -> AsyncIterator[Piece]:
        assert member is not None
        manager = self._own(member)
        if (member, key) not in self.recording.series:
            yield admit(await manager.peek(key), None)
            return
        some = False
        async for batch in manager.iter_batches(key):
            some = True
            yield batch
        if not some:
            schema = manager.schema_nowait(key)
            yield None if schema is None else pa.RecordBatch.from_pylist([], schema=schema)


class MemberRecorder:
    """What one member's own manager tells of its changes, with the member's name."""

    __slots__ = ("_member", "_recording")

    def __init__(self, recording: Recording, member: str) -> None:
        self._recording, self._member = recording, member

    def stored(self, key: Key, admitted: Admitted) -> int:
        return self._recording.stored(key, admitted, self._member)

    def extended(self, key: Key, batches: Sequence[pa.RecordBatch]) -> int:
        return self._recording.extended(key, batches, self._member)

    def deleted(self, key: Key) -> int:
        return self._recording.deleted(key, self._member)

    def dropped(self, key: Key, num_bytes: int) -> None:
        self._recording.dropped(key, num_bytes, self._member)
