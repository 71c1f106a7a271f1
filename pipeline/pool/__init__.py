"""The memory all containers of a process share.

Who has how much guaranteed, who waits in which order (`line.py`), how short it is and what was done about it
(`pressure.py`): spill, wait, fail. `data/relief.py` spills for it, from the one `data/victims.py` finds furthest
above its guarantee, with copies in a reserve of their own (`storage/reserve.py`). `machine.py` says how large it is
by default; where the process is the run's own, `engines/resident.py` acts on all of its memory.
"""

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
