"""A group's data managers: one account per member, made when the member first keeps something."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from ..clock import Clock, SystemClock
from ..storage.workspace import Workspace
from .base import DataManager, DataStats, Key
from .factory import build_manager
from .policy import DataFlow


class MemberStores:
    """Data managers by member name. Idle members cost nothing; all share the workspace's threads and spill log."""

    def __init__(
        self,
        name: str,
        policy_of: Callable[[str], DataFlow],
        workspace: Workspace,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self._policy_of = policy_of
        self._workspace = workspace
        self._clock = clock or SystemClock()
        self._managers: dict[str, DataManager] = {}

    def manager(self, member: str) -> DataManager:
        """The member's own data manager, made now if it had none."""
        manager = self._managers.get(member)
        if manager is None:
            manager = build_manager(member, self._policy_of(member), self._workspace, clock=self._clock)
            self._managers[member] = manager
        return manager

    def members(self) -> Sequence[str]:
        """Members that have kept something, in that order."""
        return list(self._managers)

    async def store(self, member: str, key: Key, value: Any, *, size: int | None = None) -> str:
        return await self.manager(member).store(key, value, size=size)

    async def append(self, member: str, key: Key, rows: Any) -> str:
        return await self.manager(member).append(key, rows)

    async def append_rows(
        self, key: Key, members: Sequence[str], offsets: Sequence[int], columns: pa.RecordBatch
    ) -> None:
        """Extend many members' series at once: `members[i]` gets rows `offsets[i]` to `offsets[i + 1]`."""
        for member, begin, end in zip(members, offsets[:-1], offsets[1:], strict=True):
            await self.append(member, key, columns.slice(int(begin), int(end - begin)))

    async def retrieve(self, member: str, key: Key) -> Any:
        return await self.manager(member).retrieve(key)

    def retrieve_nowait(self, member: str, key: Key) -> Any:
        return self.manager(member).retrieve_nowait(key)

    def iter_batches(self, member: str, key: Key) -> AsyncIterator[pa.RecordBatch]:
        return self.manager(member).iter_batches(key)

    async def delete(self, member: str, key: Key) -> None:
        await self.manager(member).delete(key)

    def keys(self, member: str) -> Sequence[Key]:
        return self._managers[member].keys() if member in self._managers else ()

    async def flush(self) -> None:
        for manager in list(self._managers.values()):
            await manager.flush()

    async def close(self) -> None:
        """Close every member's manager; the first error is raised after all were closed."""
        errors: list[Exception] = []
        for manager in list(self._managers.values()):
            try:
                await manager.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def stats(self) -> DataStats:
        """All members together. `limit_bytes` and `peak_bytes` are sums, not what was held at one time."""
        return sum_stats([manager.stats() for manager in self._managers.values()])

    def member_stats(self) -> Mapping[str, DataStats]:
        return {member: manager.stats() for member, manager in self._managers.items()}


def sum_stats(stats: Sequence[DataStats]) -> DataStats:
    """Several snapshots as one; the mode is `mixed` where they differ."""
    modes = {each.mode for each in stats}
    limits = [each.limit_bytes for each in stats if each.limit_bytes is not None]
    counters = [field for field in DataStats.__struct_fields__ if field not in ("mode", "limit_bytes")]
    sums = {field: sum(getattr(each, field) for each in stats) for field in counters}
    mode = modes.pop() if len(modes) == 1 else "mixed" if modes else "memory"
    return msgspec.structs.replace(DataStats(mode=mode, limit_bytes=sum(limits) if limits else None), **sums)
