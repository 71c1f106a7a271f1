"""Lets a test on the event loop call what blocks, such as opening a folder, as a program's worker thread would."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def apart(call: Callable[..., T], *args: Any, **words: Any) -> T:
    """`call(*args)` in a thread of its own; the test waits for it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call, *args, **words).result()
