"""The lock is the kernel's, not the disk's: it has tests of its own, and none is taken on a disk in memory."""

from __future__ import annotations

from pathlib import Path

import pytest


class NoLock:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "LOCK"

    def take(self) -> None: ...

    def sign(self, epoch: int) -> None: ...

    def check(self) -> None: ...

    def check_place(self) -> None: ...

    def release(self) -> None: ...


@pytest.fixture(autouse=True)
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.root.FolderLock", NoLock)
