"""The chain with struct rows: in batches of 512, and one event at a time against a chain of `asyncio.Queue`s."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.harness import arguments, race, ratio, row, run_topology, show
from pipeline import Batch, Context, Feed, Row, RowTransform, Sink, Stage, TopologyBuilder, Transform

EVENTS = 1_000_000
CUT = 512
REPEAT = 5
"""The same events again and again, so that starting and ending a run (a folder, its files, fsync) hardly counts."""


class Event(Row, frozen=True):
    ts_event: int
    price: float
    size: float


class Events(Stage, frozen=True):
    """Gives events one at a time, or in batches of `cut`."""

    events: list[Any]
    cut: int = 0

    def build(self, context: Context) -> Feed:
        return EventsFeed(self)


class EventsFeed(Feed):
    def __init__(self, recipe: Events) -> None:
        self.recipe = recipe

    async def batches(self) -> Any:
        events, cut = self.recipe.events, self.recipe.cut
        if not cut:
            for event in events:
                yield event
        else:
            for at in range(0, len(events), cut):
                yield Batch.from_rows(events[at : at + cut])


def scaled(event: Event) -> Event:
    return Event(event.ts_event, event.price * 1.0001, event.size)


def wanted(event: Event) -> bool:
    return event.price > 100.0


class MapBatch(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return MapBatchLogic()


class MapBatchLogic(Transform):
    def on_batch(self, batch: Batch) -> Batch:
        return Batch.from_rows([Event(e.ts_event, e.price * 1.0001, e.size) for e in batch.rows])


class FilterBatch(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return FilterBatchLogic()


class FilterBatchLogic(Transform):
    def on_batch(self, batch: Batch) -> Batch:
        return Batch.from_rows([e for e in batch.rows if e.price > 100.0])


class MapRow(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return MapRowLogic()


class MapRowLogic(RowTransform):
    def on_row(self, event: Event) -> Event:
        return Event(event.ts_event, event.price * 1.0001, event.size)


class FilterRow(Stage, frozen=True):
    def build(self, context: Context) -> Transform:
        return FilterRowLogic()


class FilterRowLogic(RowTransform):
    def on_row(self, event: Event) -> Event | None:
        return event if event.price > 100.0 else None


class Total(Stage, frozen=True):
    into: list[float]

    def build(self, context: Context) -> Sink:
        return TotalLogic(self.into)


class TotalLogic(Sink):
    def __init__(self, into: list[float]) -> None:
        self.into = into
        self.sum = 0.0

    def on_batch(self, batch: Batch) -> None:
        self.sum += sum([e.price * e.size for e in batch.rows])
        self.committed_rows += batch.num_rows

    def on_end(self) -> None:
        self.into.append(self.sum)


def topology(events: list[Event], cut: int, into: list[float]) -> Any:
    """source -> map -> filter -> map -> sink."""
    builder = TopologyBuilder()
    builder.add("source", Events(events=events, cut=cut))
    builder.add("map", MapBatch() if cut else MapRow(), ["source"])
    builder.add("filter", FilterBatch() if cut else FilterRow(), ["map"])
    builder.add("again", MapBatch() if cut else MapRow(), ["filter"])
    builder.add("sink", Total(into=into), ["again"])
    return builder.build()


def generators(events: list[Event]) -> float:
    def mapped(stream: Iterator[Event]) -> Iterator[Event]:
        for e in stream:
            yield Event(e.ts_event, e.price * 1.0001, e.size)

    def above(stream: Iterator[Event]) -> Iterator[Event]:
        for e in stream:
            if e.price > 100.0:
                yield e

    total = 0.0
    for e in mapped(above(mapped(iter(events)))):
        total += e.price * e.size
    return total


async def queues(events: list[Event]) -> float:
    """The same chain of tasks joined by `asyncio.Queue`s of 1,024."""
    lines: list[asyncio.Queue[Event | None]] = [asyncio.Queue(1024) for _ in range(4)]

    async def source() -> None:
        for event in events:
            await lines[0].put(event)
        await lines[0].put(None)

    async def work(inlet: asyncio.Queue[Event | None], outlet: asyncio.Queue[Event | None], function: Any) -> None:
        while (event := await inlet.get()) is not None:
            event = function(event)
            if event is not None:
                await outlet.put(event)
        await outlet.put(None)

    total = 0.0

    async def sink() -> None:
        nonlocal total
        while (event := await lines[3].get()) is not None:
            total += event.price * event.size

    await asyncio.gather(
        source(),
        work(lines[0], lines[1], scaled),
        work(lines[1], lines[2], lambda e: e if e.price > 100.0 else None),
        work(lines[2], lines[3], scaled),
        sink(),
    )
    return total


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    count = 100_000 if options.quick else EVENTS
    random = np.random.default_rng(1)
    prices, sizes = (100 + random.standard_normal(count)).tolist(), random.random(count).tolist()
    events = [Event(i * 1_000_000, p, s) for i, (p, s) in enumerate(zip(prices, sizes, strict=True))]
    many = events * REPEAT
    sums: list[float] = []
    times = race(
        {
            "rows in batches of 512": lambda: run_topology(topology(many, CUT, sums)),
            "one event at a time": lambda: run_topology(topology(many, 0, sums)),
            "generators": lambda: generators(many),
            "asyncio.Queue": lambda: asyncio.run(queues(events)),
        },
        options.rounds or (2 if options.quick else 5),
    )
    expected = generators(events) * REPEAT
    assert all(abs(got / expected - 1) < 1e-9 for got in sums)
    times["asyncio.Queue"] = [seconds * REPEAT for seconds in times["asyncio.Queue"]]  # too slow to run it as long
    count *= REPEAT
    return show(
        "chain of struct rows",
        [
            *(row(name, [count / s / 1e6 for s in seconds], "M rows/s") for name, seconds in times.items()),
            ratio("512-row batches over generators", times["rows in batches of 512"], times["generators"], ">= 0.75x"),
            ratio("one at a time over asyncio.Queue", times["one event at a time"], times["asyncio.Queue"], ">= 1x"),
        ],
    )


if __name__ == "__main__":
    main()
