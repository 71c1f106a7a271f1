"""What data managers that record their changes tell a run that takes checkpoints."""

from __future__ import annotations

from .recording import Recording


class Journaled:
    """What whoever keeps a recording of its changes tells a run that takes checkpoints."""

    recording: Recording

    async def recorded(self, cut: int | None = None) -> None:
        """Return when the changes up to a cut, or all, are written; raises `DiskFull` or `StorageFailed`."""
        await self.recording.recorded(cut)

    def cut(self) -> int:
        """The number of the last change: what a checkpoint made now holds."""
        return self.recording.cut()

    def committed(self, cut: int) -> None:
        """The checkpoint of a cut is committed: what only earlier ones need may go."""
        self.recording.committed(cut)

    def forget(self) -> None:
        """What is held is safe elsewhere: none of its records is needed any more."""
        self.recording.forget()
