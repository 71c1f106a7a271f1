"""Journaled managers: what is acknowledged comes back, in every mode, whoever is cancelled, whatever the disk does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from data_support import rows
from journal_support import contents, opened

from pipeline.data import DataFlow
from pipeline.testing.managers import check_data_manager, sample_values

MODES = ("memory", "streaming", "file", "hybrid")


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_passes_the_examination_with_a_journal(mode: str, tmp_path: Path) -> None:
    """C-1."""
    number = 0

    def make(policy: DataFlow) -> object:
        nonlocal number
        number += 1
        return root.make(f"c{number}", msgspec.structs.replace(policy, mode=mode, durability="process"))

    async with opened(tmp_path) as root:
        await check_data_manager(make)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
async def test_what_was_acknowledged_comes_back_in_a_process_that_opens_the_folder_anew(
    mode: str, tmp_path: Path
) -> None:
    """S-6, F-1, R-1."""
    policy = DataFlow(mode=mode, durability="durable", memory_limit_mb=4)
    values = sample_values()
    async with opened(tmp_path, clean=False) as root:
        manager = root.make(policy=policy)
        for key, value in values.items():
            await manager.store(key, value)
        for start in range(0, 100, 10):
            await manager.append("series", rows(start, 10))
        await manager.store("gone", 1)
        await manager.store("again", 1)
        await manager.delete("gone")
        await manager.store("again", 2)
        await manager.append(b"empty", [])
        before = await contents(manager)
        await manager.close()
    async with opened(tmp_path) as root:
        manager = root.make(policy=policy)
        replayed = await root.restore(manager)
        assert replayed.gaps == []
        after = await contents(manager)
        assert list(after) == list(before)
        for key, value in before.items():
            assert type(after[key]) is type(value)
            assert str(after[key]) == str(value), key
        await manager.append("series", rows(100, 10))
        assert (await manager.retrieve("series"))["n"].to_pylist() == list(range(110))
        await manager.close()
