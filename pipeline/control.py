"""How a run is begun, paused, gone on with, sped up and stepped from outside."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from .engines.local import LocalEngine
from .errors import PenstockError
from .timeline import State, checked_speed
from .windows import nanoseconds


class Control(ABC):
    """What was asked of a run, also before there is an engine, and in every phase."""

    def __init__(self) -> None:
        self._begun = self._paused = False
        self._speed: tuple[float | None] | None = None
        self._engine: LocalEngine | None = None
        self._engine_came = asyncio.Event()

    def begin(self) -> None:
        """Let the feeds start. The first iteration of a subscription and `finished()` do it too."""
        self._begun = True
        if self._engine is not None:
            self._engine.steering.begin(paused=self._paused)

    def pause(self) -> None:
        """Feeds stop giving: replays before the next row, others after the batch they are at.

        What is under way flows on. Time of a replay stands still meanwhile.
        """
        self._paused = True
        if self._engine is not None:
            self._engine.steering.pause()

    def resume(self) -> None:
        """Go on from where it was paused, or from where the last step ended."""
        self._paused = False
        if self._engine is not None:
            self._engine.steering.resume()
        if self._begun:
            self.begin()

    async def step(self, rows: int | None = None, *, until: str | int | None = None) -> int:
        """Replay so many rows, or all before a moment, and stand still; nothing else is needed to begin.

        Rows count over all feeds in order of their `ts_recv` (else `ts_event`), those of one stamp together; `until` is
        an ISO time or ns UTC. Returns how many rows went, when every container has worked on them. 0: the feeds of
        this phase have ended. Raises `PenstockError` where no feed is a replay.
        """
        if (rows is None) == (until is None):
            raise ValueError("expected either rows or until, a number of rows or a moment")
        if rows is not None and (not isinstance(rows, int) or rows < 1):
            raise ValueError(f"expected to step by at least 1 row, a whole number, found {rows!r}")
        until_ns = None if until is None else _moment(until)
        self.expect_entered()
        self._begun = self._paused = True
        engine = await self._coming()
        return 0 if engine is None else await engine.steering.step(rows=rows, until_ns=until_ns)

    async def seek(self, to: str | int) -> None:
        """Go on at a later moment (ISO time or ns UTC, of receipt): what was not let go before it never comes.

        Feeds read what lies between silently; those with books give each as it stands then (CLEAR and adds), so that
        consumers need not know of the hole. What is downstream keeps what it has. A run that was not begun begins and
        stands still; a paused one stays paused. Its summary says `interrupted`, since it does not hold all the data,
        and it cannot be resumed. Backwards there is no way within a run, for what is downstream would know its future:
        raises `PenstockError`, as it does where a feed is no replay, the run keeps checkpoints, or another seek is
        under way. Start another run whose feeds `begin` there.
        """
        to_ns = _moment(to)
        self.expect_entered()
        if not self._begun:
            self._paused = True
            self.begin()
        engine = await self._coming()
        if engine is None:
            raise PenstockError("the run has ended; nothing can be sought in it")
        if engine.checkpointer is not None:
            raise PenstockError("expected a run without checkpoints, which tell how many rows of its feeds have gone")
        await engine.steering.seek(to_ns)

    def set_speed(self, speed: float | None) -> None:
        """Replay at so many times real time from here on, in all phases to come too; None: as fast as possible."""
        self._speed = (checked_speed(speed),)
        if self._engine is not None:
            self._engine.steering.timeline.set_speed(speed)

    @property
    def replayed_ns(self) -> int | None:
        """The recorded time that the replay has reached, ns UTC; None before its first row."""
        return None if self._engine is None else self._engine.steering.timeline.now_ns

    @property
    def replay_lag_ms(self) -> float | None:
        """How late the latest row was, in ms; None where it is replayed as fast as it is taken."""
        return None if self._engine is None else self._engine.steering.figures().get("replay_lag_max_ms")

    @property
    def replay_state(self) -> State:
        """stopped, running, paused, stepping or finished."""
        if self.is_over:
            return "finished"
        return "stopped" if self._engine is None else self._engine.steering.timeline.state

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether nothing of the run is left to be steered."""

    @abstractmethod
    def expect_entered(self) -> None:
        """Raise `PenstockError` where nothing of the run would ever come, since nobody has entered it."""

    async def _coming(self) -> LocalEngine | None:
        """The engine that is steered, once there is one; None where the run is over."""
        while self._engine is None and not self.is_over:
            self._engine_came.clear()
            await self._engine_came.wait()
        return self._engine

    def _steer(self, engine: LocalEngine) -> None:
        """A phase's engine is ready: what was asked for holds for it."""
        self._engine = engine
        if self._speed is not None:
            engine.steering.timeline.set_speed(self._speed[0])
        if self._begun:
            engine.steering.begin(paused=self._paused)
        self._engine_came.set()


def _moment(told: str | int) -> int:
    """ISO text or ns UTC as ns UTC; raises `ValueError` for anything else."""
    if isinstance(told, str):
        return nanoseconds(told)
    if isinstance(told, int):
        return told
    raise ValueError(f"expected a moment, an ISO time such as '2024-05-01T12:00:00Z' or ns UTC, found {told!r}")
