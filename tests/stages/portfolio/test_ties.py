"""What is exactly at a level in decimals is at it, whatever the last bit of a double says, at every price."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from portfolio_bars import carried, columns, looked_at
from portfolio_oracle import OracleBar
from strategy_oracle import positions

from pipeline.stage import Context
from stages.feeds.replay import Replay
from stages.portfolio.strategies._sides import Side
from stages.portfolio.strategies.bollinger_reversion import BollingerReversion
from stages.portfolio.strategies.momentum import Momentum
from stages.portfolio.strategies.pair_reversion import PairReversion
from stages.portfolio.strategies.rsi import Rsi
from stages.portfolio.strategies.zscore_reversion import ZscoreReversion
from stages.portfolio.strategy import Strategy

PRICES = [2.99, 10.0, 61_800.2, *(round(100 + 0.37 * step, 2) for step in range(60))]
STEPS = [0.01, -0.01, 0.1, 1.37]
REVERSIONS: list[Strategy] = [
    kind(**{"n": n, level: 2.0}, side=side)
    for n, side in ((5, "both"), (10, "both"), (10, "long"), (20, "both"), (50, "short"))
    for kind, level in ((ZscoreReversion, "entry"), (BollingerReversion, "k"))
]


def at_prices(closes: Sequence[float]) -> list[OracleBar]:
    return [OracleBar(close, close, close, close, place, place + 1) for place, close in enumerate(closes)]


def wanted_after(strategy: Strategy, closes: Sequence[float]) -> list[float]:
    return carried(strategy.build().on_bars(looked_at([strategy], [columns(at_prices(closes))])))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "strategy",
    [
        ZscoreReversion(n=5, entry=2),
        BollingerReversion(n=5, k=2),
        ZscoreReversion(n=10, entry=3),
        BollingerReversion(n=10, k=3, exit="opposite"),
    ],
    ids=repr,
)
def test_one_of_n_closes_is_never_further_than_the_root_of_the_others(strategy: Strategy) -> None:
    for step in STEPS:
        closes = [close for price in PRICES for close in (*[price] * 20, price + step, *[price] * 20)]
        closes = [round(close, 2) for close in closes]
        bars = at_prices(closes)
        seen = looked_at([strategy], [columns(bars)])
        inside = np.arange(len(bars)) % 41 >= 20  # where the window has left the price before
        targets = strategy.build().on_bars(seen)  # type: ignore[union-attr]
        assert not np.isin(targets[inside], (1.0, -1.0)).any(), step


def test_a_close_back_at_the_mean_leaves_at_every_price() -> None:
    for price in PRICES:
        closes = [
            round(price + step, 2) for step in (0.03, 0.01, 0.02, 0.0, 0.02, 0.01, 0.01)
        ]  # mean of the last: 0.01
        for strategy in (ZscoreReversion(n=4, entry=1), BollingerReversion(n=4, k=1)):
            found = wanted_after(strategy, closes)
            assert found == positions(strategy, at_prices(closes)), (strategy, price)
            assert found[3] == 1.0 and found[4] != 1.0, (strategy, price)


@pytest.mark.parametrize(
    ("path", "price"), [("equity/usa/second/spy", "last"), ("crypto/coinbase/minute/btcusd", "last")]
)
def test_recorded_bars_with_many_ties_are_decided_as_whole_numbers_say(recordings: Path, path: str, price: str) -> None:
    feed = Replay(path=str(recordings / "lean" / "Data" / path), schema="bar", price=price, batch_rows=5000)  # type: ignore[arg-type]
    strategies = [*REVERSIONS, Momentum(n=1, threshold=0.0005, side="both"), Momentum(n=3, side="both")]
    seen = looked_at(strategies, list(feed.build(Context()).batches()))
    closes = seen["close"].tolist()
    bars = at_prices(closes)
    for strategy in strategies:
        found = strategy.build().on_bars(seen)  # type: ignore[union-attr]
        assert carried(found) == positions(strategy, bars), strategy


@pytest.mark.parametrize("side", ["both", "long", "short"])
def test_scores_and_bands_are_one_rule_where_prices_move(side: Side) -> None:
    steps = np.random.default_rng(4).choice([-2, -1, 1, 2], 8000)
    closes = [count / 100 for count in (61_802 + np.cumsum(steps)).tolist()]
    for n, level in ((5, 1.5), (5, 2.0), (8, 1.0), (10, 2.0), (20, 2.0)):
        scores = ZscoreReversion(n=n, entry=level, side=side)
        bands = BollingerReversion(n=n, k=level, side=side)
        found = wanted_after(scores, closes)
        assert found == wanted_after(bands, closes) == positions(scores, at_prices(closes)), (n, level)
        assert any(found) == (level**2 < n - 1)


def test_a_return_of_the_threshold_is_not_above_it() -> None:
    for price in range(100, 10_000, 100):
        for percent in (1, 2, 3, 7):
            closes = [price / 100, (100 + percent) * price / 10_000, price / 100 * (100 - percent) / 100]
            closes = [round(close, 4) for close in (*closes[:2], closes[0], closes[2])]
            strategy = Momentum(n=1, threshold=percent / 100, side="both")
            up, _, down = wanted_after(strategy, closes)[1:]
            assert (up, down) == (0.0, 0.0), closes


def test_an_index_at_its_level_is_not_beyond_it() -> None:
    for price in PRICES:
        closes = [price]
        for step in (0.01, 0.01, 0.01, -0.01, -0.01, -0.01, -0.01, -0.01, -0.01, -0.01):  # 3 of 10: an index of 30
            closes.append(round(closes[-1] + step, 2))
        assert wanted_after(Rsi(n=10, low=30), closes)[-1] == 0.0, price
        mirrored = [round(2 * price - close, 2) for close in closes]
        assert wanted_after(Rsi(n=10, low=10, side="both"), mirrored)[-1] == 0.0, price
        assert wanted_after(Rsi(n=10, low=30.001), closes)[-1] == 1.0, price


def test_a_pair_at_its_level_is_not_beyond_it() -> None:
    strategy = PairReversion(first="A.X", second="B.X", n=5, entry=2)
    for price in PRICES:
        for step in STEPS:
            closes = [price] * 6 + [round(price + step, 2)] + [price] * 6
            batches = [
                columns([bar], (), name)
                for bar, still in zip(at_prices(closes), at_prices([price + 1.5] * 13), strict=True)
                for name, bar in (("B.X", still), ("A.X", bar))
            ]
            targets = strategy.build().on_bars(looked_at([strategy], batches))  # type: ignore[union-attr]
            assert not np.isin(targets, (1.0, -1.0)).any(), (price, step)
