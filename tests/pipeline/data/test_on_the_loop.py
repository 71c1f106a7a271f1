"""C-2: what threads have done shows in a step of the loop and not before."""

from __future__ import annotations

import time

import pytest
from data_support import Disk, batch

from pipeline.data import DataFlow, build_manager
from pipeline.storage.workspace import Workspace
from tests.patience import SECONDS


async def test_c2_a_write_that_a_thread_has_finished_changes_nothing_until_the_loop_takes_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    manager = build_manager("m", DataFlow(mode="hybrid", memory_limit_mb=10 * 8200 / (1 << 20)), workspace)
    for n in range(9):
        await manager.store(f"k{n}", batch(n))
    await manager.store("k9", batch(9))
    before = manager.stats()
    deadline = time.monotonic() + SECONDS
    while not disk.written:  # without a step of the loop
        assert time.monotonic() < deadline
    assert disk.write_threads
    assert manager.stats() == before
    assert manager.retrieve_nowait("k0").equals(batch(0))
    await manager.flush()
    assert manager.stats().evictions > before.evictions
    await manager.close()
