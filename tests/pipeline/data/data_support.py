"""Hands and clocks for tests of the data managers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.storage import segments
from tests.patience import SECONDS

VALUE = 8200
"""Bytes charged for `batch(n)`."""
TEN = 10 * VALUE / (1 << 20)
"""A budget, in megabytes, of ten such values: eviction starts with the tenth and leaves seven."""


def batch(n: int, rows: int = 1000) -> pa.RecordBatch:
    """8 bytes a row, all `n`."""
    return pa.RecordBatch.from_pydict({"v": np.full(rows, n)})


def rows(start: int, count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": np.arange(start, start + count)})


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop and the threads go on until something is so."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0)


async def settle(rounds: int = 20) -> None:
    """Let every task go as far as it can without a thread or a clock."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class HandClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        return self.now

    def monotonic_ns(self) -> int:
        return self.now

    async def sleep_until(self, monotonic_ns: int) -> None:
        if monotonic_ns > self.now:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append((monotonic_ns, future))
            await future

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)
        for deadline, future in list(self._sleepers):
            if deadline <= self.now:
                self._sleepers.remove((deadline, future))
                if not future.done():
                    future.set_result(None)


class Disk:
    """Stands between the segment log and the disk: counts, blocks, and fails on request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[bytes] = []
        self.write_threads: set[int] = set()
        self.reads = 0
        self.error: OSError | None = None
        self.read_error: Callable[[], Exception | None] = lambda: None
        self.writes_begun = 0
        self._may_write = threading.Event()
        self._may_read = threading.Event()
        self._may_write.set()
        self._may_read.set()
        write, read = segments.write_records, segments.read_record

        def write_records(fd: int, offset: int, records: Sequence[segments.Record]) -> list[int]:
            self.writes_begun += 1
            self.write_threads.add(threading.get_ident())
            assert self._may_write.wait(20)
            if self.error is not None:
                raise self.error
            lengths = write(fd, offset, records)
            self.written.extend(record.key for record in records)
            return lengths

        def read_record(*args: Any, **kwargs: Any) -> Any:
            self.reads += 1
            assert self._may_read.wait(20)
            error = self.read_error()
            if error is not None:
                raise error
            return read(*args, **kwargs)

        monkeypatch.setattr(segments, "write_records", write_records)
        monkeypatch.setattr(segments, "read_record", read_record)
        # Everything through threads, so that reads can be held up too.
        monkeypatch.setattr("pipeline.storage.log._NOWAIT", 0)

    def hold_writes(self) -> None:
        self._may_write.clear()

    def hold_reads(self) -> None:
        self._may_read.clear()

    def go_on(self) -> None:
        self._may_write.set()
        self._may_read.set()
