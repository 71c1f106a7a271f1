"""The watch that every test is held to does bite."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blockbuster import BlockingError

from pipeline.storage import segments
from pipeline.storage.disk import DISK
from pipeline.storage.publish import publish_bytes


async def test_t12_what_blocks_the_loop_fails_the_test_and_what_does_so_in_a_thread_does_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a test itself may do as it likes")
    fd = os.open(path, os.O_RDWR)
    calls: dict[str, tuple[Any, ...]] = {
        "read": (DISK.read, fd, 1, 0),
        "write": (DISK.write, fd, [b"x"], 0),
        "truncate": (DISK.truncate, fd, 0),
        "sync": (DISK.sync, fd),
        "sync of a folder": (DISK.sync_folder, tmp_path),
        "rename": (DISK.rename, path, path),
        "names": (DISK.names, tmp_path),
        "length": (DISK.file_bytes, path),
        "folder": (DISK.make_folder, tmp_path / "below"),
        "unlink": (DISK.unlink, path),
        "a whole file": (publish_bytes, tmp_path, "name", [b"bytes"]),
    }
    try:
        for name, (call, *args) in calls.items():
            found = await called_by_the_loop(call, *args)
            assert isinstance(found, BlockingError), f"{name} blocked unseen: {found!r}"
            await asyncio.to_thread(call, *args)
    finally:
        os.close(fd)


async def called_by_the_loop(call: Callable[..., Any], *args: Any) -> BaseException | None:
    """What a call raises that no test makes, but the loop."""
    raised: list[BaseException | None] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: raised.append(context.get("exception")))
    loop.call_soon(call, *args)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return raised[0] if raised else None


async def test_t12_a_read_that_the_kernel_answers_from_memory_or_not_at_all_may_be_made_on_the_loop(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        await asyncio.to_thread(segments.write_records, fd, 0, [segments.Record(1, 0, b"k", 1, [b"value"])])
        assert await called_by_the_loop(segments.read_record, fd, 0, b"k", 5, 1, "", os.RWF_NOWAIT) is None
        assert isinstance(await called_by_the_loop(segments.read_record, fd, 0, b"k", 5, 1, ""), BlockingError)
    finally:
        os.close(fd)
