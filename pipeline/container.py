"""A stage at work: one task that moves frames from its inbox through its logic to its outlet and its store."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Iterator
from typing import Any, TypeAlias

import anyio
import msgspec

from .calling import Caller
from .clock import Clock
from .edge import Joint
from .errors import ContainerFailed, EdgeClosed
from .frames import Barrier, Batch, End, Frame, MemberRows, Result, Row, Watermark, as_item
from .inbox import Inbox
from .keeping import Keeper
from .outlet import LINGER_SECONDS, Gatherer, Outlet, row_limit
from .stage import Feed, Output, Sink, Transform
from .threads import Workers, settled
from .windows import UNLIMITED, Limits, RowsHash, WindowCut


class ContainerStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one container. `received_rows = processed_rows + late_rows + in work` at every instant."""

    name: str
    kind: str
    """feed, transform, sink or group."""
    received_rows: int
    processed_rows: int
    late_rows: int
    sent_rows: int
    sent_batches: int
    busy_seconds: float
    calls_on_loop: int
    calls_in_thread: int
    yields: int
    watermark: int | None
    """Event time in nanoseconds this container has passed on."""
    ended: bool


class Gate:
    """Where feeds wait: until the run begins, and while it is paused."""

    def __init__(self) -> None:
        self._open = anyio.Event()

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        if self._open.is_set():
            self._open = anyio.Event()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    async def wait(self) -> None:
        while not self._open.is_set():
            await self._open.wait()


class _Base(ABC):
    """What both kinds of container share: sending output, keeping results, and how a task ends."""

    kind = "transform"

    def __init__(self, name: str, caller: Caller, outlet: Outlet, keeper: Keeper) -> None:
        self.name, self.caller, self.outlet, self.keeper = name, caller, outlet, keeper
        self._keeps_output = keeper.keeps_output
        self.received_rows = self.processed_rows = 0
        self.ended = False

    async def run(self) -> None:
        """Work until the inputs end; raises `ContainerFailed`. However it ends, its edges are closed."""
        try:
            await self._work()
            if not self.ended:
                await self._complete()
        except (ContainerFailed, EdgeClosed) as error:
            self.outlet.fail(error)
            raise
        except Exception as error:
            failure = ContainerFailed(self.name, error)
            self.outlet.fail(failure)
            raise failure from error
        finally:
            if not self.ended:
                self.outlet.fail(EdgeClosed(f"'{self.name}' was stopped"))
            self._leave()

    async def _complete(self) -> None:
        await self.keeper.complete()
        await self.outlet.send(End())
        self.ended = True

    @abstractmethod
    async def _work(self) -> None:
        """Take what comes until the inputs have ended."""

    def _leave(self) -> None:
        pass

    async def _emit_all(self, outputs: list[Output]) -> None:
        """Emit in order, letting go of each: what is kept on disk must not stay in memory for the others' sake."""
        outputs = outputs[::-1]
        while outputs:
            await self._emit(outputs.pop())

    async def _emit(self, output: Output) -> None:
        if isinstance(output, Batch):
            if output.num_rows:
                outlet = self.outlet
                batch = outlet.stamp(output)
                if self._keeps_output:
                    await self.keeper.keep_output(batch)
                for edge in outlet.edges:
                    if not edge.send_nowait(batch):
                        await edge.send(batch)
        elif isinstance(output, Result):
            await self.keeper.keep(output)
        elif isinstance(output, MemberRows):
            await self.keeper.keep_rows(output)
        else:
            raise TypeError(f"expected a Batch or a Result from '{self.name}', found {type(output).__name__}")

    def stats(self) -> ContainerStats:
        return ContainerStats(
            name=self.name,
            kind=self.kind,
            received_rows=self.received_rows,
            processed_rows=self.processed_rows - self.late_rows,
            late_rows=self.late_rows,
            sent_rows=self.outlet.sent_rows,
            sent_batches=self.outlet.sent_batches,
            busy_seconds=self.caller.busy_ns / 1e9,
            calls_on_loop=self.caller.calls_on_loop,
            calls_in_thread=self.caller.calls_in_thread,
            yields=self.outlet.yields,
            watermark=self.outlet.watermark,
            ended=self.ended,
        )

    @property
    def late_rows(self) -> int:
        return 0


class TransformContainer(_Base):
    """Runs a transform or a sink: takes a frame, calls the logic, sends what it gives back, returns the credit."""

    def __init__(
        self, name: str, logic: Transform, caller: Caller, inbox: Inbox, outlet: Outlet, keeper: Keeper
    ) -> None:
        super().__init__(name, caller, outlet, keeper)
        self.logic, self.inbox = logic, inbox
        self.kind = "sink" if isinstance(logic, Sink) else "transform"
        self.is_joint = False
        self._joint_end = anyio.Event()
        self._at_end = False
        self._hears_watermarks = type(logic).on_watermark is not Transform.on_watermark

    @property
    def late_rows(self) -> int:
        return self.logic.late_rows

    async def _work(self) -> None:
        """Take frames until the end; a joint container's frames are handled in its producer's task instead."""
        if self.is_joint:
            await self._joint_end.wait()
            return
        inbox = self.inbox
        while not self._at_end:
            frame = inbox.receive_nowait()
            if frame is None:
                frame = await inbox.receive()
            else:
                await self.outlet.give_way()
            await self._handle(frame)
            if isinstance(frame, Batch):
                inbox.finish(frame)

    async def _handle(self, frame: Frame) -> None:
        """The work on one frame."""
        if isinstance(frame, Batch):
            self.received_rows += frame.num_rows
            outputs = self.caller.now(self.logic.on_batch, frame)
            if outputs is not None:
                for output in outputs:
                    await self._emit(output)
            else:
                await self._emit_all(await self.caller(self.logic.on_batch, frame))
            self.processed_rows += frame.num_rows
        elif isinstance(frame, Watermark):
            if self._hears_watermarks:
                await self._emit_all(await self.caller(self.logic.on_watermark, frame))
            await self.outlet.send_watermark(frame)
        elif isinstance(frame, Barrier):
            await self.outlet.send(frame)
        else:
            await self._emit_all(await self.caller(self.logic.on_end))
            self._at_end = True

    def join(self, edge: Joint) -> None:
        """Do this container's work in the task that sends on its one input edge."""
        self.is_joint = True
        edge.join(self._handle_joint)

    async def _handle_joint(self, frame: Frame) -> None:
        try:
            await self._handle(frame)
            if self._at_end:
                await self._complete()
        except (ContainerFailed, EdgeClosed):
            raise
        except Exception as error:
            raise ContainerFailed(self.name, error) from error
        if self._at_end:
            self._joint_end.set()

    def _leave(self) -> None:
        self.inbox.detach()


Item: TypeAlias = Batch | Row | Watermark
_ENDED: Any = object()


class FeedContainer(_Base):
    """Runs a feed: pulls its batches (a plain generator in a thread, one ahead), cuts them and sends watermarks."""

    kind = "feed"

    def __init__(
        self,
        name: str,
        logic: Feed,
        caller: Caller,
        outlet: Outlet,
        keeper: Keeper,
        *,
        gate: Gate,
        workers: Workers,
        clock: Clock,
        limits: Limits = UNLIMITED,
    ) -> None:
        super().__init__(name, caller, outlet, keeper)
        self.logic, self.gate, self.workers, self.clock = logic, gate, workers, clock
        self.cut = WindowCut(limits)
        self.given = RowsHash() if limits.windowed else None
        self._scope = anyio.CancelScope()
        self._stopping = self._waiting = False
        self._newest_ns: int | None = None

    def drain(self) -> None:
        """Stop pulling: what has been pulled flows on to the end as if the feed had ended here."""
        self.gate.open()
        if self.logic.stop():
            return
        self._stopping = True
        if self._waiting:
            self._scope.cancel()

    async def _work(self) -> None:
        await self.gate.wait()
        source = self.logic.batches()
        if not isinstance(source, AsyncIterable):
            await self._pull_in_thread(iter(source))
            return
        gatherer = Gatherer(self.outlet)
        lock = asyncio.Lock()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._close_lingering, gatherer, lock)
                await self._pull_async(source, gatherer, lock)
                tasks.cancel_scope.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        await self._send_gathered(gatherer)

    async def _pull_async(self, source: AsyncIterable[Item], gatherer: Gatherer, lock: asyncio.Lock) -> None:
        iterator = source.__aiter__()
        try:
            with self._scope:
                while not self._stopping:
                    self._waiting = True
                    item = await anext(iterator, _ENDED)
                    self._waiting = False
                    if item is _ENDED:
                        return
                    if not isinstance(item, Row):
                        item = as_item(item)
                        async with lock:
                            done = await self._send_gathered(gatherer) or await self._take(item)
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

    async def _pull_in_thread(self, iterator: Iterator[Item]) -> None:
        puller = _Puller(iterator)
        ahead = self.workers.submit(puller.pull)
        try:
            while not self._stopping:
                await settled(ahead)
                item = ahead.result()
                if item is None:
                    return
                ahead = self.workers.submit(puller.pull)
                if await self._take(item):
                    return
                if not self.gate.is_open:
                    await self.gate.wait()
        finally:
            try:
                await settled(ahead)
            finally:
                await self.workers.run(puller.close)

    async def _close_lingering(self, gatherer: Gatherer, lock: asyncio.Lock) -> None:
        """Close a batch of single rows that has waited its five milliseconds."""
        while True:
            while not gatherer.is_open:
                await gatherer.opened.wait()
            number = gatherer.closed_batches
            await anyio.sleep(LINGER_SECONDS)
            if gatherer.closed_batches == number:
                async with lock:
                    await self._send_gathered(gatherer)

    async def _send_gathered(self, gatherer: Gatherer) -> bool:
        batch = gatherer.close()
        return batch is not None and await self._take(batch)

    async def _take(self, item: Batch | Watermark) -> bool:
        """Send what of a batch is wanted, and the watermark after it; True when a declared limit has been reached."""
        if isinstance(item, Watermark):
            if item.ts is None or not self.cut.holds:
                await self.outlet.send_watermark(item)
            return False
        batches, done = self.cut.take(item, self.logic.lateness_ns)
        for batch in batches:
            if batch.num_rows:
                await self._send(batch)
        return done

    async def _send(self, batch: Batch) -> None:
        self.received_rows += batch.num_rows
        self.processed_rows += batch.num_rows
        if self.given is not None:
            await self.workers.run(self.given.update, batch)
        await self._emit(batch)
        newest = batch.max_ts
        if newest is not None and (self._newest_ns is None or newest > self._newest_ns):
            self._newest_ns = newest
            await self.outlet.send_watermark(Watermark(newest - self.logic.lateness_ns))
        await self.outlet.give_way()


class _Puller:
    """Takes batches out of a plain generator, in a thread; single rows are gathered into one batch."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._held: Any = _ENDED

    def pull(self) -> Batch | Watermark | None:
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
