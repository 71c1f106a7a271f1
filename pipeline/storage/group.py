"""Group commit: what many containers commit at about the same time shares one write and one sync."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .entries import Entry
from .executor import IoExecutor
from .root import StorageRoot


class GroupCommit:
    """Commits to a root from the loop. One group is under way at a time; the next gathers meanwhile."""

    def __init__(self, root: StorageRoot, io: IoExecutor) -> None:
        self.groups = 0
        """Groups committed so far."""
        self._root, self._io = root, io
        self._waiting: list[tuple[Sequence[Entry], asyncio.Future[None]]] = []
        self._busy = False

    async def commit(self, entries: Sequence[Entry]) -> None:
        """Return once the entries are on disk; they are committed all or none, with those of others.

        A caller that is cancelled changes nothing: the entries are committed all the same. Raises what
        `StorageRoot.commit` raises.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._waiting.append((list(entries), done))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._start)  # those who commit in the same step of the loop come along
        await asyncio.shield(done)

    def _start(self) -> None:
        group, self._waiting = self._waiting, []
        try:
            job = self._io.submit(self, self._root.commit, [entry for entries, _ in group for entry in entries])
        except Exception as error:
            self._busy = False
            for _, done in group:
                done.set_exception(error)
            return
        job.add_done_callback(lambda job: self._end(group, job.exception()))

    def _end(self, group: Sequence[tuple[Sequence[Entry], asyncio.Future[None]]], error: BaseException | None) -> None:
        self._busy = bool(self._waiting)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._start)
        self.groups += error is None
        for _, done in group:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
