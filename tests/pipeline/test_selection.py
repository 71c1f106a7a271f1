"""The engine selects by whatever a stage ranks, and knows nothing of what was ranked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from pipeline import Batch, Context, Logic, PhaseFailed, Pipeline, Result, Stage, Topology, TopologyBuilder, Transform
from pipeline.config import SelectConfig
from pipeline.plans import PhasePlan, RunPlan
from pipeline.testing import ListFeed, ListSink

SEEN: list[list[str]] = []
"""What logics of a later phase found of an earlier one."""


class Weights(Stage, frozen=True):
    """Orders names by weight, heaviest first; a weight of None is no weight."""

    is_feed: ClassVar[bool | None] = False
    ranking_key: ClassVar[str | None] = "order"
    weights: dict[str, float | None] = {}

    def build(self, context: Context) -> Logic:
        SEEN.append(
            [name for phase in context.earlier.values() for name in phase["scales"]["order"]["name"].to_pylist()]
        )
        return _Weigher(self.weights)

    def ranks_by(self, by: str | None = None) -> str:
        return by or "weight"

    def choose(self, ranking: pa.Table, top: int, by: str | None = None) -> Sequence[str]:
        rows = [row for row in ranking.to_pylist() if row["weight"] is not None]
        return [row["name"] for row in sorted(rows, key=lambda row: -row["weight"])][:top]


class _Weigher(Transform):
    def __init__(self, weights: dict[str, float | None]) -> None:
        self.weights = weights

    def on_batch(self, batch: Batch) -> None:
        return None

    def on_end(self) -> Iterator[Result]:
        yield Result("order", pa.table({"name": list(self.weights), "weight": pa.array(self.weights.values(), "f8")}))


def graph(into: dict[str, list[Batch]], weights: dict[str, float | None], names: Sequence[str]) -> Topology:
    builder = TopologyBuilder().add("data", ListFeed(items=[{"n": [1, 2]}]))
    for name in names:
        builder.add(name, ListSink(into=into.setdefault(name, [])), ["data"])
    return builder.add("scales", Weights(weights=weights), ["data"]).build()


def pipeline(output: Path, weights: dict[str, float | None], into: dict[str, list[Batch]], top: int = 2) -> Pipeline:
    names = ["one", "two", "three"]
    first = PhasePlan("first", graph({}, weights, names))
    second = PhasePlan(
        "second", graph(into, weights, names), ("first",), select=SelectConfig(source="first", top=top),
        narrowed=partial(graph, into, weights),
    )  # fmt: skip
    return Pipeline(RunPlan(name="selecting", phases=[first, second], output=output))


async def test_those_a_stage_ranked_best_run_in_the_next_phase(tmp_path: Path) -> None:
    SEEN.clear()
    into: dict[str, list[Batch]] = {}
    summary = await pipeline(tmp_path, {"one": 1.0, "two": None, "three": 3.0}, into).run()
    assert summary.selection == {"phase": "first", "by": "weight", "top": 2, "portfolios": ["three", "one"]}
    assert {name: len(batches) for name, batches in into.items()} == {"one": 1, "two": 0, "three": 1}
    assert list(summary.ledger.containers) == ["data", "three", "one", "scales"]
    assert SEEN == [[], ["one", "two", "three"]]


async def test_fewer_than_wanted_are_run_and_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    summary = await pipeline(tmp_path, {"one": None, "two": 2.0}, {}, top=5).run()
    assert summary.selection is not None and summary.selection["portfolios"] == ["two"]
    assert "phase 'second' runs 1 of the 5 it would take from phase 'first'" in caplog.text


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"one": None, "two": None}, "nobody that was ranked has the objective 'weight'"),
        ({}, "nobody that was ranked has the objective 'weight' and has not failed"),
        ({"four": 1.0}, "it selects 'four', which is no container of its own"),
    ],
)
async def test_a_selection_that_cannot_be_run_fails_its_phase(
    weights: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(PhaseFailed, match=f"phase 'second' failed: .*{said}"):
        await pipeline(tmp_path, weights, {}).run()
