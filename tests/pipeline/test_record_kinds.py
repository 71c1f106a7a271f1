"""A container that sends several kinds of record: who takes which, and when event time has passed all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import (
    Batch,
    ConfigError,
    Context,
    DataFlow,
    Feed,
    Input,
    Pipeline,
    Registry,
    Stage,
    Topology,
    TopologyBuilder,
    Transform,
    Watermark,
    load_config,
)

TIME = pa.field("ts_event", pa.timestamp("ns", tz="UTC"))
KINDS = {
    kind: pa.schema([TIME, pa.field("n", pa.int64())], metadata={"record": kind})
    for kind in ("trade", "quote", "status")
}
RUNS = 6


def rows(kind: str, times: list[int]) -> Batch:
    return Batch.from_pydict({"ts_event": [1000 * time for time in times], "n": times}, KINDS[kind])


class Market(Stage, frozen=True):
    """Runs of 10 us: trades of the run, then quotes of the same time, and event time after both."""

    def build(self, context: Context) -> Feed:
        return MarketFeed()

    def record_schemas(self, inputs: Mapping[str, pa.Schema | None]) -> Mapping[str, pa.Schema]:
        return KINDS


class MarketFeed(Feed):
    def batches(self) -> Iterator[tuple[Batch, ...]]:
        for run in range(RUNS):
            start = 10 * run
            trades, quotes = (
                rows("trade", list(range(start, start + 10, 2))),
                rows("quote", list(range(start, start + 10))),
            )
            yield (trades, quotes, rows("status", [start])) if run == 3 else (trades, quotes)


class Seen(Stage, frozen=True):
    takes: str | None = None

    def takes_record(self) -> str | None:
        return self.takes

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema | None:
        return next(iter(inputs.values()))

    def build(self, context: Context) -> Transform:
        return SeenLogic()


class SeenLogic(Transform):
    """Notes what it is given, and that no row is late."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.passed = -1

    def on_batch(self, batch: Batch) -> Batch:
        assert batch.record is not None and batch.min_ts is not None
        assert batch.min_ts >= self.passed, "event time had passed a row that came later"
        self.rows[batch.record] = self.rows.get(batch.record, 0) + batch.num_rows
        return batch

    def on_watermark(self, watermark: Watermark) -> None:
        assert watermark.ts is not None
        self.passed = watermark.ts

    def metrics(self) -> Mapping[str, Any]:
        return {"rows": self.rows, "passed": self.passed}


def market(**consumers: Any) -> TopologyBuilder:
    builder = TopologyBuilder().add("market", Market())
    for name, entry in consumers.items():
        stage, inputs = entry if isinstance(entry, tuple) else (Seen(), entry)
        builder.add(name, stage, inputs)
    return builder


def chosen(topology: Topology, name: str) -> list[tuple[str, ...]]:
    return [entry.records for entry in topology[name].inputs]


async def finished(topology: Topology, folder: Path, **words: Any) -> Any:
    async with Pipeline.from_topology(topology, output=folder, **words).start() as run:
        return await run.finished()


def metrics(summary: Any, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = summary.aggregate_metrics[name]
    return found


async def test_each_consumer_is_given_the_kinds_it_takes_and_no_row_comes_late(tmp_path: Path) -> None:
    topology = market(
        all=["market"],
        trades=[Input("market", records=("trade",))],
        two=[Input("market", records=("status", "quote"))],
        apart=[Input("market", records=("status",)), Input("market", records=("trade",))],
        made_for=(Seen(takes="quote"), ["market"]),
    ).build()
    assert topology["market"].schema is None and topology["trades"].schema == KINDS["trade"]
    assert topology["all"].schema is None and chosen(topology, "made_for") == [("quote",)]
    assert "-- trade -->" in topology.to_mermaid()

    summary = await finished(topology, tmp_path)
    seen = {name: metrics(summary, name)["rows"] for name in ("all", "trades", "two", "apart", "made_for")}
    assert seen == {
        "all": {"trade": 30, "quote": 60, "status": 1},
        "trades": {"trade": 30},
        "two": {"quote": 60, "status": 1},
        "apart": {"trade": 30, "status": 1},
        "made_for": {"quote": 60},
    }
    assert metrics(summary, "all")["passed"] == 59_000


async def test_what_is_kept_of_several_kinds_lies_apart(tmp_path: Path) -> None:
    builder = TopologyBuilder().add("market", Market(), data_flow=DataFlow(mode="file"))
    builder.add("recent", Seen(), ["market"])
    async with Pipeline.from_topology(builder.build(), output=tmp_path).start() as run:
        await run.finished()
        kept = {kind: await run.retrieve("market", kind) for kind in KINDS}
    assert {kind: table.num_rows for kind, table in kept.items()} == {"trade": 30, "quote": 60, "status": 1}
    assert all(table.schema.metadata[b"record"] == kind.encode() for kind, table in kept.items())


async def test_a_window_ends_where_event_time_has_passed_it_and_not_with_the_first_kind(tmp_path: Path) -> None:
    config = {
        "name": "windowed",
        "containers": {
            "market": {"type": "market"},
            "all": {"type": "seen", "inputs": "market"},
        },
        "phases": [{"name": "part", "window": {"until": "1970-01-01T00:00:00.000040Z"}}],
    }
    registry = Registry()
    registry.add("market", Market)
    registry.add("seen", Seen)
    pipeline = Pipeline.from_config(load_config(config, registry=registry), output=tmp_path)
    async with pipeline.start() as run:
        summary = await run.finished()
    assert metrics(summary, "all")["rows"] == {"trade": 20, "quote": 40, "status": 1}


def test_kinds_that_are_not_sent_and_inputs_that_overlap_are_problems() -> None:
    with pytest.raises(
        ConfigError, match="expected `records` to be kinds that 'market' sends, found 'trades'; did you mean 'trade'"
    ):
        market(a=[Input("market", records=("trades",))]).build()
    with pytest.raises(ConfigError, match="rows of one kind; remove `records`"):
        market(a=[Input("market", records=("trade",))], b=[Input("a", records=("trade",))]).build()
