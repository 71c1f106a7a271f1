"""What a run gives its data managers: a folder, the I/O threads, and one spill log for all of them."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Final

from ..errors import ValueTooLarge
from ..pool import Pool
from .disk import DISK, Disk
from .executor import IoExecutor
from .group import GroupCommit
from .journal import Journal
from .log import SegmentLog
from .manifest import SPILL
from .release import CHURN_BYTES, release_memory
from .reserve import Reserve
from .root import StorageRoot

CHECK_VALUES: Final = "PENSTOCK_CHECK_VALUES"
"""Environment variable for debugging: set to 1, values that were changed after they were stored are told by name."""
FOR_THE_JOURNAL: Final = 1 << 20
"""Bytes of the disk that spilling leaves free at least where there is a journal, so that deletes can be written."""
POOL_SHARE: Final = 0.25
"""Share of the available memory that values too large for their own budget may take together."""


class Workspace:
    """A run's place to store. Costs nothing until it is used: no folder, no thread, no descriptor.

    `loans` are bytes held for callers outside any container's budget: reading a value larger than the budget it
    belongs to. `reserve` is for the copies eviction makes when its own container has no room left for them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int = 4,
        loan_limit_bytes: int | None = None,
        pool: Pool | None = None,
        root: StorageRoot | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.pool = pool
        """What all data managers of the run may hold in memory together; None: each its own limit."""
        self.io = IoExecutor(threads)
        self.loan_limit_bytes = loan_limit_bytes
        """Ceiling of all loans; None: a quarter of the memory available when a loan is asked for."""
        self.loaned_bytes = 0
        self.loaned_peak_bytes = 0
        self.reserve = Reserve()
        self.root = root
        self.disk: Disk = DISK if root is None else root.disk
        self.journal: Journal | None = None if root is None else Journal(root, self.io)
        """Where changes are written before they are acknowledged; None: nothing here outlives the process."""
        self.checkpointed = False
        """Whether every change goes to the journal, whatever its container declares."""
        self.scope = ""
        """Stands before the names of containers in the journal, so that phases do not meet."""
        self.commits = None if root is None else GroupCommit(root, self.io)
        self.generations = itertools.count(1) if self.journal is None else self.journal.generations
        self._spill_folder = self.folder / SPILL if root is None else root.spill
        self.check_values = os.environ.get(CHECK_VALUES, "0") not in ("", "0")
        """Whether values are compared with what they were when they were stored, as they leave memory."""
        self.changed_values = 0
        """How many were not the same any more."""
        self._min_free: int | None = None
        self._spill: SegmentLog | None = None
        self._churned_bytes = 0

    @property
    def spill(self) -> SegmentLog:
        """The log shared by all hybrid managers of the run; never synced, removed by `close`.

        Below the root's `spill/<epoch>`, where the next process finds and removes it, or `folder/spill`.
        """
        if self._spill is None:
            self._spill = SegmentLog(self._spill_folder, self.io)
            self._spill.min_free = self._floor()
        return self._spill

    def _floor(self) -> int | None:
        if self._min_free is None or self.journal is None:
            return self._min_free
        return max(self._min_free, FOR_THE_JOURNAL)

    def keep_free(self, num_bytes: int) -> None:
        """Spilling leaves so many bytes of the disk free; the most that anybody asks for counts."""
        self._min_free = max(num_bytes, self._min_free or 0)
        if self._spill is not None:
            self._spill.min_free = self._floor()

    def borrow(self, num_bytes: int) -> None:
        """Take a loan; raises `ValueTooLarge` when the process has no room for it. Give it back with `give_back`."""
        limit = self.loan_limit_bytes
        if limit is None:
            limit = int(POOL_SHARE * _available_bytes()) + self.loaned_bytes
        if self.loaned_bytes + num_bytes > limit:
            raise ValueTooLarge(
                f"{num_bytes} bytes are more than their budget and the {limit - self.loaned_bytes} bytes the process "
                "can lend; read the value piece by piece with iter_batches"
            )
        self.lend(num_bytes)

    def lend(self, num_bytes: int) -> None:
        """A loan that is not refused: of what an edge that spills holds already, on its way to disk or back."""
        self.loaned_bytes += num_bytes
        self.loaned_peak_bytes = max(self.loaned_peak_bytes, self.loaned_bytes)

    def give_back(self, num_bytes: int) -> None:
        self.loaned_bytes -= num_bytes

    def churned(self, num_bytes: int) -> None:
        """So many bytes have been written and freed; after enough of them freed pages go back, in a thread."""
        self._churned_bytes += num_bytes
        if self._churned_bytes >= CHURN_BYTES:
            self.release()

    def release(self) -> None:
        """Have freed pages given back, in a thread."""
        self._churned_bytes = 0
        self.io.submit(self, release_memory)

    async def close(self) -> None:
        """Delete the spill files, end the journal and join the threads; idempotent. Managers are to be closed before.

        Raises `DiskFull` or `StorageFailed` where the journal cannot be ended; all is closed then too.
        """
        try:
            if self._spill is not None:
                await self._spill.close()
            if self.journal is not None:
                await self.journal.close()
        finally:
            await self.io.close()


def _available_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
