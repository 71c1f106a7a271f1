"""Who blocks the event loop from code of this project is told, in every test: T12.

`blockbuster` knows sleeps, sockets, locks and most calls on files. Added are those that storage rests on: opening,
syncing, reading and writing at a place. Reads that the kernel answers from memory or not at all do not block.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

from blockbuster import BlockBuster, BlockBusterFunction

PROJECT = ["pipeline", "stages"]
TESTS = str(Path(__file__).parent)
OURS = tuple(str(Path(TESTS).parent / name) for name in PROJECT)
LOOP_CALLS = frozenset({"append", "append_rows", "trim", "submit", "stats", "keys", "cut"})
"""Plain functions that are called on the loop and must not block it, though a test itself calls them."""
_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
DISK_CALLS = ("fsync", "fdatasync", "ftruncate", "truncate", "open", "pread", "pwrite", "pwritev", "makedirs")
ALLOWED = {
    "an import reads files, wherever it is first needed": ("<frozen importlib._bootstrap>", {"_find_and_load"}),
    "so does asking what is installed": ("importlib/metadata/__init__.py", {"entry_points", "version", "from_name"}),
    "and a time zone that is first named": ("zoneinfo/_common.py", {"load_data"}),
    "or looked for": ("zoneinfo/_tzpath.py", {"find_tzfile"}),
    "where the log goes is the application's choice": ("logging/__init__.py", {"callHandlers"}),
    "what the kernel tells of this process lies on no disk": ("pipeline/machine.py", {"__call__"}),
    "a thread that has run its last line is joined": ("threading.py", {"join", "start"}),
}
"""Why, then how a file's name ends and the functions in it below which a call may block."""


def watch() -> BlockBuster:
    """Begin to raise `BlockingError` in whatever this project calls on a running loop that blocks."""
    watching = BlockBuster(PROJECT)
    added = [f"os.{name}" for name in (*DISK_CALLS, "preadv")] + ["io.open", "builtins.open"]
    for name in added:
        watching.functions[name] = BlockBusterFunction(None, name, scanned_modules=cast(Any, PROJECT))
    watching.functions["os.preadv"].can_block_predicate = _not_waiting
    for function in watching.functions.values():
        for place, names in ALLOWED.values():
            function.can_block_in(place, names)
        function.can_block_predicate = _either(function.can_block_predicate)
    watching.activate()
    return watching


def _not_waiting(fd: int, buffers: Any, offset: int, flags: int = 0) -> bool:
    return bool(flags & getattr(os, "RWF_NOWAIT", 0))


def _either(allows: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *args, **words: allows(*args, **words) or _test_itself_blocks()


def _test_itself_blocks() -> bool:
    """Whether a test has called a plain function of the project that says it blocks, such as `StorageRoot.open`.

    What a test awaits is not that, nor what is called on the loop by its kind: the way from the call that blocks up to
    the test leads through a coroutine, or through a function for the loop.
    """
    frame = sys._getframe(3)
    entered: FrameType | None = None
    while frame is not None:
        name = frame.f_code.co_filename
        if name.endswith("asyncio/events.py"):
            return False
        if name.startswith(TESTS):
            return entered is None or not (entered.f_code.co_flags & _ASYNC or _is_for_the_loop(entered.f_code.co_name))
        if name.startswith(OURS):
            entered = frame
        frame = cast(FrameType, frame.f_back)
    return False


def _is_for_the_loop(name: str) -> bool:
    return name in LOOP_CALLS or name.endswith("_nowait")
