"""A group's data managers: one account per member, rows of many members kept together where that is possible."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ..clock import Clock, SystemClock
from ..storage.workspace import Workspace
from ..threads import settled
from .base import DataManager, DataStats, Key
from .factory import plain_manager
from .policy import DataFlow
from .shared_rows import SharedRows


class MemberStores:
    """Data managers by member name. Idle members cost nothing; all share the workspace's threads and spill log.

    What comes as rows of many members (`append_rows`) is kept together in `SharedRows`. A member that is given
    anything by itself, or whose policy is another than `memory` (rejecting) or `hybrid`, has a manager of its own, into
    which what it had goes. The answers are the same.
    """

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
        self._rows = SharedRows(name, workspace, self._clock)
        self._moving: dict[str, asyncio.Task[None]] = {}

    async def manager(self, member: str) -> DataManager:
        """The member's own data manager, made now if it had none, with what the member has kept so far."""
        moving = self._moving.get(member)
        if moving is None and member in self._rows:
            moving = self._moving[member] = asyncio.ensure_future(self._move(member))
            moving.add_done_callback(lambda _: self._moving.pop(member))
        if moving is not None:
            await settled(moving)  # whoever is cancelled meanwhile, no row is lost on the way
            moving.result()
        return self._own(member)

    async def _move(self, member: str) -> None:
        found = await self._rows.take_out(member)
        manager = self._own(member)
        recorder, manager.recorder = manager.recorder, None  # nothing is added
        try:
            for key, table in found:
                await manager.append(key, table)
        finally:
            manager.recorder = recorder

    def own(self, member: str) -> DataManager | None:
        """The member's own data manager; None where its rows are kept together with others'."""
        return None if member in self._rows else self._own(member)

    def _own(self, member: str) -> DataManager:
        manager = self._managers.get(member)
        if manager is None:
            manager = plain_manager(member, self._policy_of(member), self._workspace, flush=None, clock=self._clock)
            self._managers[member] = manager
            self._made(member, manager)
        return manager

    def _made(self, member: str, manager: DataManager) -> None:
        """A member has a manager of its own from now on."""

    def members(self) -> Sequence[str]:
        """Members that have kept something, in that order."""
        return [*self._rows.members(), *self._managers]

    def mode(self, member: str) -> str:
        """The mode a member's values are kept in."""
        return self._managers[member].mode if member in self._managers else self._rows.stats(member).mode

    @property
    def shared(self) -> SharedRows:
        """What is kept together."""
        return self._rows

    async def store(self, member: str, key: Key, value: Any, *, size: int | None = None) -> str:
        return await (await self.manager(member)).store(key, value, size=size)

    async def append(self, member: str, key: Key, rows: Any) -> str:
        return await (await self.manager(member)).append(key, rows)

    async def append_rows(
        self, key: Key, members: Sequence[str], offsets: Sequence[int], columns: pa.RecordBatch
    ) -> None:
        """Extend many members' series at once: `members[i]` gets rows `offsets[i]` to `offsets[i + 1]`."""
        cuts = np.asarray(offsets, np.int64)
        apart = [i for i, member in enumerate(members) if not self._is_shared(member)]
        for i in apart:
            await self.append(members[i], key, columns.slice(int(cuts[i]), int(cuts[i + 1] - cuts[i])))
        if apart:
            together = np.delete(np.arange(len(members)), apart)
            members = [members[int(i)] for i in together]
            lengths = np.diff(cuts)
            stays = np.repeat(np.isin(np.arange(len(lengths)), together), lengths)
            columns = columns.filter(pa.array(stays))
            cuts = np.append(0, np.cumsum(lengths[together]))
        if members:
            await self._rows.append(key, members, cuts, columns)

    def _is_shared(self, member: str) -> bool:
        """Whether the member's rows lie with the others'; opens its account there the first time."""
        if member in self._rows:
            return True
        if member in self._managers:
            return False
        policy = self._policy_of(member)
        if (policy.mode == "hybrid" and policy.disk_limit_mb is None) or (
            policy.mode == "memory" and policy.on_full == "reject"
        ):
            self._rows.admit(member, policy)
            return True
        return False

    async def retrieve(self, member: str, key: Key) -> Any:
        if member in self._rows:
            return await self._rows.retrieve(member, key)
        return await self._own(member).retrieve(key)

    def retrieve_nowait(self, member: str, key: Key) -> Any:
        if member in self._rows:
            return self._rows.retrieve_nowait(member, key)
        return self._own(member).retrieve_nowait(key)

    def iter_batches(self, member: str, key: Key) -> AsyncIterator[pa.RecordBatch]:
        if member in self._rows:
            return self._rows.iter_batches(member, key)
        return self._own(member).iter_batches(key)

    async def delete(self, member: str, key: Key) -> None:
        await (await self.manager(member)).delete(key)

    def keys(self, member: str) -> Sequence[Key]:
        if member in self._rows:
            return self._rows.keys(member)
        return self._managers[member].keys() if member in self._managers else ()

    async def flush(self) -> None:
        for manager in list(self._managers.values()):
            await manager.flush()

    async def close(self) -> None:
        """Close every member's manager; the first error is raised after all were closed."""
        await self._rows.close()
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
        return sum_stats(list(self.member_stats().values()))

    def member_stats(self) -> Mapping[str, DataStats]:
        shared = {member: self._rows.stats(member) for member in self._rows.members()}
        return shared | {member: manager.stats() for member, manager in self._managers.items()}


def sum_stats(stats: Sequence[DataStats]) -> DataStats:
    """Several snapshots as one; the mode is `mixed` where they differ."""
    modes = {each.mode for each in stats}
    limits = [each.limit_bytes for each in stats if each.limit_bytes is not None]
    counters = [field for field in DataStats.__struct_fields__ if field not in ("mode", "limit_bytes")]
    sums = {field: sum(getattr(each, field) for each in stats) for field in counters}
    mode = modes.pop() if len(modes) == 1 else "mixed" if modes else "memory"
    return msgspec.structs.replace(DataStats(mode=mode, limit_bytes=sum(limits) if limits else None), **sums)
