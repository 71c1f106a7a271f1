"""Writes anew what the oldest records of a container hold, when much between them is dead, so that they can go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa

from ..storage.codecs import Buffer
from . import records
from .base import Key
from .records import BASE
from .values import Admitted, batches_size

if TYPE_CHECKING:
    from .recording import Recording

log = logging.getLogger(__name__)

SLACK_BYTES: Final = 16 << 20
"""Dead bytes of a container that are left alone, beside as many as are alive."""
Piece: TypeAlias = Any
"""A value as it was admitted, a record batch of a series, or None for a series without any rows."""
Read: TypeAlias = Callable[[str | None, Key], AsyncIterator[Piece]]
"""What a member's key, or the container's own, holds; at least one piece. Its first step fixes what is given."""


class Rewriter:
    """Of one recording; at most one key is rewritten at a time.

    The pieces a key is made of are written behind everything else, and the last of them puts all of them in the place
    of the records before the first. A process that dies before leaves pieces that count for nothing.
    """

    def __init__(self, recording: Recording, read: Read, slack_bytes: int = SLACK_BYTES) -> None:
        self._recording, self._read, self._slack = recording, read, slack_bytes
        self.tell_again: Callable[[Key], Awaitable[bool | None]] | None = None
        """Tells anew of a key whose files are kept. False: what it holds is written anew; None: it stays as it is."""
        self.rewrites = 0
        """Keys rewritten."""
        self.rests = False
        """Whether nothing is gained before records are given up."""
        self._task: asyncio.Task[None] | None = None
        self._busy = False
        """Whether a key is being rewritten."""
        self._name: Hashable = None
        self._broken = False
        """The key means something else by now."""
        self._since: list[pa.RecordBatch] = []
        """Rows that were appended while the others were read."""

    def changed(self, name: Hashable, batches: Sequence[pa.RecordBatch] | None) -> None:
        """A key changes: it is replaced or deleted, or extended by these."""
        if name != self._name:
            return
        if batches is None:
            self._broken = True
        else:
            self._since.extend(batches)

    def begin_if_due(self) -> None:
        if self._task is None and not self._busy and not self.rests and self._due():
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._ended)

    def _due(self) -> bool:
        live = self._recording.live
        return live.dead_bytes > max(self._slack, live.live_bytes)

    async def _run(self) -> None:
        recording = self._recording
        until = recording.gen
        while self._due() and recording.live.dead_up_to < until and not recording.behind:
            name = recording.live.oldest
            if not isinstance(name, tuple):
                self.rests = True  # rows of members that lie together are never replaced, and stay where they are
                return
            told = False if self.tell_again is None else await self.tell_again(name[1])
            if told is None:
                self.rests = True
                return
            if told:
                self.rewrites += 1
            else:
                await self.rewrite(*name)
            recording.trim()
        self.rests = recording.checkpointed and self._due()

    async def rewrite(self, member: str | None, key: Key) -> None:
        recording = self._recording
        live, name = recording.live, (member, key)
        run = recording.next_gen()
        place = ("rewritten", run, key)
        fields: dict[str, Any] = {"member": member, "birth": recording.births.get(name, 0)}
        self._busy, self._name, self._broken, self._since = True, name, False, []
        live.replaced(place, run, 0)

        def send(piece: Piece, ends: bool) -> None:
            encode: Callable[[], Sequence[Buffer]]
            if isinstance(piece, Admitted):
                numbers, size = (run, int(ends), 0), piece.size
                encode = partial(
                    records.of_value, key, piece.value, piece.kind, size=size, numbers=numbers, **fields
                )  # fmt: skip
            else:
                numbers, batches = (run, int(ends), 1), [] if piece is None else [piece]
                encode, size = partial(records.of_rows, key, batches, numbers=numbers, **fields), batches_size(batches)
            recording.send(BASE, records.raw_key(key), place, encode, size)

        try:
            pending: list[Piece] = []
            async with aclosing(self._read(member, key)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    if pending:
                        send(pending.pop(), False)
                        await recording.settle()
                    if self._broken:
                        return
                    pending.append(piece)
            if self._broken:
                return
            pending.extend(self._since)
            self._name = None  # what changes from now on comes behind the pieces
            for number, piece in enumerate(pending, 1):
                send(piece, number == len(pending))
            await recording.settle()
            held = live.keys.get(name)
            if held is not None and held.first_gen < run:
                live.moved(name, place)
            self.rewrites += 1
        except KeyError:
            live.forgotten(name, run)
        finally:
            self._busy, self._name, self._since = False, None, []
            live.forgotten(place, run)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            log.warning("%s: records in the journal are not rewritten: %s", self._recording.container, task.exception())

    async def close(self) -> None:
        self.rests = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
