"""Breakouts, reversions, momentum and the rest against strategies told in plain Python, asked alone and together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from portfolio_bars import carried, columns, looked_at, random_bars
from portfolio_oracle import OracleBar
from strategy_oracle import positions, spread_positions

from pipeline.frames import Batch
from pipeline.stage import Context
from stages.feeds.replay import Replay
from stages.portfolio.strategies.bollinger_reversion import BollingerReversion
from stages.portfolio.strategies.breakout import Breakout
from stages.portfolio.strategies.buy_and_hold import BuyAndHold
from stages.portfolio.strategies.momentum import Momentum
from stages.portfolio.strategies.pair_reversion import PairReversion
from stages.portfolio.strategies.rsi import Rsi
from stages.portfolio.strategies.zscore_reversion import ZscoreReversion
from stages.portfolio.strategy import Strategy

STRATEGIES: list[Strategy] = [
    Breakout(n=5),
    Breakout(n=8, exit_n=3),
    Breakout(n=3, exit_n=8, side="short"),
    Breakout(n=6, exit_n=2, side="short"),
    Breakout(n=4, side="both"),
    Rsi(n=4),
    Rsi(n=3, low=40, high=55, side="both"),
    Rsi(n=6, low=35, side="short"),
    Momentum(n=3),
    Momentum(n=5, threshold=0.003, side="both"),
    Momentum(n=2, side="short"),
    ZscoreReversion(n=10, entry=1.2),
    ZscoreReversion(n=15, entry=1.5, exit=0.7),
    ZscoreReversion(n=8, entry=1, side="long"),
    ZscoreReversion(n=8, entry=1, exit=0.3, side="short"),
    BollingerReversion(n=10, k=1.3),
    BollingerReversion(n=7, k=1, exit="opposite"),
    BollingerReversion(n=12, k=1.5, side="long"),
    BollingerReversion(n=12, k=1.1, exit="opposite", side="short"),
    BuyAndHold(),
]


@pytest.mark.parametrize("seed", range(4))
def test_positions_are_what_the_oracle_wants(seed: int) -> None:
    bars = random_bars(300, seed)
    seen = looked_at(STRATEGIES, [columns(bars)])
    for strategy in STRATEGIES:
        targets = strategy.build().on_bars(seen)  # type: ignore[union-attr]
        found = carried(targets)
        assert found == positions(strategy, bars), strategy
        if not isinstance(strategy, BuyAndHold):
            assert sum(one != other for one, other in pairwise(found)) > 5, strategy


@pytest.mark.parametrize(
    ("path", "price"), [("crypto/coinbase/minute/btcusd", "last"), ("forex/oanda/minute/eurusd", "mid")]
)
def test_positions_on_recorded_bars_are_what_the_oracle_wants(recordings: Path, path: str, price: Any) -> None:
    feed = Replay(path=str(recordings / "lean" / "Data" / path), schema="bar", price=price, batch_rows=1000)
    batches = list(feed.build(Context()).batches())[:2]
    seen = looked_at(STRATEGIES, batches)
    prices = zip(*(seen[name].tolist() for name in ("open", "high", "low", "close")), strict=True)
    ends = seen.times("bar_end").tolist()
    bars = [OracleBar(*each, end - 1, end) for each, end in zip(prices, ends, strict=True)]
    assert len(bars) == 2000
    for strategy in STRATEGIES:
        targets = strategy.build().on_bars(seen)  # type: ignore[union-attr]
        assert carried(targets) == positions(strategy, bars), strategy


@pytest.mark.parametrize("kind", sorted({type(strategy) for strategy in STRATEGIES}, key=lambda kind: kind.__name__))
def test_together_and_in_pieces_they_want_the_same(kind: type[Strategy]) -> None:
    bars = random_bars(200, 11)
    members = [strategy for strategy in STRATEGIES if type(strategy) is kind]
    seen = looked_at(members, [columns(bars)])
    group = kind.build_group(members)
    assert group is not None
    together = np.full((len(members), 200), 99.0)
    for begin in range(0, 200, 7):
        block = min(7, 200 - begin)
        group.look(seen, begin, block)
        for first in range(len(members)):
            part = np.empty((1, block))
            group.on_bars(first, part)
            together[first, begin : begin + block] = part[0]
    for member, targets in zip(members, together, strict=True):
        np.testing.assert_array_equal(targets, member.build().on_bars(seen))  # type: ignore[union-attr]


def test_a_price_that_stands_still_decides_nothing_but_momentum() -> None:
    flat = [OracleBar(10, 10, 10, 10, n * 60, n * 60 + 60) for n in range(60)]
    seen = looked_at(STRATEGIES, [columns(flat)])
    for strategy in STRATEGIES:
        found = set(strategy.build().on_bars(seen)[20:].tolist())  # type: ignore[union-attr]
        if isinstance(strategy, Momentum | BuyAndHold):
            assert found == {float(isinstance(strategy, BuyAndHold))}
        else:
            assert all(target != target for target in found), strategy


def test_rows_of_several_instruments_are_decided_as_if_each_were_alone() -> None:
    apart = {name: random_bars(150, seed) for name, seed in (("A.X", 1), ("B.X", 2))}
    both = [
        columns([bar], (), name)
        for pair in zip(*apart.values(), strict=True)
        for name, bar in zip(apart, pair, strict=True)
    ]
    mixed = looked_at(STRATEGIES, both)
    for strategy in STRATEGIES:
        targets = strategy.build().on_bars(mixed)  # type: ignore[union-attr]
        for place, bars in enumerate(apart.values()):
            alone = strategy.build().on_bars(looked_at([strategy], [columns(bars)]))  # type: ignore[union-attr]
            np.testing.assert_array_equal(targets[place::2], alone)


@pytest.mark.parametrize("size", [1, 3, 400])
def test_a_pair_is_traded_on_both_legs_against_each_other(size: int) -> None:
    apart = {"A.X": random_bars(200, 3), "B.X": random_bars(200, 4), "C.X": random_bars(200, 5)}
    rows = [(name, apart[name][place]) for place in range(200) for name in apart if (place + ord(name[0])) % 4]
    batches = []
    for first in range(0, len(rows), size):
        part = [columns([bar], (), name).columns for name, bar in rows[first : first + size]]
        batches.append(Batch(pa.Table.from_batches(part).unify_dictionaries().combine_chunks().to_batches()[0]))
    strategy = PairReversion(first="A.X", second="B.X", n=20, entry=1.2, exit=0.2)
    targets = strategy.build().on_bars(looked_at([strategy], batches))  # type: ignore[union-attr]
    names = np.array([name for name, _ in rows])
    assert np.isnan(targets[names == "C.X"]).all()
    moments = _moments(rows)
    for leg in ("A.X", "B.X"):
        mine = [sample for moment in moments for sample in _seen_by(leg, moment) if sample[0] in ("A.X", "B.X")]
        wanted = spread_positions(mine, "A.X", "B.X", 20, 1.2, 0.2)
        wanted = [position for (name, _), position in zip(mine, wanted, strict=True) if name == leg]
        assert carried(targets[names == leg]) == wanted
        assert {1.0, -1.0, 0.0} <= set(wanted)


def _moments(rows: Sequence[tuple[str, OracleBar]]) -> list[list[tuple[str, float]]]:
    ends = sorted({bar.end for _, bar in rows})
    return [[(name, float(bar.close)) for name, bar in rows if bar.end == end] for end in ends]


def _seen_by(leg: str, moment: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """A moment as an instrument sees it: its own bar last."""
    return sorted(moment, key=lambda sample: sample[0] == leg)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Breakout(n=0), "expected n of 1 or more, found 0"),
        (lambda: Breakout(exit_n=0), "expected exit_n of 1 or more, found 0"),
        (lambda: Breakout(side="both", exit_n=5), "has no exit_n, found 5"),
        (lambda: Rsi(low=70, high=30), "low below high"),
        (lambda: Rsi(n=0), "expected n of 1 or more"),
        (lambda: Momentum(threshold=-1), "threshold of 0 or more"),
        (lambda: ZscoreReversion(entry=1, exit=1), "exit from 0 and below entry"),
        (lambda: ZscoreReversion(n=1), "n of 2 or more"),
        (lambda: BollingerReversion(k=0), "k of a bollinger_upper above 0"),
        (lambda: PairReversion(first="A.X", second="A.X"), "two instruments"),
    ],
)
def test_parameters_without_a_meaning_are_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
