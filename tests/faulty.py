"""Logics that fail on purpose: at given rows, so many times or for ever, in every way a logic can be called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import Batch, Context, DeadLetter, DeadLetters, Result, Sink, Stage, Transform


class Poisoned(Exception):
    """Raised by a faulty logic."""


class Fatal(BaseException):
    """No failure that anybody may answer for."""


@dataclass(repr=False)
class Diary:
    """What became of a faulty stage, whichever logic of it did the work."""

    def __repr__(self) -> str:
        return "Diary()"  # the same in every fingerprint

    calls: list[tuple[int, int]] = field(default_factory=list)
    """First row and rows of each call of `on_batch`, failed ones too."""
    failed: int = 0
    built: int = 0
    closed: int = 0
    snapshots: int = 0


class Faulty(Stage, frozen=True):
    """Doubles `n`, but fails for batches with a row whose `n` is poison."""

    diary: Diary
    poison: frozenset[int] = frozenset()
    times: int | None = None
    """Calls that fail in all, None: all that should."""
    kind: str = "stateless"
    """stateless, counting (has a state and can give it) or dumb (has a state and cannot)."""
    way: str = "plain"
    """plain, thread, async or generator (an async one)."""
    error: type[BaseException] = Poisoned
    fails_at_end: bool = False

    def build(self, context: Context) -> Transform:
        self.diary.built += 1
        kinds = {"stateless": _Stateless, "counting": _Counting, "dumb": _Dumb, "sink": _Sink}
        logic: _Stateless = kinds[self.kind](self)
        return logic


class _Stateless(Transform):
    stateless = True

    def __init__(self, recipe: Faulty) -> None:
        self.recipe, self.diary = recipe, recipe.diary
        self.total = 0
        if recipe.way == "thread":
            self.runs_in = "thread"

    def on_batch(self, batch: Batch) -> Any:
        if self.recipe.way == "async":
            return self._later(batch)
        if self.recipe.way == "generator":
            return self._one_by_one(batch)
        return self._work(batch)

    async def _later(self, batch: Batch) -> Any:
        await anyio.lowlevel.checkpoint()
        return self._work(batch)

    async def _one_by_one(self, batch: Batch) -> AsyncIterator[Any]:
        await anyio.lowlevel.checkpoint()
        for output in self._work(batch):
            yield output

    def _work(self, batch: Batch) -> list[Any]:
        self.diary.calls.append((batch.first_seq, batch.num_rows))
        numbers = batch.columns.column("n")
        if isinstance(self, Sink):
            self.committed_rows += batch.num_rows
        for number in numbers.to_pylist():
            self.total += number  # what a failed call leaves behind
            if number in self.recipe.poison and self._is_due():
                raise self.recipe.error(f"row {number}")
        return self._given(batch)

    def _given(self, batch: Batch) -> list[Any]:
        return [batch.with_columns(n=pc.multiply(batch.columns.column("n"), 2))]

    def _is_due(self) -> bool:
        times = self.recipe.times
        if times is not None and self.diary.failed >= times:
            return False
        self.diary.failed += 1
        return True

    def on_end(self) -> Any:
        if self.recipe.fails_at_end and self._is_due():
            raise Poisoned("at the end")
        return None if self.stateless else Result("total", pa.table({"total": [self.total]}))

    def close(self) -> None:
        self.diary.closed += 1


class _Counting(_Stateless):
    """Sends each row with the sum of all rows so far."""

    stateless = False

    def _given(self, batch: Batch) -> list[Any]:
        total = self.total - sum(batch.columns.column("n").to_pylist())
        sums = []
        for number in batch.columns.column("n").to_pylist():
            total += number
            sums.append(total)
        return [batch.with_columns(sum=sums)]

    def snapshot(self) -> Any:
        self.diary.snapshots += 1
        return {"total": self.total}

    def restore(self, state: Any) -> None:
        assert self.total == 0, "restore is for a fresh logic"
        self.total = state["total"]


class _Dumb(_Stateless):
    stateless = False


class _Sink(_Stateless, Sink):
    """Counts before it fails."""

    def _given(self, batch: Batch) -> list[Any]:
        return []


def numbered(*cuts: int) -> list[dict[str, Any]]:
    """Batches of so many rows, `n` counting through from 0, each row a second after the last."""
    made, first = [], 0
    for rows in cuts:
        numbers = range(first, first + rows)
        made.append({"ts_event": pa.array([n * 10**9 for n in numbers], pa.timestamp("ns", "UTC")), "n": list(numbers)})
        first += rows
    return made


async def letters_in(phase: Path, container: str | None = None) -> list[DeadLetter]:
    """The dead letters of a phase, read where reading may block."""
    return await asyncio.to_thread(lambda: list(DeadLetters(phase, container)))


def column(batches: Sequence[Batch], name: str) -> list[int]:
    return [value for batch in batches for value in batch.columns.column(name).to_pylist()]
