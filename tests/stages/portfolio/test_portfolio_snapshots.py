"""Portfolios brought back from a checkpoint go on as if nothing had happened, wherever they were cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from portfolio_bars import MIDNIGHT, MINUTE, random_bars
from portfolio_compare import bars_batch, cut, portfolio_of
from portfolio_market import any_rules, several, ugly_bars
from portfolio_oracle import OracleBar
from snapshot_strategies import (
    Above,
    Broken,
    Counting,
    Forgetting,
    Infinite,
    Odd,
    Remembering,
    Sum,
    Together,
    Voting,
)

from pipeline import Batch, StateMismatch, packed, unpacked
from pipeline.stage import Context
from pipeline.testing import check_snapshots
from stages import (
    BollingerReversion,
    Breakout,
    BuyAndHold,
    EmaCross,
    Features,
    Momentum,
    PairReversion,
    Peeking,
    Rsi,
    SmaCross,
    Strategy,
    ZscoreReversion,
)
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.strategy import StrategyFailed

SHIPPED = (
    SmaCross(fast=2, slow=5), SmaCross(fast=3, slow=4), EmaCross(fast=2, slow=5), EmaCross(fast=3, slow=9),
    Rsi(n=4, low=40, high=60), Momentum(n=2, side="both"), BollingerReversion(n=4, k=1.0, side="both"),
    Breakout(n=4, exit_n=2), ZscoreReversion(n=4, entry=1.0), BuyAndHold(), Peeking(),
)  # fmt: skip
OWN = (Counting(every=3), Counting(every=5), Sum(), Above(), Forgetting(), Voting(), Voting(share=1.01))


def with_features(members: Mapping[str, Portfolio], rows: Sequence[tuple[OracleBar, str]]) -> Batch:
    """Bars with what all strategies ask for, as the features stage sends them."""
    needs = frozenset(need for member in members.values() for need in member.needs())
    columns = bars_batch(rows).columns
    plain = Batch(columns.select([name for name in columns.schema.names if not name.startswith("volatility")]))
    logic = Features().providing(needs).build(Context())
    given = logic.on_batch(plain)
    sent = [given] if isinstance(given, Batch) else list(given or ())
    sent += logic.on_end()
    table = pa.Table.from_batches([batch.columns for batch in sent]).combine_chunks()
    return Batch(table.to_batches()[0])


def ruled(random: Random, strategies: Sequence[Strategy], **fields: Any) -> dict[str, Portfolio]:
    """A portfolio of each, under rules of its own."""
    members = {}
    for number, strategy in enumerate(strategies):
        made = portfolio_of(any_rules(random), strategy, **fields)
        members[f"portfolio_{number}"] = msgspec.structs.replace(made, baseline=True, max_failed_share=1.0)
    return members


def cuts_of(random: Random, calls: int, count: int = 3) -> list[int]:
    """Before the first row, after the end, and some in between."""
    return [0, *(random.randint(1, calls) for _ in range(count)), calls + 1]


async def examine(
    random: Random, stage: Any, batch: Batch, *, context: Context | None = None, count: int = 3, pieces: int = 8
) -> Any:
    """A stage over bars in random pieces, cut at random between two calls (each piece is two: bars and watermark)."""
    batches = cut(batch, [random.randrange(1, batch.num_rows) for _ in range(pieces)])
    return await check_snapshots(stage, batches, cuts=cuts_of(random, 2 * len(batches) + 1, count), context=context)


@pytest.mark.parametrize("seed", range(2))
async def test_r6_a_group_of_every_strategy_under_any_rules_goes_on_from_wherever_it_was_cut(seed: int) -> None:
    """Halts, gaps, one-price bars, limit and stop orders, exits, all sizings; with bars before the window."""
    random = Random(seed)
    members = ruled(random, [*SHIPPED, *OWN] * 2, threads=1 + seed % 2)
    rows = [(bar, "BTCUSD.TEST") for bar in ugly_bars(random, 160)]
    active_from = rows[40][0].end if seed % 2 else None
    context = Context(name="portfolio_*", active_from_ns=active_from)
    given = await examine(random, Together(members=members), with_features(members, rows), context=context)
    assert given.metrics["portfolios"] == len(members)
    assert given.metrics["fills"] > 100
    assert given.metrics["skipped_decisions"] > 0
    assert given.metrics["bars"] == (120 if seed % 2 else 160) - (1 if seed % 2 else 0)


@pytest.mark.parametrize("strategy", [SHIPPED[0], SHIPPED[3], SHIPPED[4], OWN[0], OWN[2]], ids=lambda each: str(each))
async def test_r6_a_portfolio_that_is_a_container_by_itself_does(strategy: Strategy) -> None:
    random = Random(7)
    ((_, recipe),) = ruled(random, [strategy]).items()
    batch = with_features({"portfolio": recipe}, [(bar, "BTCUSD.TEST") for bar in ugly_bars(random, 120)])
    given = await examine(random, recipe, batch)
    assert ("", "statistics") in given.results


@pytest.mark.parametrize("instruments", ["all", ("B", "A")])
async def test_r6_several_instruments_do_with_a_step_held_back(instruments: Any) -> None:
    random = Random(11)
    pair = PairReversion(first="A", second="B", n=4, entry=1.0, exit=0.2)
    members = ruled(random, [pair, *SHIPPED[:4], *OWN], instruments=instruments)
    found = several(random, 3, 60, 1.0)
    rows = sorted(((bar, name) for bars, name in zip(found, "ABC", strict=True) for bar in bars), key=_end)
    batch = with_features(members, rows)
    given = await examine(random, Together(members=members), batch, count=4, pieces=12)
    assert {row["instrument_id"] for row in given.results["portfolio_1", "fills"].to_pylist()} >= {"A", "B"}


async def test_r6_a_baseline_goes_on_holding_what_it_chose_first() -> None:
    """Cut within the step in which another instrument appears, which it must not choose as if it were the first."""
    members = {"p": Portfolio(strategy=Above(price=0.0), instruments="all")}
    bars = random_bars(6)
    rows = [(bar, name) for place, bar in enumerate(bars) for name in ("AC" if place >= 3 else "A")]
    batch = with_features(members, rows)
    given = await check_snapshots(Together(members=members), cut(batch, range(len(rows))))
    bought = given.results["test_baseline", "fills"].column("instrument_id").to_pylist()
    assert bought == ["A"]


def _end(row: tuple[OracleBar, str]) -> int:
    return row[0].end


@pytest.mark.parametrize("held", [1, 40, 65_536])
async def test_r6_fills_that_were_handed_over_are_not_given_again_and_others_are(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EMIT_FILLS", "MOST_FILLS"):
        monkeypatch.setattr(f"stages.portfolio.group.{name}", held)
    monkeypatch.setattr("stages.portfolio.group.EMIT_FILLS_EACH", 0)
    monkeypatch.setattr("stages.portfolio.group.TOGETHER", 2)
    random = Random(3)
    members = ruled(random, [Counting(every=2), SmaCross(fast=1, slow=2), Sum(), Counting(every=1), Momentum(n=1)])
    batch = with_features(members, [(bar, "BTCUSD.TEST") for bar in ugly_bars(random, 100)])
    await examine(random, Together(members=members), batch)


async def test_r6_members_that_failed_stay_out_and_their_errors_stay_told() -> None:
    random = Random(5)
    strategies = [Counting(fails_after=30), Counting(), Infinite(price=6300.0), Infinite(price=1e9), Counting(every=4)]
    members = ruled(random, strategies)
    batch = with_features(members, [(bar, "BTCUSD.TEST") for bar in ugly_bars(random, 100)])
    given = await examine(random, Together(members=members), batch, count=4)
    assert given.metrics["failed"] == 2
    assert given.output is not None
    told = [error for error in given.output["error"].to_pylist() if error]
    assert len(told) == 2 and "it has counted enough" in " ".join(told) and "the target is infinite" in " ".join(told)


async def test_r6_kept_equity_is_what_it_was_through_every_coarsening() -> None:
    """What a state lends is not written to when points are folded together, moved, or handed over at the end."""
    members = {f"p_{n}": Portfolio(strategy=SmaCross(fast=1, slow=n)) for n in (2, 3, 5)}
    batch = with_features(members, [(bar, "BTCUSD.TEST") for bar in random_bars(4_500, single=0.0)])
    batches = [batch.slice(first, 302) for first in range(0, 4_500, 302)]
    given = await check_snapshots(Together(members=members), batches, cuts=[0, 3, 12, 13, 14, 20, 27, 29, 31])
    assert given.results["p_2", "equity"].num_rows == 900
    assert given.results["p_2", "equity"].schema.metadata[b"interval"] == b"5m"


def group(*strategies: Strategy, **fields: Any) -> Any:
    members = {f"p_{n}": Portfolio(strategy=strategy, **fields) for n, strategy in enumerate(strategies)}
    return Together(members=members).build(Context(name="portfolio_*"))


def test_r6_a_group_can_give_its_state_where_all_of_its_strategies_can() -> None:
    assert group(*SHIPPED).can_snapshot
    assert group(*OWN).can_snapshot
    assert not group(*SHIPPED, Remembering()).can_snapshot
    assert not Portfolio(strategy=Remembering()).build(Context(name="portfolio")).can_snapshot
    assert Portfolio(strategy=SmaCross(), grouped=False).build(Context(name="portfolio")).can_snapshot


def test_r6_what_a_strategy_gives_may_change_afterwards() -> None:
    logic = group(Counting())
    batch = with_features({"p": Portfolio(strategy=Counting())}, [(bar, "X") for bar in random_bars(20)])
    list(logic.on_batch(batch.slice(0, 10)))
    state = logic.snapshot()
    before = packed(state)
    list(logic.on_batch(batch.slice(10, 10)))
    assert packed(state) == before
    logic.close()


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (
            Odd(every=4),
            r"strategy Odd\(.*every=4.*\) failed in snapshot\(\): UnsupportedType: cannot store a .*OddDecid",
        ),
        (Broken(every=4), r"strategy Broken\(.*every=4.*\) failed in snapshot\(\): RuntimeError: not now"),
    ],
)
def test_r6_a_strategy_that_gives_what_cannot_be_kept_is_named(strategy: Strategy, said: str) -> None:
    with pytest.raises(StrategyFailed, match=said):
        group(Counting(), strategy, Counting()).snapshot()


def test_r6_a_state_of_other_portfolios_is_refused_and_says_in_what() -> None:
    state = unpacked(packed(group(SmaCross(fast=2, slow=5), SmaCross(fast=3, slow=5)).snapshot()))
    wrong: list[tuple[Any, str]] = [
        (group(SmaCross(fast=2, slow=5)), "members 2, found 3"),
        (group(SmaCross(fast=2, slow=5), EmaCross(fast=3, slow=5)), r"strategies \{'EmaCross': 1, .*, found \{'Sm"),
        (group(SmaCross(fast=2, slow=5), SmaCross(fast=4, slow=5)), "settings '"),
        (group(SmaCross(fast=2, slow=5), SmaCross(fast=3, slow=5), start_equity=7.0), "settings '"),
    ]
    for logic, said in wrong:
        with pytest.raises(StateMismatch, match=said):
            logic.restore(state)
    equal = group(SmaCross(fast=2, slow=5), SmaCross(fast=3, slow=5), threads=2)
    equal.restore(state)
    equal.close()
    other = state | {"state": state["state"] | {"books": state["state"]["books"] | {"state": np.zeros((3, 4))}}}
    with pytest.raises(StateMismatch, match=r"expected members to be .*found dtype\('float64'\) \(3, 4\)"):
        group(SmaCross(fast=2, slow=5), SmaCross(fast=3, slow=5)).restore(other)


def test_r6_a_state_is_as_large_as_what_members_have_and_no_larger() -> None:
    """3.3 megabytes for ten thousand members that have seen one bar of one instrument."""
    logic = group(*[BuyAndHold(quantity=1.0 + n) for n in range(1_000)])
    bar = OracleBar(100.0, 101.0, 99.0, 100.0, MIDNIGHT, MIDNIGHT + MINUTE)
    list(logic.on_batch(bars_batch([(bar, "X")])))
    assert 300_000 < len(packed(logic.snapshot())) < 400_000
    logic.close()
