"""How long to wait before trying again: longer each time, never the same for everyone."""

from __future__ import annotations

import numpy as np

FIRST_SECONDS = 0.5
CAP_SECONDS = 60.0


class Backoff:
    """Delays that double from `first` to `cap` seconds, each drawn between half of itself and the whole.

    Drawn, because all connections of a venue are lost at once when it restarts, and must not come back at once.
    """

    def __init__(self, random: np.random.Generator, first: float = FIRST_SECONDS, cap: float = CAP_SECONDS) -> None:
        self.random, self.first, self.cap = random, first, cap
        self.tries = 0

    def next(self) -> float:
        """Seconds to wait now."""
        longest: float = min(self.cap, self.first * 2 ** min(self.tries, 62))
        self.tries += 1
        return longest * float(self.random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """It works: the next delay is a first one."""
        self.tries = 0
