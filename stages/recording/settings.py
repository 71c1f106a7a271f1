"""What a person may say of a recording: where it lies, how its files roll, and for how long raw messages stay."""

from __future__ import annotations

from typing import Literal

from pipeline import Duration, parse_duration
from stages.interpreting import Interpreting

DAY_NS = 86_400_000_000_000
ROW_GROUP_ROWS = 131_072
"""Rows of a full row group; those at the end of a file, and of instruments of which little comes, have fewer."""
MAX_OPEN = 256
"""Files that are written at the same time; where more instruments have full row groups, files roll early."""


class Recording(Interpreting, frozen=True):
    """How messages are recorded; `folder` is where."""

    retention: Duration | None = "7d"
    """Raw messages older than this, whose records are in files, are removed a segment at a time; null: never."""
    roll_every: Duration = "15m"
    """Files end at each multiple of it, counted from midnight UTC, and at midnight."""
    roll_rows: int = 8_000_000
    """And after so many rows of all instruments together."""
    roll_mb: int = 1024
    """And after so many megabytes of rows, as they are in memory."""
    buffer_mb: int = 64
    """Rows that wait in memory for their row group; what is above goes to the files that are being written."""
    durability: Literal["process", "durable"] = "durable"
    """What a message survives once it is acknowledged: a kill, or also a loss of power."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("roll_rows", "roll_mb", "buffer_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")
        for name in ("retention", "roll_every", "stale_after", "snapshot_every"):
            if getattr(self, name) is not None:
                try:
                    parse_duration(getattr(self, name))
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None

    @property
    def retention_ns(self) -> int | None:
        return None if self.retention is None else parse_duration(self.retention)

    @property
    def roll_ns(self) -> int:
        return min(parse_duration(self.roll_every), DAY_NS)
