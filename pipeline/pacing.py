"""What a feed says of its speed; how it is kept says `timeline.py`."""

from __future__ import annotations

import msgspec


class Pacing(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a feed would be replayed."""

    speed: float | None = None
    """Seconds of recorded time in a second; None: as fast as its consumers take it."""
    max_idle_gap_ns: int | None = None
    """Stretches without a row last no longer than this, in recorded time; None: as long as they were."""
