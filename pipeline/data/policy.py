"""A container's data-flow policy: schema, defaults and documentation of `data_flow:` at once. MB is 2^20 bytes."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

Mode = Literal["memory", "streaming", "file", "hybrid"]
Durability = Literal["ephemeral", "process", "durable"]
LARGEST: Final = 1e9
"""More megabytes, or seconds, are no number of bytes, or nanoseconds, that could be meant."""
Positive = Annotated[float, msgspec.Meta(gt=0, le=LARGEST)]
MB = 1 << 20


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the structs of a configuration."""


class StreamingSettings(Settings, frozen=True):
    buffer_size: Annotated[int, msgspec.Meta(gt=0)] = 1000
    """Rows buffered before a flush."""
    buffer_mb: Positive = 8
    """Megabytes buffered before a flush, whichever comes first."""
    max_age_seconds: Positive | None = None
    """Seconds after which a buffered row is flushed even if the buffer is not full."""
    max_attempts: Annotated[int, msgspec.Meta(gt=0)] = 1
    """Times a flush is tried in all; a callback that is tried again must know a batch by its `batch_id`."""
    backoff_seconds: Positive = 0.5
    """Wait before the second attempt; doubled before each further one, to a minute at most; by lot up to half less."""
    flush_timeout_seconds: Positive | None = 60
    """An attempt of a flush callback that takes longer has failed."""
    on_failure: Literal["fail", "dead_letter"] = "fail"
    """After the last attempt: keep the rows and fail the container, or put them into a dead-letter file and go on."""


class FileSettings(Settings, frozen=True):
    format: Literal["parquet", "arrow"] = "parquet"
    compression: Literal["snappy", "zstd", "lz4", "gzip", "none"] = "snappy"
    roll_rows: Annotated[int, msgspec.Meta(gt=0)] | None = None
    """Rows of a series after which a part of it becomes a file, whichever bound comes first."""
    roll_mb: Positive = 16
    """Megabytes of a series after which a part of it becomes a file."""
    roll_seconds: Positive | None = None
    """Seconds after which rows of a series become a file even if they are few."""


class Persistence(Settings, frozen=True):
    on_completion: bool = True
    """Whether what is held at the end is written to the run's folder, one file per container or group and key."""
    format: Literal["parquet"] = "parquet"


class DataFlow(Settings, frozen=True):
    """How one container keeps its results and, where asked, its output."""

    mode: Mode = "memory"
    memory_limit_mb: Positive = 100
    """A ceiling in megabytes, not a reservation."""
    on_full: Literal["reject", "evict_oldest", "block"] = "reject"
    """`memory` mode when full: refuse with an error, drop the oldest value (counted), or wait for room."""
    admission_timeout_seconds: Positive = 30
    durability: Durability = "ephemeral"
    """What is acknowledged survives nothing, the end of the process (kill -9), or a loss of power as well."""
    schema_evolution: Literal["fixed", "widen"] = "fixed"
    """`file` mode, rows whose types differ from their series': refuse, or take them where wider types hold both."""
    disk_limit_mb: Positive | None = None
    """Ceiling of spilled bytes (`hybrid`)."""
    min_free_disk_mb: Annotated[float, msgspec.Meta(ge=0, le=LARGEST)] | None = None
    """Spilling leaves so many megabytes free on the disk; None: 1 GiB or 5 %, at most a tenth of a small disk."""
    copy: bool = False
    """Store a copy, so that a value its owner changes afterwards stays as it was stored."""
    keep_output: Literal["none", "recent", "all"] | None = None
    """Whether output batches are kept beside results; None: all where a mode is configured (memory: recent)."""
    streaming_settings: StreamingSettings = StreamingSettings()
    file_settings: FileSettings = FileSettings()
    persistence: Persistence = Persistence()

    @property
    def memory_limit_bytes(self) -> int:
        return int(self.memory_limit_mb * MB)
