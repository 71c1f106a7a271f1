"""Engines stopped anywhere and gone on from their last checkpoint: the same summary and the same files to the byte."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resumed_runs import Bursts, Host, Kinds, Numbers, Party, Sums, steps

from pipeline import DataFlow, EdgePolicy, Input, Topology, TopologyBuilder
from pipeline.checkpoints import files, taking
from pipeline.checkpoints.files import ROWS
from pipeline.containers import keeping
from pipeline.data.policy import StreamingSettings
from pipeline.engines.local import LocalEngine
from tests.counted import count

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


POOL_BYTES = 16_000
SPILL = EdgePolicy(max_rows=4, when_full="spill")


def spills(*kinds: str) -> Topology:
    """A chain whose first edges have most of their rows on disk most of the time."""
    builder = TopologyBuilder().add("data", Numbers(rows=150)).add("bursts", Bursts(), [Input("data", SPILL)])
    last = "bursts"
    for i, kind in enumerate(kinds):
        builder.add(f"s{i}", Sums(kind=kind, keeps=False), [Input(last, SPILL)])
        last = f"s{i}"
    return builder.add("last", Sums(), [last]).build()


def diamond_that_spills(feed: str) -> Topology:
    """A way that is ahead of another, and waits for it on disk where they meet."""
    builder = TopologyBuilder().add("data", Numbers(kind=feed, rows=150)).add("other", Numbers(seed=5, rows=60, step=8))
    builder.add("fast", Bursts(), ["data"]).add("slow", Sums(kind="slow", keeps=False), [Input("data", SPILL)])
    builder.add("meet", Sums(kind="replayed"), [Input(name, SPILL) for name in ("fast", "slow", "other")])
    return builder.add("after", Sums(), [Input("meet", SPILL)]).build()


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
    "a chain that spills": lambda: spills("slow", "state"),
    "replayed ones that spill": lambda: spills("slow", "replayed"),
    "a diamond that spills": lambda: diamond_that_spills("thread"),
    "a diamond of rows that spills": lambda: diamond_that_spills("rows"),
}


class Counted:
    """Notes the rows of every batch that goes from an edge's disk into a checkpoint."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows
        self.unpack = ROWS.unpack

    def pack(self, rows: int) -> bytes:
        self.rows.append(rows)
        return ROWS.pack(rows)


def dying(dice: random.Random, log: list[int]) -> Callable[[LocalEngine], Any]:
    """Takes a few checkpoints at random moments, and dies at another.

    Feeds wait until the first one is saved, so that there is one, however long a disk takes.
    """

    async def conduct(engine: LocalEngine) -> None:
        assert engine.checkpointer is not None
        if not log:
            engine.checkpointer._save = while_feeds_wait(engine, engine.checkpointer._save)  # type: ignore[method-assign]
        for _ in range(dice.randrange(1, 4)):
            await steps(dice.randrange(25))
            taken = await engine.checkpointer.take()
            if taken is not None:
                log.append(taken.rows)
        await steps(dice.randrange(25))

    return conduct


def while_feeds_wait(engine: LocalEngine, save: Callable[..., Any]) -> Callable[..., Any]:
    async def saving(*args: Any) -> Any:
        engine.gate.hold()
        try:
            return await save(*args)
        finally:
            engine.gate.release()

    return saving


@pytest.mark.parametrize("name", GRAPHS)
async def test_a_run_that_dies_again_and_again_leaves_what_one_leaves_that_did_not(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-6: several deaths in a row, each after some checkpoints at any moment."""
    monkeypatch.setattr(keeping, "WINDOW_ROWS", 40)
    stored: list[int] = []
    if "spill" in name:
        monkeypatch.setattr(taking, "PATIENCE_SECONDS", 0.0)  # what is queued is recorded
        monkeypatch.setattr(files, "ROWS", Counted(stored))
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
    count("batches on disk in checkpoints", len(stored))
    assert stored or "spill" not in name, "nothing under way was on a disk"


def crowded() -> Topology:
    """More than a small pool holds: in hybrids, in a group's, and under way on edges that spill and that do not."""
    flow = DataFlow(mode="hybrid", memory_limit_mb=0.015)
    spill = EdgePolicy(max_bytes=2_000, when_full="spill")
    builder = TopologyBuilder().add("data", Numbers(rows=300, cut=40), data_flow=flow, keep_output="all")
    builder.add("other", Numbers(rows=60, cut=40, seed=5, step=15))
    builder.add("slow", Sums(kind="slow"), [Input("data", spill)], data_flow=flow, keep_output="all")
    builder.add("meet", Sums(kind="replayed"), [Input("slow", spill), "data", Input("other", spill)], data_flow=flow)
    members = {f"m{i}": Party(share=i) for i in range(5)}
    return builder.add("party", Party(), ["meet"], members=members, data_flow=flow).build()


async def test_c6_a_tiny_pool_is_never_exceeded_and_leaves_the_same_bytes_however_often_the_run_dies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-6, R-6: 1.00x of the pool at most in every process, what is kept for checkpoints included."""
    monkeypatch.setattr(taking, "PATIENCE_SECONDS", 0.0)
    wanted = await Host(tmp_path / "large", crowded, memory_bytes=1 << 30).process(None)
    host = Host(tmp_path / "tiny", crowded, memory_bytes=POOL_BYTES)
    dice = random.Random(1)
    log: list[int] = []
    for _ in range(STOPS // 2):
        await host.process(dying(dice, log))
    left = await host.process(None)
    assert "Exception in callback" not in caplog.text
    assert left is not None and wanted is not None and left.summary == wanted.summary
    assert left.files == wanted.files
    assert log
    pools = [engine.pool for engine in host.engines if engine.pool is not None]
    assert all(pool.peak <= pool.limit == POOL_BYTES for pool in pools)
    assert sum(pool.spills for pool in pools) > 0, "the pool is not tiny"
    assert all(pool.charged == 0 for pool in pools)
