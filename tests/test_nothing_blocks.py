"""The watch that every test is held to does bite."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from blockbuster import BlockingError

from pipeline.storage import segments
from pipeline.storage.disk import DISK
from pipeline.storage.publish import publish_bytes


async def test_t12_what_blocks_the_loop_fails_the_test_and_what_does_so_in_a_thread_does_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a test itself may do as it likes")
    fd = os.open(path, os.O_RDWR)
    calls = {
        "open": lambda: DISK.close(DISK.open(path)),
        "read": lambda: DISK.read(fd, 1, 0),
        "write": lambda: DISK.write(fd, [b"x"], 0),
        "truncate": lambda: DISK.truncate(fd, 0),
        "sync": lambda: DISK.sync(fd),
        "sync of a folder": lambda: DISK.sync_folder(tmp_path),
        "rename": lambda: DISK.rename(path, path),
        "names": lambda: DISK.names(tmp_path),
        "length": lambda: DISK.file_bytes(path),
        "folder": lambda: DISK.make_folder(tmp_path / "below"),
        "unlink": lambda: DISK.unlink(path),
        "a whole file": lambda: publish_bytes(tmp_path, "name", [b"bytes"]),
    }
    try:
        for name, call in calls.items():
            with pytest.raises(BlockingError):
                raise AssertionError(f"{name} blocked unseen: {call()!r}")
            await asyncio.to_thread(call)
    finally:
        os.close(fd)


async def test_t12_a_read_that_the_kernel_answers_from_memory_or_not_at_all_may_be_made_on_the_loop(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        await asyncio.to_thread(segments.write_records, fd, 0, [segments.Record(1, 0, b"k", 1, [b"value"])])
        found = segments.read_record(fd, 0, b"k", 5, 1, "", os.RWF_NOWAIT)
        assert found is None or bytes(found) == b"value"
        with pytest.raises(BlockingError):
            segments.read_record(fd, 0, b"k", 5, 1, "")
    finally:
        os.close(fd)
