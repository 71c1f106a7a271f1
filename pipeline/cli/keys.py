"""Keys a person presses while something runs: told one by one, without Enter, and the terminal is left as it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator

ARROWS = {b"\x1b[C": "right", b"\x1b[D": "left", b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOC": "right"}


@contextlib.contextmanager
def pressed(told: Callable[[str], None]) -> Iterator[bool]:
    """Call `told` with each key (`q`, ` `, `right`) while inside; whether there is a terminal that could tell.

    Ctrl-C stays what it is. The terminal's settings come back however this is left.
    """
    try:
        descriptor = sys.stdin.fileno()
        watched = os.isatty(descriptor)
    except (AttributeError, OSError, ValueError):  # closed, or no file at all
        watched = False
    if not watched:
        yield False
        return
    import termios
    import tty

    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(OSError):
            for key in keys_in(os.read(descriptor, 64)):
                told(key)

    try:
        tty.setcbreak(descriptor)
        loop.add_reader(descriptor, read)
        yield True
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def keys_in(data: bytes) -> list[str]:
    """The keys that these bytes of a terminal mean; sequences nobody knows are none."""
    found: list[str] = []
    while data:
        sequence = next((known for known in ARROWS if data.startswith(known)), None)
        if sequence is not None:
            found.append(ARROWS[sequence])
            data = data[len(sequence) :]
        elif data[:1] == b"\x1b":
            break
        else:
            found.append(data[:1].decode("latin-1"))
            data = data[1:]
    return found
