"""A feed of batches that are in memory already."""

from __future__ import annotations

from typing import Any

from pipeline import Batch, Context, Feed, Stage


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
