"""Answers for calls of a logic that fail: made again, from the state before, and cut down to the rows to blame."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import anyio
import numpy as np

from .breaker import Breaker
from .calling import Caller
from .clock import Clock
from .cutting import count_on, counted
from .dead_letters import DeadLetter, DeadLetterFile, rows_of, said
from .errors import TooManyDeadLetters
from .frames import Batch
from .overdue import Left, call_within
from .stage import Feed, Output, Transform
from .tolerance import ErrorPolicy

Rebuild: TypeAlias = Callable[[], Awaitable[Feed | Transform]]
"""Builds and warms another logic of the same recipe."""

log = logging.getLogger("penstock.container")


class Mender:
    """Stands before the caller of one container, in its place, and does what `errors:` says when a call fails.

    The rungs, in order: the call is made again (`retries`, after waits); a batch that still fails is cut in halves
    until the rows to blame are alone, in two calls for each halving, and they become dead letters; all other rows have
    come out in their order, as if those had never been there. A logic that is not `stateless` is brought back to what
    it was before the call first: another is built and given the state that was taken beforehand, so this costs one
    `snapshot` for each call. Where that is not possible there are no dead letters, and what is left raises.
    """

    def __init__(
        self,
        policy: ErrorPolicy,
        caller: Caller,
        logic: Transform,
        *,
        clock: Clock,
        seed: int,
        letters: DeadLetterFile,
        rebuild: Rebuild,
        replaced: Callable[[Transform], None] = lambda logic: None,
    ) -> None:
        self.policy, self.caller, self.logic, self.clock = policy, caller, logic, clock
        self.letters, self.replaced = letters, replaced
        self.retries = self.restores = 0
        self.dead_rows = 0
        self.dead_unsettled = 0
        """Of them, those of a call that has failed all the same."""
        self.left_behind = False
        """Whether a call of the logic runs on in a thread, so that nobody may touch the logic."""
        self._rebuild = rebuild
        self._restores = not logic.stateless and logic.can_snapshot
        self._isolates = policy.dead_letters and (logic.stateless or self._restores)
        self._breaker = Breaker(policy.max_dead_share, policy.dead_window_rows)
        self._rows = 0
        """Rows that have come, dead ones included."""
        self._random = np.random.default_rng([seed, *caller.name.encode()])
        if policy.dead_letters and not self._isolates:
            log.warning(
                "container '%s' will have no dead letters: its logic is not stateless and cannot give its state, so "
                "nobody knows what a failed call leaves in it", caller.name,
            )  # fmt: skip

    # -- as a caller -------------------------------------------------------------------------------------------

    @property
    def busy_ns(self) -> int:
        return self.caller.busy_ns

    @property
    def calls_on_loop(self) -> int:
        return self.caller.calls_on_loop

    @property
    def calls_in_thread(self) -> int:
        return self.caller.calls_in_thread

    def now(self, method: Callable[..., Any], *args: Any) -> list[Output] | None:
        """There is no short way: what fails is to be awaited."""
        return None

    async def __call__(self, method: Callable[..., Any], *args: Any) -> list[Output]:
        """The outputs of a call, or of what could be made of it; raises what could not be mended."""
        name = method.__name__
        before = await self._state() if self._restores else None
        try:
            outputs = await self._try(name, args)
        except Exception as error:
            outputs = await self._mend(name, args, before, error)
        self._rows += args[0].num_rows if args and isinstance(args[0], Batch) else 0
        return outputs

    # -- the rungs ---------------------------------------------------------------------------------------------

    async def _mend(self, name: str, args: tuple[Any, ...], before: _State | None, error: Exception) -> list[Output]:
        batch = args[0] if name == "on_batch" and self._isolates and args[0].num_rows else None
        # A state that went wrong is no row's fault: what is restored gets one more try in any case.
        tries = max(self.policy.retries, 1) if batch is not None and self._restores else self.policy.retries
        failures = 1
        while failures <= tries and not self.left_behind:
            log.warning("container '%s': %s failed, try %s of %s: %s",
                        self.caller.name, name, failures, tries + 1, said(error))  # fmt: skip
            await self._wait(failures)
            await self._recover(before)
            self.retries += 1
            try:
                return await self._try(name, args)
            except Exception as again:
                error = again
                failures += 1
        if batch is None or self.left_behind:
            raise error
        await self._recover(before)
        return await self._isolate(batch, failures, error, before)

    async def _isolate(
        self, batch: Batch, failures: int, error: Exception | None, before: _State | None
    ) -> list[Output]:
        """Outputs of all rows but those to blame, which become dead letters; the logic is as before the batch."""
        outputs: list[Output] = []
        dead: list[DeadLetter] = []
        parts: list[tuple[Batch, int, Exception | None]] = [(batch, failures, error)]
        try:
            while parts:
                part, failures, error = parts.pop()
                if error is None:
                    try:
                        outputs += await self._try("on_batch", (part,))
                    except Exception as found:
                        failures, error = failures + 1, found
                        if self.left_behind:
                            raise
                        await self._recover(before)
                    else:
                        before = await self._state() if self._restores else None
                        continue
                if part.num_rows > 1:
                    half = part.num_rows // 2
                    parts.append((part.slice(half), failures, None))
                    parts.append((part.slice(0, half), failures, None))
                    continue
                dead.append(self._letter(part, failures, error))
                if self._breaker.trips(self._rows + part.first_seq - batch.first_seq):
                    raise TooManyDeadLetters(
                        f"{len(self._breaker.places)} of the last {self._breaker.window:,} rows are dead letters, "
                        f"`max_dead_share` allows {self._breaker.allowed}; the last is row {part.first_seq:,} of "
                        f"'{part.source}': {said(error)}; all: penstock dead-letters {self.letters.phase}"
                    ) from error
        except Exception:
            self.dead_unsettled = len(dead)
            raise
        finally:
            if dead:
                await self.letters.add(dead)
                self.dead_rows += len(dead)
        log.warning("container '%s': %s of %s rows became dead letters, in %s",
                    self.caller.name, len(dead), batch.num_rows, self.letters.path)  # fmt: skip
        return outputs

    async def _try(self, name: str, args: tuple[Any, ...]) -> list[Output]:
        method = getattr(self.logic, name)
        if self.policy.timeout_seconds is None:
            return await self.caller(method, *args)
        try:
            return await call_within(self.policy.timeout_seconds, self.clock, self.caller, method, args)
        except Left:
            self.left_behind = True
            raise

    async def _wait(self, failures: int) -> None:
        await self.clock.sleep_until(self.clock.monotonic_ns() + backoff_ns(self.policy, failures, self._random))

    def _letter(self, row: Batch, failures: int, error: Exception) -> DeadLetter:
        return DeadLetter(
            container=self.caller.name, value=rows_of(row), rows=row.num_rows, source=row.source,
            first_seq=row.first_seq, error=said(error), attempts=failures, time_ns=self.clock.now_ns(),
        )  # fmt: skip

    # -- the logic's state -------------------------------------------------------------------------------------

    async def _state(self) -> _State:
        """The logic's state between two calls, taken where it runs."""
        logic = self.logic
        if logic.runs_in == "loop":
            taken = logic.snapshot()
        else:
            taken = await self.caller.workers.run(logic.snapshot)
        return _State(taken, counted(logic))

    async def _recover(self, before: _State | None) -> None:
        """Bring back what a failed call may have changed: another logic, with the state there was before it."""
        if before is None:
            return
        fresh = await self._rebuild()
        assert isinstance(fresh, Transform), "a recipe builds the same each time"
        try:
            await self.caller.workers.run(fresh.restore, before.taken)
            count_on(fresh, before.counts)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.caller.workers.run(fresh.close)
            raise
        old, self.logic = self.logic, fresh
        self.caller.logic = fresh
        self.replaced(fresh)
        self.restores += 1
        await self.caller.workers.run(old.close)

    def snapshot(self) -> dict[str, Any]:
        """What a checkpoint has to know of the mending: its counts, and how far the file of dead letters goes."""
        return {
            "rows": self._rows,
            "dead_rows": self.dead_rows,
            "places": list(self._breaker.places),
            "letters": list(self.letters.mark()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `snapshot`; what was put aside after it is cut off. Blocking."""
        self._rows, self.dead_rows = state["rows"], state["dead_rows"]
        self._breaker.put_back(state["places"])
        self.letters.rewind(state["letters"])


class _State(NamedTuple):
    taken: Any
    counts: Mapping[str, int]


def backoff_ns(policy: ErrorPolicy, failures: int, generator: np.random.Generator) -> int:
    """How long to wait after so many failures: doubled each time, up to the longest, less up to half of it."""
    seconds = min(policy.max_backoff_seconds, policy.backoff_seconds * 2.0 ** min(failures - 1, 60))
    return int(seconds * 1e9 * (1.0 - 0.5 * generator.random()))
