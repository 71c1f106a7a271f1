"""A recording served as its venue would: for clients that connect as they do to the venue itself."""

from .faults import Cut, Disconnect, Drop, Duplicate, Fault, Refuse, Reorder, Snapshot, Stall, load_faults
from .server import ReplayServer

__all__ = [
    "Cut",
    "Disconnect",
    "Drop",
    "Duplicate",
    "Fault",
    "Refuse",
    "Reorder",
    "ReplayServer",
    "Snapshot",
    "Stall",
    "load_faults",
]
