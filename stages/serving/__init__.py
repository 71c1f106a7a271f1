"""A recording served as its venue would: for clients that connect as they do to the venue itself.

It is the other side: a recording, told by the protocol it was recorded from. What that protocol is says a
`VenueServer` (`venues/serving.py`), plain functions in the venue's folder; sockets, time and faults are the same for
all. `playing.py` lets messages go when they are due; `script.py` decides what becomes of each by the faults
(`faults.py`); `audience.py` knows who asked for its stream, and puts it into each `client.py`'s queue, which is
bounded in bytes. `stock.py` follows behind with an interpreter, and catches up where a book is asked for; its calls
compute in a thread, one at a time. `server.py` has the port.
"""

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
