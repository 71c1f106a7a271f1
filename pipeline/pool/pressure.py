"""How short the pool is: spill, then throttle, then fail, each change of state told once."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..clock import Clock

EVENTS_KEPT: Final = 256
"""Of the newest events; older ones are only counted."""
HYSTERESIS: Final = 0.05
"""How far below the share of the budget at which a state begins it ends."""


class PoolEvent(msgspec.Struct, frozen=True):
    """One change: a state begins (`spill`, `throttle`) or ends (`spill_over`, `throttle_over`), or somebody is refused
    (`fail`). Those of the whole process are `resident_spill`, `resident_pause`, `resident_resume`, `resident_fail`.
    """

    seconds: float
    """Monotonic, since the pool was made."""
    kind: str
    container: str
    """Who made it so: took the bytes that were too many, waits, was refused, or holds most."""
    bytes: int
    """What the pool has charged; of a failure and a throttle what was asked for; of `resident_` ones the process's."""


class Pressure:
    """The states of one pool, and what became of them. `spill` begins before `throttle`, and that before `fail`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic_ns()
        self.spilling = self.throttling = False
        self.counts: Counter[str] = Counter()
        """Events of each kind, those no longer kept included."""
        self.events: deque[PoolEvent] = deque(maxlen=EVENTS_KEPT)

    @property
    def said(self) -> str:
        """The state in a word, empty when nothing is short."""
        return "throttled" if self.throttling else "spilling" if self.spilling else ""

    def note(self, kind: str, container: str, num_bytes: int) -> None:
        self.counts[kind] += 1
        seconds = (self._clock.monotonic_ns() - self._began) / 1e9
        self.events.append(PoolEvent(seconds, kind, container, num_bytes))

    def spill(self, container: str, charged: int) -> None:
        """Values have to go to disk from now on."""
        if not self.spilling:
            self.spilling = True
            self.note("spill", container, charged)

    def throttle(self, container: str, need: int) -> None:
        """Somebody waits."""
        if not self.throttling:
            self.throttling = True
            self.note("throttle", container, need)

    def fail(self, container: str, need: int) -> None:
        """Somebody was refused for the pool's sake."""
        self.note("fail", container, need)

    def over(self, container: str, charged: int, *, throttle: bool, spill: bool) -> None:
        """There is room again: these states end, the later one first."""
        if throttle and self.throttling:
            self.throttling = False
            self.note("throttle_over", container, charged)
        if spill and self.spilling and not self.throttling:
            self.spilling = False
            self.note("spill_over", container, charged)

    def figures(self) -> Mapping[str, Any]:
        """For `run.json`."""
        return {
            "event_counts": dict(sorted(self.counts.items())),
            "events": [msgspec.structs.asdict(event) for event in self.events],
        }
