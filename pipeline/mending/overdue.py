"""Calls of a logic that must return within a time, and what becomes of those that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar

import anyio

from ..clock import Clock
from ..containers.calling import Caller, gather, timed
from ..errors import CallOverdue
from ..stage import Output
from ..threads import detached

T = TypeVar("T")


class Left(CallOverdue):
    """The call runs on in a thread that nobody can stop; its logic must not be touched any more."""


async def call_within(
    seconds: float, clock: Clock, caller: Caller, method: Callable[..., Any], args: tuple[Any, ...]
) -> list[Output]:
    """The outputs of a call; raises `CallOverdue` when it has not returned in time.

    An async call is cancelled. One in a thread is left behind (`Left`), since no thread can be stopped. A plain one on
    the loop is not timed: nothing else runs meanwhile.
    """
    what = f"{getattr(method, '__name__', 'a call')} has not returned after {seconds:g} s (`timeout_seconds`)"
    if caller.logic.runs_in == "loop":
        return await _cancelled_after(seconds, clock, caller(method, *args), what)
    deadline = clock.monotonic_ns() + int(seconds * 1e9)
    call = detached(timed, caller.stopwatch, method, args)
    timer = asyncio.ensure_future(clock.sleep_until(deadline))
    try:
        await _first(call, timer)
    finally:
        await _dropped(timer)
    if not call.done():
        raise Left(
            f"{what}; a thread cannot be stopped, so this one is left behind until the process ends: "
            "let the call itself give up, or let the logic be async"
        )
    spent, given = call.result()
    caller.calls_in_thread += 1
    caller.busy_ns += spent
    if isawaitable(given) or hasattr(given, "__aiter__"):
        caller.is_async = True
        left = max(0.0, (deadline - clock.monotonic_ns()) / 1e9)
        return await _cancelled_after(left, clock, gather(given), what)
    outputs: list[Output] = given
    return outputs


async def _cancelled_after(seconds: float, clock: Clock, call: Awaitable[T], what: str) -> T:
    scope = anyio.CancelScope()

    async def ring() -> None:
        await clock.sleep_until(clock.monotonic_ns() + int(seconds * 1e9))
        scope.cancel()

    timer = asyncio.ensure_future(ring())
    try:
        with scope:
            return await call
    finally:
        await _dropped(timer)
    raise CallOverdue(f"{what}; it was cancelled")


async def _first(call: asyncio.Future[Any], timer: asyncio.Future[None]) -> None:
    """Return when one of them is done; cancellation takes effect then, so that a call that can end is not unowned."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not call.done() and not timer.done():
            try:
                await asyncio.wait((call, timer), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


async def _dropped(timer: asyncio.Future[None]) -> None:
    timer.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.wait([timer])
