"""Group commit: one sync for all who commit at about the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from faulty_disk import FaultyDisk

from pipeline.errors import StorageFailed
from pipeline.storage.entries import Entry
from pipeline.storage.executor import IoExecutor
from pipeline.storage.group import GroupCommit
from pipeline.storage.manifest import read_manifest
from pipeline.storage.root import StorageRoot


async def test_commits_of_one_moment_share_a_sync(tmp_path: Path) -> None:
    disk, io = FaultyDisk(), IoExecutor(2)
    with StorageRoot.open(tmp_path, disk=disk) as root:
        commits = GroupCommit(root, io)
        before = disk.calls["sync"]
        async with asyncio.TaskGroup() as tasks:
            for number in range(32):
                tasks.create_task(commits.commit([Entry(kind="phase", phase=f"p{number}")]))
        assert disk.calls["sync"] == before + 1 and commits.groups == 1
    await io.close()
    assert len(read_manifest(tmp_path).committed.phases) == 32


async def test_c3_a_cancelled_commit_is_committed_all_the_same(tmp_path: Path) -> None:
    """C-3."""
    io = IoExecutor(2)
    with StorageRoot.open(tmp_path) as root:
        commits = GroupCommit(root, io)
        task = asyncio.create_task(commits.commit([Entry(kind="phase", phase="first")]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await commits.commit([Entry(kind="phase", phase="second")])
        await io.close()
    assert list(read_manifest(tmp_path).committed.phases) == ["first", "second"]


async def test_a_failure_is_told_to_all_of_the_group_and_the_next_goes_on(tmp_path: Path) -> None:
    disk, io = FaultyDisk(), IoExecutor(2)
    with StorageRoot.open(tmp_path, disk=disk) as root:
        commits = GroupCommit(root, io)
        disk.fail("sync", "MANIFEST", times=2)
        results = await asyncio.gather(
            *(commits.commit([Entry(kind="phase", phase=name)]) for name in "ab"), return_exceptions=True
        )
        assert [type(result) for result in results] == [StorageFailed] * 2
        await commits.commit([Entry(kind="phase", phase="c")])
        assert list(root.manifest.phases) == ["c"]
        await io.close()
        with pytest.raises(Exception, match="closed"):
            await commits.commit([Entry(kind="phase", phase="late")])
