"""All four modes pass one examination and give one answer."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from blockbuster import blockbuster_ctx

from pipeline.data import DataFlow, build_manager, persist
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


@pytest.mark.parametrize("mode", MODES)
async def test_nothing_blocks_the_loop(mode: str, workspace: Workspace, tmp_path: Path) -> None:
    flow = DataFlow(mode=mode, memory_limit_mb=20 if mode == "memory" else 0.2)
    with blockbuster_ctx():
        manager = build_manager("m", flow, workspace)
        for n in range(40):
            await manager.store(f"k{n}", b"x" * 10_000)
            await manager.append("s", [{"n": n}])
        for n in range(40):
            assert await manager.retrieve(f"k{n}") == b"x" * 10_000
        assert sum([batch.num_rows async for batch in manager.iter_batches("s")]) == 40
        await persist(manager, tmp_path / "out", workspace, flow)
        await manager.close()
