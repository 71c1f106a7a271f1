"""The I/O executor: jobs nobody can orphan, owners that take turns."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pipeline.errors import ManagerClosed
from pipeline.storage.executor import IoExecutor


async def test_no_thread_exists_before_the_first_job_and_none_after_closing() -> None:
    io = IoExecutor(3)
    assert io.threads == 0
    assert await io.submit("a", lambda: threading.get_ident()) != threading.get_ident()
    assert io.threads == 1
    await asyncio.gather(io.close(), io.close())
    assert io.threads == 0
    with pytest.raises(ManagerClosed):
        io.submit("a", print)


async def test_there_are_never_more_threads_than_allowed_even_if_callers_are_cancelled() -> None:
    """C-3, C-4."""
    io, gate, lock = IoExecutor(2), threading.Event(), threading.Lock()
    running = peak = done = 0

    def job() -> None:
        nonlocal running, peak, done
        with lock:
            running += 1
            peak = max(peak, running)
        gate.wait(20)
        with lock:
            running -= 1
            done += 1

    async def call() -> None:
        await asyncio.shield(io.submit("a", job))

    tasks = [asyncio.create_task(call()) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    while running < 2:
        await asyncio.sleep(0)
    gate.set()
    await io.close()
    assert (peak, done) == (2, 10)


async def test_owners_take_turns() -> None:
    """C-4: a container with much to do holds nobody up."""
    io, gate = IoExecutor(1), threading.Event()
    order: list[str] = []
    first = io.submit("x", gate.wait, 20)
    for n in range(3):
        io.submit("busy", order.append, f"busy{n}")
    last = io.submit("quiet", order.append, "quiet")
    gate.set()
    await first
    await last
    await io.close()
    assert order.index("quiet") == 1


async def test_an_error_reaches_the_caller_and_no_warning_if_there_is_none() -> None:
    io = IoExecutor(1)
    with pytest.raises(ZeroDivisionError):
        await io.submit("a", lambda: 1 // 0)
    io.submit("a", lambda: 1 // 0)
    await io.close()
