"""What a person may say of a recording: where it lies, how its files roll, and for how long raw messages stay."""

from __future__ import annotations

from typing import Literal

from pipeline import Duration, Recipe, parse_duration
from stages.interpreting import Interpreting
from stages.interpreting.settings import chosen

DAY_NS = 86_400_000_000_000
ROW_GROUP_ROWS = 131_072
"""Rows of a full row group; those at the end of a file, and of instruments of which little comes, have fewer."""
MAX_OPEN = 256
"""Files that are written at the same time; where more instruments have full row groups, files roll early."""


class Rolling(Recipe, frozen=True):
    """For how long raw messages stay, when files roll, and what waits in memory."""

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
        for name in ("roll_rows", "roll_mb", "buffer_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")
        _check_durations(self, "retention", "roll_every")

    @property
    def retention_ns(self) -> int | None:
        return None if self.retention is None else parse_duration(self.retention)

    @property
    def roll_ns(self) -> int:
        return min(parse_duration(self.roll_every), DAY_NS)


class Recording(Rolling, frozen=True):
    """How messages are recorded: how they become records, and how these become files."""

    interpreting: Interpreting = Interpreting()


class RecordTo(Rolling, frozen=True, kw_only=True):
    """The `record:` of a live feed."""

    folder: str
    """Where the recording lies. One process writes to it at a time; others may read."""
    backfill: tuple[str, ...] = ()
    """Captures that are taken in before the venue is connected to; what is there already is passed over."""

    def settings(self, interpreting: Interpreting) -> Recording:
        """All settings of the recording of a feed that interprets like this."""
        own = {name: getattr(self, name) for name in Rolling.__struct_fields__}
        return Recording(interpreting=chosen(interpreting), **own)


def _check_durations(recipe: Recipe, *names: str) -> None:
    for name in names:
        value = getattr(recipe, name)
        if value is not None:
            try:
                parse_duration(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
