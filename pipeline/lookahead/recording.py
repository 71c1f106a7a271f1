"""Runs a topology on given rows and notes what each container sends and keeps, instead of storing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..containers.container import TransformContainer
from ..containers.keeping import Keeper
from ..data.policy import DataFlow, Persistence
from ..edges.edge import REPLAY, Edge
from ..engines.local import LocalEngine
from ..frames import Batch, Frame, MemberRows, Result, Watermark
from ..stage import Context, Feed, Outputs, Stage, Transform
from ..topology import Node, Topology
from ..windows import Limits

NOTHING_STORED = DataFlow(mode="memory", memory_limit_mb=1 << 20, persistence=Persistence(on_completion=False))


@dataclass
class Series:
    """What was kept under one key: values in the order they came."""

    values: list[Any] = field(default_factory=list)
    appended: bool = False
    made: dict[str, Any] = field(default_factory=dict)
    """What a reader has made of the values, so that it is made once."""


@dataclass
class Noted:
    """What one container sent and kept."""

    sent: list[Batch] = field(default_factory=list)
    sent_at_end: list[Batch] = field(default_factory=list)
    """What it sent after its inputs had ended."""
    kept: dict[tuple[str, str], Series] = field(default_factory=dict)
    """(member, key) -> series; the member is empty for the container itself."""
    at_end: bool = False
    lateness_ns: int = 0
    made: dict[str, Any] = field(default_factory=dict)
    """What a reader has made of what was sent, so that it is made once."""


@dataclass(frozen=True)
class Given:
    """Rows to give in place of a feed's, and the time its watermark reaches before it ends."""

    batches: Sequence[pa.RecordBatch]
    lateness_ns: int = 0
    reached_ns: int | None = None


async def record(
    topology: Topology,
    folder: Path,
    *,
    given: Mapping[str, Given] | None = None,
    rows: int | None = None,
    seed: int = 0,
) -> dict[str, Noted]:
    """Run to the end and return what each container did; with `given`, feeds give that. Raises `ContainerFailed`."""
    nodes = tuple(_unstored(node, (given or {}).get(node.name)) for node in topology.nodes)
    notes = {node.name: Noted() for node in nodes}

    def listen(engine: LocalEngine) -> None:
        for name, container in engine.containers.items():
            container.outlet.attach(_Tap(name, notes[name]))
            container.keeper = _Notes(container.keeper, notes[name])
            if isinstance(container, TransformContainer):
                container.logic = _Watched(container.logic, notes[name])
            else:
                notes[name].lateness_ns = container.logic.lateness_ns
        engine.gate.open()

    await LocalEngine(Topology(nodes), folder, seed=seed, limits=Limits(rows=rows), on_ready=listen).run()
    return notes


def _unstored(node: Node, given: Given | None) -> Node:
    stage = node.stage if given is None else _GivenFeed(given=given)
    return replace(node, stage=stage, data_flow=NOTHING_STORED, member_flow=None, keep_output="none")


class _GivenFeed(Stage, frozen=True):
    """Gives rows that are there already."""

    given: Any
    is_feed = True

    def build(self, context: Context) -> Feed:
        return _GivenRows(self.given)


class _GivenRows(Feed):
    def __init__(self, given: Given) -> None:
        self.given = given
        self.lateness_ns = given.lateness_ns

    def batches(self) -> Iterator[Batch | Watermark]:
        yield from map(Batch, self.given.batches)
        if self.given.reached_ns is not None:
            yield Watermark(self.given.reached_ns)


class _Tap(Edge):
    """An edge that nobody reads: it notes the batches and is never full."""

    def __init__(self, source: str, noted: Noted) -> None:
        super().__init__(source, "lookahead", REPLAY)
        self.noted = noted

    def send_nowait(self, frame: Frame) -> bool:
        if isinstance(frame, Batch):
            (self.noted.sent_at_end if self.noted.at_end else self.noted.sent).append(frame)
        return True


class _Notes(Keeper):
    """A container's keeper that notes results and stores nothing; `context.store` works as ever."""

    def __init__(self, keeper: Keeper, noted: Noted) -> None:
        super().__init__(keeper.name, keeper.store, keeper.policy, keeper.workspace, keeper.folder)
        self.noted = noted

    async def keep(self, result: Result) -> None:
        series = self.noted.kept.setdefault((result.member, result.key), Series())
        series.appended = result.append
        if not result.append:
            series.values.clear()
        series.values.append(result.value)

    async def keep_rows(self, rows: MemberRows) -> None:
        for place, member in enumerate(rows.members):
            begin, end = int(rows.offsets[place]), int(rows.offsets[place + 1])
            await self.keep(Result(rows.key, rows.columns.slice(begin, end - begin), append=True, member=member))

    async def complete(self) -> None:
        return None


class _Watched(Transform):
    """A logic that tells when its inputs have ended."""

    def __init__(self, logic: Transform, noted: Noted) -> None:
        self.logic, self.noted = logic, noted
        self.runs_in = logic.runs_in

    def on_batch(self, batch: Batch) -> Outputs:
        return self.logic.on_batch(batch)

    def on_watermark(self, watermark: Watermark) -> Outputs:
        return self.logic.on_watermark(watermark)

    def on_end(self) -> Outputs:
        self.noted.at_end = True
        return self.logic.on_end()


def without_sinks(topology: Topology, is_sink: Callable[[Node], bool]) -> Topology:
    """The topology without what only takes rows out of the process: writing them many times is not wanted."""
    return Topology(tuple(node for node in topology.nodes if topology.consumers(node.name) or not is_sink(node)))
