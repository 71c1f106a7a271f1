"""Calls a logic's methods, whatever their kind, on the loop or in a thread, and gathers what they give back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from inspect import isawaitable
from time import perf_counter_ns
from typing import Any

from .errors import PenstockError
from .frames import Batch, Result
from .stage import Logic, Output
from .threads import Workers

OUTPUTS = (Batch, Result)
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
        self._begun: Any = None

    def now(self, method: Callable[..., Any], *args: Any) -> list[Output] | None:
        """The outputs of a call that needs no awaiting, None where `__call__` must be awaited for them.

        The short way for plain logic on the loop. An awaitable that came back is kept for `__call__` to finish.
        """
        if self._in_thread:
            return None
        spent, given = _timed(method, args)
        self.calls_on_loop += 1
        self.busy_ns += spent
        if spent > LONG_CALL_NS or self._auto:
            self._weigh(spent, method)
        if isinstance(given, list):
            return given
        self._begun = given
        return None

    async def __call__(self, method: Callable[..., Any], *args: Any) -> list[Output]:
        given, self._begun = self._begun, None
        if given is None:
            if not self._in_thread:
                outputs = self.now(method, *args)
                if outputs is not None:
                    return outputs
                given, self._begun = self._begun, None
            else:
                spent, given = await self.workers.run(_timed, method, args)
                self.calls_in_thread += 1
                self.busy_ns += spent
                if self._auto:
                    self._weigh(spent, method)
        return given if isinstance(given, list) else await _gather_async(given)

    def _weigh(self, spent_ns: int, method: Callable[..., Any]) -> None:
        """Decide where the next call runs, and name who holds the loop."""
        if self._auto:
            self._mean_ns = (3 * self._mean_ns + spent_ns) // 4 if self._mean_ns else spent_ns
            self._in_thread = self._mean_ns > (LONG_CALL_NS // 2 if self._in_thread else LONG_CALL_NS)
        elif not self._in_thread and spent_ns > BLOCKING_CALL_NS and not self._warned:
            self._warned = True
            log.warning(
                "container '%s' held the event loop for %.0f ms in %s; let its logic say runs_in = \"thread\"",
                self.name, spent_ns / 1e6, getattr(method, "__name__", "a call"),
            )  # fmt: skip


def _timed(method: Callable[..., Any], args: tuple[Any, ...]) -> tuple[int, Any]:
    """Nanoseconds spent, and the outputs as a list, or the awaitable or async iterable that will give them."""
    began = perf_counter_ns()
    given = method(*args)
    if given is None:
        given = []
    elif isinstance(given, OUTPUTS):
        given = [given]
    elif not isinstance(given, list) and not isawaitable(given) and not hasattr(given, "__aiter__"):
        if not isinstance(given, Iterable):
            raise _unexpected(given)
        given = list(given)
    return perf_counter_ns() - began, given


async def _gather_async(given: Any) -> list[Output]:
    if hasattr(given, "__aiter__"):
        return [output async for output in given]
    given = await given
    if given is None:
        return []
    if isinstance(given, OUTPUTS):
        return [given]
    if isinstance(given, Iterable):
        return list(given)
    raise _unexpected(given)


def _unexpected(given: object) -> PenstockError:
    return PenstockError(
        f"expected a Batch, a Result, an iterable of them or None, found {type(given).__name__}; "
        "rows go into Batch.from_rows([...]), a record batch into Batch(...)"
    )
