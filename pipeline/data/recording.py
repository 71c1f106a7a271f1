"""Every change of a data manager on its way into the journal, in order, and rewritten when much of it is dead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import pyarrow as pa

from ..errors import DataError, DiskFull, StorageFailed
from ..storage import codecs
from ..storage.codecs import Buffer
from ..storage.journal import Journal
from . import records
from .account import Account
from .base import DataStats, Key
from .buffer import BatchId
from .live import Filed, LiveRecords
from .policy import Durability
from .records import APPEND, CHANGES, DELETE, FILED, FLUSHED, FLUSHING, ROWS, STORE, Head
from .rewriting import Rewriter
from .unwritten import raise_end
from .values import Admitted, batches_size
from .waiting import GATHERED_BYTES, Gathered, Waiting

log = logging.getLogger(__name__)

WAITING_BYTES: Final = 8 << 20
"""Bytes of one container that may wait to be written before its callers wait too."""


DELETION_BYTES: Final = 64 << 10
"""Room on the disk that is enough for the record of a deletion and what it needs beside it."""


class Recording:
    """The records of one container. Lives on one loop.

    A record is the journal's from the step in which its change took effect; whoever waits for it may be cancelled. One
    for which the disk had no room is kept and written with the next call, before anything that comes after it.

    Where nothing but a checkpoint asks for them, records gather here until one is taken, or until they are many: those
    behind the last checkpoint are never written.

    `passing`: records are given up as they are flushed, not when their key is replaced. `checkpointed`: none is given
    up before a later cut is committed.
    """

    def __init__(
        self,
        container: str,
        journal: Journal,
        durability: Durability,
        *,
        account: Account | None = None,
        passing: bool = False,
        checkpointed: bool = False,
    ) -> None:
        self.container, self._journal, self._durability = container, journal, durability
        self.passing, self.checkpointed = passing, checkpointed
        self._gathers = checkpointed and not passing and durability == "ephemeral"
        self._gathered = Gathered(GATHERED_BYTES if account is None else min(GATHERED_BYTES, account.limit // 2))
        self.gen = 0
        """Number of the last change."""
        self.replaying: int | None = None
        """While the journal is read back: the number of the record that is applied, which is not recorded again."""
        self.births: dict[Hashable, int] = {}
        """By member and key: the number of the change that made the key."""
        self.restoring = False
        """Whether the journal is being read: what it holds is not known yet."""
        self._meanwhile: list[tuple[int, Hashable, int, int]] = []
        self.live = LiveRecords()
        self.series: set[Hashable] = set()
        """Keys that hold series."""
        self.is_off = False
        """Whether nothing is recorded at all, since what is kept comes again by itself."""
        self.left_out: set[Hashable] = set()
        """Keys, with their member, that somebody else brings back: nothing of them is recorded."""
        self.rewriter: Rewriter | None = None
        """None where nothing is rewritten."""
        self._account = account
        self._waiting_bytes = 0
        self._inflight: dict[int, asyncio.Future[Any]] = {}
        self._unwritten: dict[int, Waiting] = {}
        self._refused: BaseException | None = None
        self._again: asyncio.Task[None] | None = None
        self._broken: BaseException | None = None
        self._lost: list[tuple[int, Hashable]] = []
        """Kinds and keys of records that will not be written any more."""
        self._cuts: dict[int, int] = {}
        self._void = -1
        """Up to this cut records are missing that will not be written any more; -1: nothing is missing."""

    # Changes, as managers tell of them.

    def stored(self, key: Key, admitted: Admitted, member: str | None = None) -> int:
        birth = self._born(member, key)
        value, size, kind = admitted
        encode = partial(records.of_value, key, value, kind, size=size, member=member, birth=birth)
        return self._changed(STORE, key, member, encode, admitted.size)

    def extended(self, key: Key, batches: Sequence[pa.RecordBatch], member: str | None = None) -> int:
        birth = self._born(member, key)
        rows = list(batches)
        encode = partial(records.of_rows, key, rows, member=member, birth=birth)
        return self._changed(APPEND, key, member, encode, batches_size(rows), rows)

    def deleted(self, key: Key, member: str | None = None) -> int:
        if (member, key) in self.left_out:
            return self.gen
        self.births.pop((member, key), None)
        head = Head(text=isinstance(key, str), member=member)
        return self._changed(DELETE, key, member, partial(records.packed, head), 0)

    def dropped(self, key: Key, num_bytes: int, member: str | None = None) -> None:
        self.live.shrunk((member, key), num_bytes)

    def rows(self, key: Key, names: Sequence[str], offsets: Sequence[int], columns: pa.RecordBatch) -> None:
        """Rows of many members: `names[i]` has `offsets[i]` to `offsets[i + 1]`."""
        if self.replaying is None:
            encode = partial(records.of_rows, key, [columns], names=names, numbers=offsets)
            raw = records.raw_key(key)
            self.send(ROWS, raw, raw, encode, batches_size([columns]))

    def filed(
        self,
        key: Key,
        files: Sequence[dict[str, Any]],
        *,
        size: int = 0,
        up_to: int = 0,
        tail: int = 0,
        dead_bytes: int = 0,
        series: bool = False,
        whole: bool = False,
        again: bool = False,
    ) -> int:
        """Files hold a value or, of a series, all changes `up_to` one; `tail` is the first behind them.

        `whole`: these are all files of the series, not some more. `again`: nothing has changed, it is only told anew.
        """
        name: Hashable = (None, key)
        numbers = (int(series), up_to, int(whole), tail)
        fields = {"size": size, "birth": self._born(None, key), "numbers": numbers}
        encode = partial(records.of_value, key, {"files": files}, codecs.PLAIN, **fields)
        if not series and not again:
            self.series.discard(name)
            if self.rewriter is not None:
                self.rewriter.changed(name, None)
        told = Filed(name, whole or not series, tail, dead_bytes)
        return self.send(FILED, records.raw_key(key), told, encode, 0)

    async def flushing(self, batch_id: BatchId, last_gen: int) -> None:
        head = Head(numbers=(batch_id.first_seq, batch_id.last_seq, last_gen))
        self.send(FLUSHING, b"", FLUSHING, partial(records.packed, head), 0)
        await self.acknowledged()

    def flushed(self, batch_id: BatchId, last_gen: int) -> None:
        head = Head(numbers=(batch_id.first_seq, batch_id.last_seq, last_gen))
        self.send(FLUSHED, b"", last_gen, partial(records.packed, head), 0)

    def _born(self, member: str | None, key: Key) -> int:
        if self.replaying is not None:
            return 0
        return self.births.setdefault((member, key), self.gen + 1)

    def _changed(
        self,
        kind: int,
        key: Key,
        member: str | None,
        encode: Callable[[], Sequence[Buffer]],
        size: int,
        batches: list[pa.RecordBatch] | None = None,
    ) -> int:
        if self.replaying is not None:
            return self.replaying
        name = (member, key)
        if name in self.left_out:
            return self.gen
        (self.series.discard if batches is None else self.series.add)(name)
        if self.rewriter is not None:
            self.rewriter.changed(name, batches)
        return self.send(kind, records.raw_key(key), name, encode, size, batches)

    # Writing.

    def next_gen(self) -> int:
        self.gen = next(self._journal.generations)
        return self.gen

    @property
    def behind(self) -> bool:
        """Whether the next change has to wait: for what is on its way, for room on the disk, or for ever."""
        return (
            bool(self._unwritten)
            or self._again is not None
            or self._broken is not None
            or self._waiting_bytes >= WAITING_BYTES
        )

    async def catch_up(self) -> None:
        """Return when the next change may be made; raises `DiskFull` or `StorageFailed` where it may not."""
        while self._waiting_bytes >= WAITING_BYTES and self._inflight:
            await asyncio.wait(tuple(self._inflight.values()), return_when=asyncio.FIRST_COMPLETED)
        if self._again is None and self._unwritten and self._broken is None:
            self._again = asyncio.get_running_loop().create_task(self._write_again())
        if self._again is not None:
            await asyncio.wait((self._again,))
        self._raise_failure()

    async def _write_again(self) -> None:
        """Hand the journal what it had no room for, in the order of the changes."""
        try:
            while self._inflight:
                await asyncio.wait(tuple(self._inflight.values()))
            again, self._unwritten = self._unwritten, {}
            for gen in sorted(again):
                self._hand(again[gen])
            while self._inflight:
                await asyncio.wait(tuple(self._inflight.values()))
        finally:
            self._again = None

    async def acknowledged(self) -> None:
        """Return when all changes so far are as durable as declared; raises `DiskFull` or `StorageFailed`."""
        if self._durability != "ephemeral" and self._inflight:
            await asyncio.wait((next(reversed(self._inflight.values())),))
        self._raise_failure()

    async def catch_up_to_delete(self) -> None:
        """`catch_up` for a deletion, which may overtake what is too large for the room there is: it makes some."""
        try:
            await self.catch_up()
        except DiskFull:
            if self._broken is not None or not await self._journal.has_room(DELETION_BYTES):
                raise

    async def delete_acknowledged(self, key: Key) -> None:
        """`acknowledged` for a key's deletion, which is written though others wait for room; raises for it alone."""
        if self._durability != "ephemeral" and self._inflight:
            await asyncio.wait((next(reversed(self._inflight.values())),))
        refused = (waiting.live_key for waiting in self._unwritten.values() if waiting.kind == DELETE)
        if (None, key) in refused or self._broken is not None:
            self._raise_failure()

    def _give_up(self, name: Hashable) -> None:
        """What waits for room is not needed: its key is deleted. But for a checkpoint of the time before."""
        for gen in [gen for gen, waiting in self._unwritten.items() if waiting.live_key == name]:
            self._give_back(self._unwritten.pop(gen))
            self._void = max([self._void, *(cut for cut in self._cuts if cut >= gen)])

    async def settle(self, up_to: int | None = None) -> None:
        """Return when the changes up to one, or all so far, that were handed to the journal are written."""
        if self.behind:
            await self.catch_up()
        up_to = self.gen if up_to is None else up_to
        while inflight := [future for gen, future in self._inflight.items() if gen <= up_to]:
            await asyncio.wait(inflight)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._broken is not None:
            raise StorageFailed(
                f"{self.container}: the journal has failed: {self._broken}; what was acknowledged is in it, what came "
                "later is held and readable, and ends with this process"
            ) from self._broken
        if self._unwritten:
            raise DiskFull(
                f"{self.container}: {self._refused}; {len(self._unwritten)} changes have taken effect and are "
                "readable, and are not yet in the journal: the next call writes them first, so do not send them again"
            ) from self._refused

    def send(
        self,
        kind: int,
        raw: bytes,
        live_key: Hashable,
        encode: Callable[[], Sequence[Buffer]],
        size: int,
        rows: list[pa.RecordBatch] | None = None,
    ) -> int:
        if self.is_off:
            return self.gen
        gen = self.next_gen()
        waiting = Waiting(kind, raw, gen, live_key, encode, size, rows)
        self._waiting_bytes += size
        account, admitted = self._account, True
        if account is not None:
            waiting.charge = min(size, account.limit - account.charged)
            admitted = account.pool is None or account.pool.admits(account, waiting.charge)
            if admitted:
                account.take(waiting.charge)
            else:
                waiting.charge = 0  # it is its sender's, who waits until it is written
        self._gathered.add(waiting)
        if not (self._gathers and admitted and kind in CHANGES) or self._gathered.is_full:
            self._hand_over()
        return gen

    def _hand_over(self) -> None:
        """Give the journal what has gathered, in the order of the changes."""
        for waiting in self._gathered.take():
            if waiting.kind == DELETE:
                self._give_up(waiting.live_key)
            if self._unwritten and waiting.kind != DELETE:
                self._unwritten[waiting.gen] = waiting
            else:
                self._hand(waiting)

    def _drop(self) -> None:
        """What has gathered is not needed any more."""
        for waiting in self._gathered.take():
            self._give_back(waiting)

    def _give_back(self, waiting: Waiting) -> None:
        self._waiting_bytes -= waiting.size
        if self._account is not None and waiting.charge:
            self._account.give(waiting.charge)

    def _hand(self, waiting: Waiting) -> None:
        future = self._journal.append(
            self.container, waiting.kind, waiting.raw, waiting.gen, waiting.encoded, self._durability,
            num_bytes=waiting.size,
        )  # fmt: skip
        self._inflight[waiting.gen] = future
        future.add_done_callback(partial(self._written, waiting))

    def _written(self, waiting: Waiting, future: asyncio.Future[Any]) -> None:
        del self._inflight[waiting.gen]
        error = future.exception()
        if isinstance(error, DiskFull):
            self._unwritten[waiting.gen], self._refused = waiting, error
            return
        self._give_back(waiting)
        if error is not None:
            if self._broken is None:
                log.error("%s: the journal has failed: %s", self.container, error)
            self._broken = error
            self._lost.append((waiting.kind, waiting.live_key))
            return
        counted = (waiting.kind, waiting.live_key, waiting.gen, waiting.num_bytes)
        if self.restoring:
            self._meanwhile.append(counted)
            return
        self.live.count(*counted, passing=self.passing)
        self._tidy()

    def resume(self, gen: int, live: LiveRecords, births: dict[Hashable, int], series: set[Hashable]) -> None:
        """Go on behind what the journal holds already."""
        self.gen, self.live, self.births, self.series = max(self.gen, gen), live, births, series
        self.restoring = False
        for counted in self._meanwhile:
            self.live.count(*counted, passing=self.passing)
        self._meanwhile.clear()

    def on_top(self, stats: DataStats) -> DataStats:
        """What a manager says of itself, with what waits to be written."""
        account = self._account
        return msgspec.structs.replace(
            stats,
            limit_bytes=(stats.limit_bytes or 0) + account.limit if account else stats.limit_bytes,
            charged_bytes=stats.charged_bytes + (account.charged if account else 0),
            peak_bytes=stats.peak_bytes + (account.peak if account else 0),
            journal_bytes=self.live.live_bytes,
        )

    # Giving up what is dead.

    async def recorded(self, cut: int | None = None) -> None:
        """Return when all changes up to a cut, or so far, are written, whatever is declared."""
        if cut is None:
            self._hand_over()
        await self.settle(cut)
        if cut is not None and cut <= self._void:
            raise DiskFull(
                f"{self.container}: {self._refused}; what had no room was deleted meanwhile, and will not be written"
            ) from self._refused

    def cut(self) -> int:
        """The number of the last change, for a checkpoint that holds all changes up to here: they go to the journal."""
        self._hand_over()
        self._cuts[self.gen] = self._dead_up_to()
        return self.gen

    def committed(self, cut: int) -> None:
        """A checkpoint with this cut is committed, and none before it is needed any more."""
        dead = [self._cuts.pop(gen) for gen in sorted(self._cuts) if gen <= cut]
        if dead:
            self._trim(dead[-1])

    def trim(self) -> None:
        """Give up what is dead, unless a checkpoint may need it."""
        if not self.checkpointed:
            self._trim(self._dead_up_to())

    def forget(self) -> None:
        """Nothing of this container is needed any more."""
        self._drop()
        self._trim(self.gen)

    def _dead_up_to(self) -> int:
        dead = self.live.dead_up_to
        return min(dead, min(self._unwritten) - 1) if self._unwritten else dead

    def _trim(self, gen: int) -> None:
        self._journal.trim(self.container, gen)
        self.live.trimmed(gen)
        if self.rewriter is not None:
            self.rewriter.rests = False

    def _tidy(self) -> None:
        if self.live.worth_trimming(self.live.dead_up_to):
            self.trim()
        if self.rewriter is not None:
            self.rewriter.begin_if_due()

    async def close(self) -> None:
        """Finish what is on its way; raises `DiskFull` or `StorageFailed` where something is not in the journal."""
        if self.rewriter is not None:
            await self.rewriter.close()
        self._drop()
        try:
            await self.settle()
        except DataError:
            self._tell_end()

    def _tell_end(self) -> None:
        """There is no next call: raise what has become of changes that took effect and are not in the journal."""
        left = [*self._lost, *((waiting.kind, waiting.live_key) for _, waiting in sorted(self._unwritten.items()))]
        raise_end(self.container, left, self._refused, self._broken)
