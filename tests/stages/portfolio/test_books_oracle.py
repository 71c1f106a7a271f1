"""The books against the oracle: any rules, on markets made to hurt, however the stream is cut."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portfolio_bars import MINUTE, Given, run
from portfolio_compare import Follows, FollowsBars, assert_agrees, bars_batch, cut, portfolio_of
from portfolio_market import CENT, PART, PERCENT, TICKS, any_rules, several, ugly_bars, ugly_targets
from portfolio_oracle import OracleBar, OracleBooks, Row, Rules, keep_books, settle

from pipeline.frames import Batch
from pipeline.stage import Context

SEEDS = st.integers(0, 2**32)
COUNTS = st.integers(1, 60)
MEMBERS = 3
NAME = "BTCUSD.TEST"

Targets = list[float | None]


def played(batch: Batch, rules: list[Rules], random: Random, context: Context | None = None, **fields: Any) -> Given:
    """All portfolios in one group; the stream is cut somewhere."""
    members = {
        f"portfolio_{number}": portfolio_of(
            own, random.choice((Follows, FollowsBars))(quantity=own.quantity, column=f"wanted_{number}"), **fields
        )
        for number, own in enumerate(rules)
    }
    first = next(iter(members.values()))
    cuts = [random.randrange(batch.num_rows) for _ in range(random.choice((0, 1, 5, batch.num_rows)))]
    return run(first.build_group(members, context or Context(name="portfolio")), cut(batch, cuts))


def assert_all_agree(bars: list[OracleBar], rules: list[Rules], random: Random) -> list[OracleBooks]:
    wanted: dict[str, Targets] = {f"wanted_{number}": ugly_targets(random, len(bars)) for number in range(len(rules))}
    found = played(bars_batch([(bar, NAME) for bar in bars], wanted), rules, random)
    books = [keep_books(bars, targets, own) for targets, own in zip(wanted.values(), rules, strict=True)]
    for number, (kept, own) in enumerate(zip(books, rules, strict=True)):
        assert_agrees(found, f"portfolio_{number}", kept, own)
    return books


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, count=COUNTS)
def test_any_rules_give_the_books_of_the_oracle_where_prices_touch_levels_exactly(seed: int, count: int) -> None:
    random = Random(seed)
    bars = ugly_bars(random, count, tick=random.choice(TICKS))
    assert_all_agree(bars, [any_rules(random) for _ in range(MEMBERS)], random)


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, count=COUNTS)
def test_and_where_they_touch_levels_that_only_decimals_hold(seed: int, count: int) -> None:
    """A stop of 2 percent from 100.50 is 98.49, which is no float; a low of 98.49 is at it all the same."""
    random = Random(seed)
    bars = ugly_bars(random, count, tick=CENT, part=PERCENT)
    assert_all_agree(bars, [any_rules(random, PERCENT) for _ in range(MEMBERS)], random)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, count=COUNTS)
def test_and_where_prices_have_all_the_digits_there_are(seed: int, count: int) -> None:
    random = Random(seed)
    bars = ugly_bars(random, count, tick=random.choice((0.01, 1e-7, 1e6)), rough=True)
    assert_all_agree(bars, [any_rules(random) for _ in range(MEMBERS)], random)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, count=COUNTS)
def test_prices_may_be_nothing_or_less(seed: int, count: int) -> None:
    random = Random(seed)
    bars = ugly_bars(random, count, below=100 * PART, tick=2.0**-4)
    assert_all_agree(bars, [any_rules(random) for _ in range(MEMBERS)], random)


def test_what_is_compared_is_worth_comparing() -> None:
    """Were nothing bought, everything would agree; each thing the rules speak of does happen."""
    random = Random(1)
    happened: dict[str, int] = {}
    for _ in range(40):
        rules = [any_rules(random) for _ in range(MEMBERS)]
        for own, books in zip(rules, assert_all_agree(ugly_bars(random, 60), rules, random), strict=True):
            happened["exits"] = happened.get("exits", 0) + books.exits
            for word in (own.order, own.at, own.by, own.intrabar, own.reenter, own.touch):
                happened[word] = happened.get(word, 0) + len(books.fills)
    words = "exits market limit stop next_open close quantity equity weight volatility worst best on_change at_once"
    assert happened.keys() == {*words.split(), "through", "fill"}
    assert min(happened.values()) > 50, happened


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, count=st.integers(3, 30), names=st.integers(1, 3))
def test_several_instruments_live_on_one_cash_account(seed: int, count: int, names: int) -> None:
    random = Random(seed)
    markets = several(random, names, count, random.choice(TICKS))
    called = [f"{chr(67 - number)}.TEST" for number in range(names)]  # not in the order of the alphabet
    rules = [any_rules(random) for _ in range(MEMBERS)]
    stream = [(bar, place) for place, bars in enumerate(markets) for bar in bars]
    random.shuffle(stream)
    stream.sort(key=lambda pair: pair[0].end)  # within a step the rows come in any order
    wanted: dict[str, Targets] = {f"wanted_{number}": ugly_targets(random, len(stream)) for number in range(MEMBERS)}
    batch = bars_batch([(bar, called[place]) for bar, place in stream], wanted)
    found = played(batch, rules, random, instruments=tuple(called))
    for number, own in enumerate(rules):
        rows = [Row(bar, want, place) for (bar, place), want in zip(stream, wanted[f"wanted_{number}"], strict=True)]
        assert_agrees(found, f"portfolio_{number}", settle(rows, own, names), own)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, count=st.integers(2, 40))
def test_bars_before_the_window_are_seen_and_leave_no_trace(seed: int, count: int) -> None:
    random = Random(seed)
    bars = ugly_bars(random, count)
    begin = bars[random.randrange(count - 1)].end + random.choice((0, 1, MINUTE // 2))
    rules = [replace(any_rules(random), active_from=begin) for _ in range(MEMBERS)]
    wanted: dict[str, Targets] = {f"wanted_{number}": ugly_targets(random, count) for number in range(MEMBERS)}
    context = Context(name="portfolio", active_from_ns=begin)
    found = played(bars_batch([(bar, NAME) for bar in bars], wanted), rules, random, context)
    for number, own in enumerate(rules):
        assert_agrees(found, f"portfolio_{number}", keep_books(bars, wanted[f"wanted_{number}"], own), own)


@pytest.mark.parametrize("at", ["next_open", "close"])
def test_the_baseline_buys_for_all_its_equity_and_holds(at: str) -> None:
    random = Random(5)
    bars = ugly_bars(random, 50)
    rules = Rules(at=at, by="weight", share=0.5, slippage_bps=4, stop_loss=0.01, start_equity=5_000.0)
    recipe = msgspec.structs.replace(portfolio_of(rules, Follows(column="wanted")), baseline=True)
    members = {"portfolio_0": recipe, "portfolio_1": recipe}
    batch = bars_batch([(bar, NAME) for bar in bars], {"wanted": [1.0, -1.0] * 25})
    found = run(members["portfolio_0"].build_group(members, Context(name="portfolio")), [batch])
    holds = Rules(at=at, by="equity", slippage_bps=4, start_equity=5_000.0)
    assert_agrees(found, "portfolio_baseline", keep_books(bars, [1.0] * 50, holds), holds)
