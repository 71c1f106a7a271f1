"""Records what venues send: messages to the log first, then interpreted, and in files before long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline import Recorded, RecordFolder, StateMismatch, StateOf, StorageFailed, open_recording, packed, unpacked
from stages.interpreting import Interpreted
from stages.messages import Messages
from stages.venues import Venue, venue_named

from .partitions import Partitions
from .settings import Recording
from .stream import Stream

STATE = StateOf("recording", 1)
SEGMENT_BYTES = 16 << 20
"""What goes at once when it is older than `retention`: so much of raw messages may be older than that."""
log = logging.getLogger("penstock.recording")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a recorder has done since it was opened."""

    messages: int
    """Recorded, those that were interpreted again after a crash not among them."""
    rows: int
    raw_bytes: int
    """In the log, as it lies on disk."""
    files: int
    file_bytes: int
    waiting_rows: int
    """Rows that are in no committed file yet."""
    newest_ts: int
    """When the latest message came, ns."""
    expired_segments: int
    again: int
    """Messages of the log that were interpreted again when the folder was opened."""


def open_recorder(folder: str | Path, settings: Recording | None = None, *, repair: bool = False) -> Recorder:
    """A recording in a folder, to be entered with `async with`; one process holds a folder at a time.

    Entering goes on where the last one stopped: files that were committed stand, and messages behind them are read
    from the log and interpreted again. Raises what `open_recording` does, and `StateMismatch` where the settings are
    others than what the folder was recorded with.
    """
    return Recorder(Path(folder), settings or Recording(), repair=repair)


class Recorder:
    """What `open_recorder` gives. `take` messages in the order they came, of one venue or of several."""

    def __init__(self, folder: Path, settings: Recording, *, repair: bool = False) -> None:
        self.settings = settings
        self.folder: RecordFolder = open_recording(
            folder, durability=settings.durability, repair=repair, segment_bytes=SEGMENT_BYTES
        )
        self._streams: dict[str, Stream] = {}
        self._partitions = Partitions(self.folder, settings.buffer_mb << 20)
        self._next_seq = 0
        self._position = 0
        self._messages = self._rows = self._files = self._file_bytes = self._expired = self._again = 0
        self._failed: BaseException | None = None
        self._closed = False
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Recorder:
        await self.folder.__aenter__()
        try:
            await self._go_on()
        except BaseException:
            await self.folder.apart(self._partitions.discard)
            await self.folder.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        await self.close()

    def stream(self, venue: Venue) -> Stream:
        """What is remembered of a venue."""
        if venue.name not in self._streams:
            self._streams[venue.name] = Stream(venue, self.settings)
        return self._streams[venue.name]

    async def take(self, messages: Messages, venue: Venue) -> list[Interpreted]:
        """Record messages and interpret them; they are acknowledged when this returns what they came to.

        They are numbered anew, after those the folder has. Calls take turns. Raises `DiskFull` or `StorageFailed`: what
        was acknowledged is safe, and the recorder has to be opened again.
        """
        async with self._turn:
            self._check()
            stream = self.stream(venue)
            found: list[Interpreted] = []
            for part in stream.cut(messages) if len(messages) else ():
                numbered = _numbered(part, self._next_seq)
                try:
                    position = await self.folder.append(numbered.to_batch(), tag=venue.name)
                    self._messages += len(numbered)
                    found.append(await self._interpret(position, stream, numbered))
                except BaseException as error:
                    self._failed = error  # what is in memory and what is in the log may not agree any more
                    raise
            return found

    async def roll(self) -> None:
        """Publish everything that was taken; nothing happens where there is nothing new. Raises as `take`."""
        async with self._turn:
            self._check()
            await self._roll()

    def _check(self) -> None:
        if self._failed is not None:
            raise StorageFailed(f"{self.folder.folder}: recording has failed before: {self._failed}") from self._failed

    async def _roll(self) -> None:
        if self._position <= self.folder.covered:
            return
        try:
            files = await self.folder.apart(self._partitions.finish)
            state = await self.folder.apart(self._packed)
            done = await self.folder.publish(files, covers=self._position, state=state)
        except BaseException as error:
            self._failed = error
            raise
        self._files += done.files
        self._file_bytes += done.num_bytes
        for stream in self._streams.values():
            stream.rolled()
        retention = self.settings.retention_ns
        if retention is not None:
            newest = max(stream.last_ts for stream in self._streams.values())
            self._expired += (await self.folder.expire(newest - retention)).segments

    async def close(self) -> None:
        """Publish everything and let go of the folder; after a failure only the latter. Idempotent."""
        if self._closed:
            return
        try:
            if self._failed is None and self._streams:
                await self.roll()
        finally:
            self._closed = True
            await self.folder.apart(self._partitions.discard)
            await self.folder.close()

    def figures(self) -> Figures:
        return Figures(
            messages=self._messages, rows=self._rows, raw_bytes=self.folder.raw_bytes, files=self._files,
            file_bytes=self._file_bytes, waiting_rows=self._partitions.rows, again=self._again,
            newest_ts=max((stream.last_ts for stream in self._streams.values()), default=0),
            expired_segments=self._expired,
        )  # fmt: skip

    def quality(self) -> Mapping[str, Any]:
        """What came of the messages, by venue, since the folder was made."""
        return {name: stream.interpreter.ledger.figures() for name, stream in self._streams.items()}

    async def _interpret(self, position: int, stream: Stream, part: Messages) -> Interpreted:
        window = stream.window_of(part)
        if stream.window is not None and window != stream.window:
            await self._roll()
        stream.window = window
        before = self._partitions.rows
        found = await self.folder.apart(stream.interpret, part, self._partitions)
        self._rows += self._partitions.rows - before
        self._position = position
        self._next_seq = int(part.ingest_seq[-1]) + 1
        full = self._partitions.rows >= self.settings.roll_rows
        if full or self._partitions.num_bytes >= self.settings.roll_mb << 20 or self._partitions.is_crowded:
            await self._roll()
        return found

    # -- going on ----------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        raw = await self.folder.state()
        self._position = self.folder.covered
        if raw is not None:
            await self.folder.apart(self._restore, raw)
        runs = self.folder.runs(self.folder.covered)
        try:
            while (run := await self.folder.apart(_next, runs)) is not None:
                messages = Messages.from_batch(run.batch)
                self._again += len(messages)
                await self._interpret(run.position, self.stream(venue_named(run.tag)), messages)
        finally:
            await self.folder.apart(runs.close)  # type: ignore[attr-defined]
        if self._again:
            log.info(
                "%s: interpreted %s messages again that were in no file yet", self.folder.folder, f"{self._again:,}"
            )

    def _packed(self) -> bytes:
        streams = {name: stream.snapshot() for name, stream in self._streams.items()}
        return packed(STATE.seal({"next_seq": self._next_seq, "streams": streams}))

    def _restore(self, raw: bytes) -> None:
        told = STATE.open(unpacked(raw))
        self._next_seq = told["next_seq"]
        for name, state in told["streams"].items():
            try:
                self.stream(venue_named(name)).restore(state)
            except StateMismatch as error:
                found = f"{self.folder.folder}: it was recorded with other settings: {str(error).partition(';')[0]}"
                raise StateMismatch(f"{found}; go on with those, or record into another folder") from error


def _numbered(messages: Messages, first: int) -> Messages:
    numbers = np.arange(first, first + len(messages), dtype=np.uint64)
    return Messages(
        messages.ts_recv, numbers, messages.kind, messages.source, messages.source_code, messages.url,
        messages.url_code, messages.payload,
    )  # fmt: skip


def _next(runs: Iterator[Recorded]) -> Recorded | None:
    return next(runs, None)
