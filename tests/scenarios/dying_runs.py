"""A program that runs a graph in children which die, each in its own way, and goes on with it in the next one.

Called with a JSON object: `seed`, `kills`, `graph`, `period`. Prints another: how each child ended, and what was left.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas
import pyarrow.compute as pc
import pyarrow.parquet as pq
from replayed import config
from whole_runs import SMALL, changed

from pipeline import (
    Batch,
    Context,
    DataFlow,
    EdgePolicy,
    Feed,
    Input,
    MemberRows,
    Pipeline,
    Result,
    Stage,
    TopologyBuilder,
    Transform,
)
from pipeline.storage.manifest import read_manifest
from stages import ParquetSink

STEPS = ("replace", "rename", "link", "symlink", "fsync", "fdatasync", "unlink", "pwritev", "mkdir", "ftruncate")
"""Calls that change the folder, as `storage/disk.py` and `folder.py` make them."""
ROWS, STEP = 1_200, 10


class Ticks(Stage, frozen=True):
    """Numbers with times, in small batches; gives way to others as a recording does that is read from a disk."""

    seed: int = 1
    is_async: bool = False

    def build(self, context: Context) -> Feed:
        return AsyncTicks(self) if self.is_async else TicksFeed(self)


class TicksFeed(Feed):
    def __init__(self, recipe: Ticks) -> None:
        self.recipe = recipe

    def batches(self) -> Iterator[Batch]:
        for at in range(0, ROWS, STEP):
            yield Batch.from_pydict({"ts_event": [3 * at + self.recipe.seed] * STEP, "n": list(range(at, at + STEP))})


class AsyncTicks(TicksFeed):
    async def batches(self) -> Any:  # type: ignore[override]
        for batch in super().batches():
            await asyncio.sleep(0)
            yield batch


class Adds(Stage, frozen=True):
    """Sums what it sees; brought back by its state, or by its input."""

    knows: bool = True

    def build(self, context: Context) -> Transform:
        return Adding() if self.knows else Replayed()


class Replayed(Transform):
    total = 0

    def on_batch(self, batch: Batch) -> Iterator[Batch | Result]:
        values = []
        for value in batch.columns.column("n").to_pylist():
            self.total += value
            values.append(self.total)
        made = Batch.from_pydict({"ts_event": batch.columns.column("ts_event"), "n": values})
        yield made
        yield Result("sums", made.columns, append=True)
        yield Result("last", {"total": self.total})

    def on_end(self) -> Result:
        return Result("end", {"total": self.total})

    def metrics(self) -> Mapping[str, Any]:
        return {"total": self.total}


class Adding(Replayed):
    def snapshot(self) -> Any:
        return {"total": self.total}

    def restore(self, state: Any) -> None:
        self.total = state["total"]


class Members(Stage, frozen=True):
    share: int = 1

    @property
    def groups(self) -> bool:
        return True

    def build_group(self, members: Mapping[str, Members], context: Context) -> Transform:
        return MembersLogic(list(members))


class MembersLogic(Adding):
    def __init__(self, members: list[str]) -> None:
        self.members = members

    def on_batch(self, batch: Batch) -> Iterator[MemberRows | Result]:  # type: ignore[override]
        self.total += batch.num_rows
        rows = Batch.from_pydict({"n": [self.total + i for i in range(len(self.members))]})
        yield MemberRows("seen", self.members, list(range(len(self.members) + 1)), rows.columns)
        yield Result("note", {"rows": self.total}, member=self.members[1])

    def on_end(self) -> None:  # type: ignore[override]
        pass


SPILL = EdgePolicy(max_rows=40, when_full="spill")


def diamond() -> TopologyBuilder:
    """Two feeds, two ways, a group, all modes, edges that spill, kept output and files of a sink."""
    builder = TopologyBuilder().add("data", Ticks(), data_flow=DataFlow(mode="file"), keep_output="all")
    builder.add("other", Ticks(seed=2, is_async=True))
    builder.add("knows", Adds(), ["data"], data_flow=DataFlow(mode="hybrid", memory_limit_mb=0.1), keep_output="all")
    builder.add("forgets", Adds(knows=False), ["data"], data_flow=DataFlow(mode="streaming"), keep_output="all")
    inputs = [Input("knows", SPILL), "forgets", Input("other", SPILL)]
    builder.add("meet", Adds(), inputs, data_flow=DataFlow(mode="memory"))
    builder.add("party", Members(), ["meet"], members={f"m{i}": Members(share=i) for i in range(3)})
    return builder.add("save", ParquetSink(path="saved", row_group_rows=300), ["meet"])


SWEEP = {
    **changed(SMALL, data__rows=9000, data__batch_rows=100),
    "name": "run",
    "phases": [
        {"name": "train", "window": {"until": "2024-01-01T09:00:00Z"}},
        {"name": "validate", "window": {"from": "2024-01-01T09:00:00Z"}, "select": {"from": "train", "top": 3}},
    ],
}
"""Two phases of a sweep, the second of whom the first ranked best."""
SETTINGS = json.loads(sys.argv[1])


def replayed(paced: bool) -> dict[str, Any]:
    """Raw messages, made up or of a capture; every kind of record, and bars, to files."""
    words: dict[str, Any] = {"batch_rows": 20, "clock": {"speed": SETTINGS["speed"] if paced else "max"}}
    if "capture" in SETTINGS:
        words |= {"type": "replay", "path": SETTINGS["capture"], "depth": 3}
    return {**config(**words), "name": "run"}


def run(where: str, period: float | None, resume: bool) -> None:
    if SETTINGS["graph"] in ("sweep", "replayed", "paced"):
        every = [] if period is None else [f"checkpoint.every_seconds={period}"]
        told = SWEEP if SETTINGS["graph"] == "sweep" else replayed(SETTINGS["graph"] == "paced")
        pipeline = Pipeline.from_yaml(told, output=where, overrides=every)
    else:
        pipeline = Pipeline.from_topology(
            diamond().build(), output=where, checkpoint_seconds=period, seed=SETTINGS["seed"]
        )

    async def finish() -> None:
        async with pipeline.start(resume=resume, force=not resume) as running:
            await running.finished()

    asyncio.run(finish())


class Death:
    """Kills this process before its n-th step that changes a folder, or after a while."""

    def __init__(self, step: int | None, seconds: float | None) -> None:
        self.step, self.seen = step, 0
        for name in STEPS:
            setattr(os, name, self._mortal(getattr(os, name)))
        if seconds is not None:
            threading.Thread(target=self._later, args=(seconds,), daemon=True).start()

    def _mortal(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **words: Any) -> Any:
            self.seen += 1
            if self.seen == self.step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **words)

        return step

    def _later(self, seconds: float) -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)


def in_child(
    where: str, period: float | None, resume: bool, step: int | None = None, after: float | None = None
) -> int:
    """The exit code of a process that runs it."""
    child = os.fork()
    if child == 0:
        try:
            Death(step, after)
            run(where, period, resume)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def warm() -> None:
    """Import what runs import when they first need it, once and for all children."""
    pc.cast(Batch.from_pydict({"ts_event": [1], "n": [1]}).columns.column("n"), "float64")
    assert pq and pandas


def main() -> None:
    """Children die until there were enough of them; whenever one comes to its end, what it left is compared."""
    warm()
    dice = random.Random(SETTINGS["seed"])
    period = SETTINGS["period"]
    told: dict[str, Any] = {"whole": in_child("whole", None, False), "ends": [], "different": [], "went_on": []}
    began = time.monotonic()
    told["once_more"] = in_child("once_more", period, False)
    took = time.monotonic() - began
    killed = 0
    while killed < SETTINGS["kills"]:
        by_step = dice.random() < 0.7
        step = dice.choice([dice.randrange(1, 60), dice.randrange(60, 600)]) if by_step else None
        after = None if by_step else dice.random() * took
        can_go_on = checkpoints()
        code = in_child("disturbed", period, True, step, after)
        told["ends"].append([step, after, code])
        killed += code == -signal.SIGKILL
        if code == 0:
            look(told, can_go_on)
        elif code != -signal.SIGKILL:
            break
    can_go_on = checkpoints()
    told["ends"].append([None, None, in_child("disturbed", period, True)])
    look(told, can_go_on)
    print(json.dumps(told))


def checkpoints() -> dict[str, int]:
    """Phase -> rows of its checkpoint, of the run under way."""
    for folder in Path("disturbed/run").glob("*") if Path("disturbed/run").is_dir() else ():
        if folder.name != "latest":
            return {phase: entry.rows or 0 for phase, entry in read_manifest(folder).committed.checkpoints.items()}
    return {}


def look(told: dict[str, Any], can_go_on: dict[str, int]) -> None:
    """At a run that has ended; the next one begins in a folder of its own."""
    told["different"] += different()
    for path in Path("disturbed").rglob("run.json"):
        if "latest" not in path.parts and path.parent.name in can_go_on:
            rows = json.loads(path.read_text())["checkpoints"]["resumed_from_rows"]
            told["went_on"].append([can_go_on[path.parent.name], rows])
    Path("disturbed").rename(f"complete-{len(told['ends'])}")


def different() -> list[str]:
    """Files of results that are not as those of a run that nobody stopped."""

    def left(where: str) -> dict[str, bytes]:
        found = [path for path in Path(where).rglob("*") if path.is_file() and "latest" not in path.parts]
        kept = [
            path
            for path in found
            if path.name == "summary.json"
            or any(part == "containers" or part.startswith("save") for part in path.parts)
        ]
        return {str(Path(*path.parts[1:])): path.read_bytes() for path in kept}

    whole, disturbed = left("whole"), left("disturbed")
    return sorted(name for name in {*whole, *disturbed} if whole.get(name) != disturbed.get(name))


if __name__ == "__main__":
    main()
