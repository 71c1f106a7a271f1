"""Calls a logic's methods, whatever their kind, on the loop or in a thread, and gathers what they give back."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from inspect import isawaitable
from time import perf_counter_ns
from typing import Any

from .errors import PenstockError
from .frames import Batch, Result
from .stage import Logic, Output
from .threads import Workers

LONG_CALL_NS = 500_000
"""Calls longer than this leave the loop (`runs_in = "auto"`)."""
BLOCKING_CALL_NS = 100_000_000
"""A call that holds the loop this long is named in the log."""

log = logging.getLogger("penstock.container")


class Caller:
    """Calls the methods of one logic.

    A method may be plain, a generator, async or an async generator; outputs are held until the call has returned,
    so that a call that fails has sent nothing.
    """

    def __init__(self, name: str, logic: Logic, workers: Workers) -> None:
        self.name, self.logic, self.workers = name, logic, workers
        self.busy_ns = 0
        self.calls_on_loop = self.calls_in_thread = 0
        self._in_thread = logic.runs_in in ("thread", "auto")
        self._auto = logic.runs_in == "auto"
        self._mean_ns = 0
        self._warned = False

    async def __call__(self, method: Callable[..., Any], *args: Any) -> list[Output]:
        if self._in_thread:
            began, gathered = await self.workers.run(_call_and_gather, method, args)
            self.calls_in_thread += 1
        else:
            began, gathered = _call_and_gather(method, args)
            self.calls_on_loop += 1
        spent = began[1] - began[0]
        self.busy_ns += spent
        if self._auto:
            self._mean_ns = (3 * self._mean_ns + spent) // 4 if self._mean_ns else spent
            self._in_thread = self._mean_ns > (LONG_CALL_NS // 2 if self._in_thread else LONG_CALL_NS)
        elif not self._in_thread and spent > BLOCKING_CALL_NS and not self._warned:
            self._warned = True
            log.warning(
                "container '%s' held the event loop for %.0f ms in %s; let its logic say runs_in = \"thread\"",
                self.name, spent / 1e6, getattr(method, "__name__", "a call"),
            )  # fmt: skip
        if isinstance(gathered, list):
            return gathered
        return await _gather_async(gathered)


def _call_and_gather(
    method: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[tuple[int, int], list[Output] | Awaitable[Any] | AsyncIterable[Any]]:
    began = perf_counter_ns()
    given = method(*args)
    if given is None:
        gathered: Any = []
    elif isinstance(given, Batch | Result):
        gathered = [given]
    elif isinstance(given, list):
        gathered = given
    elif isawaitable(given) or hasattr(given, "__aiter__"):
        gathered = given
    elif isinstance(given, Iterable):
        gathered = list(given)
    else:
        raise _unexpected(given)
    return (began, perf_counter_ns()), gathered


async def _gather_async(given: Any) -> list[Output]:
    if hasattr(given, "__aiter__"):
        return [output async for output in given]
    given = await given
    if given is None:
        return []
    if isinstance(given, Batch | Result):
        return [given]
    if isinstance(given, Iterable):
        return list(given)
    raise _unexpected(given)


def _unexpected(given: object) -> PenstockError:
    return PenstockError(
        f"expected a Batch, a Result, an iterable of them or None, found {type(given).__name__}; "
        "rows go into Batch.from_rows([...]), a record batch into Batch(...)"
    )
