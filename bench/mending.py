"""What it costs to bear errors that do not come: rows/s with retries and dead letters, over the same graph without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from bench.given import Numbers
from bench.harness import arguments, race, ratio, run_topology, show
from pipeline import Batch, Context, ErrorPolicy, Sink, Stage, TopologyBuilder, Transform

BORNE = ErrorPolicy(retries=2, dead_letters=True)
SHAPES = {"65,536 rows, stateless": (65_536, None), "512 rows, stateless": (512, None)} | {
    f"{rows:,} rows, a state of {size}": (rows, kb)
    for rows in (65_536, 512)
    for size, kb in (("10 KB", 10), ("5 MB", 5_000))
}


class Work(Stage, frozen=True):
    """A running sum, its deviation and its range, and so many KB to remember."""

    kb: int | None

    def build(self, context: Context) -> Transform:
        return Stateless() if self.kb is None else Stateful(self.kb)


class Stateless(Transform):
    stateless = True

    def on_batch(self, batch: Batch) -> Batch:
        values = batch.columns.column("x").to_numpy()
        return Batch(pa.RecordBatch.from_arrays([pa.array(np.cumsum(values) - values.mean())], ["x"]))


class Stateful(Stateless):
    stateless = False

    def __init__(self, kb: int) -> None:
        self.memory = np.zeros(kb * 128)

    def on_batch(self, batch: Batch) -> Batch:
        self.memory[0] += batch.num_rows
        return super().on_batch(batch)

    def snapshot(self) -> Any:
        return {"memory": self.memory.copy()}

    def restore(self, state: Any) -> None:
        self.memory = state["memory"].copy()


class Nothing(Stage, frozen=True):
    def build(self, context: Context) -> Sink:
        return Drop()


class Drop(Sink):
    def on_batch(self, batch: Batch) -> None:
        self.committed_rows += batch.num_rows


def ours(batches: list[Any], kb: int | None, errors: ErrorPolicy | None) -> Callable[[], None]:
    def run() -> None:
        builder = TopologyBuilder().add("data", Numbers(batches=batches))
        builder.add("work", Work(kb=kb), ["data"], errors=errors).add("out", Nothing(), ["work"])
        run_topology(builder.build())

    return run


def own(part: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with memory of its own, as stages and live feeds make them."""
    return pa.RecordBatch.from_pydict({"x": part.column(0).to_numpy().copy()})


def main() -> Any:
    options = arguments(__doc__ or "")
    rows = 1_000_000 if options.quick else 10_000_000
    values = np.random.default_rng(1).normal(size=rows)
    figures = []
    for name, (cut, kb) in SHAPES.items():
        table = pa.table({"x": values[: rows if cut > 1000 else rows // 10]})
        batches = [own(part) for part in table.to_batches(max_chunksize=cut)]
        took = race({"borne": ours(batches, kb, BORNE), "plain": ours(batches, kb, None)}, options.rounds or 7)
        figures.append(ratio(f"{name}: over without", took["borne"], took["plain"], ">= 0.95x"))
    return show("What it costs to bear errors that do not come", figures)


if __name__ == "__main__":
    main()
