"""Replayed time: how far feeds may go, as fast as they are taken, at a speed, paused, or step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import anyio
import numpy as np

from .clock import Clock
from .errors import PenstockError
from .pacing import Pacing

Stamps: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
State: TypeAlias = Literal["stopped", "running", "paused", "stepping", "finished"]
NEVER = -(1 << 62)


def checked_speed(speed: float | None) -> float | None:
    """The speed; raises `ValueError` where it is no number above 0."""
    if speed is None or (isinstance(speed, int | float) and 0 < speed < math.inf):
        return speed
    raise ValueError(f"expected a speed above 0, or None for as fast as possible, found {speed!r}")


class Pace:
    """One feed's place on the timeline."""

    def __init__(self, timeline: Timeline, rank: int) -> None:
        self.timeline, self.rank = timeline, rank
        self.head: int | None = None
        """Stamp of the row it waits with, ns; None while it does not wait."""
        self.reached = NEVER
        """Stamp of the last row it was let go with."""
        self.stopped = self.interrupted = False

    async def reach(self, stamps: Stamps, at: int) -> int:
        """Wait until the row `at` is due, and return the first row after it that is not; `at` where it was stopped.

        `stamps` are those of the rows to come in the order they are given, ns, never stepping back. Rows of one stamp
        are due together.
        """
        return await self.timeline.reach(self, stamps, at)

    def stop(self) -> None:
        """What it waits with will not be given any more."""
        self.stopped = True
        self.timeline.leave(self)

    def interrupt(self) -> None:
        """What it waits with is not wanted any more; it goes on, with other rows, when this is taken back."""
        self.interrupted = True
        self.timeline.look_again()

    def close(self) -> None:
        """Its feed has ended."""
        self.timeline.leave(self)

    @property
    def bound(self) -> tuple[int, int]:
        """It has no row before this stamp; of equal stamps the feed declared first goes first."""
        return (self.reached if self.head is None else self.head), self.rank


class _Step:
    """What is left of a step: rows, or a moment."""

    def __init__(self, rows: int | None, until_ns: int | None) -> None:
        self.rows, self.until_ns = rows, until_ns
        self.passed = 0
        self.done = anyio.Event()


class Timeline:
    """The time of one replayed phase, common to its feeds.

    At a speed the row with offset d from the first is due at wall start + d / speed, an absolute deadline, so that
    nothing drifts; what is late is let go at once, and how late it was is in `max_lag_ns`. Nothing that comes out
    depends on any of this: it decides only where batches are cut and when they go.
    """

    def __init__(self, clock: Clock, pacing: Pacing | None = None) -> None:
        self.clock = clock
        self.speed = None if pacing is None else pacing.speed
        self.max_idle_gap_ns = None if pacing is None else pacing.max_idle_gap_ns
        self.max_lag_ns = 0
        self._paces: list[Pace] = []
        self._expected = 0
        self._paused = False
        self._step: _Step | None = None
        self._anchor: tuple[int, int] | None = None
        """A moment of recorded time, and the monotonic time at which it was, both ns."""
        self._frozen_ns: int | None = None
        self._sleepers: set[anyio.CancelScope] = set()

    # -- feeds --------------------------------------------------------------------------------------------------

    def join(self) -> Pace:
        """A place for one more feed; all feeds join before any of them begins."""
        pace = Pace(self, self._expected)
        self._expected += 1
        self._paces.append(pace)
        return pace

    def leave(self, pace: Pace) -> None:
        if pace in self._paces:
            self._paces.remove(pace)
            self.look_again()

    async def reach(self, pace: Pace, stamps: Stamps, at: int) -> int:
        """See `Pace.reach`."""
        if pace.interrupted:
            return at
        if self.speed is None and not self._paused:
            pace.reached = int(stamps[-1])
            return len(stamps)
        pace.head = int(stamps[at])
        self.look_again(but=pace)
        try:
            while (stop := self._allowed(pace, stamps, at)) <= at:
                if pace.stopped or pace.interrupted:
                    return at
                await self._wait(pace)
        finally:
            pace.head = None
        pace.reached = int(stamps[stop - 1])
        return stop

    @property
    def holds(self) -> bool:
        """Whether feeds may have to wait here."""
        return self.speed is not None or self._paused

    @property
    def is_shared(self) -> bool:
        """Whether several feeds go by it, so that who waits here may keep what others sent from going on."""
        return len(self._paces) > 1

    @property
    def is_waiting(self) -> bool:
        """Whether all feeds wait for their time; those that have ended are no more."""
        return all(pace.head is not None for pace in self._paces)

    # -- control ------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        if self._expected and not self._paces:
            return "finished"
        if self._step is not None:
            return "stepping"
        if self._paused:
            return "paused"
        return "running" if any(pace.reached > NEVER or pace.head is not None for pace in self._paces) else "stopped"

    @property
    def now_ns(self) -> int | None:
        """The recorded time that has been reached, ns UTC; None before the first row."""
        if self.speed is not None and self._anchor is not None:
            return self._now(self._anchor)
        reached = max((pace.reached for pace in self._paces), default=NEVER)
        return None if reached == NEVER else reached

    def set_speed(self, speed: float | None) -> None:
        """Go on at another speed from here; None is as fast as it is taken."""
        checked = checked_speed(speed)
        now = self.now_ns
        self.speed = checked
        self._anchor = None
        if speed is not None and now is not None and not self._paused:
            self._anchor = (now, self.clock.monotonic_ns())
        self._frozen_ns = now if self._paused else None
        self.look_again()

    def pause(self) -> None:
        """Time stands still: no row goes that has not gone."""
        if not self._paused:
            self._frozen_ns = self.now_ns
            self._paused = True
            self.look_again()

    def resume(self) -> None:
        """Time goes on from where it stood still, or from where the last step ended."""
        if self._paused:
            self._end_step()
            now = self._moment()
            self._paused, self._frozen_ns = False, None
            self._anchor = None if now is None or self.speed is None else (now, self.clock.monotonic_ns())
            self.look_again()

    def seek(self, ts_ns: int) -> None:
        """Time is at this moment from now on, running or standing still."""
        running = self.speed is not None and not self._paused
        self._anchor = (ts_ns, self.clock.monotonic_ns()) if running else None
        self._frozen_ns = ts_ns
        self.look_again()

    async def step(self, *, rows: int | None = None, until_ns: int | None = None) -> int:
        """Let so many rows go, in order of their stamps over all feeds, or all before a moment; then stand still.

        Returns how many went: more than `rows` where several have the last stamp, fewer where the feeds have ended.
        """
        if (rows is None) == (until_ns is None):
            raise ValueError("expected either rows or until, a number of rows or a moment")
        if rows is not None and rows < 1:
            raise ValueError(f"expected to step by at least 1 row, found {rows}")
        if self._step is not None:
            raise PenstockError("expected no step while another is under way")
        self.pause()
        self._step = step = _Step(rows, until_ns)
        self.look_again()
        self._look_at_step()
        try:
            await step.done.wait()
        finally:
            if self._step is step:  # `resume` may have ended it, and another may be under way
                self._end_step()
        return step.passed

    # -- deciding -----------------------------------------------------------------------------------------------

    def _allowed(self, pace: Pace, stamps: Stamps, at: int) -> int:
        """The first row of `pace` that may not go yet."""
        if self._step is not None:
            return self._stepped(self._step, pace, stamps, at)
        if self._paused:
            return at
        if self.speed is None:
            return len(stamps)
        if self._anchor is None:
            if not self.is_waiting:
                return at  # the first of all rows is known when all feeds have come to theirs
            moment = self._moment()
            self._anchor = (self._first_head if moment is None else moment, self.clock.monotonic_ns())
            self.look_again(but=pace)
        anchor = self._anchor = self._without_gap(self._anchor)
        stop = int(np.searchsorted(stamps, self._now(anchor), side="right"))
        if stop > at:
            self.max_lag_ns = max(self.max_lag_ns, self.clock.monotonic_ns() - self._due(anchor, int(stamps[at])))
        return max(at, stop)

    def _stepped(self, step: _Step, pace: Pace, stamps: Stamps, at: int) -> int:
        if step.until_ns is not None:
            stop = max(at, int(np.searchsorted(stamps, step.until_ns, side="left")))
        elif not step.rows or step.done.is_set():
            return at
        else:
            others = [other.bound for other in self._paces if other is not pace]
            last = min(at + step.rows, len(stamps))
            if others:
                bound, rank = min(others)
                last = min(last, int(np.searchsorted(stamps, bound, side="right" if pace.rank < rank else "left")))
            if last <= at:
                return at
            stop = int(np.searchsorted(stamps, stamps[last - 1], side="right"))
            step.rows = max(0, step.rows - (stop - at))
        step.passed += stop - at
        if stop == at:
            self._look_at_step()
        elif step.rows == 0:
            step.done.set()
        return stop

    def _look_at_step(self) -> None:
        """A step to a moment is over when all feeds wait with a row that is not before it; any is when none is left."""
        step = self._step
        if step is None:
            return
        moment = NEVER if step.until_ns is None else step.until_ns
        arrived = step.until_ns is not None and all(
            pace.head is not None and pace.head >= moment for pace in self._paces
        )
        if not self._paces or arrived:
            step.done.set()

    def _end_step(self) -> None:
        step, self._step = self._step, None
        if step is not None:
            step.done.set()
            self._frozen_ns = step.until_ns if step.until_ns is not None else self._reached
            self._anchor = None

    @property
    def _reached(self) -> int | None:
        reached = max((pace.reached for pace in self._paces), default=NEVER)
        return None if reached == NEVER else reached

    def _moment(self) -> int | None:
        """Where time stands still, or stood last."""
        return self._frozen_ns if self._frozen_ns is not None else self._reached

    @property
    def _first_head(self) -> int:
        return min(pace.head for pace in self._paces if pace.head is not None)

    def _now(self, anchor: tuple[int, int]) -> int:
        if self._paused:
            return anchor[0] if self._frozen_ns is None else self._frozen_ns
        assert self.speed is not None
        return anchor[0] + int((self.clock.monotonic_ns() - anchor[1]) * self.speed)

    def _due(self, anchor: tuple[int, int], stamp: int) -> int:
        """Monotonic time at which a row is due."""
        assert self.speed is not None
        return anchor[1] + int(np.ceil((stamp - anchor[0]) / self.speed))

    def _without_gap(self, anchor: tuple[int, int]) -> tuple[int, int]:
        """Time jumps over what of a stretch without rows is longer than it may last."""
        gap = self.max_idle_gap_ns
        if gap is None or not self.is_waiting:
            return anchor
        if self._first_head - self._now(anchor) <= gap:
            return anchor
        self.look_again()
        return (self._first_head - gap, self.clock.monotonic_ns())

    # -- waiting ------------------------------------------------------------------------------------------------

    async def _wait(self, pace: Pace) -> None:
        """Until something changes, or the row it waits with is due."""
        due = None
        if self._step is None and not self._paused and self.speed is not None and self._anchor is not None:
            assert pace.head is not None
            due = self._due(self._anchor, pace.head)
        with self._sleeping():
            await (anyio.sleep_forever() if due is None else self.clock.sleep_until(due))

    @contextmanager
    def _sleeping(self) -> Iterator[None]:
        with anyio.CancelScope() as scope:
            self._sleepers.add(scope)
            try:
                yield
            finally:
                self._sleepers.discard(scope)

    def look_again(self, but: Pace | None = None) -> None:
        """Wake whoever waits, to look whether it may go."""
        for scope in tuple(self._sleepers):
            scope.cancel()
        if not self._paces:
            self._look_at_step()


def merged(stamps: Sequence[Stamps]) -> Stamps:
    """The stamps of several batches that cover the same time, in order."""
    return stamps[0] if len(stamps) == 1 else np.sort(np.concatenate(stamps), kind="stable")
