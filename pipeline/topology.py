"""The graph as plain data: nodes in topological order, checked before anything runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

import pyarrow as pa

from .data.checked import problems_of
from .data.policy import DataFlow
from .edges.edge import LIVE, LOSSLESS, REPLAY, EdgePolicy
from .errors import ConfigError, InputError, Problem, SchemaMismatch
from .frames import TIME_COLUMNS
from .mending.tolerance import ErrorPolicy
from .stage import Stage

Locate = Callable[[str], tuple[str, int | None]]
"""Where a dotted setting was written: file and line."""


@dataclass(frozen=True)
class Input:
    """One input of a node. Without a policy the edge takes the default of the run's clock."""

    source: str
    policy: EdgePolicy | None = None
    records: tuple[str, ...] = ()
    """Kinds of record it takes from a source that sends several; empty: all."""


@dataclass(frozen=True)
class Node:
    """A container to be: a stage, where its rows come from, and how it keeps what it is asked to keep."""

    name: str
    stage: Stage
    inputs: tuple[Input, ...] = ()
    data_flow: DataFlow = field(default_factory=DataFlow)
    keep_output: Literal["none", "recent", "all"] = "none"
    members: Mapping[str, Stage] = field(default_factory=dict)
    """Name -> varied recipe, where this node is a group."""
    member_flow: Callable[[str], DataFlow] | None = None
    """The data-flow policy of a member; None: the group's own."""
    pattern: str = ""
    """The wildcard that declared this group."""
    schema: pa.Schema | None = None
    """Columns of its output, where they can be known before it runs."""
    records: Mapping[str, pa.Schema] = field(default_factory=dict)
    """Columns by kind of record, where it sends several kinds."""
    live: bool = False
    """Whether a live feed is upstream."""
    errors: ErrorPolicy = field(default_factory=ErrorPolicy)
    """What happens when its logic fails."""

    def flow_of(self, member: str) -> DataFlow:
        """The policy of a member; of what a group keeps beside its members, such as a baseline, the group's own."""
        if self.member_flow is None or member not in self.members:
            return self.data_flow
        return self.member_flow(member)

    def matches(self, wanted: str) -> bool:
        """Whether an input called `wanted` means this node: its name, its wildcard, or a pattern over either."""
        return wanted in (self.name, self.pattern) or (
            any(mark in wanted for mark in "*?")
            and (fnmatchcase(self.name, wanted) or any(fnmatchcase(member, wanted) for member in self.members))
        )


@dataclass(frozen=True)
class Topology:
    """Nodes in an order in which every input comes before its consumers."""

    nodes: tuple[Node, ...]

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(node.name == name for node in self.nodes)

    def owner_of(self, name: str) -> Node | None:
        """The node called `name`, or the group that has it as a member."""
        return next((node for node in self.nodes if name in (node.name, node.pattern) or name in node.members), None)

    @property
    def feeds(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if not node.inputs)

    def consumers(self, name: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if any(entry.source == name for entry in node.inputs))

    def columns_taken(self, node: Node) -> frozenset[str] | None:
        """Columns that consumers of what a node sends look at, and its times; None: all of them, or nobody can say.

        All where they are kept, put aside as dead letters, or taken by a stage that does not say (`columns_read`).
        """
        consumers = self.consumers(node.name)
        if node.schema is None or node.records or node.keep_output != "none" or not consumers:
            return None
        taken = set(TIME_COLUMNS)
        for consumer in consumers:
            read = None if consumer.members else consumer.stage.columns_read(node.schema)
            if read is None or consumer.errors.dead_letters:
                return None
            taken |= read
        return frozenset(taken)

    def edge_policy(self, node: Node, entry: Input) -> EdgePolicy:
        """The policy an edge runs under: lossy ones act as `block` where no live feed is upstream."""
        if entry.policy is None:
            return LIVE if node.live else REPLAY
        if not node.live and entry.policy.when_full not in LOSSLESS:
            return EdgePolicy(max_rows=entry.policy.max_rows, max_bytes=entry.policy.max_bytes)
        return entry.policy

    def lossy_inputs(self) -> Iterator[tuple[Node, Input, EdgePolicy]]:
        """Inputs that were declared lossy, each with the policy its edge runs under."""
        for node in self.nodes:
            for entry in node.inputs:
                if entry.policy is not None and entry.policy.when_full not in LOSSLESS:
                    yield node, entry, self.edge_policy(node, entry)

    def to_mermaid(self) -> str:
        """The graph as Mermaid text, to be pasted where Markdown is shown."""
        ids = {node.name: f"n{i}" for i, node in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for node in self.nodes:
            label = node.name + (f" x {len(node.members)}" if node.members else "")
            shape = ('(["', '"])') if not node.inputs else ('[["', '"]]') if node.members else ('["', '"]')
            lines.append(f"    {ids[node.name]}{shape[0]}{label}<br/>{type(node.stage).__name__}{shape[1]}")
        for node in self.nodes:
            for entry in node.inputs:
                policy = self.edge_policy(node, entry).when_full
                said = ", ".join([*entry.records, *([] if policy == "block" else [policy])])
                arrow = f"-- {said} -->" if said else "-->"
                lines.append(f"    {ids[entry.source]} {arrow} {ids[node.name]}")
        return "\n".join(lines)


class TopologyBuilder:
    """Builds a topology in Python with the words of the YAML.

    >>> builder = TopologyBuilder()
    >>> builder.add("data", Synthetic(rows=1000))
    >>> builder.add("bars", Bars(every="1m"), inputs=["data"], data_flow=DataFlow(mode="hybrid"))
    >>> topology = builder.build()
    """

    def __init__(self, locate: Locate | None = None) -> None:
        self._nodes: dict[str, Node] = {}
        self._wanted: dict[str, list[Input]] = {}
        self._problems: list[Problem] = []
        self._silent: set[str] = set()
        """Nodes that cannot tell what they need, of which no more is asked."""
        self._locate = locate or (lambda path: ("", None))

    def add(
        self,
        name: str,
        stage: Stage,
        inputs: Sequence[str | Input] = (),
        *,
        data_flow: DataFlow | None = None,
        keep_output: Literal["none", "recent", "all"] | None = None,
        members: Mapping[str, Stage] | None = None,
        member_flow: Callable[[str], DataFlow] | None = None,
        pattern: str = "",
        errors: ErrorPolicy | None = None,
    ) -> TopologyBuilder:
        """Declare a container, or with `members` (name -> varied recipe) a group.

        `inputs` are names, patterns or `Input`s. Without `keep_output` a container given a `data_flow` keeps all
        its output (mode `memory`: a recent window), another keeps none.
        """
        if name in self._nodes:
            self._problem(f"containers.{name}", "expected container names to be different", f"'{name}' twice")
            return self
        if data_flow is not None and (wrong := problems_of(data_flow, f"containers.{name}.data_flow")):
            self._problems.extend(wrong)
            data_flow = None
        if keep_output is None:
            keep_output = "none" if data_flow is None or members else keeping_of(data_flow)
        self._nodes[name] = Node(
            name=name,
            stage=stage,
            data_flow=data_flow or DataFlow(),
            keep_output=keep_output,
            members=dict(members or {}),
            member_flow=member_flow,
            pattern=pattern,
            errors=errors or ErrorPolicy(),
        )
        self._wanted[name] = [Input(entry) if isinstance(entry, str) else entry for entry in inputs]
        return self

    def build(self) -> Topology:
        """Resolve and check the graph; raises `ConfigError` with every problem: cycles, inputs, needs, schemas."""
        nodes = {name: replace(node, inputs=self._resolve(node)) for name, node in self._nodes.items()}
        if not nodes:
            self._problem("containers", "expected at least one container", "none", "declare one with a `type`")
        ordered = self._order(nodes)
        if not self._problems:
            ordered = self._provide(ordered)
            ordered = self._check_flow(ordered)
        if self._problems:
            raise ConfigError(self._problems)
        return Topology(tuple(ordered))

    def _resolve(self, node: Node) -> tuple[Input, ...]:
        """Names and patterns of inputs as node names, in the order written, each once."""
        found: dict[tuple[str, tuple[str, ...]], Input] = {}
        for entry in self._wanted[node.name]:
            sources = [other.name for other in self._nodes.values() if other.matches(entry.source)]
            sources = [source for source in sources if source != node.name or source == entry.source]
            if not sources:
                near = difflib.get_close_matches(entry.source, self._nodes, n=1)
                self._problem(
                    f"containers.{node.pattern or node.name}.inputs",
                    "expected the name of a container",
                    f"'{entry.source}'",
                    f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(self._nodes))}",
                )
            for source in sources:
                found.setdefault((source, entry.records), replace(entry, source=source))
        return tuple(found.values())

    def _order(self, nodes: Mapping[str, Node]) -> list[Node]:
        """Topological order, in file order where free; a cycle is a problem that names its members."""
        ordered: dict[str, Node] = {}
        waiting = dict(nodes)
        while waiting:
            ready = [node for node in waiting.values() if all(entry.source in ordered for entry in node.inputs)]
            if not ready:
                cycle = _find_cycle(waiting)
                self._problem(
                    f"containers.{waiting[cycle[0]].pattern or cycle[0]}.inputs",
                    "expected no cycle",
                    " -> ".join([*cycle, cycle[0]]),
                    "remove one of these inputs",
                )
                break
            first = ready[0]
            ordered[first.name] = waiting.pop(first.name)
        return list(ordered.values())

    def _provide(self, ordered: Sequence[Node]) -> list[Node]:
        """Tell each stage what its consumers need from it, last first."""
        stages: dict[str, Stage] = {}
        for node in reversed(ordered):
            needs: set[Hashable] = set()
            for consumer in ordered:
                if any(entry.source == node.name for entry in consumer.inputs):
                    needs |= self._needs_of(consumer, stages[consumer.name])
            stages[node.name] = node.stage.providing(frozenset(needs)) if needs else node.stage
        return [replace(node, stage=stages[node.name]) for node in ordered]

    def _needs_of(self, consumer: Node, stage: Stage) -> frozenset[Hashable]:
        """What a consumer, or each of its members, needs; an error of the stage's own is a problem like others."""
        try:
            return frozenset().union(*(asking.needs() for asking in consumer.members.values() or (stage,)))
        except Exception as error:
            self._problem(
                f"containers.{consumer.pattern or consumer.name}",
                f"{type(stage).__name__} cannot tell what it needs: {type(error).__name__}: {error}",
            )
            self._silent.add(consumer.name)
            return frozenset()

    def _check_flow(self, ordered: Sequence[Node]) -> list[Node]:
        """What columns travel on each edge, and whether a live feed is upstream."""
        done: dict[str, Node] = {}
        for node in ordered:
            schema: pa.Schema | None = None
            records: Mapping[str, pa.Schema] = {}
            self._check_inputs(node)
            sources = {entry.source: done[entry.source] for entry in node.inputs}
            node = replace(node, inputs=self._choose_records(node, sources))
            offered = {entry.source: _offered(entry, sources[entry.source]) for entry in node.inputs}
            try:
                # What cannot tell what it needs was given nothing; that it misses something is no news.
                for stage in () if node.name in self._silent else node.members.values() or (node.stage,):
                    records = stage.record_schemas(offered)
                    schema = None if records else stage.output_schema(offered)
            except (SchemaMismatch, InputError) as error:
                self._problem(f"containers.{node.pattern or node.name}", str(error))
            except Exception as error:
                said = f"{type(stage).__name__} cannot tell what it sends: {type(error).__name__}: {error}"
                self._problem(f"containers.{node.pattern or node.name}", said)
            self._check_keys(node, sources)
            live = node.stage.live or any(source.live for source in sources.values())
            # A recent window is of rows of one kind; of several, all of each are kept or none.
            keep = "none" if records and node.keep_output == "recent" else node.keep_output
            done[node.name] = replace(node, schema=schema, records=records, live=live, keep_output=keep)
        return list(done.values())

    def _choose_records(self, node: Node, sources: Mapping[str, Node]) -> tuple[Input, ...]:
        """Inputs with the kinds of record they take: those declared, else the one its stage takes, else all."""
        chosen = []
        for entry in node.inputs:
            sent = sources[entry.source].records
            wrong = [record for record in entry.records if record not in sent]
            if wrong:
                near = difflib.get_close_matches(wrong[0], sent, n=1)
                self._problem(
                    f"containers.{node.pattern or node.name}.inputs",
                    f"expected `records` to be kinds that '{entry.source}' sends",
                    f"'{wrong[0]}'",
                    f"did you mean '{near[0]}'?" if near
                    else f"it sends {', '.join(sent)}" if sent
                    else f"'{entry.source}' sends rows of one kind; remove `records`",
                )  # fmt: skip
            default = node.stage.takes_record()
            if not entry.records and default is not None and default in sent:
                entry = replace(entry, records=(default,))
            chosen.append(entry)
        return tuple(chosen)

    def _check_inputs(self, node: Node) -> None:
        """A feed has no inputs, anything else has some."""
        path, kind = f"containers.{node.pattern or node.name}", type(node.stage).__name__
        if node.stage.is_feed and node.inputs:
            self._problem(f"{path}.inputs", f"{kind} is a feed and takes none", suggestion="remove `inputs`")
        elif node.stage.is_feed is False and not node.inputs:
            self._problem(path, f"expected `inputs`: {kind} is no feed", suggestion="name the container it reads from")

    def _check_keys(self, node: Node, sources: Mapping[str, Node]) -> None:
        """What `conflate` keeps the latest row of must be a column."""
        for entry in node.inputs:
            schema = _offered(entry, sources[entry.source])
            if entry.policy is not None and entry.policy.when_full == "conflate" and schema is not None:
                key = entry.policy.key or "instrument_id"
                if key not in schema.names:
                    near = difflib.get_close_matches(key, schema.names, n=1)
                    self._problem(
                        f"containers.{node.pattern or node.name}.inputs",
                        f"expected `key` to be a column of '{entry.source}'",
                        f"'{key}'",
                        f"did you mean '{near[0]}'?" if near else f"it has {', '.join(schema.names)}",
                    )

    def _problem(self, path: str, expected: str, found: str = "", suggestion: str = "") -> None:
        file, line = self._locate(path)
        self._problems.append(Problem(path, expected, found, suggestion, file, line))


def _offered(entry: Input, source: Node) -> pa.Schema | None:
    """Columns that come by this input; None where several kinds do, or nobody knows."""
    if not source.records:
        return source.schema
    return source.records.get(entry.records[0]) if len(entry.records) == 1 else None


def keeping_of(flow: DataFlow) -> Literal["none", "recent", "all"]:
    """What a container whose mode is configured keeps of its output."""
    if flow.keep_output is not None:
        return flow.keep_output
    return "recent" if flow.mode == "memory" else "all"


def _find_cycle(waiting: Mapping[str, Node]) -> list[str]:
    """Follow inputs among nodes that wait for each other until one comes again."""
    path: list[str] = []
    name = next(iter(waiting))
    while name not in path:
        path.append(name)
        name = next(entry.source for entry in waiting[name].inputs if entry.source in waiting)
    cycle = path[path.index(name) :]
    cycle.reverse()
    return cycle


def ranker_of(topology: Topology) -> Node | None:
    """The node whose stage ranks; None where none does, or several do."""
    rankers = [node for node in topology.nodes if node.stage.ranking_key is not None]
    return rankers[0] if len(rankers) == 1 else None
