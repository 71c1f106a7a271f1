"""The memory all containers of a process share."""

from .line import PATIENCE_SECONDS, Borrower, Holder, Line, Waiter
from .pool import HIGH, LOW, Pool, Relief
from .pressure import EVENTS_KEPT, HYSTERESIS, PoolEvent, Pressure

__all__ = [
    "EVENTS_KEPT",
    "HIGH",
    "HYSTERESIS",
    "LOW",
    "PATIENCE_SECONDS",
    "Borrower",
    "Holder",
    "Line",
    "Pool",
    "PoolEvent",
    "Pressure",
    "Relief",
    "Waiter",
]
