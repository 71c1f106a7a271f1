"""The one interface of the four data managers: a container's keyed store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec
import pyarrow as pa

from ..errors import InvalidKey
from ..storage.names import format_uri
from .values import Admitted

Key: TypeAlias = str | bytes
MAX_KEY_BYTES = 65_535


class DataStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one data manager; all sizes in bytes."""

    mode: str
    entries: int = 0
    limit_bytes: int | None = None
    charged_bytes: int = 0
    """What is held in memory now, in-flight copies included.

    A value larger than the whole budget is its sender's, who waits until it is on disk or flushed; in the modes
    that take one it is charged as far as the budget goes.
    """
    peak_bytes: int = 0
    disk_bytes: int = 0
    misses: int = 0
    """Look-ups of keys that are not here. Hits are not counted: that would cost each of them a tenth."""
    evictions: int = 0
    evicted_bytes: int = 0
    restores: int = 0
    flushes: int = 0
    flushed_rows: int = 0
    waits: int = 0
    """Times a caller waited for admission."""
    dropped: int = 0
    """Values lost by a declared policy (`on_full: evict_oldest`)."""
    dropped_bytes: int = 0
    corrupt: int = 0
    """Values that did not come back from disk as they were written; the log names each."""
    corrupt_bytes: int = 0
    retries: int = 0
    """Attempts of a flush after its first."""
    timeouts: int = 0
    """Attempts of a flush that took longer than `flush_timeout_seconds`."""
    dead_letters: int = 0
    """Rows of flushes that nobody took, in `dead_letters/`."""
    journal_bytes: int = 0
    """Of records in the journal that still count."""


class Recorder(Protocol):
    """Is told of every change in the very step of the loop in which it takes effect; answers with its number."""

    def stored(self, key: Key, admitted: Admitted) -> int: ...

    def extended(self, key: Key, batches: Sequence[pa.RecordBatch]) -> int: ...

    def deleted(self, key: Key) -> int: ...

    def dropped(self, key: Key, num_bytes: int) -> None:
        """Some of what the key held was dropped by a declared policy."""


class DataManager(ABC):
    """Keyed store of one container. Same interface and same answers in all modes.

    Keys are str or bytes of at most 65,535 bytes; values are Arrow batches and tables, pandas and polars frames,
    numpy arrays, bytes, str, structs, and dicts and lists of plain values. Stored values are treated as
    immutable. Every call takes effect at one step of the event loop. All methods belong to one loop.
    """

    mode: str
    recorder: Recorder | None = None
    """Who is told of changes; a manager's own business, set before anything is stored."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    async def store(self, key: Key, value: Any, *, size: int | None = None) -> str:
        """Keep `value` under `key`, replacing what was there, and return its URI. `size` in bytes overrides sizing."""

    @abstractmethod
    async def append(self, key: Key, rows: Any) -> str:
        """Extend the series under `key` with rows (RecordBatch, Table, Batch, frame or list of structs)."""

    @abstractmethod
    async def retrieve(self, key: Key) -> Any:
        """The value; a series as one `pyarrow.Table`. Raises KeyError when there is none."""

    @abstractmethod
    def retrieve_nowait(self, key: Key) -> Any:
        """The value if it is in memory; raises `NotResident` when it is on disk, KeyError when there is none."""

    @abstractmethod
    def iter_batches(self, key: Key) -> AsyncIterator[pa.RecordBatch]:
        """The value as record batches, one at a time, never whole in memory when it lies on disk."""

    async def peek(self, key: Key) -> Any:
        """The value for the caller alone: what lies on disk is read without becoming resident."""
        return await self.retrieve(key)

    def schema_nowait(self, key: Key) -> pa.Schema | None:
        """Columns of Arrow data if they are known without reading it, else None. KeyError when there is no key."""
        return None

    @abstractmethod
    async def delete(self, key: Key) -> None:
        """Forget the key; KeyError when there is none."""

    @abstractmethod
    def keys(self) -> Sequence[Key]:
        """All keys, in order of first storing."""

    @abstractmethod
    async def flush(self) -> None:
        """Return when everything buffered has been handed on."""

    @abstractmethod
    async def close(self) -> None:
        """Flush, finish I/O and release everything; idempotent. Later calls raise `ManagerClosed`."""

    @abstractmethod
    def stats(self) -> DataStats: ...

    def uri(self, key: Key) -> str:
        """A logical name that does not change when the value moves between tiers: `memory://features/ema`."""
        key_bytes(key)
        return format_uri("memory", self.name, key)

    async def store_result(self, key: Key, value: Any) -> str:
        return await self.store(key, value)

    async def get_stored_result(self, key: Key) -> Any:
        return await self.retrieve(key)

    async def get_final_results(self) -> dict[Key, str]:
        """Every key with its URI, after a flush."""
        await self.flush()
        return {key: self.uri(key) for key in self.keys()}


def key_bytes(key: Key) -> bytes:
    """The key as bytes; raises `InvalidKey`."""
    if isinstance(key, str):
        try:
            raw = key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(f"key {key!r} holds a lone surrogate and has no UTF-8 form") from error
    elif isinstance(key, bytes):
        raw = key
    else:
        raise InvalidKey(f"expected a key of type str or bytes, found {type(key).__name__}")
    if len(raw) > MAX_KEY_BYTES:
        raise InvalidKey(f"expected a key of at most {MAX_KEY_BYTES} bytes, found {len(raw)}")
    return raw
