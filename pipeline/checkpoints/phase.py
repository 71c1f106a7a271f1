"""Whether a phase goes on from its checkpoint or begins anew, and how its engine takes the next ones."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..config import CheckpointConfig
from ..errors import BackpressureTimeout, CorruptEntry, DiskFull, StateMismatch, StorageFailed
from ..folder import RunFolder
from ..storage.room import NO_ROOM
from ..threads import Workers
from .cuts import Checkpoint
from .files import CheckpointFiles
from .taking import Checkpoints

log = logging.getLogger("penstock.checkpoint")


class Begun(NamedTuple):
    """How a phase begins."""

    path: Path
    """Its folder."""
    checkpoint: Checkpoint | None
    """What it goes on from; None: it begins anew."""


class PhaseCheckpoints:
    """The checkpoints of one phase that is about to run, in an open folder.

    `told` is what must be equal where a checkpoint is gone on from. Where no period is declared none is taken, but by a
    phase that goes on from one: it does as before.
    """

    def __init__(
        self,
        folder: RunFolder,
        phase: str,
        blocking: Workers,
        told: Mapping[str, Any],
        declared: CheckpointConfig,
    ) -> None:
        assert folder.root is not None, "the folder is open"
        self.phase, self.declared = phase, declared
        self._folder, self._blocking = folder, blocking
        self._refused = False
        self._began = ""
        self._files = CheckpointFiles(folder.root, phase, told)

    async def begin(self, resume: bool, *, again: bool = False) -> Begun:
        """The phase's folder, emptied, and with `resume` the checkpoint it goes on from, if there is one that fits.

        `again` says that this run has been in the phase before.

        Otherwise it begins anew, and what a try before has left is given up. Raises `StorageFailed`.
        """
        found = await self._found() if resume else None
        if resume and not self._refused:
            self._began = (
                f"from its checkpoint at {found.rows:,} rows" if found is not None
                else "anew, since no checkpoint of it had been committed"
            )  # fmt: skip
        if found is not None:
            log.info("phase '%s' goes on from its checkpoint: %s rows are in", self.phase, f"{found.rows:,}")
            return Begun(await self._blocking.run(self._folder.go_on_phase, self.phase), found)
        entry = self._files.entry
        if again and found is None:
            log.info("phase '%s' begins anew", self.phase)
        elif entry is None and resume and not self._folder.has_completed:
            log.warning(
                "phase '%s' begins anew: %s holds no checkpoint of it. A run is found again under the same options, "
                "data and code only; was it given others?", self.phase, self._folder.path,
            )  # fmt: skip
        if entry is not None and not resume:
            log.warning(
                "phase '%s' begins anew, though it had come to %s rows; `--resume` (resume=True) would have gone on "
                "from there",
                self.phase, f"{entry.rows or 0:,}",
            )  # fmt: skip
        return Begun(await self._blocking.run(self._folder.begin_phase, self.phase), None)

    async def _found(self) -> Checkpoint | None:
        if self._refused:
            return None
        try:
            return await self._blocking.run(self._files.load)
        except (StateMismatch, CorruptEntry, StorageFailed) as error:
            self.refuse(error)
            return None

    def refuse(self, error: Exception) -> None:
        """It cannot be gone on from; say why."""
        self._refused = True
        self._began = f"anew, since its checkpoint cannot be gone on from: {error}"
        log.warning("phase '%s' begins anew, since its checkpoint cannot be gone on from: %s", self.phase, error)

    def advice(self, error: BaseException) -> str:
        """What to try where the phase failed for want of storage and can be gone on with; else empty."""
        entry, causes = self._files.entry, list(_causes(error))
        full = any(isinstance(cause, DiskFull | BackpressureTimeout) or _code(cause) in NO_ROOM for cause in causes)
        ill = any(isinstance(cause, StorageFailed | CorruptEntry) or _code(cause) == errno.EIO for cause in causes)
        if entry is None or not (full or ill):
            return ""
        do = "make room on the disk" if full else "mend the disk"
        return (
            f"its first {entry.rows or 0:,} rows are safe in {self._folder.path}: {do}, then "
            "`penstock run CONFIG --resume` (resume=True) goes on from there"
        )

    def settings(self, resume: Checkpoint | None) -> Checkpoints | None:
        """How its engine takes checkpoints; None: it does not."""
        every = self.declared.every_seconds
        if every is None and resume is not None:
            every = resume.every_seconds
        if every is None:
            return None
        return Checkpoints(
            every,
            partial(self._blocking.run, self._files.save),
            self._files.read_back,
            align_seconds=self.declared.align_timeout_seconds,
            began=self._began,
        )


def _code(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _causes(part)
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)
