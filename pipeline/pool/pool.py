"""How much of the pool is taken, by whom, whose part of it is their own, and who is served next."""

from __future__ import annotations

from collections import OrderedDict
from heapq import nlargest
from typing import Final, Protocol

from ..clock import Clock, SystemClock
from .line import Holder, Line, Waiter
from .pressure import HYSTERESIS, Pressure

HIGH: Final = 0.90
"""Share of a budget above which values are spilled."""
LOW: Final = 0.75
"""Share of a budget at which spilling stops."""
GUARANTEED: Final = 0.25
"""Share of a manager's budget that is its own, as far as half the pool goes."""
ACTIVE_SECONDS: Final = 10.0
"""Who asked for room of a pool that is short counts so long among those it is shared by."""
HOLDERS_NAMED: Final = 3


class Relief(Protocol):
    """Whoever can make room by moving values to disk."""

    def press(self) -> None:
        """Begin or go on to make room; never waits."""

    @property
    def hopeful(self) -> bool:
        """Whether there is something to spill, or on its way to disk."""

    @property
    def refused(self) -> BaseException | None:
        """Why the disk took nothing last time."""


class Pool:
    """Bytes charged by all data managers and edges against `process_memory_mb`; the sum never exceeds it.

    Each manager's own limit is a ceiling within the pool, so their sum may be far above it. A quarter of its limit is
    a manager's own, or its part of half the pool if that is less; so those of all managers always fit, and what anybody
    has beyond is borrowed. When the pool is short the order is always: spill (above 90 %, down to 75 %; from whoever
    is furthest above its guarantee), then wait, then fail with an error that names the pool and who holds most of it.
    Who waits is served first come, first served, one request a turn; who has its fair share (the pool divided by those
    active in the last ten seconds) comes a second later. Lives on one loop.
    """

    def __init__(self, limit_bytes: int, clock: Clock | None = None) -> None:
        self.limit = limit_bytes
        self.high, self.low = int(HIGH * limit_bytes), int(LOW * limit_bytes)
        self.clock: Clock = clock or SystemClock()
        self.charged = 0
        self.peak = 0
        self.waits = 0
        """Times somebody had to wait for the pool."""
        self.spills = 0
        """Values written to disk because the pool was short, not their manager's own budget."""
        self.spilled_bytes = 0
        self.managers = 0
        """Accounts that share the pool, a group's members one by one."""
        self.budgets = 0
        """The sum of their own limits."""
        self.relief: Relief | None = None
        self.pressure = Pressure(self.clock)
        self.line = Line(self.clock)
        self._holders: dict[Holder, None] = {}
        self._active: OrderedDict[Holder, int] = OrderedDict()
        """Who asked for room of a short pool, and when last."""
        self._calm = int((HIGH - HYSTERESIS) * limit_bytes)
        self._short = self.high
        self._alarm = self._short
        """Who charges more than so much is noted."""
        self._serving = False

    # -- whose it is -------------------------------------------------------------------------------------------

    def join(self, budget: int, managers: int = 1) -> None:
        """So many more managers share the pool, with so large limits together."""
        self.managers += managers
        self.budgets += budget

    def part(self, budget: int, managers: int = 1) -> None:
        """So many fewer."""
        self.managers -= managers
        self.budgets -= budget

    def guarantee(self, budget: int, managers: int = 1) -> int:
        """What of the pool belongs to managers with such limits together, whatever others have."""
        return min(int(GUARANTEED * budget), managers * self.limit // (2 * max(1, self.managers)))

    @property
    def fair_share(self) -> int:
        """The pool divided by those who have asked a short one for room in the last ten seconds."""
        oldest = self.clock.monotonic_ns() - int(ACTIVE_SECONDS * 1e9)
        active = self._active
        while active and next(iter(active.values())) < oldest:
            active.popitem(last=False)
        return self.limit // max(1, len(active))

    # -- taking and giving -------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        return self.limit - self.charged

    @property
    def wanted(self) -> int:
        """Bytes the first in line needs; 0 when nobody waits."""
        return self.line.first.pool_need if self.line.first is not None else 0

    @property
    def hopeful(self) -> bool:
        """Whether spilling can make room."""
        return self.relief is not None and self.relief.hopeful

    def admits(self, waiter: object, need: int) -> bool:
        """Whether `need` bytes may be taken now: there is room, and nobody was here before."""
        return self.charged + need <= self.limit and (self.line.first is None or self.line.first is waiter)

    def take(self, holder: Holder, num_bytes: int) -> None:
        """Charge bytes that `admits` has allowed."""
        charged = self.charged = self.charged + num_bytes
        assert charged <= self.limit, (charged, self.limit)
        if charged > self.peak:
            self.peak = charged
        if holder.charged and holder not in self._holders:
            self._holders[holder] = None
        if charged > self._alarm:
            self._alarmed(holder)

    def give(self, holder: Holder, num_bytes: int) -> None:
        """Return bytes; whoever now fits is served in this same step."""
        self.charged -= num_bytes
        assert self.charged >= 0, self.charged
        if not holder.charged:
            self._holders.pop(holder, None)
        if self.line.first is not None:
            self.serve()
            self.press()
        if self._alarm != self._short:
            self._calmed(holder)

    # -- waiting -----------------------------------------------------------------------------------------------

    def line_up(self, waiter: Waiter) -> None:
        """Wait in line until `serve` is called; nothing happens to who is in it already."""
        if waiter not in self.line:
            self.waits += 1
            self._line_up(waiter)
            name = waiter.borrower.name if waiter.borrower is not None else "edges"
            if self.hopeful:
                self.pressure.spill(name, self.charged)
            self.pressure.throttle(name, waiter.pool_need)
            self._alarm = self._calm
        self.press()
        self.serve()

    def turn_taken(self, waiter: Waiter) -> None:
        """Who was served and wants more goes to the end of the line, so that everybody has one request a turn."""
        if self.line.first is waiter:
            self._line_up(waiter)

    def _line_up(self, waiter: Waiter) -> None:
        borrower = waiter.borrower
        patient = False
        if borrower is not None:
            self._is_active(borrower)
            patient = borrower.charged + waiter.pool_need > max(borrower.guarantee, self.fair_share)
        self.line.add(waiter, patient=patient)

    def leave(self, waiter: Waiter) -> None:
        """Leave the line, served or not."""
        if self.line.first is not None and self.line.remove(waiter):
            self.serve()
            self._calmed(waiter.borrower)

    def serve(self) -> None:
        """Serve from the head of the line while it fits."""
        if self._serving:
            return  # the loop below looks again
        self._serving = True
        try:
            while (first := self.line.first) is not None and self.charged + first.pool_need <= self.limit:
                before = self.charged
                first.serve()
                if self.line.first is not first:
                    continue
                if not first.pool_need:
                    self.line.remove(first)
                elif self.charged == before:
                    return  # it takes its bytes in a later step, and nobody before it
        finally:
            self._serving = False

    def press(self) -> None:
        """Make room if the pool is short."""
        if self.relief is not None and (self.line.first is not None or self.charged > self.high):
            self.relief.press()

    def squeeze(self, num_bytes: int) -> None:
        """Spill so many bytes, as far as they are borrowed: the pool may have room, the process has not."""
        self.high = self.low = max(0, min(self.low, self.charged - num_bytes))
        self.press()

    def relax(self) -> None:
        """No more than for the pool's own sake."""
        self.high, self.low = int(HIGH * self.limit), int(LOW * self.limit)

    # -- how short it is ---------------------------------------------------------------------------------------

    def _is_active(self, holder: Holder) -> None:
        self._active[holder] = self.clock.monotonic_ns()
        self._active.move_to_end(holder)

    def _alarmed(self, holder: Holder) -> None:
        """Somebody charges while the pool is short, or makes it so."""
        self._is_active(holder)
        if self.charged > self._short and self.hopeful:
            self.pressure.spill(holder.name, self.charged)
            self._alarm = self._calm

    def _calmed(self, holder: Holder | None) -> None:
        """Bytes came back, or somebody left the line: whether the pool is short no more."""
        waits = self.line.first is not None
        self.pressure.over(
            holder.name if holder is not None else "edges",
            self.charged,
            throttle=not waits and self.charged <= (1 - HYSTERESIS) * self.limit,
            spill=not waits and self.charged <= self._calm,
        )
        if not self.pressure.spilling and not self.pressure.throttling:
            self._alarm = self._short

    @property
    def largest(self) -> str:
        """Who holds most; empty where nobody holds anything."""
        return max(self._holders, key=lambda holder: holder.charged).name if self._holders else ""

    def refuse(self, name: str, need: int) -> str:
        """Note that somebody gets no room; why that is, who holds most, what to try: the end of an error's sentence."""
        self.pressure.fail(name, need)
        most = nlargest(HOLDERS_NAMED, self._holders, key=lambda holder: holder.charged)
        held = ", ".join(f"{holder.name} {holder.charged}" for holder in most)
        holding = f"most is held by {held} bytes" if held else "nobody holds any of it: what is asked for is more"
        refused = self.relief.refused if self.relief is not None else None
        return (
            f"the pool of the process (process_memory_mb) has {self.free} of {self.limit} bytes free, {holding}"
            + (f"; the disk refuses: {refused}" if refused else "")
            + "; raise process_memory_mb, "
            "or let its holders spill with mode: hybrid"
        )
