"""Runs a configuration again and again with other futures, and says whose past they have moved."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..composing import compose
from ..config import Config, load_config
from ..errors import ConfigError, ContainerFailed, InputError, PenstockError, Problem
from ..registry import Registry
from ..service import Pipeline
from ..stage import Context, Recipe, Sink, Stage
from ..threads import Workers
from ..topology import Node, Topology
from .compare import Difference, compare, compare_all, known_until
from .defaults import DEFAULT_CUTS, DEFAULT_ROWS
from .futures import FUTURES, Future, Rows, borders, changed, cut, moments, uneven
from .recording import Given, Noted, record, without_sinks
from .report import FINDINGS, ContainerVerdict, LookaheadReport, Moved, Verdict, time_said


async def check_lookahead(
    what: Pipeline | Topology | Config | str | Path | Mapping[str, Any],
    *,
    data: str | Path | None = None,
    rows: int = DEFAULT_ROWS,
    cuts: int = DEFAULT_CUTS,
    seed: int = 0,
    registry: Registry | None = None,
) -> LookaheadReport:
    """Whether cutting off or changing what comes after a moment moves anything stamped at or before it.

    `what` is a pipeline, a topology, or a configuration in any form `Pipeline.from_yaml` takes; `data` a path for its
    feed. The first `rows` of each feed are read once and given to the graph again and again: cut off after each of
    `cuts` moments, and with values after it shuffled and raised or lowered by half. Sinks are left out. Rows that
    containers send and members keep are compared by their event time, up to the last bit.

        report = await check_lookahead("backtest.yaml")
        assert report.ok, str(report)

    Raises `ConfigError` where the configuration cannot be checked (a feed without data, a live feed), `InputError`
    where there is too little data or it carries no time, `ContainerFailed` where the graph fails on the data as it is.
    """
    workers = Workers(1)
    try:
        topology, run_seed = await workers.run(_topology, what, data, registry)
        for node in topology.feeds:
            if node.stage.live:
                raise _problem(
                    node, "expected a recording: a live feed has no future yet", "give it one with `--data PATH`"
                )
            if node.records:
                raise _problem(
                    node,
                    f"expected a feed that sends rows of one kind, found one that sends {', '.join(node.records)}",
                    "look ahead on a table of one kind, such as a parquet sink has left",
                )
        folder = await workers.run(lambda: Path(tempfile.mkdtemp(prefix="penstock-lookahead-")))
        try:
            sinks = await workers.run(_sinks, topology, folder, run_seed)
            search = _Search(without_sinks(topology, lambda node: node.name in sinks), folder, workers, run_seed, seed)
            return await search.run(rows, cuts)
        finally:
            await workers.run(lambda: shutil.rmtree(folder, ignore_errors=True))
    finally:
        await workers.close()


def _topology(
    what: Pipeline | Topology | Config | str | Path | Mapping[str, Any],
    data: str | Path | None,
    registry: Registry | None,
) -> tuple[Topology, int]:
    if isinstance(what, Pipeline):
        return what.topology, what.plan.seed
    if isinstance(what, Topology):
        return what, 0
    if not isinstance(what, Config):
        path = None if data is None else str(data)
        what = load_config(what, registry=registry or Registry.installed(), data=path)
    return compose(what), what.seed


def _sinks(topology: Topology, folder: Path, seed: int) -> set[str]:
    """Names of containers at the graph's end that are sinks; what cannot be built is left to the run to tell."""
    found = set()
    for node in topology.nodes:
        if not topology.consumers(node.name) and not node.members and node.inputs:
            try:
                logic = node.stage.build(Context(name=node.name, folder=folder, seed=seed))
            except Exception:
                continue
            if isinstance(logic, Sink):
                found.add(node.name)
            logic.close()
    return found


@dataclass
class _Found:
    """What has been found of one container so far."""

    rows: int = 0
    untimed: bool = False
    differences: dict[str, list[tuple[Difference, str]]] = field(default_factory=dict)
    """What was done (`changed`, `cut off`, `batches`, `twice`) -> differences, and words for it."""

    def add(self, done: str, differences: Sequence[Difference], words: str) -> None:
        if differences:
            self.differences.setdefault(done, []).extend((difference, words) for difference in differences)

    @property
    def verdict(self) -> tuple[Verdict, str]:
        """The verdict, and what showed it."""
        found = self.differences
        if "twice" in found:
            return "not repeatable", "twice"
        if "changed" in found:
            return "looks ahead", "changed"
        if "batches" in found:
            return "depends on batches", "batches"
        if "cut off" in found:
            return "looks ahead", "cut off"
        return ("ok", "") if self.rows else ("not compared", "")


class _Search:
    """One search: the rows as they are, and each run held against them."""

    def __init__(self, topology: Topology, folder: Path, workers: Workers, run_seed: int, seed: int) -> None:
        self.topology, self.folder, self.workers = topology, folder, workers
        self.run_seed, self.seed = run_seed, seed
        self.found = {node.name: _Found() for node in topology.nodes}
        self.notes: list[str] = []
        self.runs = 0

    async def run(self, rows: int, cuts: int) -> LookaheadReport:
        feeds, lateness = await self._read(rows)
        cut_at = await self.workers.run(moments, list(feeds.values()), cuts)
        ends = {name: borders(feed, cut_at) for name, feed in feeds.items()}
        whole = {name: Given(list(cut(feed.columns, ends[name])), lateness[name]) for name, feed in feeds.items()}
        before = await self._record(whole)
        await self._hold_all(before, whole, "twice", "the same was run twice")
        otherwise = {name: Given(list(cut(feed.columns, uneven(feed))), lateness[name]) for name, feed in feeds.items()}
        await self._hold_all(before, otherwise, "batches", "the feed was cut into other batches")
        for moment in cut_at:
            for future in FUTURES:
                given = await self.workers.run(self._given, feeds, lateness, ends, moment, future)
                await self._hold(before, given, moment, future)
        return LookaheadReport(
            containers=self._verdicts(),
            rows=sum(feed.columns.num_rows for feed in feeds.values()),
            cuts=cut_at,
            runs=self.runs,
            notes=self.notes,
        )

    async def _read(self, rows: int) -> tuple[dict[str, Rows], dict[str, int]]:
        """The first rows of each feed, and how late they may be. Raises `ConfigError` where a feed cannot be read."""
        topology = Topology(self.topology.feeds)
        try:
            notes = await record(topology, self._place(), rows=rows, seed=self.run_seed)
        except ContainerFailed as error:
            if isinstance(error.__cause__, InputError):
                raise _problem(self.topology[error.container], str(error.__cause__)) from error
            raise
        feeds = {name: await self.workers.run(Rows.of, noted.sent, name) for name, noted in notes.items()}
        return feeds, {name: noted.lateness_ns for name, noted in notes.items()}

    def _given(
        self,
        feeds: Mapping[str, Rows],
        lateness: Mapping[str, int],
        ends: Mapping[str, Sequence[int]],
        moment: int,
        future: Future,
    ) -> dict[str, Given]:
        reached = moment + 1 if future == "cut off" else None
        return {
            name: Given(list(cut(changed(feed, moment, future, self.seed), ends[name])), lateness[name], reached)
            for name, feed in feeds.items()
        }

    async def _hold_all(self, before: Mapping[str, Noted], given: Mapping[str, Given], done: str, words: str) -> None:
        """Run on the same rows and compare everything."""
        after = await self._record(given)
        for name, noted in before.items():
            if self.topology[name].inputs:
                self.found[name].add(done, await self.workers.run(compare_all, noted, after[name]), words)

    async def _hold(self, before: Mapping[str, Noted], given: Mapping[str, Given], moment: int, future: Future) -> None:
        """Run on another future and compare the past."""
        words = f"the rows after {time_said(moment)} were {future}"
        try:
            after = await self._record(given)
        except PenstockError as error:
            self.notes.append(f"when {words}, it failed, so that nothing was compared: {error}")
            return
        known: dict[str, int] = {}
        for node in self.topology.nodes:
            sources = [(before[entry.source], after[entry.source]) for entry in node.inputs]
            known[node.name] = await self.workers.run(
                known_until, sources, min([moment, *(known[entry.source] for entry in node.inputs)])
            )
            if not node.inputs:
                continue
            found = self.found[node.name]
            cut_off = future == "cut off"
            compared = await self.workers.run(
                lambda name=node.name, cut_off=cut_off: compare(before[name], after[name], known[name], cut_off=cut_off)
            )
            found.rows += compared.rows
            found.untimed = found.untimed or compared.untimed
            found.add("cut off" if cut_off else "changed", compared.differences, words)

    async def _record(self, given: Mapping[str, Given]) -> dict[str, Noted]:
        return await record(self.topology, self._place(), given=given, seed=self.run_seed)

    def _place(self) -> Path:
        self.runs += 1
        return self.folder / str(self.runs)

    def _verdicts(self) -> list[ContainerVerdict]:
        verdicts: dict[str, ContainerVerdict] = {}
        upstream: dict[str, tuple[str, ...]] = {}
        for node in self.topology.nodes:
            sources = [entry.source for entry in node.inputs]
            upstream[node.name] = tuple(dict.fromkeys([*(n for name in sources for n in upstream[name]), *sources]))
            if sources:
                verdicts[node.name] = self._verdict(node, upstream[node.name], verdicts)
            else:
                verdicts[node.name] = ContainerVerdict(name=node.name, kind="feed", verdict="ok", rows=0)
        return list(verdicts.values())

    def _verdict(
        self, node: Node, upstream: Sequence[str], verdicts: Mapping[str, ContainerVerdict]
    ) -> ContainerVerdict:
        """What has been found of a container; what moved the same way upstream of it explains it."""
        found = self.found[node.name]
        verdict, done = found.verdict
        moved = [name for name in upstream if done in self.found[name].differences]
        culprits = [name for name in moved if verdicts[name].verdict in FINDINGS]
        members = {difference.member for difference, _ in found.differences.get(done, ()) if difference.member}
        return ContainerVerdict(
            name=node.name,
            kind="group" if node.members else "container",
            verdict="follows" if moved else verdict,
            rows=found.rows,
            moved=self._first(node, found, done) if done else None,
            members=len(members),
            of_members=len(node.members),
            causes=tuple(culprits or moved),
        )

    def _first(self, node: Node, found: _Found, done: str) -> Moved:
        """The earliest row that moved; those with a time first."""
        difference, words = min(found.differences[done], key=lambda item: (item[0].ts is None, item[0].ts or 0))
        stage: Stage = node.members.get(difference.member, node.stage)
        return Moved(recipe=_chosen(stage), change=words, **difference._asdict())


def _chosen(stage: Stage) -> str:
    """The recipes within a stage that `type:` chose, such as a strategy."""
    parts = []
    for item in msgspec.structs.fields(stage):
        value = getattr(stage, item.name)
        if isinstance(value, Recipe) and type(value) is not item.type:
            parts.append(f"{item.name} {value!r}")
    return ", ".join(parts)


def _problem(node: Node, expected: str, suggestion: str = "") -> ConfigError:
    return ConfigError([Problem(f"containers.{node.pattern or node.name}", expected, suggestion=suggestion)])
