"""Who blocks the event loop from code of this project is told, in every test: T12.

`blockbuster` knows sleeps, sockets, locks and most calls on files. Added are those that storage rests on: opening,
syncing, reading and writing at a place. Reads that the kernel answers from memory or not at all do not block.
"""

from __future__ import annotations

import os
from typing import Any

from blockbuster import BlockBuster, BlockBusterFunction

PROJECT = ["pipeline", "stages"]
DISK_CALLS = ("fsync", "fdatasync", "ftruncate", "truncate", "open", "pread", "pwrite", "pwritev", "makedirs")
ALLOWED = {
    "an import reads files, wherever it is first needed": ("<frozen importlib._bootstrap>", {"_find_and_load"}),
    "so does asking what is installed": ("importlib/metadata/__init__.py", {"entry_points", "version", "from_name"}),
    "and a time zone that is first named": ("zoneinfo/_common.py", {"load_data"}),
    "or looked for": ("zoneinfo/_tzpath.py", {"find_tzfile"}),
    "where the log goes is the application's choice": ("logging/__init__.py", {"callHandlers"}),
    "a thread that has run its last line is joined": ("threading.py", {"join", "start"}),
}
"""Why, then how a file's name ends and the functions in it below which a call may block."""


def watch() -> BlockBuster:
    """Begin to raise `BlockingError` in whatever this project calls on a running loop that blocks."""
    watching = BlockBuster(PROJECT)
    scanned: Any = PROJECT
    for name in DISK_CALLS:
        watching.functions[f"os.{name}"] = BlockBusterFunction(None, f"os.{name}", scanned_modules=scanned)
    watching.functions["os.preadv"] = BlockBusterFunction(
        None, "os.preadv", scanned_modules=scanned, can_block_predicate=_not_waiting
    )
    watching.functions["io.open"] = BlockBusterFunction(None, "io.open", scanned_modules=scanned)
    watching.functions["builtins.open"] = BlockBusterFunction(None, "builtins.open", scanned_modules=scanned)
    for function in watching.functions.values():
        for place, names in ALLOWED.values():
            function.can_block_in(place, names)
    watching.activate()
    return watching


def _not_waiting(fd: int, buffers: Any, offset: int, flags: int = 0) -> bool:
    return bool(flags & getattr(os, "RWF_NOWAIT", 0))
