"""What a streaming manager buffers: items on their way, in order, and the names of their flushes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import pyarrow as pa

from .account import Account
from .base import Key, Recorder
from .values import Admitted


class BatchId(NamedTuple):
    """Names a flush: the same rows get the same id however often they are tried. Rows count from 0 per container."""

    container: str
    first_seq: int
    last_seq: int


class StreamItem(NamedTuple):
    """One thing handed to a flush: a value that replaces `key`, or a RecordBatch that extends its series."""

    key: Key
    value: Any
    append: bool


FlushCallback: TypeAlias = Callable[[Sequence[StreamItem], BatchId], Awaitable[None]]


class FlushRecorder(Recorder, Protocol):
    """A recorder that also notes how far flushes have come."""

    async def flushing(self, batch_id: BatchId, last_gen: int) -> None:
        """Return when it is noted that a batch with these bounds is about to be tried for the first time."""

    def flushed(self, batch_id: BatchId, last_gen: int) -> None:
        """The batch has been taken; what was recorded up to `last_gen` is not needed any more."""


class KeyState:
    """What a key holds: a value or a series, and whether a callback of the user's has it."""

    __slots__ = ("flushed", "letter", "schema", "series")

    def __init__(self) -> None:
        self.series = self.flushed = False
        self.letter: Path | None = None
        """The dead letters that its rows went to last, if nobody took them."""
        self.schema: pa.Schema | None = None


class Item:
    """One value or run of rows in a buffer."""

    __slots__ = ("admitted", "append", "charge", "gen", "key", "rows")

    def __init__(self, key: Key, admitted: Admitted, append: bool, rows: int) -> None:
        self.key, self.admitted, self.append, self.rows = key, admitted, append, rows
        self.charge = self.gen = 0


class Place:
    """A place in the line of those who wait for room in the buffer."""

    __slots__ = ("charge", "turn")

    def __init__(self, charge: int) -> None:
        self.charge = charge
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def call(self) -> None:
        """Look again: something has changed."""
        if not self.turn.done():
            self.turn.set_result(None)


class Buffer:
    """Items on their way, in order."""

    def __init__(self, first_seq: int) -> None:
        self.first_seq = first_seq
        self.items: list[Item] = []
        self.rows = self.bytes = self.charged = 0
        self.applied = 0
        """Items at the head that have taken effect where they were flushed to."""
        self.announced = False
        """Whether its bounds are in the journal."""

    @property
    def last_seq(self) -> int:
        return self.first_seq + self.rows - 1

    @property
    def last_gen(self) -> int:
        return max((item.gen for item in self.items), default=0)

    def batch_id(self, container: str) -> BatchId:
        return BatchId(container, self.first_seq, self.last_seq)

    def add(self, item: Item) -> None:
        self.items.append(item)
        self.rows += item.rows
        self.bytes += item.admitted.size
        self.charged += item.charge

    def remove(self, key: Key) -> int:
        """Take a key's items out and return what they were charged."""
        gone = [item for item in self.items if item.key == key]
        self.items = [item for item in self.items if item.key != key]
        self.rows -= sum(item.rows for item in gone)
        self.bytes -= sum(item.admitted.size for item in gone)
        freed = sum(item.charge for item in gone)
        self.charged -= freed
        return freed

    def rest(self) -> Sequence[Item]:
        return self.items[self.applied :]

    def advance(self) -> None:
        self.applied += 1


def pending(key: Key, flying: Buffer | None, active: Buffer) -> list[Item]:
    """What the buffers hold of a key, oldest first; what was stored before a replacement no longer counts."""
    rest = flying.rest() if flying is not None else ()
    found = [item for items in (rest, active.items) for item in items if item.key == key]
    if found and found[-1].append:
        stored = max((n for n, item in enumerate(found) if not item.append), default=-1)
        return found[stored + 1 :]
    return found


def refilled(first_seq: int, items: Sequence[Item], account: Account, keys: dict[Key, KeyState]) -> Buffer:
    """A buffer of items that an earlier process had buffered, charged as far as there is room."""
    buffer = Buffer(first_seq)
    for item in items:
        item.charge = min(item.admitted.size, account.limit - account.charged)
        account.take(item.charge)
        buffer.add(item)
        state = keys.setdefault(item.key, KeyState())
        state.series, state.schema = item.append, item.admitted.value.schema if item.append else None
    return buffer
