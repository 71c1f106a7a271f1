"""Answers for calls of a logic that fail: made again, from the state before, and cut down to the rows to blame."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import anyio
import numpy as np

from ..checkpoints.cutting import count_on, counted
from ..clock import Clock
from ..containers.calling import Caller
from ..edges.in_flight import EdgesAccount
from ..errors import TooManyDeadLetters
from ..frames import Batch
from ..stage import Feed, Output, Transform
from ..storage.sizing import compact
from .breaker import Breaker
from .dead_letters import DeadLetter, DeadLetterFile, rows_of, said
from .overdue import Left, call_within
from .tolerance import ErrorPolicy

Rebuild: TypeAlias = Callable[[], Awaitable[Feed | Transform]]
"""Builds and warms another logic of the same recipe."""

HELD_CALLS: Final = 256
"""Calls that may be repeated to come to the state before a failure, before the state is taken anew."""
HELD_BYTES: Final = 1 << 20
"""... and bytes of their batches, which stay charged as what is under way."""
COPIED_BYTES: Final = 1 << 16
"""A batch up to this large is copied out of something larger that it is a slice of."""
POOL_PARTS: Final = 256
"""Nor more than one of so many parts of the process's pool."""

MOST_TOLD: Final = 20
"""Failures that are answered for of which the log tells."""

log = logging.getLogger("penstock.container")


class Mender:
    """Stands before the caller of one container, in its place, and does what `errors:` says when a call fails.

    The rungs, in order: the call is made again (`retries`, after waits); a batch that still fails is cut in halves
    until the rows to blame are alone, in two calls for each halving, and they become dead letters; all other rows have
    come out in their order, as if those had never been there. A logic that is not `stateless` is brought back to what
    it was before the call first: another is built, given the last state that was taken, and the batches since then. Its
    state is taken every `HELD_CALLS` calls or `HELD_BYTES`; before each call where it is async, since it may have acted
    on something outside, which must not happen again. Where nobody can bring it back the first failure is raised: who
    knows what it left, and rows that count twice are worse than a failure.
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
        account: EdgesAccount | None = None,
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
        self._mends = logic.stateless or self._restores
        self._isolates = policy.dead_letters and self._mends
        self._past = _Past(account or EdgesAccount())
        self._breaker = Breaker(policy.max_dead_share, policy.dead_window_rows)
        self._rows = 0
        """Rows that have come, dead ones included."""
        self._random = np.random.default_rng([seed, *caller.name.encode()])
        self._told = 0
        if not self._mends and (policy.dead_letters or policy.retries):
            log.warning(
                "container '%s' has no retries and no dead letters: its logic is not stateless and cannot give its "
                "state, so nobody knows what a failed call leaves in it", caller.name,
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
        # A decorated method may bear any name.
        name = "on_end" if not args else "on_batch" if isinstance(args[0], Batch) else "on_watermark"
        await self._remember()
        try:
            outputs = await self._try(name, args)
        except Exception as error:
            outputs = await self._mend(name, args, error)
        if name == "on_end":
            self._past.let_go()
        self._rows += args[0].num_rows if args and isinstance(args[0], Batch) else 0
        return outputs

    # -- the rungs ---------------------------------------------------------------------------------------------

    async def _mend(self, name: str, args: tuple[Any, ...], error: Exception) -> list[Output]:
        batch = args[0] if name == "on_batch" and self._isolates and args[0].num_rows else None
        # A state that went wrong is no row's fault: what is restored gets one more try in any case.
        tries = max(self.policy.retries, 1) if batch is not None and self._restores else self.policy.retries
        tries = tries if self._mends else 0
        failures = 1
        while failures <= tries and not self.left_behind:
            self._tell("%s failed, try %s of %s: %s", name, failures, tries + 1, said(error))
            await self._wait(failures)
            await self._recover()
            self.retries += 1
            try:
                return await self._try(name, args)
            except Exception as again:
                error = again
                failures += 1
        if batch is None or self.left_behind:
            raise error
        await self._recover()
        return await self._isolate(batch, failures, error)

    async def _isolate(self, batch: Batch, failures: int, error: Exception | None) -> list[Output]:
        """Outputs of all rows but those to blame, which become dead letters; the logic is as before the batch."""
        outputs: list[Output] = []
        dead: list[DeadLetter] = []
        parts: list[tuple[Batch, int, Exception | None]] = [(batch, failures, error)]
        try:
            while parts:
                part, failures, error = parts.pop()
                if error is None:
                    await self._remember()
                    try:
                        outputs += await self._try("on_batch", (part,))
                        continue
                    except Exception as found:
                        failures, error = failures + 1, found
                        if self.left_behind:
                            raise
                        await self._recover()
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
        self._tell("%s of %s rows became dead letters, in %s", len(dead), batch.num_rows, self.letters.path)
        return outputs

    async def _try(self, name: str, args: tuple[Any, ...]) -> list[Output]:
        method, seconds = getattr(self.logic, name), self.policy.timeout_seconds
        counts = {} if self._restores else counted(self.logic)
        try:
            if seconds is None:
                outputs = await self.caller(method, *args)
            else:
                outputs = await call_within(seconds, self.clock, self.caller, method, args)
        except Left:
            self.left_behind = True
            raise
        except Exception:
            count_on(self.logic, counts)
            raise
        self._past.add(name, args, holds=self._restores and not self.caller.is_async)
        return outputs

    async def _wait(self, failures: int) -> None:
        await self.clock.sleep_until(self.clock.monotonic_ns() + backoff_ns(self.policy, failures, self._random))

    def _tell(self, what: str, *words: object) -> None:
        """Log the first few; how many there were is counted in any case."""
        self._told += 1
        if self._told <= MOST_TOLD:
            more = "; it is not told any more" if self._told == MOST_TOLD else ""
            log.warning("container '%s': " + what + "%s", self.caller.name, *words, more)

    def _letter(self, row: Batch, failures: int, error: Exception) -> DeadLetter:
        return DeadLetter(
            container=self.caller.name, value=rows_of(row), rows=row.num_rows, source=row.source,
            first_seq=row.first_seq, error=said(error), attempts=failures, time_ns=self.clock.now_ns(),
        )  # fmt: skip

    # -- the logic's state -------------------------------------------------------------------------------------

    async def _remember(self) -> None:
        """Take the logic's state, where it runs, if what has happened since it was taken last is too much to repeat."""
        if not self._restores or not self._past.is_long:
            return
        logic = self.logic
        if logic.runs_in == "loop":
            state = logic.snapshot()
        else:
            state = await self.caller.workers.run(logic.snapshot)
        self._past.begin(state, counted(logic))

    async def _recover(self) -> None:
        """Bring back what a failed call may have changed: another logic, where the one before the call was."""
        if not self._restores:
            return
        fresh = await self._rebuild()
        assert isinstance(fresh, Transform), "a recipe builds the same each time"
        try:
            await self.caller.workers.run(fresh.restore, self._past.state)
            count_on(fresh, self._past.counts)
            for name, args in self._past.calls:
                await self.caller(getattr(fresh, name), *args)
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

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a `snapshot` (None: nothing was mended then); what came after it is cut off. Blocking."""
        if state is None:
            return
        self._rows, self.dead_rows = state["rows"], state["dead_rows"]
        self._breaker.put_back(state["places"])
        self.letters.rewind(state["letters"])


class _Past:
    """A state of the logic, and the calls since then that bring it to where it is now."""

    def __init__(self, account: EdgesAccount) -> None:
        self.state: Any = None
        self.counts: Mapping[str, int] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._account = account
        self._bytes = 0
        self._limit = HELD_BYTES if account.pool is None else min(HELD_BYTES, account.pool.limit // POOL_PARTS)
        self.is_long = True
        """Whether the state is to be taken before anything else happens."""

    def begin(self, state: Any, counts: Mapping[str, int]) -> None:
        """From this state on."""
        self.let_go()
        self.state, self.counts, self.is_long = state, counts, False

    def add(self, name: str, args: tuple[Any, ...], *, holds: bool) -> None:
        """One more call that has succeeded; one that does not hold cannot be repeated."""
        if not holds:
            self.is_long = True
            return
        args = tuple(_apart(arg) if isinstance(arg, Batch) else arg for arg in args)
        self.calls.append((name, args))
        for arg in args:
            if isinstance(arg, Batch):
                self._account.charge(arg)
                self._bytes += arg.num_bytes
        self.is_long = self.is_long or len(self.calls) >= HELD_CALLS or self._bytes > self._limit

    def let_go(self) -> None:
        """Forget the calls; their batches are no longer charged."""
        for _, args in self.calls:
            for arg in args:
                if isinstance(arg, Batch):
                    self._account.release(arg)
        self.calls, self._bytes = [], 0


def _apart(batch: Batch) -> Batch:
    """A batch that keeps no more alive than its rows: a small slice is copied out of what it is a part of."""
    if batch.is_rows or batch.columns.nbytes > COPIED_BYTES:
        return batch
    copied = compact(batch.columns)
    return batch if copied is batch.columns else Batch(copied, source=batch.source, first_seq=batch.first_seq)


def backoff_ns(policy: ErrorPolicy, failures: int, generator: np.random.Generator) -> int:
    """How long to wait after so many failures: doubled each time, up to the longest, less up to half of it."""
    seconds = min(policy.max_backoff_seconds, policy.backoff_seconds * 2.0 ** min(failures - 1, 60))
    return int(seconds * 1e9 * (1.0 - 0.5 * generator.random()))
