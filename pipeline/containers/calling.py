"""Calls a logic's methods, whatever their kind, on the loop or in a thread, and gathers what they give back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from inspect import isawaitable
from time import perf_counter_ns, thread_time_ns
from typing import Any

from ..errors import PenstockError
from ..frames import Batch, MemberRows, Result
from ..stage import Logic, Output
from ..threads import Workers

OUTPUTS = (Batch, Result, MemberRows)
LONG_CALL_NS = 500_000
"""Calls longer than this leave the loop (`runs_in = "auto"`)."""
BLOCKING_CALL_NS = 100_000_000
"""A call that holds the loop this long is named in the log."""

log = logging.getLogger("penstock.container")


class Caller:
    """Calls the methods of one logic.

    A method may be plain, a generator, async or an async generator; outputs are held until the call has returned,
    so that a call that fails has sent nothing. With `runs_in = "auto"` each method is weighed by the processor time it
    takes, first in a thread, and runs where that says.
    """

    def __init__(self, name: str, logic: Logic, workers: Workers) -> None:
        self.name, self.logic, self.workers = name, logic, workers
        self.busy_ns = 0
        self.dead_rows = self.dead_unsettled = self.retries = self.restores = 0
        """Nothing is mended here: see `Mender`, which stands in a caller's place."""
        self.left_behind = False
        self.is_async = False
        """Whether a call has been async."""
        self.calls_on_loop = self.calls_in_thread = 0
        if logic.runs_in not in ("loop", "thread", "auto"):
            raise ValueError(f"expected runs_in to be 'loop', 'thread' or 'auto', found {logic.runs_in!r}")
        self._on_loop = logic.runs_in == "loop"
        self._auto = logic.runs_in == "auto"
        # Where a call runs is decided by the work it is; how long it held the loop also by what it waited for.
        self.stopwatch = thread_time_ns if self._auto else perf_counter_ns
        self._mean_ns: dict[str, int] = {}
        self._warned = False
        self._begun: Any = None

    def now(self, method: Callable[..., Any], *args: Any) -> list[Output] | None:
        """The outputs of a call that needs no awaiting, None where `__call__` must be awaited for them.

        The short way for plain logic on the loop. An awaitable that came back is kept for `__call__` to finish.
        """
        if not self._on_loop and not (self._auto and self._is_short(method)):
            return None
        spent, given = timed(self.stopwatch, method, args)
        self.calls_on_loop += 1
        self.busy_ns += spent
        if spent > LONG_CALL_NS or self._auto:
            self._weigh(spent, method)
        if isinstance(given, list):
            return given
        self._begun = given
        return None

    async def __call__(self, method: Callable[..., Any], *args: Any) -> list[Output]:
        if self._begun is None:
            outputs = self.now(method, *args)
            if outputs is not None:
                return outputs
        given, self._begun = self._begun, None
        if given is None:
            spent, given = await self.workers.run(timed, self.stopwatch, method, args)
            self.calls_in_thread += 1
            self.busy_ns += spent
            if self._auto:
                self._weigh(spent, method)
        if isinstance(given, list):
            return given
        self.is_async = True
        return await gather(given)

    def _is_short(self, method: Callable[..., Any]) -> bool:
        return self._mean_ns.get(method.__name__, LONG_CALL_NS + 1) <= LONG_CALL_NS

    def _weigh(self, spent_ns: int, method: Callable[..., Any]) -> None:
        """Decide where the next call of this method runs, and name who holds the loop."""
        if self._auto:
            mean = self._mean_ns.get(method.__name__)
            self._mean_ns[method.__name__] = spent_ns if mean is None else (3 * mean + spent_ns) // 4
        elif self._on_loop and spent_ns > BLOCKING_CALL_NS and not self._warned:
            self._warned = True
            log.warning(
                "container '%s' held the event loop for %.0f ms in %s; let its logic say runs_in = \"thread\"",
                self.name, spent_ns / 1e6, getattr(method, "__name__", "a call"),
            )  # fmt: skip


def timed(clock: Callable[[], int], method: Callable[..., Any], args: tuple[Any, ...]) -> tuple[int, Any]:
    """Nanoseconds spent by that clock, and the outputs as a list, or the awaitable that will give them."""
    began = clock()
    given = method(*args)
    if given is None:
        given = []
    elif isinstance(given, OUTPUTS):
        given = [given]
    elif not isinstance(given, list) and not isawaitable(given) and not hasattr(given, "__aiter__"):
        given = _listed(given)
    return clock() - began, given


async def gather(given: Any) -> list[Output]:
    """The outputs of an async call that has begun."""
    if hasattr(given, "__aiter__"):
        return [output async for output in given]
    given = await given
    if given is None:
        return []
    return [given] if isinstance(given, OUTPUTS) else _listed(given)


def _listed(given: Any) -> list[Output]:
    """Several outputs; a table, frame, dict or text is iterable too, but certainly not meant so."""
    is_one_thing = isinstance(given, str | bytes | Mapping) or any(
        hasattr(given, name) for name in ("__arrow_c_stream__", "__arrow_c_array__", "__array__")
    )
    if is_one_thing or not isinstance(given, Iterable):
        raise _unexpected(given)
    return list(given)


def _unexpected(given: object) -> PenstockError:
    return PenstockError(
        f"expected a Batch, a Result, an iterable of them or None, found {type(given).__name__}; "
        "rows go into Batch.from_rows([...]), a record batch into Batch(...)"
    )
