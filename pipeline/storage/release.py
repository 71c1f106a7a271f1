"""Memory that was freed goes back to the operating system: allocators keep what they may need again."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Final

import pyarrow as pa

CHURN_BYTES: Final = 32 << 20
"""So much has to be freed anew before it is worth walking the allocators' lists again, which takes milliseconds."""


def release_memory() -> None:
    """Return freed pages of Arrow's pool and, where it is glibc's, of the C library's heap. Blocking."""
    pa.default_memory_pool().release_unused()
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`; other C libraries return memory by themselves."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):
        return None
