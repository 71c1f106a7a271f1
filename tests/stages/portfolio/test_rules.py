"""Each rule of orders, sizes and exits on a few bars, with figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from portfolio_bars import MIDNIGHT, MINUTE, Given, Scripted, columns, run_alone
from portfolio_oracle import OracleBar

from stages.portfolio.exits import Exits
from stages.portfolio.fills import Fills
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.sizing import Sizing

FLAT = (100.0, 100.0, 100.0, 100.0)


def given(prices: list[tuple[float, ...]], targets: list[float | None], volumes: Any = None, **terms: Any) -> Given:
    """What a portfolio makes of bars (open, high, low, close); bar n begins at minute 2 n and ends at 2 n + 1."""
    bars = [
        OracleBar(*four, MIDNIGHT + 2 * place * MINUTE, MIDNIGHT + (2 * place + 1) * MINUTE)
        for place, four in enumerate(prices)
    ]
    batch = columns(bars)
    if volumes is not None:
        batch = batch.with_columns(volume=pa.array(volumes, pa.float64()))
    return run_alone(Portfolio(strategy=Scripted(targets=tuple(targets)), start_equity=1_000.0, **terms), [batch])


def fills(found: Given) -> list[tuple[int, float, float]]:
    """Minute, units (sales below 0) and price of each fill; an even minute is an open, an odd one a bar's end."""
    return [
        (
            (row["ts_event"].value - MIDNIGHT) // MINUTE,
            row["quantity"] if row["side"] == 1 else -row["quantity"],
            pytest.approx(row["price"], abs=1e-9),
        )
        for row in found.rows()
    ]


def test_a_limit_buys_below_the_deciding_close_and_at_a_better_open() -> None:
    limit = Fills(order="limit", offset_bps=100, slippage_bps=50)
    touched = (100.0, 101.0, 99.0, 100.0)
    through = (100.0, 101.0, 98.9, 100.0)
    better = (98.0, 101.0, 97.0, 100.0)
    assert fills(given([FLAT, touched, through], [1, None, None], fills=limit)) == [(5, 1, 99.0)]
    assert fills(given([FLAT, better], [1, None], fills=limit)) == [(2, 1, 98.0)]
    touch = Fills(order="limit", offset_bps=100, touch="fill")
    assert fills(given([FLAT, touched, through], [1, None, None], fills=touch)) == [(3, 1, 99.0)]


def test_a_stop_buys_above_the_deciding_close_and_pays_slippage() -> None:
    stop = Fills(order="stop", offset_bps=100, slippage_bps=100)
    assert fills(given([FLAT, (100.0, 101.0, 99.0, 100.0)], [1, None], fills=stop)) == [(3, 1, 101 * 1.01)]
    assert fills(given([FLAT, (103.0, 104.0, 99.0, 100.0)], [1, None], fills=stop)) == [(2, 1, 103 * 1.01)]
    assert fills(given([FLAT, (100.0, 101.0, 98.0, 100.0)], [-1, None], fills=stop)) == [(3, -1, 99 * 0.99)]


def test_a_change_of_side_closes_at_market_and_opens_with_the_limit() -> None:
    limit = Fills(order="limit", offset_bps=100, touch="fill")
    dip, rise = (100.0, 100.0, 99.0, 100.0), (100.0, 101.0, 100.0, 100.0)
    found = given([FLAT, dip, FLAT, rise], [1, -1, None, None], fills=limit)
    assert fills(found) == [(3, 1, 99.0), (4, -1, 100.0), (7, -1, 101.0)]
    assert found.statistics()["n_orders"] == 3


def test_an_order_that_expires_is_made_anew_by_the_next_decision_that_wants_it() -> None:
    limit = Fills(order="limit", offset_bps=100, expires_bars=2, touch="fill")
    higher = (110.0, 110.0, 110.0, 110.0)
    bars = [FLAT, higher, higher, (110.0, 110.0, 108.9, 110.0), higher]
    found = given(bars, [1, None, 1, None, None], fills=limit)
    assert fills(found) == [(7, 1, 108.9)]
    assert found.statistics()["n_orders"] == 2
    assert fills(given(bars, [1, None, None, None, None], fills=limit)) == []


def test_bars_without_trades_fill_nothing_and_unknown_volumes_trade() -> None:
    bars = [FLAT, (101.0, 101.0, 101.0, 101.0), (102.0, 102.0, 102.0, 103.0)]
    assert fills(given(bars, [1, None, None], [1, 0, 1])) == [(4, 1, 102.0)]
    assert fills(given(bars, [1, None, None], [1, None, 1])) == [(2, 1, 101.0)]
    at_close = Fills(at="close")
    assert fills(given(bars, [1, None, None], [0, 0, 1], fills=at_close)) == [(5, 1, 103.0)]
    assert fills(given(bars, [1, None, 0], [0, 0, 1], fills=at_close)) == []


def test_fees_have_a_minimum_and_a_part_per_unit() -> None:
    costs = Fills(at="close", fee_bps=10, fee_per_unit=0.5, fee_minimum=1.0)
    found = given([FLAT, FLAT], [1, 3], fills=costs)
    assert [row["fee"] for row in found.rows()] == [1.0, pytest.approx(2 * 100 * 0.001 + 2 * 0.5)]


def test_a_share_of_equity_is_sized_when_the_target_changes_and_then_kept() -> None:
    bars = [FLAT, FLAT, (200.0, 200.0, 200.0, 200.0), FLAT]
    found = given(bars, [1, 1, 1, 0.5], sizing=Sizing(by="equity", share=0.5), fills=Fills(at="close"))
    assert fills(found) == [(1, 5, 100.0), (7, -2.5, 100.0)]


def test_a_weight_is_traded_back_when_it_has_drifted_out_of_its_band() -> None:
    bars = [FLAT, (104.0, 104.0, 104.0, 104.0), (200.0, 200.0, 200.0, 200.0)]
    sizing = Sizing(by="weight", share=0.5, band=0.02)
    found = given(bars, [1, 1, 1], sizing=sizing, fills=Fills(at="close"))
    assert fills(found) == [(1, 5, 100.0), (5, 0.5 * 1_500 / 200 - 5, 200.0)]


def test_lots_are_cut_towards_zero() -> None:
    found = given([FLAT, FLAT], [1, -1], sizing=Sizing(by="equity", share=0.78, lot=2), fills=Fills(at="close"))
    assert [units for _, units, _ in fills(found)] == [6, -6, -6]


def test_equity_that_is_gone_wants_nothing_until_the_target_changes() -> None:
    bars = [FLAT, (60.0, 60.0, 60.0, 60.0), FLAT, FLAT, FLAT]
    found = given(bars, [1, 1, 1, 1, 1], sizing=Sizing(by="equity", share=3.0))
    assert fills(found) == [(2, 30, 60.0)]
    fallen = [FLAT, FLAT, (60.0, 60.0, 60.0, 60.0), (100.0, 100.0, 100.0, 100.0), FLAT, FLAT]
    found = given(fallen, [1, 1, 1, 1, 1, 2], sizing=Sizing(by="equity", share=3.0))
    assert fills(found) == [(2, 30, 100.0), (6, -30, 100.0)]


def test_a_stop_is_taken_before_a_profit_unless_the_best_is_supposed() -> None:
    wide = (100.0, 110.0, 90.0, 100.0)
    levels = {"stop_loss": 0.05, "take_profit": 0.05}
    for intrabar, price in (("worst", 95.0), ("best", 105.0)):
        exits = Exits(**levels, intrabar=intrabar)  # type: ignore[arg-type]
        found = given([FLAT, FLAT, wide, FLAT], [1, 1, 1, 1], exits=exits)
        assert fills(found) == [(2, 1, 100.0), (5, -1, price)]
        assert found.statistics()["n_orders"] == 2


def test_a_gap_beyond_the_stop_is_paid_at_the_open() -> None:
    found = given([FLAT, FLAT, (90.0, 99.0, 89.0, 95.0)], [1, 1, 1], exits=Exits(stop_loss=0.05))
    assert fills(found) == [(2, 1, 100.0), (4, -1, 90.0)]
    short = given([FLAT, FLAT, (90.0, 99.0, 89.0, 95.0)], [-1, -1, -1], exits=Exits(take_profit=0.05))
    assert fills(short) == [(2, -1, 100.0), (4, 1, 90.0)]


def test_a_trailing_stop_follows_the_highs_of_bars_before() -> None:
    bars = [FLAT, (100.0, 120.0, 100.0, 110.0), (115.0, 130.0, 109.0, 120.0), (120.0, 121.0, 116.0, 120.0)]
    assert fills(given(bars, [1] * 4, exits=Exits(trailing_stop=0.1))) == [(2, 1, 100.0), (7, -1, 117.0)]


def test_after_an_exit_the_same_target_is_passed_over_or_followed_at_once() -> None:
    fall = (100.0, 100.0, 90.0, 100.0)
    bars, targets = [FLAT, FLAT, fall, FLAT, FLAT, FLAT], [1.0, 1.0, 1.0, 1.0, 0.0, 1.0]
    waits = given(bars, targets, exits=Exits(stop_loss=0.05), fills=Fills(at="close"))
    assert fills(waits) == [(1, 1, 100.0), (5, -1, 95.0), (11, 1, 100.0)]
    follows = given(bars, targets, exits=Exits(stop_loss=0.05, reenter="at_once"), fills=Fills(at="close"))
    assert fills(follows) == [(1, 1, 100.0), (5, -1, 95.0), (5, 1, 100.0), (9, -1, 100.0), (11, 1, 100.0)]


def test_what_is_entered_within_a_bar_can_be_stopped_in_it_but_takes_no_profit() -> None:
    limit = Fills(order="limit", offset_bps=100, touch="fill")
    wide = (100.0, 120.0, 90.0, 100.0)
    worst = given([FLAT, wide], [1, None], fills=limit, exits=Exits(stop_loss=0.05, take_profit=0.05))
    assert fills(worst) == [(3, 1, 99.0), (3, -1, 99 * 0.95)]
    best = given([FLAT, wide], [1, None], fills=limit, exits=Exits(stop_loss=0.05, take_profit=0.05, intrabar="best"))
    assert fills(best) == [(3, 1, 99.0)]


def test_an_exit_withdraws_the_order_that_waits() -> None:
    limit = Fills(order="limit", offset_bps=1_000, touch="fill")
    bars = [FLAT, (100.0, 100.0, 90.0, 100.0), FLAT, (100.0, 100.0, 80.0, 100.0), (100.0, 100.0, 90.0, 100.0)]
    found = given(bars, [1, None, 2, None, None], fills=limit, exits=Exits(stop_loss=0.05))
    assert fills(found) == [(3, 1, 90.0), (7, -1, 85.5)]


def test_volatility_sizes_by_the_feature_and_the_calendar() -> None:
    bars = [OracleBar(*FLAT, MIDNIGHT + n * MINUTE, MIDNIGHT + (n + 1) * MINUTE) for n in range(4)]
    yearly = 0.4
    per_bar = yearly / (365 * 1440) ** 0.5
    batch = columns(bars).with_columns(volatility_5=pa.array([None, per_bar, 0.0, per_bar]))
    sizing = Sizing(by="volatility", volatility=0.2, n=5, max_leverage=2.0)
    recipe = Portfolio(
        strategy=Scripted(targets=(1, 1, 1, 1)), start_equity=1_000.0, sizing=sizing, fills=Fills(at="close")
    )
    rows = run_alone(recipe, [batch]).rows()
    assert [row["position_after"] for row in rows] == pytest.approx([5.0, 20.0, 5.0])
    assert {need.name for need in recipe.needs()} == {"volatility_5"}  # type: ignore[attr-defined]
