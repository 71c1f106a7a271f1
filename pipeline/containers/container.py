"""A stage at work: one task that moves frames from its inbox through its logic to its outlet and its store."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable

import anyio
import msgspec

from ..checkpoints.cuts import ContainerCut, InboxCut
from ..checkpoints.cutting import Counts, Cutter, count_on
from ..edges.inbox import Inbox
from ..edges.joint import Joint
from ..edges.outlet import Outlet
from ..edges.under_way import nothing_under_way
from ..errors import ContainerFailed, EdgeClosed
from ..frames import Barrier, Batch, End, Frame, MemberRows, Result, Watermark
from ..mending.mender import Mender
from ..stage import Output, Sink, Transform
from .calling import Caller
from .keeping import Keeper

log = logging.getLogger("penstock.container")


class ContainerStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one container.

    `received_rows = processed_rows + late_rows + dead_rows + in work` at every instant.
    """

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
    dead_rows: int = 0
    """Rows that became dead letters."""
    lost_rows: int = 0
    """Rows a container that failed had received and not finished."""
    retries: int = 0
    """Calls made again because they had failed."""
    restores: int = 0
    """Times its logic was brought back to a state before a failure."""


class BaseContainer(ABC):
    """What both kinds of container share: sending output, keeping results, and how a task ends."""

    kind = "transform"

    def __init__(self, name: str, caller: Caller | Mender, outlet: Outlet, keeper: Keeper) -> None:
        self.name, self.caller, self.outlet, self.keeper = name, caller, outlet, keeper
        self._keeps_output = keeper.keeps_output
        self.received_rows = self.processed_rows = 0
        self.ended = self._had_ended = False
        self.cutter: Cutter | None = None
        """Its part in checkpoints; None where none are taken."""
        self.on_end: Callable[[], None] = lambda: None
        self.records_failure = False
        """Whether a failure ends this container alone (`on_failure: record`)."""
        self.failure: ContainerFailed | None = None
        """The failure it was ended by."""
        self.on_failure: Callable[[], None] = lambda: None
        """Called when a failure is recorded, before the others learn of it."""

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
            if not self.records_failure:
                self.outlet.fail(failure)
                raise failure from error
            await self._record(failure)
        finally:
            if not self.ended:
                self.outlet.fail(EdgeClosed(f"'{self.name}' was stopped"))
            self._leave()

    async def _complete(self) -> None:
        await self.keeper.complete()
        await self.outlet.send(End())
        self.ended = True
        self.on_end()

    def counts(self) -> Counts:
        """How far it has come."""
        return Counts(
            received_rows=self.received_rows, processed_rows=self.processed_rows, sent_rows=self.outlet.sent_rows,
            sent_batches=self.outlet.sent_batches, sent_records=dict(self.outlet.sent_records),
            watermark=self.outlet.watermark,
            ended=self.ended or self._had_ended,
        )  # fmt: skip

    def ended_inbox(self) -> InboxCut | None:
        """What is under way to it when it has ended."""
        return None

    async def _record(self, failure: ContainerFailed) -> None:
        """End here, with what there is, as if the inputs had ended: consumers are sent the end."""
        log.error("%s; it is recorded, and the others go on", failure)
        self.failure = failure
        self.on_failure()
        self.processed_rows += self.caller.dead_unsettled
        self._leave()
        try:
            await self.keeper.complete()
        except Exception as error:
            log.error("what '%s' had kept cannot be written: %s", self.name, error)
        await self.outlet.send(End())
        self.ended = True
        self.on_end()

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
                for edge in outlet.edges_for(batch):
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
            processed_rows=self.processed_rows - self.late_rows - self.caller.dead_rows,
            late_rows=self.late_rows,
            sent_rows=self.outlet.sent_rows,
            sent_batches=self.outlet.sent_batches,
            busy_seconds=self.caller.busy_ns / 1e9,
            calls_on_loop=self.caller.calls_on_loop,
            calls_in_thread=self.caller.calls_in_thread,
            yields=self.outlet.yields,
            watermark=self.outlet.watermark,
            ended=self.ended,
            dead_rows=self.caller.dead_rows,
            lost_rows=self.received_rows - self.processed_rows if self.failure is not None else 0,
            retries=self.caller.retries,
            restores=self.caller.restores,
        )

    @property
    def late_rows(self) -> int:
        return 0


class TransformContainer(BaseContainer):
    """Runs a transform or a sink: takes a frame, calls the logic, sends what it gives back, returns the credit."""

    def __init__(
        self, name: str, logic: Transform, caller: Caller | Mender, inbox: Inbox, outlet: Outlet, keeper: Keeper
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

    def replace_logic(self, fresh: Transform) -> None:
        """Another logic of the same recipe goes on in the place of one that failed."""
        self.logic = fresh
        if self.cutter is not None:
            self.cutter.logic = fresh

    @property
    def _notes(self) -> bool:
        return self.cutter is not None and self.cutter.notes

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
            try:
                await self._handle(frame)
            finally:
                if isinstance(frame, Batch):
                    inbox.finish(frame)

    async def _handle(self, frame: Frame) -> None:
        """The work on one frame."""
        if isinstance(frame, Batch):
            if self._notes and self.cutter is not None:
                await self.cutter.note(frame)
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
                if self._notes and self.cutter is not None:
                    await self.cutter.note(frame)
                await self._emit_all(await self.caller(self.logic.on_watermark, frame))
            await self.outlet.send_watermark(frame)
        elif isinstance(frame, Barrier):
            if self.cutter is not None:
                await self.cutter.cut(frame, self.inbox.recording, self.counts)
            await self.outlet.send_barrier(frame)
        else:
            if not self._had_ended:
                await self._emit_all(await self.caller(self.logic.on_end))
            self._at_end = True

    @property
    def is_waiting(self) -> bool:
        """Whether it has nothing to do until something arrives; one that works in its producer's task has its rest."""
        return self.is_joint or self.ended or self.inbox.is_waiting

    def ended_inbox(self) -> InboxCut | None:
        return nothing_under_way(self.inbox.edges)

    def request_cut(self, barrier: Barrier) -> None:
        """Take a cut before the next frame: no input would bring a barrier, or not soon."""
        self.inbox.request(barrier)

    def join(self, edge: Joint) -> None:
        """Do this container's work in the task that sends on its one input edge."""
        self.is_joint = True
        edge.join(self._handle_joint)

    async def _handle_joint(self, frame: Frame) -> None:
        if self._joint_end.is_set():
            return
        try:
            if isinstance(frame, Barrier):
                self.inbox.reached(frame)
            await self._handle(frame)
            if self._at_end:
                await self._complete()
        except (ContainerFailed, EdgeClosed):
            raise
        except Exception as error:
            failure = ContainerFailed(self.name, error)
            if not self.records_failure:
                raise failure from error
            await self._record(failure)
        if self.ended:
            self._joint_end.set()

    def _leave(self) -> None:
        self.inbox.leave()

    # -- going on from a checkpoint: before it runs, what it sends is muted -------------------------------------

    def go_on(self, cut: ContainerCut) -> None:
        """Begin where a checkpoint left an equal container; one that is replayed comes there by `replay`."""
        if cut.inbox is not None:
            self.inbox.go_on(cut.inbox)
        if cut.kind != "replayed":
            self.received_rows, self.processed_rows = cut.received_rows, cut.processed_rows
            self.outlet.sent_rows, self.outlet.sent_batches = cut.sent_rows, cut.sent_batches
            self.outlet.sent_records = dict(cut.sent_records)
            count_on(self.logic, cut.counted)
        self.outlet.watermark = cut.watermark
        self._had_ended = cut.ended

    async def replay(self, frame: Batch | Watermark | End) -> None:
        """Work once more on what was worked on before the cut; results are kept again, output is not sent."""
        if isinstance(frame, Batch):
            self.received_rows += frame.num_rows
            await self._emit_all(await self.caller(self.logic.on_batch, frame))
            self.processed_rows += frame.num_rows
        elif isinstance(frame, Watermark):
            await self._emit_all(await self.caller(self.logic.on_watermark, frame))
        else:
            await self._emit_all(await self.caller(self.logic.on_end))
