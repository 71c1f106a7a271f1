"""A thousand portfolios of five megabytes: each within its own budget, all of them in one small process."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from whole_runs import ROOT, Left, assert_books_balance, await_program, left_in, start_program

from pipeline import Pipeline, open_results

CONFIG = ROOT / "configs" / "thousand_portfolios.yaml"
NAMES = [*(f"portfolio_{index:04d}" for index in range(1000)), "portfolio_baseline"]
GIB = 1 << 30
TINY_MB = 0.05
"""Less than a portfolio's results weigh at their peak, more than a single piece of them."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Left, Left]:
    """The configuration as it ships, and with a hundredth of the memory, each in a process of its own.

    Where several processes share the tests, the first that comes here runs them for all.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "thousand"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            run_both(folder)
            (folder / "done").touch()
    return left_in(folder / "shipped"), left_in(folder / "tiny")


def run_both(folder: Path) -> None:
    tiny = f"containers.portfolio_*.data_flow.memory_limit_mb={TINY_MB}"
    processes = [
        start_program(folder, "run", CONFIG, "--output", "shipped", "--json"),
        start_program(folder, "run", CONFIG, "--output", "tiny", "--json", "--set", tiny),
    ]
    told = [await_program(process) for process in processes]
    assert [code for code, _, _ in told] == [0, 0], told


def test_every_portfolio_ran_and_traded(both: tuple[Left, Left]) -> None:
    for left in both:
        assert [row["name"] for row in left.members] == NAMES
        assert left.summary["aggregate_metrics"]["execution"]["portfolios"] == {
            "planned": 1000, "run": 1000, "failed": 0,
        }  # fmt: skip
        assert left.summary["ledger"]["containers"]["data"]["sent"] == 100_000
        assert_books_balance(left.summary)


def test_no_member_ever_held_more_than_its_own_limit(both: tuple[Left, Left]) -> None:
    for left, limit in zip(both, (5 << 20, int(TINY_MB * (1 << 20))), strict=True):
        assert {row["limit_bytes"] for row in left.members} == {limit}
        assert all(0 < row["peak_bytes"] <= limit for row in left.members)
        assert {row["mode"] for row in left.members} == {"hybrid"}
        assert sum(row["peak_bytes"] for row in left.members) <= 1000 * limit
        group = left.container("portfolio")
        assert group["peak_bytes"] == sum(row["peak_bytes"] for row in left.members)
        assert group["entries"] == sum(row["entries"] for row in left.members)


def test_the_whole_process_stays_below_a_gibibyte(both: tuple[Left, Left]) -> None:
    """Five gigabytes are what the ceilings allow; they are no reservations."""
    for left in both:
        assert left.record["process_peak_rss_bytes"] < GIB


def test_with_little_memory_values_go_to_disk_and_the_results_are_the_same_bytes(both: tuple[Left, Left]) -> None:
    shipped, tiny = both
    assert sum(row["evictions"] for row in shipped.members) == 0
    assert sum(row["evictions"] for row in tiny.members) > 1000
    assert sum(row["disk_bytes"] for row in tiny.members) > 1000 * (20 << 10)
    assert tiny.summary_bytes == shipped.summary_bytes
    assert list(tiny.files) == list(shipped.files)
    for name, table in shipped.files.items():
        assert table.equals(tiny.files[name]), name


def test_all_members_share_one_file_per_key(both: tuple[Left, Left]) -> None:
    for left in both:
        group = left.folder / "containers" / "portfolio"
        assert sorted(path.name for path in group.iterdir()) == [
            "equity.parquet",
            "fills.parquet",
            "statistics.parquet",
        ]
        assert [path.name for path in (left.folder / "containers").iterdir() if path.name.startswith("portfolio")] == [
            "portfolio"
        ]
        for path in group.iterdir():
            assert pq.read_table(path, columns=["container"]).column(0).unique().to_pylist() == NAMES
        assert not (left.folder / "spill").exists(), "what was spilled is gone"


def test_one_of_a_thousand_is_found_by_name(both: tuple[Left, Left]) -> None:
    results = open_results(both[1].folder)
    equity = results["portfolio_0042"]["equity"]
    assert equity.num_rows == 348, "one row a day"
    assert results["portfolio_0042"]["statistics"].num_rows == 1


async def test_neither_threads_nor_tasks_grow_with_the_portfolios(tmp_path: Path) -> None:
    pipeline = Pipeline.from_yaml(CONFIG, output=tmp_path, limit=5000, overrides=["containers.data.batch_rows=500"])
    before = threading.active_count()
    threads, tasks = [], []
    async with pipeline.start() as run:
        async with run.subscribe("features") as batches:
            async for _ in batches:
                threads.append(threading.active_count() - before)
                tasks.append(len(asyncio.all_tasks()))
        await run.finished()
        threads.append(threading.active_count() - before)
    containers, feeds, io, control = 4, 1, 4, 2
    assert len(threads) == 11, "looked at every batch"
    assert max(threads) <= max(2, os.cpu_count() or 1) + feeds + io + control
    assert max(tasks) <= containers + 8
