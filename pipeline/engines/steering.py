"""How the feeds of a running phase are paused, gone on with, sped up and stepped."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from ..clock import Clock
from ..containers.container import TransformContainer
from ..containers.feeding import Container, FeedContainer, Gate
from ..errors import InputError, PenstockError
from ..pacing import Pacing
from ..timeline import Timeline
from ..windows import iso

RESTS = 3
"""Turns of the loop in a row in which nobody has anything to do, before everything is at rest."""
WAIT_SECONDS = 0.001


class Steering:
    """Feeds that are replays go by one timeline; others wait at the gate, between two batches."""

    def __init__(self, clock: Clock, gate: Gate, containers: Mapping[str, Container]) -> None:
        self.clock, self.gate, self.containers = clock, gate, containers
        self.timeline = Timeline(clock)
        self._pacing: tuple[str, Pacing] | None = None
        self._gated = self._seeking = False
        self.sought = False
        """Whether rows are left out, since feeds were told to go on elsewhere, whether or not anybody waited for it."""
        self.over = False
        """Whether the phase has ended, however it did."""

    def add(self, feed: FeedContainer) -> None:
        """One more feed; raises `InputError` where two would be replayed at different speeds."""
        pacing = feed.logic.pacing
        if pacing is None:
            self._gated = True
            return
        if self._pacing is None:
            self._pacing = (feed.name, pacing)
            self.timeline.speed, self.timeline.max_idle_gap_ns = pacing.speed, pacing.max_idle_gap_ns
        elif pacing != self._pacing[1]:
            raise InputError(
                f"expected the same `clock` for all feeds of a phase, found {_said(pacing)} for '{feed.name}' and "
                f"{_said(self._pacing[1])} for '{self._pacing[0]}'; they are replayed on one timeline"
            )
        feed.go_by(self.timeline)

    def begin(self, *, paused: bool) -> None:
        """Let feeds start, or stand before their first row."""
        if paused:
            self.pause()
        if not (paused and self._gated):
            self.gate.open()

    def pause(self) -> None:
        self.timeline.pause()
        if self._gated:
            self.gate.shut()

    def resume(self) -> None:
        self.timeline.resume()
        self.gate.open()

    async def step(self, *, rows: int | None = None, until_ns: int | None = None) -> int:
        """See `Timeline.step`; returns when all that it let go has been worked on."""
        if self._pacing is None:
            raise PenstockError("expected a feed that is a replay, which can be stepped; there is none")
        self.gate.open()
        passed = await self.timeline.step(rows=rows, until_ns=until_ns)
        await self.at_rest()
        return passed

    async def seek(self, ts_ns: int) -> None:
        """Feeds go on with what was received at this moment or later. Raises `PenstockError` where they cannot."""
        feeds = [feed for feed in self.containers.values() if isinstance(feed, FeedContainer)]
        if not feeds or any(feed.paced is None or not feed.can_seek for feed in feeds):
            names = ", ".join(feed.name for feed in feeds if feed.paced is None or not feed.can_seek)
            raise PenstockError(f"expected feeds that can be sought in, which replays can; {names} cannot")
        now = self.timeline.now_ns
        if now is not None and ts_ns < now:
            raise PenstockError(
                f"expected a moment that has not been reached, found {iso(ts_ns)}, and it is {iso(now)}: what is "
                "downstream knows what came since; start another run that begins there (`begin` of the feed)"
            )
        if self._seeking:
            raise PenstockError("expected no seek while another is under way")
        self._seeking = self.sought = True
        try:
            self.gate.open()
            async with anyio.create_task_group() as tasks:
                for feed in feeds:
                    tasks.start_soon(feed.seek, ts_ns)
            self.timeline.seek(ts_ns)
        finally:
            self._seeking = False

    def figures(self) -> dict[str, float]:
        """For `run.json`: how late the latest row of a replay in time was."""
        return {} if self.timeline.speed is None else {"replay_lag_max_ms": self.timeline.max_lag_ns / 1e6}

    async def at_rest(self) -> None:
        """Return when feeds wait for their time, and nobody has work left that does not wait for them."""
        rests = 0
        while rests < RESTS and not self.over:
            resting = self.timeline.is_waiting and all(
                container.is_waiting
                for container in self.containers.values()
                if isinstance(container, TransformContainer) or container.paced is not None
            )
            rests = rests + 1 if resting else 0
            await anyio.sleep(0 if resting else WAIT_SECONDS)


def _said(pacing: Pacing) -> str:
    speed = "max" if pacing.speed is None else f"{pacing.speed:g}"
    gap = "" if pacing.max_idle_gap_ns is None else f", max_idle_gap {pacing.max_idle_gap_ns / 1e9:g}s"
    return f"{{speed: {speed}{gap}}}"
