"""What a verification found: how much was read, and what of it is bad."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..storage.holder import Holder

Progress = Callable[[int], None]
"""Is called with the bytes that have been read since the last call."""


class Bad(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was written."""

    file: str
    expected: str
    found: str
    try_: str = msgspec.field(name="try")


class Verified(msgspec.Struct, kw_only=True):
    """What was looked at, and what of it is bad."""

    folder: str
    phase: str | None
    why: str = ""
    """Where another folder was given: how it leads to this one."""
    held_by: Holder | None
    manifest: int = 0
    lines: int = 0
    files: int = 0
    num_bytes: int = msgspec.field(name="bytes", default=0)
    without_checksum: int = 0
    """Files of which only the length could be compared."""
    parquet_files: int = 0
    checkpoints: int = 0
    segments: int = 0
    records: int = 0
    """Of the journal, those that are dead included."""
    letters: int = 0
    """Records in dead letter files that no manifest lists yet."""
    notes: list[str] = msgspec.field(default_factory=list)
    bad: list[Bad] = msgspec.field(default_factory=list)
