"""Where a streaming manager's buffers go: to the user's callback, to the container's files, or to dead letters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..clock import Clock
from ..errors import DataError, DiskFull, StorageFailed
from ..storage.workspace import Workspace
from .account import reached
from .attempts import Attempts
from .base import Key
from .buffer import Buffer, FlushCallback, FlushRecorder, KeyState, StreamItem
from .file import FileManager
from .letters import FlushLetters
from .policy import StreamingSettings

log = logging.getLogger(__name__)


class Late(Exception):
    """The deadline of a close has passed."""


async def ended(work: Coroutine[Any, Any, None], clock: Clock, deadline_seconds: float | None) -> bool:
    """Whether the work came to its end before the deadline; otherwise it was cancelled and is over."""
    if deadline_seconds is None:
        await work
        return True
    task = asyncio.ensure_future(work)
    try:
        if await reached(task, clock, deadline_seconds):
            task.result()
            return True
        return False
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


class Flights:
    """Brings one buffer at a time to its place, as often as the settings say."""

    def __init__(
        self,
        name: str,
        settings: StreamingSettings,
        workspace: Workspace,
        clock: Clock,
        callback: FlushCallback | None,
        files: FileManager | None,
    ) -> None:
        self._name, self._settings = name, settings
        self._callback, self._files = callback, files
        self.attempts = Attempts(name, settings, clock)
        self.letters = FlushLetters(name, workspace, clock)

    async def land(self, buffer: Buffer, keys: Mapping[Key, KeyState], recorder: FlushRecorder | None) -> None:
        """Return when everything in the buffer is where it belongs; raises what the last attempt raised."""
        batch_id = buffer.batch_id(self._name)
        if self._callback is None:
            await self.attempts.run(lambda: self._to_files(buffer), batch_id, None)
            return
        where: Path | None = None
        try:
            call = lambda: self._to_callback(buffer, recorder)  # noqa: E731
            await self.attempts.run(call, batch_id, self._settings.flush_timeout_seconds)
        except Exception as error:
            if self._settings.on_failure == "fail":
                raise
            where = await self._bury(buffer, error)
        for item in buffer.items:
            state = keys.get(item.key)
            if state is not None:
                state.flushed, state.letter = True, where
        if recorder is not None:
            recorder.flushed(batch_id, buffer.last_gen)

    def failed(self, buffer: Buffer, error: BaseException, rows_behind: int) -> DataError:
        """What to tell of a flush that was given up."""
        first, last = buffer.batch_id(self._name)[1:]
        kind = DiskFull if isinstance(error, DiskFull) else StorageFailed
        failure = kind(
            f"{self._name}: flushing rows {first} to {last} failed: {type(error).__name__}: {error}; "
            f"they and {rows_behind} rows behind them are still in memory and readable"
        )
        failure.__cause__ = error
        log.error("%s", failure)
        return failure

    async def _to_callback(self, buffer: Buffer, recorder: FlushRecorder | None) -> None:
        assert self._callback is not None
        batch_id = buffer.batch_id(self._name)
        if recorder is not None and not buffer.announced:
            await recorder.flushing(batch_id, buffer.last_gen)
            buffer.announced = True
        items = [StreamItem(item.key, item.admitted.value, item.append) for item in buffer.items]
        await self._callback(items, batch_id)

    async def _to_files(self, buffer: Buffer) -> None:
        files = self._files
        assert files is not None
        for item in list(buffer.rest()):
            if item.append:
                await files.extend(item.key, [item.admitted.value], item.admitted.size, buffer.advance)
            else:
                await files.write(item.key, item.admitted, buffer.advance)

    async def _bury(self, buffer: Buffer, error: BaseException) -> Path:
        """Write what nobody took to the file of dead letters; raises `DiskFull` or `StorageFailed`."""
        batch_id = buffer.batch_id(self._name)
        await self.letters.add(list(buffer.rest()), batch_id, error, self._settings.max_attempts)
        path = self.letters.path
        log.error("%s: rows %d to %d are dead letters in %s: %s", self._name, *batch_id[1:], path, error)
        return path

    async def leave(
        self, buffers: Sequence[Buffer | None], failure: BaseException, recorder: FlushRecorder | None
    ) -> BaseException | None:
        """Put what is not flushed at the end where it lasts, and say where; what is left to be raised."""
        left = [buffer for buffer in buffers if buffer is not None and buffer.rest()]
        if left and recorder is not None:
            where = "they are in the journal, and come back with the same ids when it is opened again"
        elif left:
            try:
                for buffer in left:
                    await self._bury(buffer, failure)
                where = f"they are in {self.letters.path}"
            except DataError as refused:
                where = f"they could not be written anywhere and are gone with this manager: {refused}"
                failure = refused if isinstance(failure, Late) else failure
        else:
            return None if isinstance(failure, Late) else failure
        reason = failure.__cause__ or failure  # not what was said while the rows were still here
        rows = sum(buffer.rows for buffer in left)
        told = f"closed with {rows} rows not flushed ({type(reason).__name__}: {reason}); {where}"
        log.error("%s: %s", self._name, told)
        if isinstance(failure, Late):
            return None
        return type(failure)(f"{self._name}: {told}") if isinstance(failure, DataError) else failure

    async def close(self) -> None:
        await self.attempts.close()
