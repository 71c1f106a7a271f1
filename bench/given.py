"""A feed of batches that are in memory already, and a sink that counts."""

from __future__ import annotations

from typing import Any

from pipeline import Batch, Context, Feed, Sink, Stage


class Numbers(Stage, frozen=True):
    batches: list[Any]

    def build(self, context: Context) -> Feed:
        return NumbersFeed(self.batches)


class NumbersFeed(Feed):
    def __init__(self, batches: list[Any]) -> None:
        self.given = batches

    async def batches(self) -> Any:
        for batch in self.given:
            yield Batch(batch)


class Counting(Stage, frozen=True):
    """A sink that notes how many rows each batch had."""

    counted: list[Any]

    def build(self, context: Context) -> Sink:
        return CountingSink(self.counted)


class CountingSink(Sink):
    def __init__(self, counted: list[int]) -> None:
        self.counted = counted

    def on_batch(self, batch: Batch) -> None:
        self.counted.append(batch.num_rows)
        self.committed_rows += batch.num_rows
