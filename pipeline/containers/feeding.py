"""A feed at work: one task that pulls batches, cuts them to what is wanted, and sends them with their watermarks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterator, Mapping
from typing import Any, TypeAlias

import anyio
import msgspec

from ..checkpoints.cuts import ContainerCut
from ..checkpoints.cutting import Counts
from ..clock import Clock
from ..edges.in_flight import EdgesAccount
from ..edges.outlet import LINGER_SECONDS, Gatherer, Outlet, row_limit
from ..errors import InputError
from ..frames import Barrier, Batch, End, Row, Watermark, as_item
from ..mending.mender import Mender
from ..stage import Feed
from ..threads import Workers
from ..timeline import Timeline
from ..windows import UNLIMITED, Limits, RowsHash, WindowCut
from .ahead import ReadAhead
from .calling import Caller
from .container import BaseContainer, TransformContainer
from .keeping import Keeper
from .pacing import Paced

Taken: TypeAlias = Batch | tuple[Batch, ...] | Watermark
Item: TypeAlias = Taken | Row
_ENDED: Any = object()


class Gate:
    """Where feeds wait: until the run begins, while it is paused, and while memory is too short for more."""

    def __init__(self) -> None:
        self._open = anyio.Event()
        self._free: anyio.Event | None = None

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        if self._open.is_set():
            self._open = anyio.Event()

    def hold(self) -> None:
        """Keep feeds waiting although the gate is open."""
        if self._free is None:
            self._free = anyio.Event()

    def release(self) -> None:
        """Nothing but the gate holds them any more."""
        if self._free is not None:
            self._free.set()
            self._free = None

    @property
    def is_open(self) -> bool:
        return self._open.is_set() and self._free is None

    async def wait(self) -> None:
        while not self.is_open:
            await (self._free or self._open).wait()


class FeedContainer(BaseContainer):
    """Runs a feed: pulls its batches (a plain generator in a thread, one ahead), cuts them and sends watermarks."""

    kind = "feed"

    def __init__(
        self,
        name: str,
        logic: Feed,
        caller: Caller | Mender,
        outlet: Outlet,
        keeper: Keeper,
        *,
        gate: Gate,
        workers: Workers,
        clock: Clock,
        limits: Limits = UNLIMITED,
        account: EdgesAccount | None = None,
    ) -> None:
        super().__init__(name, caller, outlet, keeper)
        self.account = account
        self.logic, self.gate, self.workers, self.clock = logic, gate, workers, clock
        self.cut = WindowCut(limits)
        self.given = RowsHash() if limits.windowed else None
        self._scope = anyio.CancelScope()
        self._stopping = self._waiting = False
        self._newest_ns: int | None = None
        self._lock = asyncio.Lock()
        """Held while something is sent: a barrier comes between two batches, also while the source is silent."""
        self._sent_before = 0
        """Rows that were sent before the checkpoint it goes on from; they come again, and are not sent again."""
        self._records_before: Mapping[str, int] = {}
        self._over = False
        self._sought: tuple[int, anyio.Event] | None = None
        """Where it is to go on, and who waits for that."""
        self.paced: Paced | None = None
        """Where it is replayed in time; None: it gives what it has as it is taken."""

    def go_by(self, timeline: Timeline) -> None:
        """Give rows no sooner than their time has come on this timeline."""
        self.paced = Paced(
            timeline.join(), self._promise, lateness_ns=self.logic.lateness_ns, from_ns=self.cut.limits.from_ns
        )

    def drain(self) -> None:
        """Stop pulling: what has been pulled flows on to the end as if the feed had ended here."""
        self.gate.open()
        if self.logic.stop():
            return
        self._stopping = True
        if self.paced is not None:
            self.paced.pace.stop()
        if self._waiting and not self.goes_over_again:
            self._scope.cancel()

    async def _work(self) -> None:
        await self.gate.wait()
        source = self.logic.batches()
        try:
            if isinstance(source, AsyncIterable):
                await self._pull_and_gather(source)
            else:
                await self._pull_in_thread(iter(source))
        finally:
            if self.paced is not None:
                self.paced.pace.close()
            if self._sought is not None:
                self._sought[1].set()
        async with self._lock:
            self._over = True
        if self.goes_over_again:
            raise InputError(
                f"it gave {self.outlet.sent_rows:,} rows where it had given {self._sent_before:,} before the "
                "checkpoint: its data has changed; run without --resume"
            )

    async def _pull_and_gather(self, source: AsyncIterable[Item]) -> None:
        gatherer = Gatherer(self.outlet)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._close_lingering, gatherer)
                await self._pull_async(source, gatherer)
                gatherer.end()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        async with self._lock:
            await self._send_gathered(gatherer)

    async def _pull_async(self, source: AsyncIterable[Item], gatherer: Gatherer) -> None:
        lock = self._lock
        iterator = source.__aiter__()
        try:
            with self._scope:
                while self._pulling:
                    self._waiting = True
                    item = await anext(iterator, _ENDED)
                    self._waiting = False
                    if item is _ENDED or self._scope.cancel_called:
                        return  # a cancellation that is still to come must not find it sending
                    if not isinstance(item, Row):
                        async with lock:
                            done = await self._send_gathered(gatherer)
                        done = done or await self._take_in_time(as_item(item))
                    elif gatherer.add(item):
                        async with lock:
                            done = await self._send_gathered(gatherer)
                    else:
                        continue
                    if done:
                        return
                    if not self.gate.is_open:
                        await self.gate.wait()
        finally:
            if hasattr(iterator, "aclose"):
                with anyio.CancelScope(shield=True):
                    await iterator.aclose()

    async def _pull_in_thread(self, iterator: Iterator[Item] | None) -> None:
        while iterator is not None:
            iterator = await self._pull_from(iterator)

    async def _pull_from(self, iterator: Iterator[Item]) -> Iterator[Item] | None:
        """Pull to the end, or to where it is sought elsewhere: then what is to be pulled instead."""
        puller = _Puller(iterator)
        ahead = ReadAhead(self.account, self.workers, puller.pull, _size)
        try:
            while self._pulling and self._sought is None:
                item = await ahead.next()
                if item is None:
                    break
                if self._sought is None and await self._take_in_time(item):
                    return None
                if not self.gate.is_open:
                    await self.gate.wait()
        finally:
            try:
                await ahead.close()
            finally:
                await self.workers.run(puller.close)
        return self._elsewhere()

    async def seek(self, ts_ns: int) -> None:
        """Go on with what was received at this moment or later; what was let go before has gone.

        Returns when nothing of what was pulled before can go any more. Raises `PenstockError` where it cannot.
        """
        if self._over or self.paced is None:
            return
        self._sought = (ts_ns, anyio.Event())
        self.paced.pace.interrupt()
        await self._sought[1].wait()

    def _elsewhere(self) -> Iterator[Item] | None:
        if self._sought is None:
            return None
        (ts_ns, done), self._sought = self._sought, None
        done.set()
        if not self._pulling or self.paced is None:
            return None
        self.paced.pace.interrupted = False
        source = self.logic.seek(ts_ns)
        assert source is not None
        return iter(source)

    async def _close_lingering(self, gatherer: Gatherer) -> None:
        """Close a batch of single rows that has waited its five milliseconds, until no more rows come.

        It ends by itself: cancelled while it sends, a batch would have come to some consumers and not to others.
        """
        while not gatherer.has_ended:
            if not gatherer.is_open:
                await gatherer.opened.wait()
                continue
            number = gatherer.closed_batches
            await anyio.sleep(LINGER_SECONDS)
            if gatherer.closed_batches == number:
                async with self._lock:
                    await self._send_gathered(gatherer)

    async def _send_gathered(self, gatherer: Gatherer) -> bool:
        batch = gatherer.close()
        return batch is not None and await self._take(batch)

    async def _take_in_time(self, item: Taken) -> bool:
        """What has been pulled goes on as it is due; True when a declared limit has been reached."""
        if self.paced is None or isinstance(item, Watermark) or self.goes_over_again:
            async with self._lock:
                return await self._take(item)
        async for part in self.paced.parts(item):
            async with self._lock:
                if await self._take(part):
                    return True
        return False

    async def _promise(self, watermark: Watermark) -> None:
        async with self._lock:
            await self._pass_on(watermark)

    async def _take(self, item: Taken) -> bool:
        """What has been pulled goes on; True when a declared limit has been reached."""
        if self.cutter is not None and self.cutter.notes:
            for frame in item if isinstance(item, tuple) else (item,):
                await self.cutter.note(frame)
        return await self._pass_on(item)

    async def _pass_on(self, item: Taken) -> bool:
        """Send what of a batch, or of several, is wanted, and a watermark after all of it."""
        if isinstance(item, Watermark):
            if (item.ts is None or not self.cut.holds) and not self.goes_over_again:
                await self.outlet.send_watermark(item)
            return False
        newest, over = self._newest_ns, []
        for whole in self.cut.wanted(item) if isinstance(item, tuple) else (item,):
            batches, done = self.cut.take(whole, self.logic.lateness_ns)
            over.append(done)
            for batch in batches:
                if batch.num_rows:
                    await self._send(batch)
                    newest = max((ts for ts in (newest, batch.max_ts) if ts is not None), default=None)
        if newest is not None and newest != self._newest_ns:
            self._newest_ns = newest
            self.outlet.mute(self.goes_over_again or self.outlet.sent_rows <= self._sent_before)
            await self.outlet.send_watermark(Watermark(newest - self.logic.lateness_ns))
            self.outlet.mute(False)
        # Where time may step back, what is over is told by all kinds of record, since each came from its beginning.
        return self.cut.is_full or (bool(over) and (all(over) if self.logic.lateness_ns else any(over)))

    async def _send(self, batch: Batch) -> None:
        again = self._to_come_again(batch)
        if again > 0:
            self.outlet.mute(True)
            try:
                await self._give(batch.slice(0, min(again, batch.num_rows)))
            finally:
                self.outlet.mute(False)
            if again >= batch.num_rows:
                return
            batch = batch.slice(again)
        await self._give(batch)

    async def _give(self, batch: Batch) -> None:
        self.received_rows += batch.num_rows
        self.processed_rows += batch.num_rows
        if self.given is not None:
            await self.workers.run(self.given.update, batch)
        await self._emit(batch)
        await self.outlet.give_way()

    # -- checkpoints --------------------------------------------------------------------------------------------

    async def take_cut(self, barrier: Barrier) -> None:
        """Take a cut between two batches and send the barrier; one that has given all will tell of its end."""
        async with self._lock:
            if self._over or self.cutter is None:
                return
            await self.cutter.cut(barrier, None, self.counts)
            await self.outlet.send_barrier(barrier)

    def counts(self) -> Counts:
        """What it sends again counts as sent: nothing comes between."""
        counts = super().counts()
        if not self.goes_over_again:
            return counts
        if not self._records_before:
            return msgspec.structs.replace(counts, sent_rows=self._sent_before)
        kinds = {**counts.sent_records, **self._records_before}
        sent = {kind: max(rows, counts.sent_records.get(kind, 0)) for kind, rows in kinds.items()}
        return msgspec.structs.replace(counts, sent_rows=sum(sent.values()), sent_records=sent)

    def go_on(self, cut: ContainerCut) -> None:
        """Begin where a checkpoint left an equal feed: its rows are read again, those sent before are only counted."""
        self._sent_before, self._records_before = cut.sent_rows, cut.sent_records

    async def replay(self, frame: Batch | Watermark | End) -> None:
        """Pass on once more what it had been given before the cut, and what is noted already."""
        if isinstance(frame, Batch):
            self.logic.had_given(frame)
        if not isinstance(frame, End):
            await self._pass_on(frame)

    @property
    def goes_over_again(self) -> bool:
        """Whether it still reads what it sent before the checkpoint it goes on from."""
        if self._records_before:
            sent = self.outlet.sent_records
            return any(sent.get(kind, 0) < rows for kind, rows in self._records_before.items())
        return self.outlet.sent_rows < self._sent_before

    def _to_come_again(self, batch: Batch) -> int:
        """Rows of this kind that were sent before the checkpoint and have not come yet.

        Each kind by itself: how batches of several kinds followed each other depends on how they were cut.
        """
        if not self._records_before:
            return self._sent_before - self.outlet.sent_rows
        kind = batch.record or ""
        return self._records_before.get(kind, 0) - self.outlet.sent_records.get(kind, 0)

    @property
    def can_seek(self) -> bool:
        return type(self.logic).seek is not Feed.seek

    @property
    def is_waiting(self) -> bool:
        """Whether it has nothing to do until its time has come, or is over."""
        return self._over or (self.paced is not None and self.paced.pace.head is not None)

    @property
    def _pulling(self) -> bool:
        return not self._stopping or self.goes_over_again


def _size(item: Taken | None) -> int:
    if isinstance(item, tuple):
        return sum(batch.num_bytes for batch in item)
    return item.num_bytes if isinstance(item, Batch) else 0


class _Puller:
    """Takes batches out of a plain generator, in a thread; single rows are gathered into one batch."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._held: Any = _ENDED

    def pull(self) -> Taken | None:
        """The next batch or watermark, None at the end."""
        item, self._held = self._held, _ENDED
        if item is _ENDED:
            item = next(self._iterator, _ENDED)
        if item is _ENDED:
            return None
        if not isinstance(item, Row):
            return as_item(item)
        rows = [item]
        limit = row_limit(item)
        while len(rows) < limit:
            item = next(self._iterator, _ENDED)
            if item is _ENDED:
                break
            if not isinstance(item, Row):
                self._held = item
                break
            rows.append(item)
        return Batch.from_rows(rows)

    def close(self) -> None:
        if hasattr(self._iterator, "close"):
            self._iterator.close()


Container: TypeAlias = FeedContainer | TransformContainer
