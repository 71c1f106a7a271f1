"""What a person says of the speed at which a recording is replayed."""

from __future__ import annotations

from typing import Literal

from pipeline import Duration, Pacing, Recipe, parse_duration


class ReplayClock(Recipe, frozen=True):
    """How fast a recording is replayed; `max` is as fast as its consumers take it, 1 as it was recorded."""

    speed: Literal["max"] | float = "max"
    max_idle_gap: Duration | None = None
    """Stretches without a row last no longer than this in recorded time, such as `5s`; left out: as they were."""

    def __post_init__(self) -> None:
        if self.speed != "max" and not self.speed > 0:
            raise ValueError(f"speed: expected max or a number above 0, found {self.speed:g}")

    @property
    def pacing(self) -> Pacing:
        gap = None if self.max_idle_gap is None else parse_duration(self.max_idle_gap)
        return Pacing(speed=None if self.speed == "max" else self.speed, max_idle_gap_ns=gap)
