"""How much was tried: tests count, and the end of the session tells."""

from __future__ import annotations

from collections import Counter
from typing import Final

COUNTS: Final[Counter[str]] = Counter()


def count(what: str, times: int = 1) -> None:
    """So many more states, kills, faults, flips or cancellations were tried."""
    COUNTS[what] += times
