"""What a checkpoint every second costs a whole run: bars and averages of trades, and a sweep of portfolios.

Pairs of runs of the same graph, with checkpoints and without, the journal of results and its syncs included. A run of a
second or two has one checkpoint, of all that it has kept by then; only the longer ones say what one every second costs.
Ratios of processor time leave out what others do on the machine, and what is waited for the disk.

    python -m bench checkpoints [--quick] [--rounds N]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.bars_ema import DAY_NS, Trades, stage
from bench.harness import arguments, race, ratio, row, run_topology, show
from bench.sweep_peers import market
from bench.sweep_sma import PAIRS, bars_of, sweep, topology
from pipeline import Batch, Context, DataFlow, Feed, Result, Stage, TopologyBuilder, Transform

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
    flow = DataFlow(memory_limit_mb=900)  # bars of a hundred days are 420 MB
    return builder.add("features", stage(), ["data"]).add("keep", Keep(), ["features"], data_flow=flow).build()


def portfolios(members: int, bars: int) -> Any:
    return topology(bars_of(market(bars)), sweep(PAIRS[:members]))


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (1 if options.quick else 5)
    graphs: dict[str, tuple[Callable[[], Any], int]]
    if options.quick:
        graphs = {
            "trades to bars and EMA": (lambda: trades(500_000, 4), rounds),
            "20 portfolios": (lambda: portfolios(20, 50_000), rounds),
        }
    else:
        longer = max(1, rounds // 2)
        graphs = {
            "trades to bars and EMA": (lambda: trades(5_000_000, 10), rounds),
            "500 portfolios": (lambda: portfolios(500, 400_000), rounds),
            "trades to bars and EMA, ten times as long": (lambda: trades(5_000_000, 100), longer),
            "500 portfolios, five times as long": (lambda: portfolios(500, 2_000_000), longer),
        }
    rows = []
    for name, (build, count) in graphs.items():
        rows += compared(name, build(), count)
    return show("A checkpoint a second", rows)


def compared(name: str, graph: Any, rounds: int) -> list[dict[str, Any]]:
    """What pairs of runs of one graph come to."""
    told: list[dict[str, Any]] = []
    work: dict[str, list[float]] = {"with": [], "without": []}

    def run(contender: str, **settings: Any) -> Any:
        began = time.process_time()
        done = run_topology(graph, **settings)
        work[contender].append(time.process_time() - began)
        return done

    def checkpointed() -> None:
        told.append(run("with", checkpoint_seconds=EVERY).told["checkpoints"])

    spent = race({"with": checkpointed, "without": lambda: run("without")}, rounds)
    told = told[1:]
    return [
        ratio(f"{name}: speed with a checkpoint a second, over without", spent["with"], spent["without"], ">= 0.95"),
        ratio(f"{name}: the same by processor time", work["with"][1:], work["without"][1:]),
        row(f"{name}: seconds without", spent["without"], "s"),
        row(f"{name}: checkpoints of a run", [float(each["taken"]) for each in told]),
        row(f"{name}: put off, having cost too much", [float(each["put_off"]) for each in told]),
        row(f"{name}: longest a container stood still", [each["longest_pause_ms"] for each in told], "ms"),
        row(f"{name}: size of the last", [each["last_bytes"] / 2**20 for each in told], "MB"),
    ]


if __name__ == "__main__":
    main()
