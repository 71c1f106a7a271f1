"""A recording served as its venue would: for clients that connect as they do to the venue itself."""

from typing import TYPE_CHECKING, Any

from .faults import Cut, Disconnect, Drop, Duplicate, Fault, Refuse, Reorder, Snapshot, Stall, load_faults

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    """The server, whose library only those need who serve."""
    if name == "ReplayServer":
        from .server import ReplayServer

        return ReplayServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
