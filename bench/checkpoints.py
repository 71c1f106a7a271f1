"""What a checkpoint every second costs a whole run: bars and averages of trades, and a sweep of portfolios.

Pairs of runs of the same graph, with checkpoints and without, the journal of results and its syncs included.

    python -m bench checkpoints [--quick] [--rounds N]
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.bars_ema import DAY_NS, Trades, stage
from bench.harness import arguments, race, ratio, row, run_topology, show
from bench.sweep_peers import market
from bench.sweep_sma import PAIRS, bars_of, sweep, topology
from pipeline import Batch, Context, Feed, Result, Stage, TopologyBuilder, Transform

EVERY = 1.0


class Days(Stage, frozen=True):
    """One day of trades, again and again on the days after it."""

    is_feed = True
    given: Any
    days: int

    def build(self, context: Context) -> Feed:
        return DaysFeed(self.given, self.days)


class DaysFeed(Feed):
    def __init__(self, given: list[pa.RecordBatch], days: int) -> None:
        self.given, self.days = given, days

    def batches(self) -> Any:
        for day in range(self.days):
            shift = pa.scalar(day * DAY_NS, pa.duration("ns"))
            for batch in self.given:
                yield Batch(batch.set_column(0, "ts_event", pc.add(batch.column(0), shift)))


class Keep(Stage, frozen=True):
    """Keeps every bar as a result."""

    def build(self, context: Context) -> Transform:
        return Kept()


class Kept(Transform):
    def on_batch(self, batch: Batch) -> Result:
        return Result("bars", batch.columns, append=True)

    def snapshot(self) -> Any:
        return {}

    def restore(self, state: Any) -> None:
        pass


def trades(rows: int, days: int) -> Any:
    builder = TopologyBuilder().add("data", Days(given=Trades(rows).batches(), days=days))
    return builder.add("features", stage(), ["data"]).add("keep", Keep(), ["features"]).build()


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (1 if options.quick else 5)
    small = options.quick
    graphs = {
        "trades to bars and EMA": trades(500_000 if small else 5_000_000, 4 if small else 10),
        f"{20 if small else 500} portfolios": topology(
            bars_of(market(50_000 if small else 400_000)), sweep(PAIRS[: 20 if small else 500])
        ),
    }
    rows = []
    for name, graph in graphs.items():
        told: list[dict[str, Any]] = []

        def checkpointed(graph: Any = graph, told: list[dict[str, Any]] = told) -> None:
            told.append(run_topology(graph, checkpoint_seconds=EVERY).told["checkpoints"])

        spent = race({"with": checkpointed, "without": lambda graph=graph: run_topology(graph)}, rounds)  # type: ignore[misc]
        rows.append(
            ratio(f"{name}: speed with a checkpoint a second, over without", spent["with"], spent["without"], ">= 0.95")
        )
        rows.append(row(f"{name}: seconds without", spent["without"], "s"))
        rows.append(row(f"{name}: checkpoints of a run", [float(each["taken"]) for each in told[1:]]))
        rows.append(
            row(f"{name}: longest a container stood still", [each["longest_pause_ms"] for each in told[1:]], "ms")
        )
        rows.append(row(f"{name}: size of the last", [each["last_bytes"] / 2**20 for each in told[1:]], "MB"))
    return show("A checkpoint a second", rows)


if __name__ == "__main__":
    main()
