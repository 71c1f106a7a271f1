"""How late the event loop runs: a ticker that measures by how much it is woken too late."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns

import numpy as np

TICK_SECONDS = 0.01
KEPT = 4096


class LagProbe:
    """Samples loop lag every 10 ms while it runs; keeps the newest 4,096 samples and the largest."""

    def __init__(self) -> None:
        self.max_ns = 0
        self.samples = 0
        self._ring = np.zeros(KEPT, np.int64)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            due = perf_counter_ns() + int(TICK_SECONDS * 1e9)
            await asyncio.sleep(TICK_SECONDS)
            late = max(0, perf_counter_ns() - due)
            self._ring[self.samples % KEPT] = late
            self.samples += 1
            self.max_ns = max(self.max_ns, late)

    def percentile_ms(self, percent: float) -> float | None:
        """Milliseconds of lag that `percent` of the kept samples do not exceed; None before the first sample."""
        if not self.samples:
            return None
        return float(np.percentile(self._ring[: min(self.samples, KEPT)], percent)) / 1e6
