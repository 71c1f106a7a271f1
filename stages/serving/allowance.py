"""What clients may ask for in a minute: each request has a weight."""

from __future__ import annotations

from pipeline import Clock

_MINUTE = 60_000_000_000


class Allowance:
    """A budget that is whole again at the beginning of each minute of the clock, as venues count."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._minute = -1
        self.used = 0

    def takes(self, weight: int) -> bool:
        """Whether a request of this weight is allowed; counts it in either case."""
        minute = self._clock.now_ns() // _MINUTE
        if minute != self._minute:
            self._minute, self.used = minute, 0
        self.used += weight
        return self.used <= self.per_minute

    @property
    def whole_again_seconds(self) -> float:
        """How long until the next minute."""
        return (_MINUTE - self._clock.now_ns() % _MINUTE) / 1e9
