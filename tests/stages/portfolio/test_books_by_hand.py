"""The model of fills, one rule at a time, on bars small enough to be followed with a pencil.

Bars are written `open high low close` and last a minute; `targets` are what the strategy wants at their closes. Each
example is played through a portfolio and through the oracle, which must both give what is worked out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from portfolio_bars import MIDNIGHT, MINUTE, Given, run_alone
from portfolio_compare import assert_agrees, bars_batch, recipe_of
from portfolio_oracle import OracleBar, OracleBooks, Rules, keep_books


def bars(*prices: str, **fields: Sequence[Any]) -> list[OracleBar]:
    """Bars one after another; `fields` are further ones of `OracleBar`, one value for each bar."""
    made = []
    for place, text in enumerate(prices):
        more = {name: values[place] for name, values in fields.items()}
        start = MIDNIGHT + place * MINUTE
        made.append(OracleBar(*map(float, text.split()), start, start + MINUTE, **more))
    return made


def played(market: list[OracleBar], targets: Sequence[float | None], **words: Any) -> list[str]:
    """The fills as a person would tell them."""
    return told(play(market, targets, **words)[0])


def play(market: list[OracleBar], targets: Sequence[float | None], **words: Any) -> tuple[OracleBooks, Given]:
    rules = Rules(**words)
    books = keep_books(market, targets, rules)
    found = run_alone(recipe_of(rules, targets), [bars_batch([(bar, "BTCUSD.TEST") for bar in market])])
    assert_agrees(found, "", books, rules)
    return books, found


def told(books: OracleBooks) -> list[str]:
    lines = []
    for fill in books.fills:
        place, within = divmod(fill.ts - MIDNIGHT, MINUTE)
        assert within == 0
        side = "buy" if fill.side == 1 else "sell"
        lines.append(f"{side} {float(fill.quantity):.10g} at {float(fill.price):.10g}, minute {place}")
    return lines


QUIET = ("100 100 100 100",) * 6


# Market orders. Minute 1 is both the end of bar 0 and the open of bar 1.


def test_a_market_order_fills_at_the_next_open() -> None:
    market = bars("100 101 99 100", "102 104 101 103")
    assert played(market, [1, None]) == ["buy 1 at 102, minute 1"]


def test_or_at_the_close_it_was_decided_on() -> None:
    market = bars("100 101 99 100", "102 104 101 103")
    assert played(market, [1, None], at="close") == ["buy 1 at 100, minute 1"]


def test_a_change_of_side_is_two_orders_and_two_fills() -> None:
    market = bars("100 101 99 100", "102 104 101 103", "105 106 104 104")
    books, found = play(market, [1, -1, None])
    assert told(books) == ["buy 1 at 102, minute 1", "sell 1 at 105, minute 2", "sell 1 at 105, minute 2"]
    assert found.statistics()["n_orders"] == 3
    # 100,000 - 102 + 105 + 105, and one unit owed at 104
    assert found.statistics()["end_equity"] == 100_000 + 3 + 1


def test_fractions_of_the_quantity_are_added_and_reduced() -> None:
    market = bars(*QUIET)
    assert played(market, [0.5, 2, 1, 0, None, None], quantity=10) == [
        "buy 5 at 100, minute 1",
        "buy 15 at 100, minute 2",
        "sell 10 at 100, minute 3",
        "sell 10 at 100, minute 4",
    ]


# Costs.


def test_slippage_is_against_the_trade_and_the_fee_is_on_the_price_paid() -> None:
    market = bars("100 100 100 100", "100 100 100 100", "200 200 200 200")
    books, found = play(market, [1, 0, None], quantity=10, slippage_bps=50, fee_bps=20, fee_per_unit=0.1)
    # Bought at 100 + 0.5, sold at 200 - 1. Fees: 1005 * 0.002 + 10 * 0.1 = 3.01 and 1990 * 0.002 + 1 = 4.98.
    assert told(books) == ["buy 10 at 100.5, minute 1", "sell 10 at 199, minute 2"]
    assert found.statistics()["fees"] == pytest.approx(3.01 + 4.98)
    assert found.statistics()["slippage"] == pytest.approx(5 + 10)
    assert found.statistics()["end_equity"] == pytest.approx(100_000 - 1005 - 3.01 + 1990 - 4.98)


def test_every_fill_costs_the_minimum_at_least() -> None:
    market = bars(*QUIET)
    # 1 * 100 * 0.001 = 0.10, less than 0.35; 10 * 100 * 0.001 = 1.00, more. The flip to -10 pays for each half.
    _, found = play(market, [1, -10, None, None, None, None], fee_bps=10, fee_minimum=0.35)
    assert [row["fee"] for row in found.rows()] == pytest.approx([0.35, 0.35, 1.0])


def test_a_rebate_stays_one_where_there_is_no_minimum() -> None:
    _, found = play(bars(*QUIET), [1, *[None] * 5], fee_bps=-10)
    assert found.rows()[0]["fee"] == pytest.approx(-0.1)


# Limit orders: 100 less 1 percent is 99.


def test_a_limit_waits_below_the_deciding_close_until_it_is_traded_through() -> None:
    market = bars("100 101 99 100", "100 101 99 100", "100 100 98.5 100")
    limit: dict[str, Any] = {"order": "limit", "offset_bps": 100}
    assert played(market, [1, None, None], **limit) == ["buy 1 at 99, minute 3"]  # bar 1 only touched 99
    assert played(market, [1, None, None], touch="fill", **limit) == ["buy 1 at 99, minute 2"]


def test_an_open_beyond_the_limit_is_better_than_the_limit() -> None:
    market = bars("100 101 99 100", "98 99 97 98")
    assert played(market, [1, None], order="limit", offset_bps=100) == ["buy 1 at 98, minute 1"]
    at_the_limit = bars("100 101 99 100", "99 99.5 99 99")
    assert played(at_the_limit, [1, None], order="limit", offset_bps=100) == ["buy 1 at 99, minute 1"]


def test_a_limit_to_sell_short_waits_above() -> None:
    market = bars("100 101 99 100", "100 101 99 100", "100 101.5 99 100")
    assert played(market, [-1, None, None], order="limit", offset_bps=100) == ["sell 1 at 101, minute 3"]


def test_limits_pay_no_slippage_and_what_is_closed_at_market_does() -> None:
    market = bars("100 100 100 100", "100 100 98 100", "100 100 100 100", "100 100 100 100")
    words: dict[str, Any] = {"order": "limit", "offset_bps": 100, "slippage_bps": 100}
    assert played(market, [1, None, 0, None], **words) == ["buy 1 at 99, minute 2", "sell 1 at 99, minute 3"]


def test_a_limit_stays_where_it_was_put_and_another_wish_replaces_it() -> None:
    market = bars("100 100 100 100", "110 110 110 110", "110 110 98 98", "110 110 110 110")
    books, found = play(market, [1, 1, None, None], order="limit", offset_bps=100)
    assert told(books) == ["buy 1 at 99, minute 3"]  # not 108.9, which the second decision would have named
    assert found.statistics()["n_orders"] == 1
    books, found = play(market, [1, 2, None, None], order="limit", offset_bps=100)
    assert told(books) == ["buy 2 at 108.9, minute 3"]
    assert found.statistics()["n_orders"] == 2
    books, found = play(market, [1, 0, None, None], order="limit", offset_bps=100)
    assert (told(books), found.statistics()["n_orders"]) == ([], 1)  # withdrawn


def test_an_order_that_expires_is_made_again_by_the_next_decision() -> None:
    market = bars("100 100 100 100", "100 100 100 100", "102 102 102 102", "102 102 100 102", "102 102 102 102")
    books, found = play(market, [1, 1, 1, 1, None], order="limit", offset_bps=100, expires_bars=2)
    # Made at bar 0 (99), sees bars 1 and 2, is withdrawn; made again at bar 2: 102 - 1.02 = 100.98, met in bar 3.
    assert told(books) == ["buy 1 at 100.98, minute 4"]
    assert found.statistics()["n_orders"] == 2
    assert played(market, [1, None, None, None, None], order="limit", offset_bps=100, expires_bars=2) == []


def test_the_first_half_of_a_change_of_side_does_not_wait_for_the_limit() -> None:
    market = bars("100 100 100 100", "100 100 98 100", "100 100 100 100", "100 102 100 100")
    books, found = play(market, [1, -1, None, None], order="limit", offset_bps=100)
    assert told(books) == ["buy 1 at 99, minute 2", "sell 1 at 100, minute 2", "sell 1 at 101, minute 4"]
    assert found.statistics()["n_orders"] == 3


# Stop orders: 100 plus 1 percent is 101.


def test_a_stop_order_buys_where_the_price_has_risen_to_it() -> None:
    market = bars("100 101 99 100", "100 100.5 99 100", "100 101 99 101")
    assert played(market, [1, None, None], order="stop", offset_bps=100) == ["buy 1 at 101, minute 3"]


def test_a_stop_order_that_is_jumped_over_pays_the_open_and_its_slippage() -> None:
    market = bars("100 101 99 100", "103 104 102 103")
    assert played(market, [1, None], order="stop", offset_bps=100, slippage_bps=100) == ["buy 1 at 104.03, minute 1"]


def test_a_stop_order_to_sell_short_waits_below() -> None:
    market = bars("100 101 99 100", "100 101 98 99")
    assert played(market, [-1, None], order="stop", offset_bps=100) == ["sell 1 at 99, minute 2"]


# Bars without trades.


def test_orders_wait_for_a_bar_that_trades() -> None:
    market = bars("100 100 100 100", "100 100 100 100", "101 101 101 101", "102 102 102 102", volume=[1, 0, 0, None])
    assert played(market, [1, None, None, None]) == ["buy 1 at 102, minute 3"]  # a null volume is unknown, not 0
    market = bars(*QUIET[:3], empty=[False, True, False])
    assert played(market, [1, None, None]) == ["buy 1 at 100, minute 2"]


def test_a_decision_on_a_bar_without_trades_fills_at_the_close_of_the_next_that_trades() -> None:
    market = bars("100 100 100 100", "101 101 101 101", "102 103 102 103", volume=[0, 0, 1])
    assert played(market, [1, None, None], at="close") == ["buy 1 at 103, minute 3"]
    books, found = play(market, [1, 1, 2], at="close")  # replaced at the very close it would have filled at
    assert told(books) == ["buy 2 at 103, minute 3"]
    assert found.statistics()["n_orders"] == 2
    assert played(market, [1, 0, None], at="close") == []


def test_bars_without_trades_stop_nobody_out() -> None:
    market = bars("100 100 100 100", "100 100 100 100", "100 100 50 90", "90 90 90 90", volume=[1, 1, 0, 1])
    assert played(market, [1, *[None] * 3], stop_loss=0.05) == ["buy 1 at 100, minute 1", "sell 1 at 90, minute 3"]


# Sizing.


def test_a_share_of_equity_is_computed_when_the_target_changes() -> None:
    market = bars("100 100 100 100", "100 200 100 200", "200 200 200 200", "200 200 200 200")
    # 0.5 * 1000 / 100 = 5. Bought at 100, worth 500 + 1000 at bar 1; the target stays, so do the units.
    assert played(market, [1, 1, 1, 1], by="equity", share=0.5, start_equity=1000) == ["buy 5 at 100, minute 1"]
    # Flat at 200 and in again: 0.5 * 1500 / 200 = 3.75.
    assert played(market, [1, 0, 1, None], by="equity", share=0.5, start_equity=1000) == [
        "buy 5 at 100, minute 1",
        "sell 5 at 200, minute 2",
        "buy 3.75 at 200, minute 3",
    ]


def test_a_weight_is_traded_back_when_it_leaves_its_band() -> None:
    market = bars("100 100 100 100", "100 104 100 104", "104 200 104 200", "200 200 200 200")
    # Bar 0: half of 1000 is 5 units. Bar 1: equity 1020, wanted 4.904; 0.096 * 104 = 10 is within 0.02 * 1020 = 20.4.
    # Bar 2: equity 1500, wanted 3.75; 1.25 * 200 = 250 is not within 30.
    words: dict[str, Any] = {"by": "weight", "share": 0.5, "start_equity": 1000, "lot": 0.25}
    assert played(market, [1, 1, 1, 1], band=0.02, **words) == ["buy 5 at 100, minute 1", "sell 1.25 at 200, minute 3"]
    # Without a band 4.904 becomes 4.75 in lots of a quarter, then: 500 + 0.25 * 104 + 4.75 * 200 = 1476, 3.69, 3.5.
    assert played(market, [1, 1, 1, 1], **words) == [
        "buy 5 at 100, minute 1",
        "sell 0.25 at 104, minute 2",
        "sell 1.25 at 200, minute 3",
    ]


def test_a_volatility_target_holds_less_of_what_moves_more() -> None:
    # Minutes in a year of crypto: 525,600. A deviation of 0.5 / sqrt(525,600) a minute is 50 percent a year.
    calm, wild = 0.1 / 525_600**0.5, 0.5 / 525_600**0.5
    market = bars(*QUIET[:5], volatility=[None, wild, wild, calm, 0.0])
    words: dict[str, Any] = {"by": "volatility", "volatility": 0.2, "max_leverage": 1.5, "start_equity": 1000}
    # Bar 0: not formed. Bar 1: 0.2 / 0.5 = 0.4 of 1000 is 4 units. Bar 3: 0.2 / 0.1 = 2, at most 1.5: 15 units.
    assert played(market, [1] * 5, band=0.01, **words) == ["buy 4 at 100, minute 2", "buy 11 at 100, minute 4"]


def test_units_are_cut_to_lots_towards_zero() -> None:
    market = bars(*QUIET[:3])
    assert played(market, [1, -1, None], quantity=2.75, lot=0.5) == [
        "buy 2.5 at 100, minute 1",
        "sell 2.5 at 100, minute 2",
        "sell 2.5 at 100, minute 2",
    ]
    assert played(market, [1, None, None], quantity=0.3, lot=0.1) == ["buy 0.3 at 100, minute 1"]  # 0.3 / 0.1 is 2.9..
    assert played(market, [1, None, None], quantity=0.25, lot=0.5) == []


# Exits. Bought at 100 at the open of bar 1.


def test_a_stop_loss_sells_at_its_level() -> None:
    market = bars("100 100 100 100", "100 102 99 101", "101 101 94 96", "96 96 96 96")
    books, found = play(market, [1, None, None, None], stop_loss=0.05)
    assert told(books) == ["buy 1 at 100, minute 1", "sell 1 at 95, minute 3"]
    assert found.statistics()["n_orders"] == 2  # an exit is an order


def test_a_stop_that_is_jumped_over_sells_at_the_open() -> None:
    market = bars("100 100 100 100", "100 102 99 101", "93 94 92 94")
    assert played(market, [1, None, None], stop_loss=0.05) == ["buy 1 at 100, minute 1", "sell 1 at 93, minute 2"]


def test_a_stop_can_be_met_in_the_very_bar_that_opened_the_position() -> None:
    market = bars("100 100 100 100", "100 102 94 101")
    assert played(market, [1, None], stop_loss=0.05) == ["buy 1 at 100, minute 1", "sell 1 at 95, minute 2"]


def test_a_profit_is_taken_at_its_level_or_at_a_better_open_without_slippage() -> None:
    words: dict[str, Any] = {"take_profit": 0.05, "slippage_bps": 100}
    within = bars("100 100 100 100", "100 104 99 101", "101 107 101 102")
    # Bought at 100 + 1, so the profit is 101 * 1.05 = 106.05.
    assert played(within, [1, None, None], **words) == ["buy 1 at 101, minute 1", "sell 1 at 106.05, minute 3"]
    jumped = bars("100 100 100 100", "100 104 99 101", "110 111 109 110")
    assert played(jumped, [1, None, None], **words) == ["buy 1 at 101, minute 1", "sell 1 at 110, minute 2"]


def test_stops_pay_slippage() -> None:
    market = bars("100 100 100 100", "100 102 99 101", "101 101 90 91")
    # Bought at 101; stopped at 101 * 0.95 = 95.95, less one percent: 94.9905.
    assert played(market, [1, None, None], stop_loss=0.05, slippage_bps=100)[1] == "sell 1 at 94.9905, minute 3"


def test_nobody_knows_what_came_first_so_you_say_it() -> None:
    market = bars("100 100 100 100", "100 106 94 100")
    words: dict[str, Any] = {"stop_loss": 0.05, "take_profit": 0.05}
    assert played(market, [1, None], **words)[1] == "sell 1 at 95, minute 2"
    assert played(market, [1, None], intrabar="best", **words)[1] == "sell 1 at 105, minute 2"


def test_a_short_position_is_stopped_above() -> None:
    market = bars("100 100 100 100", "100 102 99 101", "101 106 101 103")
    words: dict[str, Any] = {"stop_loss": 0.05, "take_profit": 0.05}
    assert played(market, [-1, None, None], **words) == ["sell 1 at 100, minute 1", "buy 1 at 105, minute 3"]


def test_a_trailing_stop_follows_the_best_price_of_the_bars_before() -> None:
    market = bars("100 100 100 100", "100 120 100 118", "118 119 109 110", "110 130 107 108")
    # Bar 1: the best is the entry, the stop 90. Bar 2: 120, 108; the low of 109 is above. Bar 3: the same; 107 is not.
    # That bar 3 went to 130 counts for nothing: nobody knows whether before or after.
    assert played(market, [1, *[None] * 3], trailing_stop=0.1)[1] == "sell 1 at 108, minute 4"


def test_of_the_bar_a_position_was_entered_in_at_its_close_only_the_close_counts() -> None:
    market = bars("100 150 100 100", "100 100 92 95", "95 95 89 89")
    # The 150 was before the entry at the close of 100: the stop is 90.
    assert played(market, [1, None, None], at="close", trailing_stop=0.1) == [
        "buy 1 at 100, minute 1",
        "sell 1 at 90, minute 3",
    ]


def test_a_position_entered_within_a_bar_can_be_stopped_in_it_and_takes_no_profit_in_it() -> None:
    market = bars("100 100 100 100", "100 110 93 100", "100 110 98 100")
    words: dict[str, Any] = {"order": "limit", "offset_bps": 100, "stop_loss": 0.05, "take_profit": 0.05}
    # Bought at 99 within bar 1; the stop is 94.05, the profit 103.95.
    assert played(market, [1, None, None], **words) == ["buy 1 at 99, minute 2", "sell 1 at 94.05, minute 2"]
    assert played(market, [1, None, None], intrabar="best", **words) == [
        "buy 1 at 99, minute 2",
        "sell 1 at 103.95, minute 3",
    ]


def test_after_an_exit_the_strategy_must_change_its_mind() -> None:
    market = bars("100 100 100 100", "100 100 90 90", "90 90 90 90", "90 90 90 90", "90 90 90 90", "91 91 91 91")
    first = ["buy 1 at 100, minute 1", "sell 1 at 95, minute 2"]
    assert played(market, [1, 1, 1, 0, 1, 1], stop_loss=0.05) == [*first, "buy 1 at 91, minute 5"]
    # `at_once` follows the decision of the very bar that stopped it; entered at 90, 85.5 is not met.
    assert played(market, [1, 1, 1, 0, 1, 1], stop_loss=0.05, reenter="at_once") == [
        *first,
        "buy 1 at 90, minute 2",
        "sell 1 at 90, minute 4",
        "buy 1 at 91, minute 5",
    ]


def test_an_exit_withdraws_what_waits() -> None:
    market = bars("100 100 100 100", "100 100 98 100", "100 100 99 100", "100 100 90 90", "90 90 80 80")
    # A unit bought at 99; at bar 2 the strategy wants two, and 99 is named for the second. Bar 3 stops the first at
    # 94.05 before anything is added, and the order that waited is gone: nothing is bought in bar 4.
    assert played(market, [1, None, 2, None, None], order="limit", offset_bps=100, stop_loss=0.05) == [
        "buy 1 at 99, minute 2",
        "sell 1 at 94.05, minute 4",
    ]


# Money that runs out.


def test_who_has_nothing_left_wants_nothing() -> None:
    market = bars("100 100 100 100", "100 100 50 50", "50 50 50 50", "50 50 50 50")
    # Three times the equity: 30 units at 100; at 50 equity is 1000 - 1500 = -500, so the position is closed for good.
    words: dict[str, Any] = {"by": "equity", "share": 3, "start_equity": 1000}
    assert played(market, [1, 1, 1, None], **words) == ["buy 30 at 100, minute 1", "sell 30 at 50, minute 2"]
