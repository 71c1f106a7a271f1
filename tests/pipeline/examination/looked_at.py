"""Real folders to look at: a run with results, a sink and dead letters, made twice; and stores that were closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from pipeline import (
    Batch,
    Context,
    DataFlow,
    ErrorPolicy,
    Feed,
    Pipeline,
    Result,
    Stage,
    TopologyBuilder,
    Transform,
    open_stores,
)
from stages import ParquetSink

ROWS = 600


class Numbers(Stage, frozen=True):
    rows: int = ROWS
    is_async: bool = False

    def build(self, context: Context) -> Feed:
        return AsyncNumbersFeed(self) if self.is_async else NumbersFeed(self)


class NumbersFeed(Feed):
    def __init__(self, recipe: Numbers) -> None:
        self.recipe = recipe

    def batches(self) -> Iterator[Batch]:
        for at in range(0, self.recipe.rows, 20):
            yield Batch.from_pydict({"ts_event": list(range(at, at + 20)), "n": list(range(at, at + 20))})


class AsyncNumbersFeed(NumbersFeed):
    async def batches(self) -> AsyncIterator[Batch]:  # type: ignore[override]
        for batch in super().batches():
            await asyncio.sleep(0)
            yield batch


class Sums(Stage, frozen=True):
    """Keeps rows and values; does not take every hundredth row."""

    def build(self, context: Context) -> Transform:
        return Summing()


class Summing(Transform):
    total = 0

    def on_batch(self, batch: Batch) -> Iterator[Batch | Result]:
        values = batch.columns.column("n").to_pylist()
        if any(value % 100 == 99 for value in values):
            raise ValueError("a row that no one takes")
        self.total += sum(values)
        yield batch
        yield Result("rows", batch.columns, append=True)
        yield Result("last", {"total": self.total})

    def snapshot(self) -> Any:
        return self.total

    def restore(self, state: Any) -> None:
        self.total = state


def pipeline(output: Path, *, rows: int = ROWS, checkpoint_seconds: float | None = None) -> Pipeline:
    builder = TopologyBuilder().add("data", Numbers(rows, is_async=checkpoint_seconds is not None))
    errors = ErrorPolicy(dead_letters=True, max_dead_share=0.5)
    builder.add("sums", Sums(), ["data"], data_flow=DataFlow(mode="file"), keep_output="all", errors=errors)
    builder.add("save", ParquetSink(path="saved", row_group_rows=200), ["sums"])
    return Pipeline.from_topology(
        builder.build(), name="looked", output=output, checkpoint_seconds=checkpoint_seconds, seed=1
    )


async def run(output: Path, *, times: int = 1, **words: Any) -> Path:
    """Run so many times in one folder, each from the start; the folder."""
    for _ in range(times):
        async with pipeline(output, **words).start(force=True) as running:
            await running.finished()
    return output / "looked" / "latest"


async def store(folder: Path, *, numbers: range = range(30)) -> Path:
    """Durable stores with what lives and what does not, closed in order."""
    async with open_stores(folder, process_memory_mb=8) as stores:
        quotes = await stores.open("quotes", DataFlow(mode="hybrid", durability="durable", memory_limit_mb=1))
        other = await stores.open("other", DataFlow(mode="memory", durability="process", memory_limit_mb=1))
        for number in numbers:
            await quotes.store(f"k{number % 5}", b"%d " % number * 50)
            await other.store(f"k{number % 3}", {"n": number})
    return folder
