"""The examination every stage should pass, and a way to run a stage's logic without a pipeline."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import msgspec
import pyarrow as pa

from ..containers.calling import Caller
from ..frames import Batch, MemberRows, Result, Watermark
from ..hashing import hash_value
from ..stage import Context, Stage, Transform
from ..threads import Workers


class Given(msgspec.Struct, frozen=True):
    """What a stage gave back for its inputs: all output rows as one table, and its results by (member, key)."""

    output: pa.Table | None
    results: Mapping[tuple[str, str], Any]
    metrics: Mapping[str, Any]


class Driven:
    """A stage's logic as a container would call it, built and warm; `gave` is what has come out so far."""

    def __init__(self, logic: Transform, workers: Workers) -> None:
        self.logic = logic
        self.gave: list[Any] = []
        self._workers = workers
        self._caller = Caller("test", logic, workers)
        self._seq = 0

    @classmethod
    async def made(cls, stage: Stage, context: Context | None = None) -> Self:
        """Build and warm it, in a thread as a run does."""
        workers = Workers(1)
        try:
            logic = await workers.run(stage.build, context or Context())
            if not isinstance(logic, Transform):
                raise TypeError(f"expected a stage that builds a Transform or Sink, found {type(logic).__name__}")
            await workers.run(logic.warm)
        except BaseException:
            await workers.close()
            raise
        return cls(logic, workers)

    async def snapshot(self) -> Any:
        """The logic's state, taken where it runs."""
        return self.logic.snapshot() if self.logic.runs_in == "loop" else await self._workers.run(self.logic.snapshot)

    async def restore(self, state: Any) -> None:
        """Give the logic a state, in a thread as a run does."""
        await self._workers.run(self.logic.restore, state)

    async def take(self, frame: Batch | Watermark | None) -> None:
        """Call the logic with a frame; None is the end of its inputs."""
        if isinstance(frame, Batch):
            self.gave += await self._caller(self.logic.on_batch, frame.stamped("input", self._seq))
            self._seq += frame.num_rows
        elif frame is not None:
            self.gave += await self._caller(self.logic.on_watermark, frame)
        else:
            self.gave += await self._caller(self.logic.on_end)

    async def close(self) -> None:
        """Close the logic, in a thread as containers do."""
        try:
            await self._workers.run(self.logic.close)
        finally:
            await self._workers.close()


async def run_stage(stage: Stage, batches: Sequence[Batch], context: Context | None = None) -> Given:
    """Drive a transform or sink through batches, the watermark after each, and the end."""
    driven = await Driven.made(stage, context)
    try:
        for frame in with_watermarks(batches):
            await driven.take(frame)
        await driven.take(None)
        metrics = dict(driven.logic.metrics())
    finally:
        await driven.close()
    return given_of(driven.gave, metrics)


def with_watermarks(batches: Iterable[Batch]) -> list[Batch | Watermark]:
    """Each batch, and after it the watermark a feed of sorted rows would send."""
    frames: list[Batch | Watermark] = []
    for batch in batches:
        frames.append(batch)
        if batch.max_ts is not None:
            frames.append(Watermark(batch.max_ts))
    return frames


def given_of(outputs: Sequence[Any], metrics: Mapping[str, Any]) -> Given:
    """Outputs of a logic's calls, put together."""
    sent = [output.columns for output in outputs if isinstance(output, Batch) and output.num_rows]
    results: dict[tuple[str, str], Any] = {}
    for output in outputs:
        if isinstance(output, MemberRows):
            for member, begin, end in zip(output.members, output.offsets[:-1], output.offsets[1:], strict=True):
                rows, place = output.columns.slice(int(begin), int(end - begin)), (member, output.key)
                results[place] = pa.concat_tables([_table(results[place]), _table(rows)]) if place in results else rows
        elif isinstance(output, Result):
            place = (output.member, output.key)
            if output.append and place in results:
                results[place] = pa.concat_tables([_table(results[place]), _table(output.value)])
            else:
                results[place] = output.value
    return Given(pa.Table.from_batches(sent) if sent else None, results, metrics)


async def check_stage(
    stage: Stage, batches: Sequence[Batch], *, cuts: Sequence[int] = (1, 7), context: Context | None = None
) -> Given:
    """Examine a stage on some input; raises AssertionError saying what is wrong.

    The recipe is frozen and comparable; building twice gives the same answers; the answers do not depend on how
    the rows are cut into batches; the input is left as it was. Returns what the stage gave for the input as it is.
    """
    assert copy.deepcopy(stage) == stage, f"{type(stage).__name__} does not equal a copy of itself"
    try:
        setattr(stage, next(iter(stage.__struct_fields__), "name"), None)
    except AttributeError:
        pass
    else:
        raise AssertionError(f"{type(stage).__name__} can be changed; declare it with frozen=True")
    before = [hash_value(batch.columns)[0] for batch in batches]
    whole = await run_stage(stage, batches, context)
    _same(whole, await run_stage(stage, batches, context), "a second run over the same batches")
    rows = pa.Table.from_batches([batch.columns for batch in batches]) if batches else None
    for size in cuts if rows is not None else ():
        assert rows is not None
        cut = [Batch(part) for part in rows.combine_chunks().to_batches(max_chunksize=size)]
        _same(whole, await run_stage(stage, cut, context), f"batches of {size} rows")
    assert [hash_value(batch.columns)[0] for batch in batches] == before, "the stage changed its input"
    return whole


def _same(first: Given, second: Given, what: str) -> None:
    assert shape_of(first) == shape_of(second), f"{what} gave another answer"


def shape_of(given: Given) -> Any:
    """Hashes of rows and results, which are equal where these are to the last bit."""
    output = None if given.output is None else (given.output.schema.names, hash_value(given.output))
    return output, {place: hash_value(value) for place, value in given.results.items()}


def _table(value: Any) -> pa.Table:
    if isinstance(value, Batch):
        value = value.columns
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if isinstance(value, list):
        return pa.Table.from_batches([Batch.from_rows(value).columns])
    return value
