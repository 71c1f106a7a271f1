"""The same input gives the same bytes: whatever the hash seed, data-flow mode, budget, batch size or grouping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from whole_runs import (
    MODES,
    SMALL,
    Left,
    assert_books_balance,
    assert_same,
    await_program,
    changed,
    finish,
    start_program,
    tight,
)

from pipeline import PhaseFailed

FIGURES = {"total_return", "sharpe", "max_drawdown", "n_trades", "fees", "end_equity"}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """The run every other one is compared with: default policies, whole batches."""
    return finish(SMALL, tmp_path_factory.mktemp("reference"))


def test_the_reference_is_worth_comparing_with(reference: Left) -> None:
    """Were it empty, everything would equal it."""
    keys = reference.summary["container_results"]["portfolio"]["keys"]
    assert keys["fills"]["rows"] > 100 and keys["equity"]["rows"] > 1000
    hashes = [
        key["hash"] for result in reference.summary["container_results"].values() for key in result["keys"].values()
    ]
    assert len(set(hashes)) == len(hashes) == 4
    ranking = reference.files["containers/execution/ranking.parquet"]
    assert len(set(ranking.column("end_equity").to_pylist())) == 10
    assert set(ranking.column_names) >= FIGURES
    assert_books_balance(reference.summary)


def test_another_market_gives_other_bytes(reference: Left, tmp_path: Path) -> None:
    """A summary that never changed would pass every test below."""
    other = finish(changed(SMALL, data__seed=4), tmp_path)
    assert other.summary["hashes"]["output"] != reference.summary["hashes"]["output"]
    longer = finish(changed(SMALL, data__rows=3001), tmp_path)
    assert longer.summary["hashes"]["output"] != reference.summary["hashes"]["output"]
    fees = finish(changed(SMALL, portfolio__fills={"at": "next_open", "fee_bps": 2}), tmp_path)
    assert fees.summary["hashes"]["configuration"] != reference.summary["hashes"]["configuration"]
    assert fees.summary["hashes"]["output"] != reference.summary["hashes"]["output"]


def test_processes_with_different_hash_seeds_write_the_same_summary(reference: Left, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(json.dumps(SMALL))
    seeds = ["0", "random"]
    processes = [
        start_program(tmp_path, "run", "small.yaml", "--output", f"seed-{seed}", "--json", PYTHONHASHSEED=seed)
        for seed in seeds
    ]
    told = [await_program(process) for process in processes]
    assert [code for code, _, _ in told] == [0, 0], told
    for seed in seeds:
        (folder,) = (tmp_path / f"seed-{seed}" / "small").glob("[0-9a-f]*/run")
        assert_same(Left(folder), reference)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("container", ["data", "features", "portfolio", "execution", "all"])
def test_a_mode_with_hardly_any_memory_changes_nothing(
    container: str, mode: str, reference: Left, tmp_path: Path
) -> None:
    left = finish(changed(SMALL, **{f"{container}__data_flow": tight(mode)}), tmp_path)
    assert_same(left, reference)
    name = {"portfolio": "portfolio", "all": "features"}.get(container, container)
    assert left.container(name)["mode"] == mode
    if mode == "hybrid":
        assert all(row["peak_bytes"] <= row["limit_bytes"] for row in left.containers if row["mode"] == "hybrid")


@pytest.mark.parametrize("mode", ["hybrid", "streaming", "file"])
def test_tight_modes_do_go_to_disk(mode: str, tmp_path: Path) -> None:
    """The equality above compares different ways of storing, not four names for memory."""
    left = finish(changed(SMALL, all__data_flow=tight(mode)), tmp_path)
    assert all(left.container(name)["disk_bytes"] > 0 for name in ("data", "features", "portfolio"))
    counter = {"hybrid": "evictions", "streaming": "flushes"}.get(mode)
    if counter:
        assert left.container("portfolio")[counter] > 0


@pytest.mark.parametrize("batch_rows", [1, 7, 65_536])
@pytest.mark.parametrize("mode", MODES)
def test_kept_output_is_the_same_rows_in_every_mode_and_cut(mode: str, batch_rows: int, tmp_path: Path) -> None:
    lefts = []
    keep = {"mode": mode, "keep_output": "all"}
    for name, policy, rows in (
        ("plain", {"mode": "memory", "keep_output": "all"}, 65_536),
        ("other", keep, batch_rows),
    ):
        words = {"data__data_flow": policy, "features__data_flow": policy, "data__batch_rows": rows, "data__rows": 600}
        lefts.append(finish(changed(SMALL, **words), tmp_path / name))
    plain, other = lefts
    assert_same(other, plain)
    for container in ("data", "features"):
        kept = other.files[f"containers/{container}/output.parquet"]
        assert kept.num_rows == other.summary["ledger"]["containers"][container]["sent"] > 50
        assert kept.equals(plain.files[f"containers/{container}/output.parquet"])


@pytest.mark.parametrize("batch_rows", [1, 7, 1000, 65_536])
@pytest.mark.parametrize("schema", ["trade", "quote", "bar"])
def test_how_the_feed_cuts_its_batches_changes_nothing(schema: str, batch_rows: int, tmp_path: Path) -> None:
    market = changed(SMALL, data__schema=schema, data__rows=1000, data__interval="1m" if schema == "bar" else "20s")
    whole = finish(market, tmp_path / "whole")
    assert whole.summary["aggregate_metrics"]["portfolio"]["fills"] > 10
    assert_same(finish(changed(market, data__batch_rows=batch_rows), tmp_path / "cut"), whole)


def test_several_instruments_interleave_the_same_way_however_they_are_cut(tmp_path: Path) -> None:
    market = changed(SMALL, data__instruments=["A.X", "B.X", "C.X"], data__rows=4000, portfolio__instrument="B.X")
    whole = finish(market, tmp_path / "whole")
    for rows in (1, 7, 333):
        assert_same(finish(changed(market, data__batch_rows=rows), tmp_path / str(rows)), whole)


def test_a_budget_that_just_suffices_changes_nothing_and_one_byte_less_is_refused(
    reference: Left, tmp_path: Path
) -> None:
    roomy = finish(changed(SMALL, all__data_flow={"mode": "memory", "keep_output": "none"}), tmp_path / "roomy")
    assert_same(roomy, reference)
    needed = {
        row["name"]: row["peak_bytes"]
        for row in roomy.containers
        if row["kind"] != "group" and row["peak_bytes"] and row["name"] != "portfolio_baseline"
    }
    assert len(needed) == 10, "nine members and the execution keep results"

    def limited(less: int) -> dict[str, Any]:
        config = changed(SMALL, all__data_flow={"mode": "memory", "keep_output": "none"})
        for name, peak in needed.items():
            limit = (peak - less * (name == "portfolio_0004")) / (1 << 20)
            place = config["containers"].setdefault(name, {})
            place["data_flow"] = {"mode": "memory", "keep_output": "none", "memory_limit_mb": limit}
        return config

    exact = finish(limited(0), tmp_path / "exact")
    assert_same(exact, reference)
    limited_rows = [row for row in exact.members if row["name"] in needed]
    assert len(limited_rows) == 9
    assert all(row["peak_bytes"] == row["limit_bytes"] for row in limited_rows)
    with pytest.raises(PhaseFailed, match=r"portfolio_0004.*mode: hybrid"):
        finish(limited(1), tmp_path / "short")


def test_alone_a_portfolio_gives_what_it_gives_in_its_group(reference: Left, tmp_path: Path) -> None:
    rows = reference.files["containers/portfolio/fills.parquet"]
    for index, (fast, slow) in ((0, (2, 8)), (5, (3, 21)), (8, (5, 21))):
        alone = changed(SMALL, portfolio__strategy__fast=fast, portfolio__strategy__slow=slow)
        del alone["parameter_space"]
        alone["containers"]["mine"] = {
            **alone["containers"].pop("portfolio_*"),
            "type": "portfolio",
            "inputs": ["features"],
        }
        alone["containers"]["data"]["type"] = "synthetic"
        alone["containers"]["features"] |= {"type": "features", "inputs": ["data"]}
        alone["containers"]["execution"] |= {"type": "execution", "inputs": ["mine"]}
        del alone["topology"]
        left = finish(alone, tmp_path / str(index))
        for key in ("fills", "equity"):
            grouped = reference.files[f"containers/portfolio/{key}.parquet"].to_pylist()
            wanted = [row for row in grouped if row.pop("container") == f"portfolio_{index:04d}"]
            assert left.files[f"containers/mine/{key}.parquet"].to_pylist() == wanted
            assert wanted
    names = [f"portfolio_{index:04d}" for index in range(9)]
    assert rows.column("container").unique().to_pylist() == [*names, "portfolio_baseline"]


POLICIES = st.sampled_from(MODES).map(tight)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    policies=st.fixed_dictionaries(dict.fromkeys(("data", "features", "portfolio", "execution"), POLICIES)),
    batch_rows=st.sampled_from([7, 64, 999, 65_536]),
    edge_rows=st.sampled_from([None, 1, 50]),
)
def test_any_mixture_of_modes_cuts_and_bounds_changes_nothing(
    policies: dict[str, Any], batch_rows: int, edge_rows: int | None, reference: Left,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    words: dict[str, Any] = {f"{name}__data_flow": policy for name, policy in policies.items()}
    config = changed(SMALL, data__batch_rows=batch_rows, **words)
    if edge_rows is not None:
        config["containers"]["features"]["inputs"] = [{"from": "data", "bound": {"rows": edge_rows}}]
        config["containers"]["portfolio_*"]["inputs"] = [{"from": "features", "bound": {"rows": edge_rows}}]
    assert_same(finish(config, tmp_path_factory.mktemp("mixed")), reference)


def test_edges_that_spill_change_nothing(reference: Left, tmp_path: Path) -> None:
    """H-3: every edge at the edge of its bound; a slow consumer's backlog goes through the disk."""
    spill = {"when_full": "spill", "bound": {"mb": 0.004}}
    words = {
        "features__inputs": [{"from": "data", **spill}],
        "portfolio__inputs": [{"from": "features", **spill}],
        "execution__inputs": [{"from": "portfolio_*", **spill}],
        "data__batch_rows": 7,
    }
    for attempt in range(6):  # whether a consumer falls behind is a matter of the moment
        left = finish(changed(SMALL, **words), tmp_path / str(attempt))
        assert_same(left, reference)
        edges = {edge["target"]: edge for edge in left.record["edges"]}
        if edges["features"]["spilled_batches"]:
            break
    assert edges["features"]["spilled_batches"] > 0
    assert edges["features"]["peak_bytes"] <= 8192, "a batch read back, with its schema, passes where nothing else is"
    assert all(edge["on_disk_rows"] == edge["in_flight_rows"] == 0 for edge in edges.values())
