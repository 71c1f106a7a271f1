"""Topologies: plain data in topological order, checked before anything runs, every problem with its place."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any, Self

import msgspec
import pyarrow as pa
import pytest

from pipeline import (
    ConfigError,
    Context,
    DataFlow,
    EdgePolicy,
    Feed,
    Input,
    InputError,
    PhaseFailed,
    Pipeline,
    Registry,
    SchemaMismatch,
    Stage,
    Topology,
    TopologyBuilder,
    Transform,
    compose,
    load_config,
)
from pipeline.edges.edge import LIVE, REPLAY
from pipeline.testing import ListFeed, ListSink
from pipeline.topology import keeping_of


class Source(Stage, frozen=True):
    columns: tuple[str, ...] = ("ts_event", "price")
    following: bool = False

    @property
    def live(self) -> bool:  # type: ignore[override]
        return self.following

    def build(self, context: Context) -> Feed:
        raise NotImplementedError

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema:
        return pa.schema([(name, pa.float64()) for name in self.columns])


class Wants(Stage, frozen=True):
    """Asks for columns by name, and passes its input on with those it provides."""

    column: str = "price"
    asks: frozenset[str] = frozenset()
    provides: tuple[str, ...] = ()

    def build(self, context: Context) -> Transform:
        raise NotImplementedError

    def needs(self) -> frozenset[Hashable]:
        return self.asks

    def providing(self, needs: frozenset[Hashable]) -> Self:
        return msgspec.structs.replace(self, provides=tuple(sorted({*self.provides, *map(str, needs)})))

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema | None:
        schema: pa.Schema | None = None
        for name, schema in inputs.items():
            if schema is not None and self.column not in schema.names:
                raise SchemaMismatch(f"expected a column '{self.column}' from '{name}', found {schema.names}")
        for name in self.provides:
            schema = None if schema is None else schema.append(pa.field(name, pa.float64()))
        return schema


class Grouping(Wants, frozen=True):
    @property
    def groups(self) -> bool:
        return True


def names(topology: Topology) -> list[str]:
    return [node.name for node in topology.nodes]


def problems(builder: TopologyBuilder) -> list[Any]:
    with pytest.raises(ConfigError) as caught:
        builder.build()
    return list(caught.value.problems)


def yaml_registry() -> Registry:
    registry = Registry()
    for name, recipe in {"source": Source, "wants": Wants, "grouping": Grouping}.items():
        registry.add(name, recipe)
    return registry


def test_nodes_stand_behind_their_inputs_and_in_the_order_written_where_free() -> None:
    builder = TopologyBuilder()
    builder.add("last", Wants(), ["right", "left"]).add("right", Wants(), ["data"])
    builder.add("left", Wants(), ["data"]).add("data", Source()).add("other", Source())
    topology = builder.build()
    place = {name: index for index, name in enumerate(names(topology))}
    assert all(place[entry.source] < place[node.name] for node in topology.nodes for entry in node.inputs)
    assert place["right"] < place["left"], "written first"
    assert [entry.source for entry in topology["last"].inputs] == ["right", "left"], "inputs keep their order"
    assert {node.name for node in topology.feeds} == {"data", "other"}
    assert [node.name for node in topology.consumers("data")] == ["right", "left"]
    assert "left" in topology and "up" not in topology
    with pytest.raises(KeyError):
        topology["up"]


def test_the_same_declarations_give_the_same_topology() -> None:
    def build() -> Topology:
        builder = TopologyBuilder().add("data", Source()).add("a", Wants(), ["data"]).add("b", Wants(), ["data", "a"])
        return builder.build()

    assert names(build()) == names(build()) == ["data", "a", "b"]


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_cycle_is_told_with_all_its_members(length: int) -> None:
    builder = TopologyBuilder().add("data", Source())
    for index in range(length):
        builder.add(f"n{index}", Wants(), [f"n{(index + 1) % length}", "data"])
    builder.add("after", Wants(), ["n0"])
    (problem,) = problems(builder)
    assert problem.expected == "expected no cycle"
    told = problem.found.split(" -> ")
    assert told[0] == told[-1] and set(told) == {f"n{index}" for index in range(length)}
    assert len(told) == length + 1


def test_an_unknown_input_is_told_with_the_nearest_name() -> None:
    builder = TopologyBuilder().add("features", Source()).add("a", Wants(), ["feature"]).add("b", Wants(), ["xyz"])
    near, far = problems(builder)
    assert (near.path, near.found, near.suggestion) == ("containers.a.inputs", "'feature'", "did you mean 'features'?")
    assert far.suggestion == "there are a, b, features"


def test_names_are_given_once_and_there_must_be_one() -> None:
    (twice,) = problems(TopologyBuilder().add("data", Source()).add("data", Wants()))
    assert twice.path == "containers.data" and twice.found == "'data' twice"
    (none,) = problems(TopologyBuilder())
    assert none.expected == "expected at least one container"


def test_every_problem_is_told_at_once() -> None:
    builder = TopologyBuilder().add("data", Source()).add("data", Source())
    builder.add("a", Wants(), ["dta"]).add("b", Wants(), ["c"]).add("c", Wants(), ["b"])
    assert len(problems(builder)) == 3


def test_a_column_that_is_missing_on_an_edge_is_a_problem_before_anything_runs() -> None:
    builder = TopologyBuilder().add("data", Source()).add("a", Wants(column="size"), ["data"])
    (problem,) = problems(builder)
    assert problem.path == "containers.a"
    assert "expected a column 'size' from 'data'" in str(problem)


def test_columns_travel_over_stages_whose_columns_are_known() -> None:
    builder = TopologyBuilder().add("data", Source()).add("a", Wants(), ["data"])
    builder.add("b", Wants(asks=frozenset({"sma"}), column="sma"), ["a"])
    topology = builder.build()
    assert topology["a"].schema is not None and topology["a"].schema.names == ["ts_event", "price", "sma"]


YAML = """\
containers:
  data:
    type: source
  left:
    type: wants
    inputs: [data]
  right:
    type: wants
    inputs: [data, left]
    column: {column}
"""


def test_from_yaml_such_a_problem_has_its_file_and_line(tmp_path: Any) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(YAML.format(column="size"))
    with pytest.raises(ConfigError, match=r"graph\.yaml:7: containers\.right: expected a column 'size'") as caught:
        compose(load_config(path, registry=yaml_registry()))
    (problem,) = caught.value.problems
    assert (problem.line, problem.file.endswith("graph.yaml")) == (7, True)


def test_from_yaml_an_unknown_input_and_a_cycle_have_their_lines(tmp_path: Any) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(YAML.format(column="price").replace("inputs: [data]", "inputs: [dat]"))
    with pytest.raises(ConfigError, match=r"graph\.yaml:6: .*'dat'; did you mean 'data'\?"):
        compose(load_config(path, registry=yaml_registry()))
    path.write_text(YAML.format(column="price").replace("inputs: [data]", "inputs: [right]"))
    with pytest.raises(ConfigError, match=r"graph\.yaml:\d+: .*expected no cycle"):
        compose(load_config(path, registry=yaml_registry()))


def test_an_input_that_cannot_be_read_is_a_problem_of_its_container() -> None:
    class Unreadable(Source, frozen=True):
        def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema:
            raise InputError("data.csv: expected a header, found nothing")

    (problem,) = problems(TopologyBuilder().add("data", Unreadable()))
    assert "data.csv: expected a header" in str(problem)


# -- patterns and groups ---------------------------------------------------------------------------------------------


def fan() -> TopologyBuilder:
    builder = TopologyBuilder().add("data", Source())
    for name in ("portfolio_a", "portfolio_b", "other"):
        builder.add(name, Wants(), ["data"])
    return builder


def test_a_pattern_takes_all_it_matches_in_the_order_declared_and_each_once() -> None:
    topology = fan().add("end", Wants(), ["portfolio_*", "portfolio_a", "other"]).build()
    assert [entry.source for entry in topology["end"].inputs] == ["portfolio_a", "portfolio_b", "other"]


def test_a_pattern_never_takes_its_own_container() -> None:
    topology = fan().add("portfolio_end", Wants(), ["portfolio_*"]).build()
    assert [entry.source for entry in topology["portfolio_end"].inputs] == ["portfolio_a", "portfolio_b"]


def test_a_pattern_that_matches_nothing_is_a_problem() -> None:
    (problem,) = problems(fan().add("end", Wants(), ["strategy_*"]))
    assert problem.found == "'strategy_*'"


def test_a_group_is_one_input_by_its_pattern() -> None:
    builder = TopologyBuilder().add("data", Source())
    members = {f"portfolio_{index:04d}": Grouping() for index in range(1000)}
    builder.add("portfolio", Grouping(), ["data"], members=members, pattern="portfolio_*")
    for name, wanted in {"a": "portfolio_*", "b": "portfolio", "c": "portfolio_00*"}.items():
        builder.add(name, Wants(), [wanted])
    topology = builder.build()
    for name in "abc":
        assert [entry.source for entry in topology[name].inputs] == ["portfolio"], "one edge for a thousand members"
    for name in ("portfolio", "portfolio_*", "portfolio_0999"):
        owner = topology.owner_of(name)
        assert owner is not None and owner.name == "portfolio"
    assert topology.owner_of("portfolio_1000") is None


def test_what_members_need_reaches_their_input_as_one_union() -> None:
    builder = TopologyBuilder().add("data", Source()).add("features", Wants(), ["data"])
    members = {f"p_{index}": Grouping(asks=frozenset({f"sma_{index % 7}", "ema_9"})) for index in range(100)}
    builder.add("p", Grouping(), ["features"], members=members, pattern="p_*")
    builder.add("another", Wants(asks=frozenset({"sma_3", "rsi"})), ["features"])
    topology = builder.build()
    provided = topology["features"].stage
    assert isinstance(provided, Wants)
    assert provided.provides == ("ema_9", "rsi", *(f"sma_{index}" for index in range(7)))
    assert isinstance(topology["data"].stage, Source), "a stage that is asked for nothing stays what it is"


def test_a_recipe_is_not_changed_by_what_is_asked_of_it() -> None:
    recipe = Wants()
    builder = TopologyBuilder().add("data", Source()).add("a", recipe, ["data"])
    topology = builder.add("b", Wants(asks=frozenset({"x"})), ["a"]).build()
    assert recipe == Wants() and topology["a"].stage == Wants(provides=("x",))


SPACE = """\
containers:
  data: {type: source}
  many_*: {type: KIND, inputs: [data]}
  end: {type: wants, inputs: ['many_*']}
parameter_space: {column: [price, ts_event], provides: [[a], [b], [c]]}
"""


def test_a_stage_that_does_not_group_becomes_one_container_per_combination() -> None:
    topology = compose(load_config(SPACE.replace("KIND", "wants"), registry=yaml_registry()))
    found = [node for node in topology.nodes if node.name.startswith("many_")]
    assert len(found) == 6 and all(not node.members for node in found)
    assert len({repr(node.stage) for node in found}) == 6
    assert [entry.source for entry in topology["end"].inputs] == [node.name for node in found]


def test_a_stage_that_groups_becomes_one_container_with_members() -> None:
    topology = compose(load_config(SPACE.replace("KIND", "grouping"), registry=yaml_registry()))
    assert names(topology) == ["data", "many", "end"]
    members = topology["many"].members
    assert len(members) == 6 and all(isinstance(member, Grouping) for member in members.values())
    assert [entry.source for entry in topology["end"].inputs] == ["many"]


# -- edges -----------------------------------------------------------------------------------------------------------


def test_edges_are_short_behind_a_live_feed_and_lossy_only_there() -> None:
    lossy = EdgePolicy(when_full="drop_oldest", max_rows=10)
    for live in (True, False):
        builder = TopologyBuilder().add("data", Source(following=live)).add("a", Wants(), ["data"])
        topology = builder.add("b", Wants(), [Input("a", lossy)]).build()
        assert [node.live for node in topology.nodes] == [live] * 3
        (plain,), (declared,) = topology["a"].inputs, topology["b"].inputs
        assert topology.edge_policy(topology["a"], plain) == (LIVE if live else REPLAY)
        policy = topology.edge_policy(topology["b"], declared)
        assert policy == (lossy if live else EdgePolicy(max_rows=10)), "a replay waits, whatever was declared"


def test_what_is_kept_of_the_output_follows_from_the_mode() -> None:
    assert [keeping_of(DataFlow(mode=mode)) for mode in ("memory", "streaming", "file", "hybrid")] == [
        "recent", "all", "all", "all",
    ]  # fmt: skip
    assert keeping_of(DataFlow(mode="file", keep_output="none")) == "none"
    topology = TopologyBuilder().add("plain", Source()).add("kept", Source(), data_flow=DataFlow(mode="file")).build()
    assert [node.keep_output for node in topology.nodes] == ["none", "all"]


def test_a_graph_can_be_drawn() -> None:
    builder = TopologyBuilder().add("data", Source(following=True))
    members = {f"p_{index}": Grouping() for index in range(3)}
    builder.add("p", Grouping(), ["data"], members=members, pattern="p_*")
    builder.add("end", Wants(), [Input("p", EdgePolicy(when_full="conflate", key="price"))])
    assert builder.build().to_mermaid().splitlines() == [
        "flowchart LR",
        '    n0(["data<br/>Source"])',
        '    n1[["p x 3<br/>Grouping"]]',
        '    n2["end<br/>Wants"]',
        "    n0 --> n1",
        "    n1 -- conflate --> n2",
    ]


def test_a_feed_with_inputs_and_a_transform_without_are_problems_before_anything_runs() -> None:
    builder = TopologyBuilder().add("data", ListFeed(items=[])).add("second", ListFeed(items=[]), ["data"])
    builder.add("alone", ListSink(into=[]))
    with pytest.raises(ConfigError) as caught:
        builder.build()
    said = [str(problem) for problem in caught.value.problems]
    assert any("containers.second.inputs: ListFeed is a feed and takes none" in line for line in said)
    assert any("containers.alone: expected `inputs`: ListSink is no feed" in line for line in said)


class Unsaid(Stage, frozen=True):
    """Does not say what it builds."""

    feeds: bool

    def build(self, context: Any) -> Any:
        return (ListFeed(items=[]) if self.feeds else ListSink(into=[])).build(context)


def test_a_stage_that_does_not_say_what_it_builds_is_refused_by_name_when_it_runs(tmp_path: Any) -> None:
    feed = TopologyBuilder().add("data", ListFeed(items=[])).add("second", Unsaid(feeds=True), ["data"]).build()
    sink = TopologyBuilder().add("alone", Unsaid(feeds=False)).build()
    for topology, words in ((feed, "'second' failed: .*takes no inputs"), (sink, "'alone' failed: .*only a feed")):
        with pytest.raises(PhaseFailed, match=words):
            asyncio.run(Pipeline.from_topology(topology, output=tmp_path).run())


class Clueless(Stage, frozen=True):
    """Fails when it is asked what it needs, and what it sends."""

    needs_too: bool = False

    def needs(self) -> frozenset[Any]:
        if self.needs_too:
            raise ValueError("no idea")
        return frozenset()

    def output_schema(self, inputs: Any) -> Any:
        raise ValueError("no idea")


@pytest.mark.parametrize(("needs_too", "said"), [(True, "what it needs"), (False, "what it sends")])
def test_a_stage_that_fails_when_it_is_asked_is_one_problem(needs_too: bool, said: str) -> None:
    builder = TopologyBuilder().add("feed", Source()).add("odd", Clueless(needs_too=needs_too), ["feed"])
    with pytest.raises(ConfigError) as caught:
        builder.build()
    (problem,) = caught.value.problems
    assert problem.expected == f"Clueless cannot tell {said}: ValueError: no idea"


class HalfClueless(Stage, frozen=True):
    """Needs a column that its feed sends where asked for it, or cannot tell."""

    broken: bool = False

    def needs(self) -> frozenset[Any]:
        if self.broken:
            raise ValueError("no idea")
        return frozenset()

    def output_schema(self, inputs: Any) -> Any:
        raise SchemaMismatch("it needs what nobody sends")


def test_a_group_of_which_one_member_cannot_tell_what_it_needs_is_one_problem() -> None:
    builder = TopologyBuilder().add("feed", Source())
    builder.add("odd", HalfClueless(), ["feed"], members={"a": HalfClueless(), "b": HalfClueless(broken=True)})
    with pytest.raises(ConfigError) as caught:
        builder.build()
    assert [problem.expected for problem in caught.value.problems] == [
        "HalfClueless cannot tell what it needs: ValueError: no idea"
    ]
