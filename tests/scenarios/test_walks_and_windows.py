"""Train, validate, walk forward: nobody is chosen by what comes later, and what looks back has formed in time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from whole_runs import Left, changed

from pipeline import PhaseFailed, Pipeline, open_results

MINUTE = 60_000_000_000
BEGIN = 1_704_067_200_000_000_000
"""2024-01-01, ns."""
BARS = 2_400
MIDDLE = "2024-01-02"
"""After 1,440 of the 2,400 minutes."""

PHASED: Mapping[str, Any] = {
    "name": "phased",
    "topology": "backtest",
    "containers": {
        "data": {"type": "replay", "interval": "1m"},
        "features": {"indicators": ["sma_90", "ema_30", "rsi_14"]},
        "portfolio_*": {"strategy": {"type": "sma_cross", "quantity": 10, "short": True}, "fills": {"fee_bps": 1}},
        "execution": {"objective": "sharpe"},
    },
    "parameter_space": {"fast": [3, 5, 8], "slow": [20, 60]},
    "phases": [
        {"name": "train", "window": {"until": MIDDLE}},
        {"name": "validate", "window": {"from": MIDDLE}, "select": {"from": "train", "top": 2}},
    ],
}


def market(rows: int = BARS, *, changed_from: int | None = None) -> pa.Table:
    """Bars of a minute, by the times at which they begin; from bar `changed_from` on another market altogether."""
    random = np.random.default_rng(4)
    steps = random.normal(0, 0.001, rows) + 0.0004 * np.sin(np.arange(rows) / 150)
    closes = 100 * np.exp(np.cumsum(steps))
    if changed_from is not None:
        garbage = np.random.default_rng(5)
        closes[changed_from:] = garbage.uniform(0.01, 1e6, rows - changed_from)
    opens = np.concatenate(([100.0], closes[:-1]))
    return pa.table(
        {
            "ts_event": pa.array(BEGIN + MINUTE * np.arange(rows)).cast(pa.timestamp("ns", "UTC")),
            "open": opens,
            "high": np.maximum(opens, closes) * 1.0001,
            "low": np.minimum(opens, closes) * 0.9999,
            "close": closes,
            "volume": np.ones(rows),
        }
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market") / "minutes.parquet"
    pq.write_table(market(), path)
    return path


def run(config: Mapping[str, Any], output: Path, **words: Any) -> dict[str, Left]:
    """What each phase of a run has left."""
    pipeline = Pipeline.from_yaml(config, output=output, **words)

    async def main() -> dict[str, Left]:
        async with pipeline.start() as running:
            await running.finished()
        assert running.folder is not None
        return {phase: Left(running.folder / phase) for phase in running.summaries}

    return asyncio.run(main())


def sent(left: Left) -> int:
    rows: int = left.summary["ledger"]["containers"]["data"]["sent"]
    return rows


@pytest.fixture(scope="module")
def phased(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Left]:
    return run(PHASED, tmp_path_factory.mktemp("phased"), data=recording)


def test_selection_never_sees_what_comes_after_the_train_window(
    phased: Mapping[str, Left], recording: Path, tmp_path: Path
) -> None:
    other = tmp_path / recording.name
    # The bar that begins at minute 1439 ends at the middle: it is the first that is not of the train window.
    pq.write_table(market(BARS + 500, changed_from=1439), other)
    left = run(PHASED, tmp_path / "out", data=other)
    assert left["train"].summary_bytes == phased["train"].summary_bytes
    assert left["train"].files.keys() == phased["train"].files.keys()
    for name, table in phased["train"].files.items():
        assert left["train"].files[name].equals(table), name
    assert left["validate"].summary["selection"] == phased["validate"].summary["selection"]
    assert left["validate"].summary["hashes"]["output"] != phased["validate"].summary["hashes"]["output"]


def test_the_last_row_before_the_end_does_matter(phased: Mapping[str, Left], recording: Path, tmp_path: Path) -> None:
    other = tmp_path / recording.name
    pq.write_table(market(BARS, changed_from=1438), other)
    assert run(PHASED, tmp_path / "out", data=other)["train"].summary_bytes != phased["train"].summary_bytes


def test_feeds_send_the_window_and_its_warm_up_and_nothing_else(phased: Mapping[str, Left]) -> None:
    assert sent(phased["train"]) == 1439  # bars that end before the middle
    # 315 bars until an EMA of 30 has forgotten, 303 until an RSI of 14 has; and all from the middle on
    forgotten = int(np.ceil(np.log(1e-9) / np.log(29 / 31)))
    assert sent(phased["validate"]) == BARS - 1439 + 31 + forgotten
    assert phased["train"].summary["window"] == {"from": None, "until": "2024-01-02T00:00:00Z", "warmup_from": None}
    window = phased["validate"].summary["window"]
    first = BEGIN + MINUTE * (1440 - 31 - forgotten)
    assert window["from"] == "2024-01-02T00:00:00Z"
    assert np.datetime64(window["warmup_from"][:-1], "ns").astype(np.int64) == first


def test_what_was_selected_is_the_top_of_the_published_ranking_under_the_same_names(phased: Mapping[str, Left]) -> None:
    ranking = open_results(phased["train"].folder)["execution"]["ranking"]
    ranking = ranking.filter(pc.invert(ranking.column("baseline")))
    selection = phased["validate"].summary["selection"]
    best = ranking.column("container").to_pylist()[:2]
    assert selection == {"phase": "train", "by": "sharpe", "top": 2, "portfolios": best}
    names = {row["name"] for row in phased["validate"].members}
    assert {name for name in names if not name.endswith("baseline")} == set(best)
    told = {row["container"]: row["parameters"] for row in ranking.to_pylist()}
    for row in open_results(phased["validate"].folder)["execution"]["ranking"].to_pylist():
        if not row["baseline"]:
            assert row["parameters"] == told[row["container"]]


def whole(recording: Path, output: Path) -> Left:
    config = {key: value for key, value in PHASED.items() if key != "phases"}
    return run(kept(config), output, data=recording)["run"]


def kept(config: Mapping[str, Any]) -> dict[str, Any]:
    return changed(config, features__data_flow={"mode": "hybrid", "keep_output": "all"})


def features_after(left: Left, moment: int) -> pa.Table:
    (path,) = (left.folder / "containers" / "features").glob("*.parquet")
    table = pq.read_table(path, columns=["bar_end", "close", "sma_90", "ema_30", "rsi_14"])
    return table.filter(pc.greater(table.column("bar_end").cast(pa.int64()), moment))


def test_with_warm_up_everything_has_formed_at_the_first_bar_of_the_window(recording: Path, tmp_path: Path) -> None:
    everything = whole(recording, tmp_path / "whole")
    warm = run(kept(PHASED), tmp_path / "warm", data=recording)["validate"]
    middle = BEGIN + 1440 * MINUTE
    expected, found = features_after(everything, middle), features_after(warm, middle)
    assert found.num_rows == BARS - 1440
    assert found.column("sma_90").equals(expected.column("sma_90"))
    for name in ("ema_30", "rsi_14"):
        assert found.column(name).null_count == 0
        np.testing.assert_allclose(found.column(name).to_numpy(), expected.column(name).to_numpy(), rtol=1e-9)
    # From the first fill on, the same positions at the same times and prices as in a run over all of the data.
    for name in warm.summary["selection"]["portfolios"]:
        all_fills = open_results(everything.folder)[name]["fills"]
        fills = open_results(warm.folder)[name]["fills"]
        times = fills.column("ts_event").cast(pa.int64()).to_numpy()
        assert times[0] <= middle + 2 * MINUTE  # decided at the window's first bar, filled at the next one's open
        later = all_fills.filter(pc.greater(all_fills.column("ts_event").cast(pa.int64()), int(times[0])))
        assert later.num_rows > 3
        for column in ("ts_event", "price", "position_after"):
            assert fills.column(column).slice(1).equals(later.column(column))


def test_without_warm_up_they_have_not_formed(recording: Path, tmp_path: Path) -> None:
    cold = kept(PHASED)
    cold["phases"][1]["warmup"] = "0s"
    left = run(cold, tmp_path, data=recording)["validate"]
    assert features_after(left, 0).column("sma_90").null_count == 89
    assert left.summary["window"]["warmup_from"] is None
    assert sent(left) == BARS - 1439


def test_what_a_phase_sets_holds_in_that_phase_only(
    phased: Mapping[str, Left], recording: Path, tmp_path: Path
) -> None:
    config = {key: value for key, value in PHASED.items() if key != "phases"}
    train, validate = PHASED["phases"]
    dear = {**validate, "containers": {"portfolio_*": {"fills": {"fee_bps": 50}}}}
    left = run({**config, "phases": [train, dear]}, tmp_path, data=recording)
    assert left["train"].summary_bytes == phased["train"].summary_bytes
    assert left["validate"].summary["selection"] == phased["validate"].summary["selection"]
    name = left["validate"].summary["selection"]["portfolios"][0]
    fees = [sum(open_results(each["validate"].folder)[name]["fills"]["fee"].to_pylist()) for each in (left, phased)]
    assert fees[0] == pytest.approx(50 * fees[1])
    hashes = [each["validate"].summary["hashes"]["configuration"] for each in (left, phased)]
    assert hashes[0] != hashes[1]


WALK = {
    **{key: value for key, value in PHASED.items() if key != "phases"},
    "name": "walk",
    "walk_forward": {"train": "10h", "test": "8h", "embargo": "30m", "select": {"top": 2, "by": "total_return"}},
}


@pytest.mark.parametrize(
    "settings",
    [
        {"data__batch_rows": 97},
        {
            "data__data_flow": {"mode": "streaming", "streaming_settings": {"buffer_size": 7}},
            "features__data_flow": {"mode": "file"},
            "portfolio__data_flow": {"mode": "hybrid", "memory_limit_mb": 0.05},
            "execution__data_flow": {"mode": "file"},
            "data__batch_rows": 1000,
        },
    ],
)
def test_the_summaries_of_a_walk_do_not_depend_on_modes_and_batches(
    settings: dict[str, Any], walked: Mapping[str, Left], recording: Path, tmp_path: Path
) -> None:
    left = run(changed(WALK, **settings), tmp_path, data=recording)
    assert {phase: each.summary_bytes for phase, each in left.items()} == {
        phase: each.summary_bytes for phase, each in walked.items()
    }


@pytest.fixture(scope="module")
def walked(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Left]:
    return run(WALK, tmp_path_factory.mktemp("walk"), data=recording)


def test_a_walk_trains_tests_and_joins(walked: Mapping[str, Left]) -> None:
    pairs = [f"{kind}_{number:03d}" for number in range(4) for kind in ("train", "test")]
    assert list(walked) == [*pairs, "report"]  # of the last test there are five and a half hours of eight
    ends = [walked[f"train_{n:03d}"].summary["window"]["until"] for n in range(4)]
    begins = [walked[f"test_{n:03d}"].summary["window"]["from"] for n in range(4)]
    assert [np.datetime64(b[:-1]) - np.datetime64(e[:-1]) for b, e in zip(begins, ends, strict=True)] == [
        np.timedelta64(30, "m")
    ] * 4
    level, times, equity = 1.0, [], []
    for number in range(4):
        left = walked[f"test_{number:03d}"]
        results = open_results(left.folder)
        tables = [results[name]["equity"] for name in left.summary["selection"]["portfolios"]]
        mean = sum(table.column("equity").to_numpy() / 100_000.0 for table in tables) / len(tables)
        times += tables[0].column("ts_event").to_pylist()
        equity += (level * mean).tolist()
        level = equity[-1]
    joined = open_results(walked["report"].folder)["joined"]
    assert joined["equity"].column("ts_event").to_pylist() == times
    np.testing.assert_allclose(joined["equity"].column("equity").to_numpy(), equity, rtol=1e-12)
    figures = walked["report"].summary["aggregate_metrics"]["joined"]
    assert figures["total_return"] == pytest.approx(level - 1.0)
    peaks = np.maximum.accumulate([1.0, *equity])
    assert figures["max_drawdown"] == pytest.approx(float(np.max(1 - np.array([1.0, *equity]) / peaks)))
    steps = joined["steps"].to_pylist()
    for number, step in enumerate(steps):
        ranking = open_results(walked[f"train_{number:03d}"].folder)["execution"]["ranking"].to_pylist()
        returns = {row["container"]: row["total_return"] for row in ranking}
        assert step["portfolios"] == walked[f"test_{number:03d}"].summary["selection"]["portfolios"]
        assert step["in_sample"] == pytest.approx(sum(returns[name] for name in step["portfolios"]) / 2)
        candidates = [row["total_return"] for row in ranking if not row["baseline"]]
        assert sorted(returns[name] for name in step["portfolios"]) == sorted(sorted(candidates)[-2:])


def test_rerunning_skips_what_is_complete_and_what_needs_it_follows(recording: Path, tmp_path: Path) -> None:
    pipeline = Pipeline.from_yaml(PHASED, output=tmp_path, data=recording)

    async def main() -> list[tuple[str, ...]]:
        skipped = []
        for broken in (None, None, "validate", "train"):
            if broken is not None:
                (next(tmp_path.glob("phased/*/LOCK")).parent / broken / "summary.json").unlink()
            async with pipeline.start(force=False) as running:
                await running.finished()
            assert list(running.summaries) == ["train", "validate"]
            assert running.summaries["validate"].selection is not None
            skipped.append(tuple(running.skipped))
        return skipped

    assert asyncio.run(main()) == [(), ("train", "validate"), ("train",), ()]


def test_selecting_nobody_says_why(recording: Path, tmp_path: Path) -> None:
    config = changed(PHASED)
    config["phases"] = [
        {"name": "train", "window": {"until": "2020-01-01"}},
        {"name": "validate", "window": {"from": MIDDLE}, "select": {"from": "train"}},
    ]
    with pytest.raises(PhaseFailed, match=r"phase 'validate' failed: it selects from phase 'train', where nobody that"):
        run(config, tmp_path, data=recording)


def test_a_ranking_that_was_not_kept_is_read_while_the_run_lasts(recording: Path, tmp_path: Path) -> None:
    config = changed(PHASED, execution__data_flow={"mode": "memory", "persistence": {"on_completion": False}})
    left = run(config, tmp_path, data=recording)
    assert len(left["validate"].summary["selection"]["portfolios"]) == 2
    (left["validate"].folder / "summary.json").unlink()

    async def again() -> None:
        async with Pipeline.from_yaml(config, output=tmp_path, data=recording).start(force=False) as running:
            await running.finished()

    with pytest.raises(PhaseFailed, match=r"it must be kept: `containers.execution.data_flow.persistence"):
        asyncio.run(again())


def test_results_and_subscriptions_reach_over_phases(recording: Path, tmp_path: Path) -> None:
    pipeline = Pipeline.from_yaml(PHASED, output=tmp_path, data=recording)

    async def main() -> None:
        rows = 0
        async with pipeline.start() as running:
            async with running.subscribe("data") as batches:
                async for batch in batches:
                    rows += batch.num_rows
                    assert running.status().phases == 2
            await running.finished()
        assert rows == sum(found.ledger.containers["data"].sent for found in running.summaries.values())
        chosen = running.summaries["validate"].selection
        assert chosen is not None
        name = chosen["portfolios"][0]
        other = next(f"portfolio_{n:04d}" for n in range(6) if f"portfolio_{n:04d}" not in chosen["portfolios"])
        last = await running.retrieve(name, "equity")
        assert (
            last.column("ts_event")[-1].as_py()
            > (await running.retrieve(other, "equity")).column("ts_event")[-1].as_py()
        )
        first = await running.retrieve(name, "equity", phase="train")
        assert first.num_rows != last.num_rows
        with pytest.raises(KeyError):
            await running.retrieve(other, "equity", phase="validate")

    asyncio.run(main())
