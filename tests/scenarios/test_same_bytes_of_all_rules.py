"""The same bytes where everything is used: four strategies, sizing, exits, waiting orders, two instruments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from whole_runs import MODES, SMALL, Left, assert_same, await_program, changed, finish, start_program, tight

from stages.portfolio import group

RICH: Mapping[str, Any] = {
    **changed(
        SMALL,
        data__instruments=["A.X", "B.X"],
        data__rows=3000,
        portfolio__instruments="all",
        portfolio__strategy={"quantity": 100},
        portfolio__sizing={
            "by": "volatility", "volatility": 0.4, "n": 5, "max_leverage": 0.5, "band": 0.02, "lot": 0.5,
        },
        portfolio__fills={
            "order": "limit", "offset_bps": 2, "expires_bars": 3, "touch": "fill",
            "fee_bps": 1, "fee_minimum": 0.5, "slippage_bps": 1,
        },
        portfolio__exits={"stop_loss": 0.004, "trailing_stop": 0.006, "take_profit": 0.005, "reenter": "at_once"},
    ),
    "name": "rich",
    "parameter_space": [
        {"strategy": "sma_cross", "fast": [1, 2, 3, 5], "slow": [6, 8, 13, 21]},
        {"strategy": "ema_cross", "slow": [4, 8], "fast": [2, 3], "sizing.lot": [0.5, 0.25]},
        {"strategy": "rsi", "n": [3, 5, 8]},
        {"strategy": "breakout", "n": [3, 5, 8]},
    ],
}  # fmt: skip
"""Thirty portfolios of four strategies and two instruments, each of one cash account."""
BLOCKS = {"BLOCK_BARS": 7, "BLOCK_CELLS": 11, "EMIT_FILLS": 5, "EMIT_FILLS_EACH": 1, "TOGETHER": 3, "FEW_MEMBERS": 1}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """One thread, whole batches, default policies."""
    return finish(changed(RICH, portfolio__threads=1), tmp_path_factory.mktemp("reference"))


def test_the_reference_uses_what_it_says(reference: Left) -> None:
    ranking = reference.files["containers/execution/ranking.parquet"].to_pylist()
    portfolios = [row for row in ranking if not row["baseline"]]
    assert len(portfolios) == 30 and len(ranking) > 30
    assert {row["strategy"] for row in portfolios} == {"SmaCross", "EmaCross", "Rsi", "Breakout"}
    assert all(row["error"] is None and row["n_trades"] > 10 for row in portfolios)
    assert len({row["end_equity"] for row in portfolios}) == 30
    fills = [row for name, table in reference.files.items() if "/fills." in name for row in table.to_pylist()]
    traded = [row["quantity"] for row in fills if not row["container"].endswith("_baseline")]
    assert len(traded) > 3000 and all(units % 0.25 == 0 for units in traded) and len(set(traded)) > 10
    assert {row["instrument_id"] for row in fills} == {"A.X", "B.X"}


@pytest.mark.parametrize("small", [False, True], ids=["blocks as they are", "tiny blocks"])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_threads_and_blocks_change_nothing(
    threads: int, small: bool, reference: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in BLOCKS.items() if small else ():
        monkeypatch.setattr(group, name, value)
    assert_same(finish(changed(RICH, portfolio__threads=threads), tmp_path), reference)


@pytest.mark.parametrize("batch_rows", [1, 7, 1000, 65_536])
def test_how_the_feed_cuts_its_batches_changes_nothing(batch_rows: int, reference: Left, tmp_path: Path) -> None:
    assert_same(finish(changed(RICH, data__batch_rows=batch_rows), tmp_path), reference)


@pytest.mark.parametrize("threads", [1, 8])
def test_portfolios_asked_one_by_one_give_the_same(threads: int, reference: Left, tmp_path: Path) -> None:
    asked = changed(RICH, portfolio__grouped=False, portfolio__threads=threads)
    assert_same(finish(asked, tmp_path), reference)


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_with_hardly_any_memory_changes_nothing(mode: str, reference: Left, tmp_path: Path) -> None:
    assert_same(finish(changed(RICH, all__data_flow=tight(mode), portfolio__threads=8), tmp_path), reference)


def test_processes_with_different_hash_seeds_and_threads_write_the_same_summary(
    reference: Left, tmp_path: Path
) -> None:
    runs = {"1": changed(RICH, portfolio__threads=8), "4242": changed(RICH, portfolio__grouped=False)}
    processes = []
    for seed, config in runs.items():
        (tmp_path / f"{seed}.yaml").write_text(json.dumps(config))
        words = ("run", f"{seed}.yaml", "--output", f"seed-{seed}", "--json")
        processes.append(start_program(tmp_path, *words, PYTHONHASHSEED=seed))
    told = [await_program(process) for process in processes]
    assert [code for code, _, _ in told] == [0, 0], told
    for seed in runs:
        (folder,) = (tmp_path / f"seed-{seed}" / "rich").glob("[0-9a-f]*/run")
        assert_same(Left(folder), reference)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    policies=st.fixed_dictionaries(
        dict.fromkeys(("data", "features", "portfolio", "execution"), st.sampled_from(MODES).map(tight))
    ),
    batch_rows=st.sampled_from([64, 999]),
    threads=st.integers(1, 8),
    grouped=st.booleans(),
)
def test_any_mixture_of_them_changes_nothing(
    policies: dict[str, Any], batch_rows: int, threads: int, grouped: bool, reference: Left,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    words: dict[str, Any] = {f"{name}__data_flow": policy for name, policy in policies.items()}
    words |= {"data__batch_rows": batch_rows, "portfolio__threads": threads, "portfolio__grouped": grouped}
    assert_same(finish(changed(RICH, **words), tmp_path_factory.mktemp("mixed")), reference)
