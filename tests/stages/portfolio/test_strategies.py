"""Crossing strategies against an oracle on random bars; on real ones see `test_real_crossings.py`."""

from __future__ import annotations

import numpy as np
import pytest
from portfolio_bars import columns, random_bars, run, run_alone
from portfolio_oracle import OracleBar, ema_targets, sma_targets

from pipeline.stage import Context
from stages.features.feature import Feature
from stages.portfolio.bars import Bars
from stages.portfolio.cross import CrossGroup, cross_kernel, cross_targets
from stages.portfolio.fills import Fills
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.strategies.ema_cross import EmaCross
from stages.portfolio.strategies.sma_cross import SmaCross
from stages.portfolio.strategy import Strategy

SMA = [SmaCross(fast=2, slow=5), SmaCross(fast=5, slow=20, short=True), SmaCross(fast=1, slow=2)]
EMA = [EmaCross(fast=3, slow=7), EmaCross(fast=10, slow=20, quantity=2.5)]


def wanted(strategy: Strategy, bars: list[OracleBar]) -> list[float | None]:
    if isinstance(strategy, SmaCross):
        return sma_targets(bars, strategy.fast, strategy.slow, strategy.short)
    assert isinstance(strategy, EmaCross)
    return ema_targets(bars, strategy.fast, strategy.slow)


@pytest.mark.parametrize("strategy", [*SMA, *EMA], ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_targets_are_what_the_oracle_wants(strategy: Strategy, seed: int) -> None:
    bars = random_bars(400, seed)
    seen = Bars(columns(bars, strategy.features()).columns)
    expected = [np.nan if target is None else target for target in wanted(strategy, bars)]
    group = type(strategy).build_group([strategy])
    assert group is not None
    together = np.empty((1, 400))
    group.look(seen, 0, len(seen))
    group.on_bars(0, together)
    np.testing.assert_array_equal(together[0], expected)
    np.testing.assert_array_equal(strategy.build().on_bars(seen), expected)  # type: ignore[union-attr]


def test_the_first_decision_comes_with_bar_number_slow_and_enters_at_once() -> None:
    bars = random_bars(30, single=0)
    strategy = EmaCross(fast=3, slow=7)
    found = run_alone(Portfolio(strategy=strategy, fills=Fills(at="close")), [columns(bars, strategy.features())])
    first = found.rows()[0]
    assert first["ts_event"].value == bars[6].end
    assert first["price"] == bars[6].close


@pytest.mark.parametrize("cut", [1, 7, 50])
def test_decisions_that_are_skipped_are_counted(cut: int, caplog: pytest.LogCaptureFixture) -> None:
    bars = random_bars(50, single=0.3)
    single = sum(bar.open == bar.high == bar.low == bar.close for bar in bars)
    assert 0 < single < 50
    members: dict[str, Portfolio] = {
        "a": Portfolio(strategy=EmaCross(fast=2, slow=3)),
        "b": Portfolio(strategy=EmaCross(fast=2, slow=4)),
        "c": Portfolio(strategy=EmaCross(fast=2, slow=5, skip_single_price=False)),
        "d": Portfolio(strategy=SmaCross(fast=2, slow=3)),
    }
    needs = [feature for member in members.values() for feature in member.strategy.features()]
    logic = members["a"].build_group(members, Context(name="portfolio"))
    with caplog.at_level("WARNING", "penstock.portfolio"):
        run(logic, [columns(bars[begin : begin + cut], needs) for begin in range(0, 50, cut)])
    assert logic.metrics()["skipped_decisions"] == 2 * single
    assert not caplog.messages


def test_a_run_in_which_every_decision_is_skipped_says_why(caplog: pytest.LogCaptureFixture) -> None:
    strategy = EmaCross(fast=2, slow=3)
    logic = Portfolio(strategy=strategy).build(Context(name="portfolio"))
    with caplog.at_level("WARNING", "penstock.portfolio"):
        run(logic, [columns(random_bars(20, single=1), strategy.features())])
    assert logic.metrics()["skipped_decisions"] == 20
    assert caplog.messages[0].startswith("1 of the portfolios decided nothing: each of 20 bars has one price only")


def test_a_bar_of_one_price_moves_averages_and_decides_nothing() -> None:
    flat = [OracleBar(10, 10, 10, 10, n * 60, n * 60 + 60) for n in range(8)]
    strategy = EmaCross(fast=2, slow=4)
    batch = columns(flat, strategy.features())
    assert run_alone(Portfolio(strategy=strategy), [batch]).rows() == []
    told = run_alone(Portfolio(strategy=strategy.vary({"skip_single_price": False})), [batch])
    assert [row["side"] for row in told.rows()] == [1]


def test_averages_that_are_equal_in_decimals_are_equal() -> None:
    closes = (116.6, 128.2, 122.4)  # (116.6 + 128.2 + 122.4) / 3 is 122.4
    bars = [OracleBar(price, price, price, price, n, n + 1) for n, price in enumerate(closes)]
    seen = Bars(columns(bars, [Feature.sma(1), Feature.sma(3)]).columns)
    assert seen["sma_1"][2] > seen["sma_3"][2], "as doubles they differ in the last bit"
    strategy = SmaCross(fast=1, slow=3)
    assert strategy.build().on_bars(seen)[2] == 0.0  # type: ignore[union-attr]
    assert run_alone(Portfolio(strategy=strategy), [columns(bars, strategy.features())]).rows() == []


def test_blocks_of_members_and_bars_see_the_same_targets() -> None:
    bars = random_bars(100, 9)
    members = [SmaCross(fast=fast, slow=slow) for fast in (2, 3, 5) for slow in (8, 13)]
    features = {feature for member in members for feature in member.features()}
    seen = Bars(columns(bars, features).columns)
    whole = np.empty((6, 100))
    at_once = SmaCross.build_group(members)
    at_once.look(seen, 0, len(seen))
    at_once.on_bars(0, whole)
    group, parts = SmaCross.build_group(members), np.empty((6, 100))
    for begin in range(0, 100, 7):
        for first in range(0, 6, 4):
            part = np.empty((min(4, 6 - first), min(7, 100 - begin)))
            group.look(seen, begin, part.shape[1])
            group.on_bars(first, part)
            parts[first : first + len(part), begin : begin + part.shape[1]] = part
    np.testing.assert_array_equal(whole, parts)


def test_every_feature_is_looked_at_once() -> None:
    members = [SmaCross(fast=fast, slow=slow)._cross() for fast in (2, 3) for slow in (8, 13)]
    assert [feature.name for feature in CrossGroup(members)._features] == ["sma_2", "sma_3", "sma_8", "sma_13"]


def test_the_compiled_kernel_is_its_python_self() -> None:
    random = np.random.default_rng(1)
    matrix = np.round(random.normal(0, 1, (4, 300)), 0)
    matrix[random.random((4, 300)) < 0.1] = np.nan
    pairs = np.array([[0, 1], [2, 3], [1, 2], [3, 3]])
    otherwise = np.array([0.0, -1.0, 0.0, -1.0])
    ties, skips = np.array([False, True, False, True]), np.array([True, False, False, True])
    same = np.array([0.0, 0.0, 0.5, 0.1])
    single = random.random(300) < 0.2
    found = []
    for call in (cross_kernel(), cross_targets):
        targets = np.zeros((4, 300))
        call(matrix, pairs, otherwise, ties, skips, same, single, targets)
        found.append(targets.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", [SmaCross, EmaCross])
def test_periods_that_cannot_cross_are_refused(kind: type[SmaCross | EmaCross]) -> None:
    with pytest.raises(ValueError, match="fast=50 and slow=50"):
        kind(fast=50, slow=50)
    with pytest.raises(ValueError, match="fast of 1 or more, found 0"):
        kind(fast=0, slow=5)
    with pytest.raises(ValueError, match="quantity above 0, found 0"):
        kind(quantity=0)
