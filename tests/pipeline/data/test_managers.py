"""All four modes pass one examination and give one answer."""

from __future__ import annotations

import msgspec
import pytest

from pipeline.data import DataFlow, build_manager
from pipeline.storage.workspace import Workspace
from pipeline.testing.managers import check_data_manager

MODES = ("memory", "streaming", "file", "hybrid")


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_passes_the_examination(mode: str, workspace: Workspace) -> None:
    await check_data_manager(
        lambda policy: build_manager("examined", msgspec.structs.replace(policy, mode=mode), workspace)
    )


@pytest.mark.parametrize("on_full", ["evict_oldest"])
async def test_a_memory_that_drops_its_oldest_passes_all_but_the_keeping(on_full: str, workspace: Workspace) -> None:
    manager = build_manager("x", DataFlow(memory_limit_mb=0.01, on_full=on_full), workspace)
    for n in range(100):
        await manager.store(f"k{n}", b"x" * 1000)
    assert manager.keys()[-1] == "k99"
    assert manager.stats().dropped == 100 - len(manager.keys())
    assert manager.stats().peak_bytes <= manager.stats().limit_bytes
    await manager.close()
