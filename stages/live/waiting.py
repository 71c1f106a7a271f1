"""Waiting that ends by the clock, which a test may hold."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pipeline import Clock

T = TypeVar("T")


async def pause(clock: Clock, seconds: float) -> None:
    """Return after so long."""
    await clock.sleep_until(clock.monotonic_ns() + round(seconds * 1e9))


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to. Raises TimeoutError, with the work cancelled and ended, where it takes longer."""
    task, timer = asyncio.ensure_future(work), asyncio.ensure_future(pause(clock, seconds))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise TimeoutError(f"nothing came of it in {seconds:g} s")
        return task.result()
    finally:
        await ended(task, timer)


async def ended(*tasks: asyncio.Future[Any]) -> list[BaseException]:
    """Cancel tasks and wait until they have ended; errors other than being cancelled are given back."""
    for task in tasks:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [each for each in found if isinstance(each, BaseException) and not isinstance(each, asyncio.CancelledError)]
