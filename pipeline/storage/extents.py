"""Where records lie: an extent within a segment, and what is known of each segment of a log."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa

from ..errors import CorruptEntry
from . import segments

T = TypeVar("T")


class Extent:
    """Where a record lies. The log moves it when it rewrites a segment; whoever owns it gives it back with `free`."""

    __slots__ = ("damaged", "gen", "key", "length", "offset", "readers", "segment", "space")

    def __init__(self, segment: Segment, offset: int, key: bytes, length: int, gen: int, space: int = 0) -> None:
        self.segment, self.offset, self.key, self.length, self.gen = segment, offset, key, length, gen
        self.space = space or self.num_bytes
        """Bytes of the segment it takes, those a larger record left before it included."""
        self.readers = 0
        """Threads that read it."""
        self.damaged = False
        """It did not pass verification: nothing is ever written to its place again."""

    @property
    def num_bytes(self) -> int:
        """Bytes on disk, head and key included."""
        return segments.record_bytes(len(self.key), self.length)


class Held(NamedTuple):
    """A record as it lies, whatever becomes of it meanwhile."""

    read: Callable[[], pa.Buffer]
    """Its payload, verified; blocking, in any thread."""
    let_go: Callable[[], None]
    """To be called once, on the loop."""


class Segment:
    """One file of the log. `tail` belongs to the thread that writes it, everything else to the loop."""

    __slots__ = (
        "closed", "draining", "fd", "live", "live_bytes", "path", "pins", "sealed", "tail", "uncommitted", "writing",
    )  # fmt: skip

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self.fd = path, fd
        self.tail = 0
        self.live: set[Extent] = set()
        self.live_bytes = 0
        self.pins = 0
        self.uncommitted = 0
        self.sealed = self.writing = self.closed = False
        self.draining = False
        """Its live records are being copied elsewhere."""


def read_verified(segment: Segment, offset: int, extent: Extent, then: Callable[[pa.Buffer], T]) -> T:
    """In a worker thread: the value, with one more try on a fresh descriptor before the record is called corrupt."""
    where = f"{segment.path}:{offset}"
    try:
        payload = segments.read_record(segment.fd, offset, extent.key, extent.length, extent.gen, where)
    except (OSError, CorruptEntry):
        try:
            fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CorruptEntry(extent.key, where, f"the file cannot be opened again: {error.strerror}") from error
        try:
            payload = segments.read_record(fd, offset, extent.key, extent.length, extent.gen, where)
        except OSError as error:
            raise CorruptEntry(extent.key, where, f"the disk cannot read it: {error.strerror}") from error
        finally:
            os.close(fd)
    assert payload is not None
    return then(payload)
