"""What the tests of the data managers share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from data_support import TEN, Disk, HandClock

from pipeline.data import DataFlow
from pipeline.data.hybrid import HybridManager
from pipeline.storage.workspace import Workspace


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncIterator[Workspace]:
    workspace = Workspace(tmp_path / "work")
    yield workspace
    await workspace.close()
    assert workspace.io.threads == 0
    assert workspace.loaned_bytes == 0
    assert not (tmp_path / "work" / "spill").exists()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def manager(workspace: Workspace, clock: HandClock, disk: Disk) -> AsyncIterator[HybridManager]:
    manager = HybridManager("h", DataFlow(mode="hybrid", memory_limit_mb=TEN), workspace, clock=clock)
    yield manager
    disk.go_on()
    disk.error = None
    await manager.close()
    stats = manager.stats()
    assert stats.charged_bytes == 0
    assert stats.disk_bytes == 0
    assert stats.peak_bytes <= stats.limit_bytes
    assert workspace.spill.live_bytes == 0
