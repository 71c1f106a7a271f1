"""Acts on the memory of the whole process, where that is the run's own: spill, then pause the feeds, then fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from ..clock import Clock
from ..containers.feeding import Gate
from ..errors import BudgetExceeded, ContainerFailed
from ..pool import HYSTERESIS, Pool
from ..storage.workspace import Workspace

SAMPLE_SECONDS: Final = 0.2
SPILL, PAUSE, FAIL = 0.80, 0.88, 0.95
"""Shares of what the process may have: above them values go to disk, feeds pause, a container fails."""
FAIL_SECONDS: Final = 5.0
"""How long it has to be above the last before a container fails."""
RELEASE_SECONDS: Final = 1.0
"""What was freed is asked back from the allocators once in so long at most, and more is spilled."""
PAUSE_SECONDS: Final = 30.0
"""After so long a pause the feeds go on a sample in ten: what holds the memory may need their rows to let go of it."""
SIP: Final = 10
MB: Final = 1 << 20
log = logging.getLogger("penstock.engine")


class ResidentWatch:
    """Samples the process's resident memory. Only for the command line: in anybody else's process growth is theirs.

    `resident` gives bytes in microseconds, `release` has the allocators give back what was freed, `largest` names the
    container that holds most of what may be let go (nothing durable), with its bytes.
    """

    def __init__(
        self,
        limit_bytes: int,
        pool: Pool,
        gate: Gate,
        clock: Clock,
        *,
        resident: Callable[[], int],
        release: Callable[[], object],
        largest: Callable[[], tuple[str, int] | None],
    ) -> None:
        self.limit, self.peak = limit_bytes, 0
        self._pool, self._gate, self._clock = pool, gate, clock
        self._resident, self._release, self._largest = resident, release, largest
        self._spilling = self._draining = False
        self._released_ns: int | None = None
        self._paused_ns: int | None = None
        self._sips = 0
        self._critical_ns: int | None = None

    async def run(self) -> None:
        """Until cancelled. Raises `ContainerFailed` where nothing has helped."""
        while True:
            await self._clock.sleep_until(self._clock.monotonic_ns() + int(SAMPLE_SECONDS * 1e9))
            self.look()

    def look(self) -> None:
        """Take one sample and act on it."""
        resident = self._resident()
        self.peak = max(self.peak, resident)
        now = self._clock.monotonic_ns()
        self._spill(resident, now)
        self._pause(resident, now)
        self._fail(resident, now)

    def drain(self) -> None:
        """The feeds are to end, and nothing holds them up any more."""
        self._draining = True
        self._gate.release()

    def _spill(self, resident: int, now: int) -> None:
        if resident > SPILL * self.limit and not self._spilling:
            self._spilling = True
            self._note("resident_spill", resident)
        elif self._spilling and resident <= (SPILL - HYSTERESIS) * self.limit:
            self._spilling = False
            self._pool.relax()
            self._note("resident_spill_over", resident)
        if self._spilling and (self._released_ns is None or now - self._released_ns >= RELEASE_SECONDS * 1e9):
            self._released_ns = now
            self._release()
            self._pool.squeeze(resident - int((SPILL - HYSTERESIS) * self.limit))

    def _pause(self, resident: int, now: int) -> None:
        if self._draining:
            return
        if self._paused_ns is None:
            if resident > PAUSE * self.limit:
                self._paused_ns = now
                self._gate.hold()
                self._note("resident_pause", resident)
        elif resident <= (PAUSE - HYSTERESIS) * self.limit:
            self._paused_ns = None
            self._gate.release()
            self._note("resident_resume", resident)
        elif now - self._paused_ns > PAUSE_SECONDS * 1e9:
            self._sips += 1
            if self._sips % SIP:
                self._gate.hold()
            else:
                self._gate.release()

    def _fail(self, resident: int, now: int) -> None:
        if resident <= (FAIL - HYSTERESIS) * self.limit:
            self._critical_ns = None
        elif self._critical_ns is None:
            if resident > FAIL * self.limit:
                self._critical_ns = now
        elif resident > FAIL * self.limit and now - self._critical_ns >= FAIL_SECONDS * 1e9:
            self._critical_ns = now
            found = self._largest()
            if found is None:
                log.error("the process is at %d MB of %d MB, and all it keeps is durable", *self._in_mb(resident))
                return
            self._note("resident_fail", resident)
            raise self._failure(resident, *found)

    def _failure(self, resident: int, name: str, held: int) -> ContainerFailed:
        used, allowed = self._in_mb(resident)
        pool = self._pool
        return ContainerFailed(
            name,
            BudgetExceeded(
                f"the process has been above {FAIL:.0%} of the memory it may have for {FAIL_SECONDS:g} s, and is at "
                f"{used:,} MB of {allowed:,} MB; spilling and pausing the feeds did not help. Of what is kept and not "
                f"durable '{name}' has most, {held} bytes; the pool (process_memory_mb) has charged {pool.charged} of "
                f"{pool.limit} bytes, the rest is the work of the containers themselves. Run fewer portfolios or "
                "smaller batches, or lower process_memory_mb so that more goes to disk"
            ),
        )

    def _in_mb(self, resident: int) -> tuple[int, int]:
        return resident // MB, self.limit // MB

    def _note(self, kind: str, resident: int) -> None:
        what = kind.removeprefix("resident_")
        log.warning("memory of the process: %s at %d MB of %d MB", what, *self._in_mb(resident))
        self._pool.pressure.note(kind, self._pool.largest, resident)


def memory_figures(pool: Pool, workspace: Workspace, watch: ResidentWatch | None) -> dict[str, Any]:
    """What became of the pool; loans are what was held for callers beside it, the reserve is eviction's."""
    return {
        "limit_bytes": pool.limit,
        "peak_bytes": pool.peak,
        "managers": pool.managers,
        "budgets_bytes": pool.budgets,
        "waits": pool.waits,
        "spills": pool.spills,
        "spilled_bytes": pool.spilled_bytes,
        "loaned_peak_bytes": workspace.loaned_peak_bytes,
        "reserve_limit_bytes": workspace.reserve.limit,
        "reserve_peak_bytes": workspace.reserve.peak,
        "resident_peak_bytes": None if watch is None else watch.peak,
        **pool.pressure.figures(),
    }
