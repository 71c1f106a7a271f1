"""Runs a pipeline under the eyes of a person: the first signal drains, the second aborts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

from pipeline.errors import Interrupted, PenstockError
from pipeline.service import Pipeline, Run
from pipeline.summary import PhaseSummary

from . import INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Watch: TypeAlias = Callable[[Run], Awaitable[None]]
log = logging.getLogger("penstock.cli")


@dataclass(frozen=True)
class Conducted:
    """How a run went."""

    folder: Path | None
    summaries: Mapping[str, PhaseSummary]
    skipped: Sequence[str]
    """Phases found complete and not run again."""
    stopped: bool
    """Whether a signal ended it."""
    error: PenstockError | None = None


async def conduct(
    pipeline: Pipeline,
    *,
    force: bool,
    resume: bool = False,
    repair: bool = False,
    watch: Watch,
    drain_seconds: float,
) -> Conducted:
    """Run to the end, or until a signal and what it leads to; errors that are no `PenstockError` propagate."""
    run = pipeline.start(force=force, resume=resume, repair=repair, owns_process=True, watched=False)
    error: PenstockError | None = None
    with Stopper(run, drain_seconds) as stopper:
        watching = asyncio.create_task(_watched(watch, run), name="penstock:watch")
        try:
            async with run:
                await run.finished()
        except Interrupted:
            pass
        except PenstockError as caught:
            error = caught
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await stopper.settled()
    return Conducted(run.folder, run.summaries, run.skipped, stopper.asked > 0, error)


async def _watched(watch: Watch, run: Run) -> None:
    """Progress that cannot be shown, as on a terminal that has gone, is no reason to stop."""
    with contextlib.suppress(OSError):
        await watch(run)


class Stopper:
    """Answers SIGINT and SIGTERM: first drain to a deadline, then abort, then leave the process."""

    def __init__(self, run: Run, drain_seconds: float) -> None:
        self.run, self.drain_seconds = run, drain_seconds
        self.asked = 0
        self._aborting: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            # Only the main thread hears signals; elsewhere a run is stopped by whoever started the thread.
            with contextlib.suppress(ValueError, RuntimeError):
                self._loop.add_signal_handler(number, self.stop)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        for number in SIGNALS:
            with contextlib.suppress(ValueError, RuntimeError):
                self._loop.remove_signal_handler(number)

    def stop(self) -> None:
        """One more signal."""
        self.asked += 1
        if self.asked == 1:
            log.warning(
                "stopping: rows under way are finished and kept, for at most %g s; once more stops at once",
                self.drain_seconds,
            )
            self.run.drain()
            self._deadline = self._loop.call_later(self.drain_seconds, self._too_late)
        elif self.asked == 2:
            log.warning("stopping at once")
            self._abort()
        else:
            # A call into compiled code cannot be cancelled; nobody should have to wait for it a third time.
            os._exit(INTERRUPTED)

    def _too_late(self) -> None:
        log.warning("not finished after %g s, stopping at once", self.drain_seconds)
        self._abort()

    def _abort(self) -> None:
        if self._aborting is None:
            self._aborting = self._loop.create_task(self.run.abort(), name="penstock:abort")

    async def settled(self) -> None:
        """Return when an abort that was begun has ended."""
        if self._aborting is not None:
            await self._aborting
