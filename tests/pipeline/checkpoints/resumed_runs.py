"""Engines that are stopped somewhere and gone on from their last checkpoint, and what they leave in the end."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec
import numpy as np
import pyarrow as pa

from pipeline import Batch, Context, Feed, MemberRows, Result, Row, Stage, Topology, Transform, Watermark
from pipeline.checkpoints.cuts import Checkpoint, Saved
from pipeline.checkpoints.files import CheckpointFiles
from pipeline.checkpoints.taking import Checkpoints
from pipeline.engines.local import LocalEngine
from pipeline.phases import check_ledger
from pipeline.storage.root import StorageRoot
from pipeline.summary import summarise
from pipeline.threads import Workers

NEVER = 1e9
"""Seconds between checkpoints of an engine whose test takes them itself."""


class Left(msgspec.Struct):
    """What a run left: its summary, and the bytes of its files."""

    summary: bytes
    files: dict[str, bytes]


class Host:
    """One folder, one process at a time; `process` begins another one in it."""

    def __init__(self, folder: Path, topology: Callable[[], Topology], **words: Any) -> None:
        self.folder, self.topology, self.words = folder, topology, words
        self.engines: list[LocalEngine] = []
        """Of all processes."""

    async def whole(self) -> Left:
        """What a run leaves that nobody stopped, and that took no checkpoint."""
        path = self.folder.with_name(f"{self.folder.name}-whole") / "run"
        await asyncio.to_thread(path.mkdir, parents=True)
        engine = LocalEngine(self.topology(), path, on_ready=lambda engine: engine.gate.open(), **self.words)
        outcome = await engine.run()
        return await asyncio.to_thread(left_by, path, outcome)

    async def process(self, conduct: Callable[[LocalEngine], Any] | None, *, resume: bool = True) -> Left | None:
        """Run from the last checkpoint, if there is one. `conduct` may take checkpoints; when it returns, the process
        dies. Without it the run comes to its end."""
        blocking = Workers(1)
        path = self.folder / "run"

        def begin() -> tuple[StorageRoot, CheckpointFiles, Checkpoint | None]:
            root = StorageRoot.open(self.folder)
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            files = CheckpointFiles(root, "run", {"test": 1})
            return root, files, files.load()

        root, files, found = await blocking.run(begin)

        async def save(checkpoint: Checkpoint) -> Saved:
            return await blocking.run(files.save, checkpoint)

        engine = LocalEngine(
            self.topology(), path, root=root, resume=found if resume else None,
            checkpoints=Checkpoints(NEVER, save, files.read_back), on_ready=lambda engine: engine.gate.open(),
            **self.words,
        )  # fmt: skip
        self.engines.append(engine)
        try:
            running = asyncio.ensure_future(engine.run())
            if conduct is None:
                return await blocking.run(left_by, path, await running)
            while engine.checkpointer is None and not running.done():
                await asyncio.sleep(0)
            conducting = asyncio.ensure_future(conduct(engine))
            await asyncio.wait((running, conducting), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            if conducting.done():
                conducting.result()
            conducting.cancel()
            await asyncio.gather(conducting, return_exceptions=True)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return None
        finally:
            await blocking.run(root.close)
            await blocking.close()


def left_by(path: Path, outcome: Any) -> Left:
    wrong = check_ledger(outcome)
    assert not wrong, wrong
    summary = msgspec.json.encode(summarise("test", "run", outcome, {}))
    files = {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted((path / "containers").rglob("*"))
        if file.is_file()
    }
    return Left(summary, files)


async def steps(number: int) -> None:
    """So many turns of the loop."""
    for _ in range(number):
        await asyncio.sleep(0)


# -- stages of every kind -----------------------------------------------------------------------------------------


class Tick(Row, frozen=True):
    ts_event: int
    n: int


class Numbers(Stage, frozen=True):
    """Rows with times that step back within the lateness; in a thread, on the loop, or as single rows."""

    rows: int = 400
    kind: str = "thread"
    seed: int = 1
    cut: int = 7
    step: int = 3

    def build(self, context: Context) -> Feed:
        return {"thread": ThreadNumbers, "async": AsyncNumbers, "rows": RowNumbers}[self.kind](self)

    def times(self) -> np.ndarray[Any, Any]:
        dice = np.random.default_rng(self.seed)
        return np.maximum(np.arange(self.rows) * self.step - dice.integers(0, 6, self.rows), 0)


class ThreadNumbers(Feed):
    lateness_ns = 6

    def __init__(self, recipe: Numbers) -> None:
        self.recipe = recipe
        self.read = 0

    def batches(self) -> Iterator[Batch]:
        times = self.recipe.times()
        dice = np.random.default_rng(self.recipe.seed + 1)
        at = 0
        while at < len(times):
            rows = int(dice.integers(1, self.recipe.cut + 1))
            part = times[at : at + rows]
            yield Batch.from_pydict({"ts_event": part, "n": np.arange(at, at + len(part))})
            at += rows
            self.read = min(at, len(times))

    def metrics(self) -> Mapping[str, Any]:
        return {"read": self.read}


class AsyncNumbers(ThreadNumbers):
    async def batches(self) -> AsyncIterator[Batch | Watermark]:  # type: ignore[override]
        for i, batch in enumerate(ThreadNumbers.batches(self)):
            if i % 5 == 0:
                await anyio.lowlevel.checkpoint()
            yield batch


class Kinds(Stage, frozen=True):
    """Two kinds of record, often both at once."""

    def build(self, context: Context) -> Feed:
        return KindsFeed(Numbers())

    def record_schemas(self, inputs: Mapping[str, pa.Schema | None]) -> Mapping[str, pa.Schema]:
        fields = [("ts_event", pa.int64()), ("n", pa.int64())]
        return {kind: pa.schema(fields, metadata={"record": kind}) for kind in ("odd", "even")}


class KindsFeed(ThreadNumbers):
    def batches(self) -> Iterator[Any]:
        schemas = Kinds().record_schemas({})
        for i, batch in enumerate(super().batches()):
            rows = batch.num_rows // 2
            odd, even = (
                Batch(part.columns.replace_schema_metadata(schemas[kind].metadata))
                for kind, part in (("odd", batch.slice(0, rows)), ("even", batch.slice(rows)))
            )
            yield odd if i % 3 == 0 else (odd, even)


class RowNumbers(Feed):
    lateness_ns = 6

    def __init__(self, recipe: Numbers) -> None:
        self.recipe = recipe

    async def batches(self) -> AsyncIterator[Tick]:  # type: ignore[override]
        for n, ts in enumerate(self.recipe.times().tolist()):
            if n % 11 == 0:
                await anyio.lowlevel.checkpoint()
            yield Tick(ts, n)


class Sums(Stage, frozen=True):
    """Sends each row with the sum of all before it; how it is brought back is its `kind`."""

    kind: str = "state"
    runs_in: str = "loop"
    keeps: bool = True

    def build(self, context: Context) -> Transform:
        kinds = {
            "state": StateSums,
            "replayed": ReplayedSums,
            "stateless": Doubles,
            "async": AsyncSums,
            "slow": SlowSums,
        }
        made = kinds[self.kind](self.keeps)
        made.runs_in = self.runs_in  # type: ignore[assignment]
        return made


class ReplayedSums(Transform):
    def __init__(self, keeps: bool) -> None:
        self.keeps = keeps
        self.total = 0
        self.marks = 0
        self.rows = 0

    def on_batch(self, batch: Batch) -> Iterator[Batch | Result]:
        values = batch.columns.column("n").to_numpy() % 1000
        sums = self.total + np.cumsum(values)
        self.total = int(sums[-1])
        self.rows += batch.num_rows
        self.late_rows += int((values % 97 == 96).sum())
        made = Batch.from_pydict({"ts_event": batch.times(), "n": sums})
        yield made
        if self.keeps:
            yield Result("sums", made.columns, append=True)
            yield Result("last", {"total": self.total, "rows": self.rows})

    def on_watermark(self, watermark: Watermark) -> None:
        assert watermark.ts is not None and watermark.ts >= self.marks - 6
        self.marks = max(self.marks, watermark.ts)

    def on_end(self) -> Result | Batch:
        if self.keeps:
            return Result("end", {"total": self.total})
        return Batch.from_pydict({"ts_event": [10**9], "n": [self.total]})

    def metrics(self) -> Mapping[str, Any]:
        return {"total": self.total, "rows": self.rows}


class StateSums(ReplayedSums):
    def snapshot(self) -> Any:
        return {"total": self.total, "rows": self.rows, "marks": self.marks}

    def restore(self, state: Any) -> None:
        assert self.rows == 0
        self.total, self.rows, self.marks = state["total"], state["rows"], state["marks"]


class AsyncSums(StateSums):
    async def on_batch(self, batch: Batch) -> list[Batch | Result]:  # type: ignore[override]
        await anyio.lowlevel.checkpoint()
        return list(ReplayedSums.on_batch(self, batch))


class SlowSums(StateSums):
    async def on_batch(self, batch: Batch) -> list[Batch | Result]:  # type: ignore[override]
        await steps(6)
        return list(ReplayedSums.on_batch(self, batch))


class Doubles(Transform):
    stateless = True

    def __init__(self, keeps: bool) -> None:
        pass

    def on_batch(self, batch: Batch) -> Batch:
        return batch.with_columns(n=batch.columns.column("n").to_numpy() * 2)


class Bursts(Stage, frozen=True):
    """Sends each row by itself, faster than anybody works on them."""

    def build(self, context: Context) -> Transform:
        return OneByOne()


class OneByOne(Transform):
    stateless = True

    def on_batch(self, batch: Batch) -> Iterator[Batch]:
        for at in range(batch.num_rows):
            yield batch.slice(at, 1)


class Party(Stage, frozen=True):
    """A group whose members keep rows together, some keep values apart, and one row less each."""

    share: int = 1

    def build_group(self, members: Mapping[str, Party], context: Context) -> Transform:
        return PartyLogic(list(members))

    @property
    def groups(self) -> bool:
        return True


class PartyLogic(Transform):
    def __init__(self, members: list[str]) -> None:
        self.members = members
        self.rows = 0

    def on_batch(self, batch: Batch) -> Iterator[Result | MemberRows]:
        self.rows += batch.num_rows
        columns = Batch.from_pydict({"ts_event": batch.times(), "n": batch.columns.column("n")}).columns
        offsets = np.arange(len(self.members) + 1) * len(columns)
        yield MemberRows(
            "seen",
            self.members,
            offsets,
            pa.Table.from_batches([columns] * len(self.members)).combine_chunks().to_batches()[0],
        )
        if self.rows % 5 == 0:
            yield Result("note", {"rows": self.rows}, member=self.members[0])

    def snapshot(self) -> Any:
        return {"rows": self.rows}

    def restore(self, state: Any) -> None:
        self.rows = state["rows"]
