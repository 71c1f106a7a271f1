"""What makes two runs the same: configuration, code and data, never where they lie or how fast they are worked on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline import Context, DataFlow, EdgePolicy, Feed, Input, Pipeline, Stage, Topology, TopologyBuilder
from pipeline.identity import MAX_ITEMS, describe, fingerprint, hash_code, result_identity
from pipeline.stage import Recipe


class Files(Stage, frozen=True):
    tuning: ClassVar[frozenset[str]] = frozenset({"path", "batch_rows"})
    path: str = ""
    batch_rows: int = 10
    scale: float = 1.0

    def build(self, context: Context) -> Feed:
        raise NotImplementedError

    def input_files(self) -> Sequence[Path]:
        return sorted(Path(self.path).iterdir()) if self.path else []


class Inner(Recipe, frozen=True):
    n: int = 1


class Outer(Stage, frozen=True):
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    table: dict[str, Any] = {}
    items: list[int] = []
    chosen: frozenset[str] = frozenset()


def topology(feed: Stage, stage: Stage | None = None, **words: Any) -> Topology:
    builder = TopologyBuilder().add("data", feed)
    return builder.add("work", stage or Outer(), ["data"], **words).build()


def write(folder: Path, **files: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return str(folder)


def both(found: Topology, **extra: Any) -> tuple[dict[str, str], str]:
    return result_identity(found, extra), fingerprint(found, {}, extra)


def test_the_same_again_is_the_same(tmp_path: Path) -> None:
    feed = Files(path=write(tmp_path / "a", one="1", two="2"))
    assert both(topology(feed)) == both(topology(feed))
    assert len(fingerprint(topology(feed), {}, {})) == 12


def test_the_same_content_at_another_path_keeps_the_hashes_of_the_summary(tmp_path: Path) -> None:
    here, there = (topology(Files(path=write(tmp_path / name, one="1", two="2"))) for name in ("a", "b"))
    assert result_identity(here, {}) == result_identity(there, {})
    assert fingerprint(here, {}, {}) != fingerprint(there, {}, {}), "they are two runs all the same"


def test_other_content_and_another_order_change_the_data_hash_alone(tmp_path: Path) -> None:
    contents = [{"one": "1", "two": "2"}, {"one": "1", "two": "3"}, {"one": "2", "two": "1"}, {"one": "1"}]
    found = [result_identity(topology(Files(path=write(tmp_path / str(i), **c))), {}) for i, c in enumerate(contents)]
    assert len({identity["data"] for identity in found}) == 4
    assert len({identity["configuration"] for identity in found}) == len({identity["code"] for identity in found}) == 1


def test_a_file_that_was_touched_is_a_new_run_with_the_same_data(tmp_path: Path) -> None:
    found = topology(Files(path=write(tmp_path, one="1")))
    identity, print_ = both(found)
    os.utime(tmp_path / "one", ns=(1, 1))
    assert result_identity(found, {}) == identity
    assert fingerprint(found, {}, {}) != print_


def test_tuning_fields_count_for_the_folder_but_not_for_the_result() -> None:
    slow, fast, other = (topology(feed) for feed in (Files(batch_rows=1), Files(batch_rows=2), Files(scale=2.0)))
    assert result_identity(slow, {}) == result_identity(fast, {})
    assert fingerprint(slow, {}, {}) != fingerprint(fast, {}, {})
    assert result_identity(slow, {})["configuration"] != result_identity(other, {})["configuration"]


def test_where_and_how_data_is_kept_does_not_count_for_the_result() -> None:
    plain = topology(Files())
    for words in ({"data_flow": DataFlow(mode="hybrid", memory_limit_mb=1)}, {"keep_output": "all"}):
        assert result_identity(topology(Files(), **words), {}) == result_identity(plain, {})
    builder = TopologyBuilder().add("data", Files()).add("work", Outer(), [Input("data", EdgePolicy(max_rows=1))])
    assert result_identity(builder.build(), {}) == result_identity(plain, {})


@pytest.mark.parametrize(
    "other",
    [
        Outer(inner=Inner(n=2)), Outer(several=(Inner(),)), Outer(several=(Inner(), Inner(n=3))),
        Outer(table={"a": [1, {"b": 2}]}), Outer(items=[1]), Outer(chosen=frozenset({"x"})),
    ],
    ids=lambda stage: repr(describe(stage))[:60],
)  # fmt: skip
def test_every_field_counts_however_deep(other: Stage) -> None:
    assert (
        result_identity(topology(Files(), other), {})["configuration"]
        != result_identity(topology(Files()), {})["configuration"]
    )


def test_names_edges_members_seed_and_limits_count() -> None:
    plain = result_identity(topology(Files()), {})["configuration"]
    named = TopologyBuilder().add("data", Files()).add("other", Outer(), ["data"]).build()
    twice = TopologyBuilder().add("data", Files()).add("more", Files()).add("work", Outer(), ["data", "more"]).build()
    grouped = topology(Files(), members={"work_0": Outer(items=[1]), "work_1": Outer()})
    varied = topology(Files(), members={"work_0": Outer(items=[2]), "work_1": Outer()})
    found = {result_identity(other, {})["configuration"] for other in (named, twice, grouped, varied)}
    found |= {result_identity(topology(Files()), extra)["configuration"] for extra in ({"seed": 1}, {"limit": 5})}
    assert len(found | {plain}) == 7


def test_sets_count_whatever_the_order_and_long_lists_by_their_ends() -> None:
    letters = [chr(97 + i) for i in range(20)]
    assert describe(Outer(chosen=frozenset(letters))) == describe(Outer(chosen=frozenset(letters[::-1])))
    long = list(range(MAX_ITEMS + 1))
    assert describe(Outer(items=long))["items"] == [MAX_ITEMS + 1, "0", str(MAX_ITEMS)]


# -- code ------------------------------------------------------------------------------------------------------------

STRATEGY = """
from stages import Strategy
from stages.features.feature import Feature

class Mine(Strategy, frozen=True):
    def features(self):
        return [Feature.sma(3)]

    def on_bar(self, bar):
        return {value}
"""
CONFIG = """
containers:
  data: {type: synthetic, rows: 200}
  portfolio_*: {strategy: {type: './mine.py:Mine'}}
"""


def pipeline(folder: Path, text: str) -> Pipeline:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(text)
    (folder / "config.yaml").write_text(CONFIG)
    return Pipeline.from_yaml(folder / "config.yaml", output=folder / "results")


def named(built: Pipeline) -> tuple[str, str]:
    plan = built.plan
    graph = plan.phases[0].topology
    return fingerprint(graph, plan.configuration, plan.settings), hash_code(graph)


def test_editing_a_strategy_is_a_new_run(tmp_path: Path) -> None:
    first = named(pipeline(tmp_path, STRATEGY.format(value=1)))
    assert named(pipeline(tmp_path, STRATEGY.format(value=1))) == first
    edited = named(pipeline(tmp_path, STRATEGY.format(value=0)))
    assert edited[0] != first[0] and edited[1] != first[1]


def test_a_comment_is_an_edit_too(tmp_path: Path) -> None:
    """Code counts as it is written; nobody has to judge whether a change matters."""
    first = named(pipeline(tmp_path, STRATEGY.format(value=1)))
    assert named(pipeline(tmp_path, STRATEGY.format(value=1) + "# later"))[0] != first[0]


async def test_the_edited_strategy_is_the_one_that_runs(tmp_path: Path) -> None:
    fills = []
    for value in (1, 0):
        summary = await pipeline(tmp_path, STRATEGY.format(value=value)).run()
        fills.append(summary.aggregate_metrics["portfolio"]["fills"])
    assert fills[0] > 0 and fills[1] == 0
    runs = [path for path in (tmp_path / "results" / "config").iterdir() if path.name != "latest"]
    assert len(runs) == 2, "side by side"


def test_the_same_strategy_in_another_folder_is_the_same_code(tmp_path: Path) -> None:
    here, there = (pipeline(tmp_path / name, STRATEGY.format(value=1)).topology for name in ("a", "b"))
    assert hash_code(here) == hash_code(there)
    assert result_identity(here, {}) == result_identity(there, {})
