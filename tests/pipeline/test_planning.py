"""What a configuration will take is told before anything runs, and what cannot fit is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from pipeline import ConfigError, Context, Footprint, InputError, Logic, Recipe, Registry, Stage, load_config
from pipeline.machine import MB
from pipeline.planning import BYTES_OF_TEXT, Plan, least_row_bytes, plan_of, row_bytes
from pipeline.storage.sizing import ENTRY_BYTES

COLUMNS = pa.schema([("ts_event", pa.timestamp("ns")), ("price", pa.float64()), ("name", pa.utf8())])


class Source(Stage, frozen=True):
    is_feed: ClassVar[bool | None] = True

    rows: int | None = 1000
    file: str | None = None
    batch_rows: int | None = None

    def footprint(self, members: int, rows: int | None) -> Footprint:
        return Footprint(rows=self.rows if rows is None else min(rows, self.rows or rows), batch_rows=self.batch_rows)

    def input_files(self) -> list[Path]:
        if self.file == "none":
            raise InputError("no recording was given")
        return [Path(self.file)] if self.file else []

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema:
        return COLUMNS


class Pass(Stage, frozen=True):
    pass


class Kind(Recipe, frozen=True):
    n: int = 1


class OtherKind(Kind, frozen=True):
    pass


class Members(Stage, frozen=True):
    made: ClassVar[int] = 0

    kind: Kind = Kind()

    def vary(self, parameters: Mapping[str, Any]) -> Any:
        Members.made += 1
        return super().vary({f"kind.{name}": value for name, value in parameters.items()})

    def parameter_fields(self) -> list[str]:
        return ["n"]

    @property
    def groups(self) -> bool:
        return True

    @property
    def grouped_by(self) -> Kind:
        return self.kind

    def build(self, context: Context) -> Logic:
        raise AssertionError("a plan builds nothing")

    build_group: Any = build

    def footprint(self, members: int, rows: int | None) -> Footprint:
        state = members * 1000
        size = None if rows is None else members * rows
        return Footprint(
            rows=members, memory_bytes=2 * state, least_bytes=state, results={"curve": size, "figures": members * 10}
        )


def registry() -> Registry:
    made = Registry()
    recipes = {"source": Source, "pass": Pass, "members": Members, "kind": Kind, "other_kind": OtherKind}
    for name, recipe in recipes.items():
        made.add(name, recipe)
    return made


def plan(source: str = "", space: str = "{n: {start: 1, stop: 40}}", **header: Any) -> Plan:
    config: dict[str, Any] = {
        "containers": {
            "data": {"type": "source"},
            "many_*": {"type": "members", "inputs": ["data"], "kind": "kind"},
            "end": {"type": "pass", "inputs": ["many_*"]},
        },
        **header,
    }
    return plan_of(load_config(config, registry=registry(), overrides=[f"parameter_space={space}", *source.split()]))


def containers(made: Plan) -> dict[str, Any]:
    return {container.name: container for container in made.containers}


TWO = "[{kind: kind, n: [1, 2, 3]}, {kind: other_kind, n: [1, 2, 3], where: n != 2}]"


def test_containers_groups_and_members_are_told_in_their_order() -> None:
    made = plan(space=TWO)
    assert [(each.name, each.members, each.inputs) for each in made.containers] == [
        ("data", 0, []), ("many_kind", 3, ["data"]), ("many_other_kind", 2, ["data"]),
        ("end", 0, ["many_kind", "many_other_kind"]),
    ]  # fmt: skip
    assert [(each.grid, each.excluded, each.combinations) for each in made.blocks] == [(3, 0, 3), (3, 1, 2)]
    assert [dict(each.chosen) for each in made.blocks] == [{"kind": "kind"}, {"kind": "other_kind"}]
    assert (made.combinations, made.warnings, made.refusals) == (5, [], [])


def test_one_class_makes_one_group_under_the_name_of_the_wildcard() -> None:
    assert list(containers(plan())) == ["data", "many", "end"]
    assert list(containers(plan(space="[{kind: kind, n: [1]}, {kind: kind, n: [2]}]"))) == ["data", "many", "end"]


def test_a_group_is_not_called_as_a_container_is() -> None:
    with pytest.raises(ConfigError, match="'many_kind' twice"):
        plan("containers.many_kind.type=pass containers.many_kind.inputs=data", space=TWO)


def test_rows_flow_from_the_feed_through_the_graph() -> None:
    assert [each.rows for each in plan().containers] == [1000, 40, 40]
    assert [each.rows for each in plan("limit=10").containers] == [10, 40, 40]
    assert [each.rows for each in plan("containers.data.rows=null").containers] == [None, 40, 40]
    assert containers(plan("containers.data.rows=null"))["many"].results == {"curve": None, "figures": 400}
    assert containers(plan("limit=10"))["many"].results == {"curve": 400, "figures": 400}


def test_a_groups_ceiling_is_the_sum_of_its_members_accounts() -> None:
    made = plan("containers.many_*.data_flow.memory_limit_mb=2 containers.many_0003.data_flow.memory_limit_mb=5")
    assert containers(made)["many"].ceiling_bytes == (39 * 2 + 5) << 20
    assert made.edges_bytes == 2 * 16 << 20
    assert made.ceiling_bytes == (83 + 100 + 100 + 32) << 20
    assert (made.state_bytes, containers(made)["many"].least_bytes) == (80_000, 40_000)


def test_spill_has_the_ceiling_that_is_declared() -> None:
    hybrid = "containers.data.data_flow.mode=hybrid containers.many_*.data_flow.mode=hybrid"
    made = containers(plan(f"{hybrid} containers.many_*.data_flow.disk_limit_mb=3"))
    assert (made["data"].spill, made["data"].spill_bytes) == (True, None)
    assert (made["many"].spill, made["many"].spill_bytes) == (True, 120 << 20)
    assert not made["end"].spill


def test_what_is_not_persisted_leaves_nothing() -> None:
    made = containers(plan("containers.many_*.data_flow.persistence.on_completion=false"))
    assert made["many"].results == {}
    kept = containers(plan("containers.data.data_flow.keep_output=all"))["data"].results
    assert kept == {"output": 1000 * row_bytes(COLUMNS)} and row_bytes(COLUMNS) == 8 + 8 + BYTES_OF_TEXT


def test_more_combinations_than_declared_are_counted_and_refused_but_not_made() -> None:
    Members.made = 0
    made = plan(space="{n: {start: 1, stop: 1000000000}}")
    assert made.combinations == 10**9 and made.containers == ()
    assert len(made.refusals) == 1 and Members.made == 0
    assert (
        "expected at most 100,000 combinations (`max_portfolios`), found 1,000,000,000; add `sample" in made.refusals[0]
    )
    assert plan("max_portfolios=39").refusals and not plan("max_portfolios=40").refusals
    assert Members.made == 40


def test_a_pool_that_ceilings_exceed_is_warned_of_and_one_that_state_exceeds_is_refused() -> None:
    made = plan("process_memory_mb=10000")
    assert (made.warnings, made.refusals, made.pool_bytes) == ([], [], 10_000 << 20)
    made = plan("process_memory_mb=512")
    assert made.refusals == [] and len(made.warnings) == 1
    assert made.warnings[0].startswith(
        "the ceilings of all containers add up to 4,232 MB, more than the pool of 512 MB"
    )
    warnings = plan("process_memory_mb=0.05").warnings
    assert warnings[0].startswith("the state of the containers is estimated at 0.076 MB, more than the pool of 0.05")
    made = plan("process_memory_mb=0.01")
    assert len(made.refusals) == 1
    assert "the state of the containers alone takes" in made.refusals[0] and "run fewer portfolios" in made.refusals[0]


def test_a_pool_smaller_than_a_batch_is_refused_and_one_it_fills_is_warned_of_with_the_size_that_makes_sense() -> None:
    batch = f"containers.data.batch_rows={1 << 20}"
    row, least = row_bytes(COLUMNS), least_row_bytes(COLUMNS)
    assert 0 < least < row
    refused = plan(f"{batch} process_memory_mb={least - 0.01}").refusals
    assert len(refused) == 1 and f"a batch of 'data' alone takes at least {least:.1f} MB" in refused[0]
    assert f"raise `process_memory_mb` to {4 * row} MB or more, or lower its `batch_rows`" in refused[0]
    made = plan(f"{batch} process_memory_mb={least}")
    assert made.refusals == [] and f"raise `process_memory_mb` to {4 * row} MB or more" in made.warnings[0]
    assert plan(f"{batch} process_memory_mb={4 * row - 1}").warnings[0] != made.warnings[1]
    assert not any("a batch of" in told for told in plan(f"{batch} process_memory_mb={4 * row}").warnings)


@pytest.mark.parametrize(
    "header", [{"until": "2024-05-01"}, {"phases": [{"name": "first", "window": {"until": "2024-05-01"}}]}]
)
def test_a_batch_that_may_be_cut_to_a_window_is_only_warned_of(header: dict[str, Any]) -> None:
    made = plan(f"containers.data.batch_rows={1 << 20} process_memory_mb=1", **header)
    assert made.refusals == [] and "a batch of 'data' is estimated at" in made.warnings[0]


def test_a_pool_in_which_no_share_holds_an_entry_is_refused_as_a_mistake_of_units() -> None:
    config = {"containers": {"data": {"type": "source"}, "end": {"type": "pass", "inputs": ["data"]}}}

    def refusals(size: int) -> Sequence[str]:
        return plan_of(load_config({**config, "process_memory_mb": size / MB}, registry=registry())).refusals

    assert "not one entry fits into the share of one" in refusals(2 * 2 * ENTRY_BYTES - 1)[0]
    assert not refusals(2 * 2 * ENTRY_BYTES)


def test_input_files_are_told_with_their_size_and_a_missing_one_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    path.write_bytes(b"x" * 123)
    made = plan(f"containers.data.file={path}")
    assert [(file.container, file.path, file.bytes) for file in made.inputs] == [("data", str(path), 123)]
    assert (made.files, made.input_bytes) == (1, 123)
    made = plan("containers.data.file=none")
    assert made.warnings == ["data: no recording was given"] and made.files == 0


def test_phases_and_what_they_need_are_told() -> None:
    made = plan(phases=[{"name": "one"}, {"name": "two", "needs": ["one"]}])
    assert [(phase.name, list(phase.needs)) for phase in made.phases] == [("one", []), ("two", ["one"])]


def test_the_phases_of_a_split_are_told_with_their_windows() -> None:
    made = plan(split={"train": "2024-01-03T00:00:00Z", "test": "end"})
    assert [phase.name for phase in made.phases] == ["train", "test"]
    assert all("2024-01-03" in phase.window for phase in made.phases)
