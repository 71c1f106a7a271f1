"""A replay reads only the columns its consumers look at, where nobody else can ask for more; nothing else changes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Context, ErrorPolicy, PenstockError, Pipeline, Topology, TopologyBuilder
from stages.features.bars import Bars
from stages.features.features import Features
from stages.feeds.replay import Replay, ReplayFeed
from stages.schemas import schema_of
from stages.sinks.parquet import ParquetSink

MINUTE = 60_000_000_000
OF_TRADES = {"ts_event", "ts_recv", "instrument_id", "price", "size", "aggressor_side"}
OF_QUOTES = {"ts_event", "ts_recv", "instrument_id", "bid_price", "ask_price"}


def written(folder: Path, kind: str, *, in_layout: bool = False) -> str:
    """Rows of three instruments, some without a time of the venue or a price."""
    schema, count = schema_of(kind), 4000
    chance = np.random.Generator(np.random.PCG64(3))
    times = np.sort(chance.integers(0, 30 * MINUTE, count))
    for number, rows in enumerate(np.array_split(np.arange(count), 3)):
        columns: dict[str, Any] = {
            "ts_event": [None if row % 50 == 0 else int(times[row]) for row in rows],
            "ts_recv": (times[rows] + 5).tolist(),
            "ingest_seq": rows.tolist(),
            "instrument_id": [f"{'ABC'[number if in_layout else row % 3]}.X" for row in rows],
            "source_id": ["made"] * len(rows),
            "flags": [0] * len(rows),
            "aggressor_side": [1 + row % 2 for row in rows],
            "trade_id": [str(row) for row in rows],
            **{name: [f"{100 + row % 7}.5" for row in rows] for name in ("price", "size", "ask_price", "ask_size")},
            **{name: [None if row % 9 == 0 else "99" for row in rows] for name in ("bid_price", "bid_size")},
        }
        arrays = []
        for field in schema:
            values = columns.get(field.name, [None] * len(rows))
            as_text = pa.types.is_decimal(field.type) or pa.types.is_dictionary(field.type)
            made = pa.array(values, pa.utf8() if as_text else field.type)
            made = made.dictionary_encode() if pa.types.is_dictionary(field.type) else made
            arrays.append(made.cast(field.type))
        place = folder / f"{kind}/venue=demo/instrument={'ABC'[number]}.X/date=1970-01-01" if in_layout else folder
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), place / f"{number}_{number}_s.parquet",
                       row_group_size=500)  # fmt: skip
    return str(folder)


def graph(path: str, kind: str, *, features: bool) -> Topology:
    price: Any = None if kind == "trade" else "mid"
    builder = TopologyBuilder()
    builder.add("data", Replay(path=path, batch_rows=777))
    stage = Features(bars="1m", price=price, indicators=("ema_5",)) if features else Bars(every="1m", price=price)
    builder.add("bars", stage, ["data"])
    builder.add("save", ParquetSink(), ["bars"])
    return builder.build()


def left(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.parquet")}


@pytest.mark.parametrize("in_layout", [False, True], ids=["files", "merged"])
@pytest.mark.parametrize(("kind", "features"), [("trade", True), ("trade", False), ("quote", True)])
async def test_what_comes_out_is_the_same_to_the_byte(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, features: bool, in_layout: bool
) -> None:
    topology = graph(written(tmp_path / "in", kind, in_layout=in_layout), kind, features=features)
    with caplog.at_level(logging.INFO):
        async with Pipeline.from_topology(topology, output=tmp_path / "whole").start() as run:
            whole = await run.finished()
        assert "columns that nobody takes" not in caplog.text
        fewer = await Pipeline.from_topology(topology, output=tmp_path / "fewer").run()
    assert "columns that nobody takes are not read" in caplog.text
    assert fewer.aggregate_metrics == whole.aggregate_metrics
    assert left(tmp_path / "whole") == left(tmp_path / "fewer") != {}


@pytest.mark.parametrize("kind", ["trade", "quote"])
def test_columns_that_nobody_takes_are_not_in_the_batches(tmp_path: Path, kind: str) -> None:
    topology = graph(written(tmp_path, kind), kind, features=True)
    taken = topology.columns_taken(topology["data"])
    assert taken == (OF_TRADES if kind == "trade" else OF_QUOTES)
    whole, fewer = (topology["data"].stage.build(Context(columns=columns)) for columns in (None, taken))
    assert isinstance(whole, ReplayFeed) and isinstance(fewer, ReplayFeed)
    everything = pa.Table.from_batches([batch.columns for batch in whole.batches()])
    found = pa.Table.from_batches([batch.columns for batch in fewer.batches()])
    assert found.equals(everything.select(found.schema.names)) and set(found.schema.names) == taken
    assert (fewer.columns_read, whole.columns_read) == (len(taken), len(schema_of(kind)))
    assert fewer.metrics() == whole.metrics()


def test_who_does_not_say_what_it_looks_at_gets_everything(tmp_path: Path) -> None:
    path = written(tmp_path, "trade")

    def taken(**words: Any) -> frozenset[str] | None:
        builder = TopologyBuilder()
        builder.add("data", Replay(path=path), keep_output=words.get("keep"))
        builder.add("bars", Bars(every="1m"), ["data"], errors=words.get("errors"))
        if words.get("saved"):
            builder.add("save", ParquetSink(), ["data"])
        topology = builder.build()
        return topology.columns_taken(topology["data"])

    assert taken() == OF_TRADES
    assert taken(keep="all") is None
    assert taken(errors=ErrorPolicy(dead_letters=True)) is None
    assert taken(saved=True) is None


async def test_nobody_subscribes_to_a_run_that_is_not_watched(tmp_path: Path) -> None:
    topology = graph(written(tmp_path / "in", "trade"), "trade", features=False)
    run = Pipeline.from_topology(topology, output=tmp_path / "out").start(watched=False)
    with pytest.raises(PenstockError, match="'data' cannot be subscribed to in a run with watched=False"):
        run.subscribe("data")
