"""Engines stopped anywhere and gone on from their last checkpoint: the same summary and the same files to the byte."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resumed_runs import Host, Kinds, Numbers, Party, Sums, steps

from pipeline import DataFlow, Input, Topology, TopologyBuilder
from pipeline.containers import keeping
from pipeline.data.policy import StreamingSettings
from pipeline.engines.local import LocalEngine

STOPS = 40 if os.environ.get("PENSTOCK_SOAK") else 4


def chain(feed: str, *kinds: str, **words: Any) -> Topology:
    builder = TopologyBuilder().add("data", Numbers(kind=feed))
    last = "data"
    for i, kind in enumerate(kinds):
        builder.add(f"s{i}", Sums(kind=kind, **words), [last])
        last = f"s{i}"
    return builder.build()


def diamond(feed: str, *kinds: str) -> Topology:
    """Two feeds; one goes two ways that meet again, and meet the other."""
    builder = TopologyBuilder().add("data", Numbers(kind=feed)).add("other", Numbers(seed=5, rows=150, step=8))
    for i, kind in enumerate(kinds):
        builder.add(f"s{i}", Sums(kind=kind, keeps=False), ["data"])
    branches = [f"s{i}" for i in range(len(kinds))]
    builder.add("meet", Sums(kind="replayed"), ["data", *branches, "other"])
    return builder.add("after", Sums(kind="replayed"), ["meet"]).build()


def keeps(mode: str, keep_output: Any, **policy: Any) -> Topology:
    """A feed that cannot know its results, a logic with a state and one without: all keep their output too."""
    flow = DataFlow(mode=mode, streaming_settings=StreamingSettings(buffer_size=50), **policy)  # type: ignore[arg-type]
    builder = TopologyBuilder().add("data", Numbers(), data_flow=flow, keep_output=keep_output)
    last = "data"
    for i, kind in enumerate(("state", "replayed", "stateless")):
        builder.add(f"s{i}", Sums(kind=kind), [last], data_flow=flow, keep_output=keep_output)
        last = f"s{i}"
    return builder.build()


def group(mode: str, **policy: Any) -> Topology:
    members = {f"m{i}": Party(share=i) for i in range(5)}
    flow = DataFlow(mode=mode, **policy)  # type: ignore[arg-type]
    builder = TopologyBuilder().add("data", Numbers())
    return builder.add("party", Party(), ["data"], members=members, data_flow=flow).build()


def kinds() -> Topology:
    """A feed that sends two kinds of record; who takes one, the other, both, and both apart."""
    builder = TopologyBuilder().add("data", Kinds(), data_flow=DataFlow(mode="file"))
    builder.add("odd", Sums(kind="state"), [Input("data", records=("odd",))])
    builder.add("even", Sums(kind="replayed"), [Input("data", records=("even",))])
    builder.add("both", Sums(kind="state", keeps=False), ["data"])
    apart = [Input("data", records=("even",)), Input("data", records=("odd",))]
    return builder.add("apart", Sums(kind="replayed"), [*apart, Input("both")]).build()


GRAPHS: dict[str, Callable[[], Topology]] = {
    "replayed": lambda: chain("thread", "replayed", "replayed"),
    "async feed": lambda: chain("async", "replayed"),
    "rows": lambda: chain("rows", "replayed", "stateless"),
    "states": lambda: chain("thread", "state", "state", "stateless", "state", keeps=False),
    "threads": lambda: chain("thread", "state", "replayed", runs_in="thread", keeps=False),
    "async logic": lambda: chain("async", "async", "state", keeps=False),
    "results": lambda: chain("thread", "state", "replayed", "state"),
    "memory, a window": lambda: keeps("memory", "recent", memory_limit_mb=0.036),
    "streaming, all": lambda: keeps("streaming", "all"),
    "file, all": lambda: keeps("file", "all"),
    "hybrid, all": lambda: keeps("hybrid", "all", memory_limit_mb=0.02),
    "a group in memory": lambda: group("memory"),
    "a group of hybrids": lambda: group("hybrid", memory_limit_mb=0.02),
    "kinds of record": kinds,
    "diamond": lambda: diamond("thread", "state", "stateless"),
    "diamond of an async feed": lambda: diamond("async", "replayed"),
    "diamond of rows": lambda: diamond("rows", "state"),
}


def dying(dice: random.Random, log: list[int]) -> Callable[[LocalEngine], Any]:
    """Takes a few checkpoints at random moments, and dies at another."""

    async def conduct(engine: LocalEngine) -> None:
        assert engine.checkpointer is not None
        for _ in range(dice.randrange(1, 4)):
            await steps(dice.randrange(25))
            taken = await engine.checkpointer.take()
            if taken is not None:
                log.append(taken.rows)
        await steps(dice.randrange(25))

    return conduct


@pytest.mark.parametrize("name", GRAPHS)
async def test_a_run_that_dies_again_and_again_leaves_what_one_leaves_that_did_not(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-6: several deaths in a row, each after some checkpoints at any moment."""
    monkeypatch.setattr(keeping, "WINDOW_ROWS", 40)
    dice = random.Random(name)
    host = Host(tmp_path / "root", GRAPHS[name])
    wanted = await host.whole()
    log: list[int] = []
    for _ in range(STOPS):
        await host.process(dying(dice, log))
    left = await host.process(None)
    assert left is not None and left.summary == wanted.summary
    assert left.files.keys() == wanted.files.keys()
    assert [file for file, content in wanted.files.items() if left.files[file] != content] == []
    assert sorted(log) == log and log, f"each goes on from the one before: {log}"
    assert "given up" not in caplog.text
