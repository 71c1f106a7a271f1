"""Takes checkpoints of a running graph: sends barriers, gathers what containers give, and has it written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..clock import Clock
from ..containers.container import TransformContainer
from ..containers.feeding import Container, FeedContainer
from ..edges.edge import Edge
from ..errors import PenstockError, StorageFailed
from ..frames import CHECKPOINT, Barrier, End, Watermark
from ..storage.journal import Journal
from ..threads import settled
from .cuts import Checkpoint, Saved
from .cutting import Cut

PATIENCE_SECONDS = 0.25
"""A barrier that has not come through all queues by then is waited for no longer where the queues are short: containers
are asked directly, one behind the other, and what is queued before them becomes a part of the checkpoint."""
QUEUED_BYTES = 1 << 20
"""A queue up to here is short. A longer one costs more to write than its barrier's way through it, and is waited for
until half of the time has passed in which the checkpoint has to be complete."""
COST_SHARE = 0.05
"""Checkpoints may take so much of the time; where one costs more, the next is put off."""
ALIGN_SECONDS = 10.0
"""A checkpoint that has not come to all containers by then is given up, and the next one tried."""
log = logging.getLogger("penstock.checkpoint")


@dataclass(frozen=True)
class Checkpoints:
    """How checkpoints of a phase are taken, where they go and what is read back. Files and locks are others' matter."""

    every_seconds: float
    save: Callable[[Checkpoint], Awaitable[Saved]]
    """Make it the one the phase goes on from; returns what it took once it is on disk."""
    read_back: Callable[[Any], Iterable[Any]]
    """Records of the journal up to a mark, in order; blocking."""
    align_seconds: float = ALIGN_SECONDS
    on_saved: Callable[[Checkpoint], None] = lambda checkpoint: None
    began: str = ""
    """How the phase began, for `run.json`."""


class CheckpointFigures(msgspec.Struct, kw_only=True):
    """What checkpoints took, for `run.json`."""

    taken: int = 0
    abandoned: int = 0
    """Given up: not at all containers in time, too much under way, or not written."""
    bytes: int = 0
    """Of all files written."""
    last_bytes: int = 0
    seconds: float = 0.0
    """From the barrier until it was on disk, of all taken."""
    longest_pause_ms: float = 0.0
    """The longest that one container stood still for its state."""
    cost_seconds: float = 0.0
    """For which containers stood still and a processor wrote, of all taken."""
    put_off: int = 0
    """How many came later than asked for, since the one before had cost so much."""
    resumed_from_rows: int | None = None
    """Rows of feeds that were in when this run went on; None: it began anew."""
    began: str = ""
    """Where it was to go on: from what it did, or why it began anew."""


@dataclass
class _Open:
    """A checkpoint under way."""

    number: int
    cuts: dict[str, Cut] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    """Containers without inputs to come, which were asked directly."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def failure(self) -> str:
        return next((cut.failure for cut in self.cuts.values() if cut.failure), "")


class Checkpointer:
    """One task beside the containers. Runs until it is stopped; one checkpoint at a time."""

    def __init__(
        self,
        phase: str,
        containers: Mapping[str, Container],
        settings: Checkpoints,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self.phase, self.containers, self.settings = phase, containers, settings
        self.journal, self.clock = journal, clock
        self.figures = CheckpointFigures(began=settings.began)
        self.last: Checkpoint | None = None
        """The one that was committed last."""
        self._open: _Open | None = None
        self._stopped = False
        self._told_reasons: set[str] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Take one every so many seconds, until all containers have ended or it is stopped."""
        every = int(self.settings.every_seconds * 1e9)
        due = self.clock.monotonic_ns() + every
        while not self._stopped and not self._all_ended():
            await self._sleep_until(due)
            if self._stopped or self._all_ended():
                return
            spent = self.figures.cost_seconds
            await self.take()
            cost = int((self.figures.cost_seconds - spent) * 1e9)
            now, wanted = self.clock.monotonic_ns(), due + every
            due = max(wanted, now + int(cost * (1 / COST_SHARE - 1)))
            self.figures.put_off += due > max(wanted, now)

    def stop(self) -> None:
        """Take no more: what happens from here on is not to be gone on from. One under way is given up."""
        self._stopped = True
        self._wake.set()
        if self._open is not None:
            self._open.changed.set()

    async def take(self) -> Checkpoint | None:
        """One checkpoint, None where it had to be given up."""
        number = next(self.journal.generations)
        began = self.clock.monotonic_ns()
        self._open = under_way = _Open(number)
        why = ""
        asking: set[asyncio.Task[None]] = set()
        try:
            why = await self._gather(under_way, asking)
            if not why:
                return await self._save(under_way, began)
        except (PenstockError, OSError) as error:
            why = f"{type(error).__name__}: {error}"
        finally:
            self._open = None
            for task in asking:
                task.cancel()
            if asking:
                await settled(asyncio.gather(*asking, return_exceptions=True))
            for cut in under_way.cuts.values():
                cut.close(why or "it was stopped")
        if not self._stopped:
            self.figures.abandoned += 1
            self._tell(why)
        return None

    def _tell(self, why: str) -> None:
        """Say why one was given up, once for each reason; run.json counts them all."""
        if why not in self._told_reasons:
            self._told_reasons.add(why)
            log.warning(
                "a checkpoint of phase '%s' was given up, the next is tried in %g s: %s",
                self.phase, self.settings.every_seconds, why,
            )  # fmt: skip

    # -- what containers tell ----------------------------------------------------------------------------------

    def told(self, cut: Cut) -> None:
        """A container has taken its state."""
        under_way = self._open
        if under_way is None or cut.number != under_way.number or cut.name in under_way.cuts:
            cut.close("it is over")
            return
        under_way.cuts[cut.name] = cut
        self.figures.longest_pause_ms = max(self.figures.longest_pause_ms, cut.pause_ns / 1e6)
        if cut.recording is not None:
            cut.recording.on_complete = under_way.changed.set
        under_way.changed.set()

    def container_ended(self) -> None:
        """A container has ended."""
        if self._open is not None:
            self._open.changed.set()
        if self._all_ended():
            self._wake.set()

    # -- gathering ---------------------------------------------------------------------------------------------

    async def _gather(self, under_way: _Open, asking: set[asyncio.Task[None]]) -> str:
        """Wait for every container's cut; why it was not to be had, or nothing."""
        now = self.clock.monotonic_ns()
        timers = [
            asyncio.ensure_future(self.clock.sleep_until(now + int(seconds * 1e9)))
            for seconds in _patience(self.settings.align_seconds)
        ]
        try:
            while True:
                under_way.changed.clear()
                if self._stopped:
                    return "the run is being stopped"
                passed = sum(timer.done() for timer in timers)
                await self._ask(under_way, asking, passed)
                if under_way.failure:
                    return under_way.failure
                cuts = under_way.cuts
                if len(cuts) == len(self.containers) and all(cut.is_complete for cut in cuts.values()):
                    return ""
                if passed == len(timers):
                    return self._late(under_way)
                waiting = asyncio.ensure_future(under_way.changed.wait())
                try:
                    await asyncio.wait((waiting, *timers[passed:]), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
        finally:
            for timer in timers:
                timer.cancel()

    async def _ask(self, under_way: _Open, asking: set[asyncio.Task[None]], passed: int) -> None:
        """Ask whoever no barrier will reach, or not soon: feeds, those that have ended, and others; see `_is_asked`."""
        barrier = Barrier(under_way.number, CHECKPOINT)
        for name, container in self.containers.items():
            if name in under_way.cuts:
                continue
            if container.ended:
                if container.cutter is not None:
                    await container.cutter.cut_at_end(under_way.number, container.counts(), container.ended_inbox())
            elif name in under_way.asked:
                continue
            elif isinstance(container, FeedContainer):
                under_way.asked.add(name)
                asking.add(asyncio.create_task(container.take_cut(barrier), name=f"penstock:barrier:{name}"))
            elif not container.is_joint and self._is_asked(container, under_way, passed):
                under_way.asked.add(name)
                container.request_cut(barrier)

    def _is_asked(self, container: TransformContainer, under_way: _Open, passed: int) -> bool:
        """Whether a container is asked directly, after so many steps of patience.

        With little before it: at once where its inputs have ended, which will bring no barrier, later where those have
        taken their cuts whose barriers it waits for; if it were asked before them, all that they are still to send
        would be recorded. At last everybody is.
        """
        edges = container.inbox.edges
        if passed >= 2 or sum(map(_queued_bytes, edges)) > QUEUED_BYTES:
            return passed >= 2
        sources = [edge.source for edge in edges]
        if all(self.containers[source].ended for source in sources):
            return True
        return passed == 1 and all(source in under_way.cuts for source in sources)

    def _late(self, under_way: _Open) -> str:
        lacking = [name for name in self.containers if name not in under_way.cuts]
        lacking += [name for name, cut in under_way.cuts.items() if not cut.is_complete]
        return f"it had not come to {', '.join(lacking)} within {self.settings.align_seconds:g} s"

    # -- writing -----------------------------------------------------------------------------------------------

    async def _save(self, under_way: _Open, began: int) -> Checkpoint | None:
        for name, cut in under_way.cuts.items():
            await self.containers[name].keeper.recorded(cut.kept)
        for cutter in (container.cutter for container in self.containers.values()):
            if cutter is not None and cutter.failed is not None:
                raise StorageFailed(f"the journal lacks input of '{cutter.name}' since {cutter.failed}")
        mark = await self.journal.mark()
        checkpoint = Checkpoint(
            phase=self.phase,
            number=under_way.number,
            containers={name: under_way.cuts[name].whole() for name in self.containers},
            every_seconds=self.settings.every_seconds,
            mark=mark,
        )
        wrong = checkpoint.faults()
        if wrong:
            raise PenstockError("its books do not balance: " + "; ".join(wrong))
        saved = await self.settings.save(checkpoint)
        for name, cut in under_way.cuts.items():
            self.containers[name].keeper.committed(cut.kept)
        self.last = checkpoint
        self.settings.on_saved(checkpoint)
        figures = self.figures
        figures.taken += 1
        figures.bytes += saved.num_bytes
        figures.last_bytes = saved.num_bytes
        figures.cost_seconds += (saved.cpu_ns + sum(cut.pause_ns for cut in under_way.cuts.values())) / 1e9
        figures.seconds += (self.clock.monotonic_ns() - began) / 1e9
        return checkpoint

    def _all_ended(self) -> bool:
        return all(container.ended for container in self.containers.values())

    async def _sleep_until(self, due: int) -> None:
        timer = asyncio.ensure_future(self.clock.sleep_until(due))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((timer, waking), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            waking.cancel()


def _patience(align_seconds: float) -> tuple[float, float, float]:
    """When short queues are waited for no longer, when long ones are not, and when it is given up."""
    long = align_seconds / 2
    return min(PATIENCE_SECONDS, long), long, align_seconds


def _queued_bytes(edge: Edge) -> int:
    """Of batches that wait on the edge, in memory or on its disk."""
    return sum(frame.num_bytes for frame in edge.queued if not isinstance(frame, Watermark | Barrier | End))
