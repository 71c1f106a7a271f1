"""Strategies of the user's own, in few lines, and what happens when they go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from portfolio_bars import columns, random_bars, run, run_alone, run_group

from pipeline.registry import Registry
from pipeline.stage import Context
from stages.features.feature import Feature
from stages.portfolio.bars import Bars
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.strategies.sma_cross import SmaCross
from stages.portfolio.strategy import Strategy, StrategyFailed, TargetsOf

BARS = random_bars(200, single=0)

MINE = """
from stages.features.feature import Feature
from stages.portfolio.strategy import Strategy


class Mine(Strategy, frozen=True):
    n: int = 5

    def features(self):
        return [Feature.sma(self.n), "sma_20"]

    def on_bar(self, bar):
        if bar.sma_20 is None:
            return None
        return 1 if bar[Feature.sma(self.n)] > bar.sma_20 else 0
"""


def test_a_strategy_of_fifteen_lines_in_a_file_works(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    assert len(MINE.strip().splitlines()) <= 15
    mine = Registry().find("./mine.py:Mine", Strategy, tmp_path)
    recipe = Portfolio(strategy=mine()).vary({"n": 10})
    assert recipe.needs() == {Feature.sma(10), Feature.sma(20)}
    batch = columns(BARS, [Feature.sma(10), Feature.sma(20)])
    built_in = Portfolio(strategy=SmaCross(fast=10, slow=20))
    assert run_alone(recipe, [batch]).rows() == run_alone(built_in, [batch]).rows() != []


class Rising(Strategy, frozen=True):
    """The same in numpy."""

    def on_bars(self, bars: Bars) -> Any:
        return np.where(np.isnan(bars["sma_20"]), np.nan, bars["sma_10"] > bars.sma_20)


def test_a_vectorised_strategy_of_the_users_works() -> None:
    batch = columns(BARS, [Feature.sma(10), Feature.sma(20)])
    built_in = Portfolio(strategy=SmaCross(fast=10, slow=20))
    assert run_alone(Portfolio(strategy=Rising()), [batch]).rows() == run_alone(built_in, [batch]).rows()


class Counting(Strategy, frozen=True):
    """Keeps state of its own, which every portfolio has for itself."""

    every: int = 3

    def build(self) -> Any:
        recipe = self

        class Decider:
            seen = 0

            def on_bar(self, bar: Any) -> float:
                self.seen += 1
                return float(self.seen % recipe.every == 0)

        return Decider()


def test_a_strategy_with_state_is_built_once_per_portfolio() -> None:
    batch = columns(BARS)
    recipe = Portfolio(strategy=Counting(), baseline=False)
    members = {"a": recipe, "b": recipe.vary({"every": 5})}
    logic = recipe.build_group(members, Context())
    rows = run(logic, [batch]).batches[0].to_pylist()
    assert [row["n_orders"] for row in rows] == [2 * (200 // 3), 2 * (200 // 5) - 1]


def test_a_bar_tells_all_there_is() -> None:
    batch = columns(BARS[:3], [Feature.sma(2)])
    first, second, _ = Bars(batch.columns).rows()
    assert (first.open, first.volume, first.sma_2) == (BARS[0].open, 1.0, None)
    assert second.sma_2 == second["sma_2"] == second[Feature.sma(2)]
    assert (first.ts_event, first.bar_start, first.bar_end) == (BARS[0].end, BARS[0].start, BARS[0].end)
    with pytest.raises(AttributeError, match="sma_3"):
        first.sma_3


class Wrong(Strategy, frozen=True):
    """Gives what is no target."""

    what: Any = None

    def on_bar(self, bar: Any) -> Any:
        return self.what


class WrongArrays(Wrong, frozen=True):
    """Gives what are no targets."""

    def on_bars(self, bars: Bars) -> Any:
        return self.what


@pytest.mark.parametrize("what", ["up", float("nan"), float("inf"), [1]], ids=str)
def test_what_is_no_target_is_refused_with_the_bars_time(what: Any) -> None:
    with pytest.raises(StrategyFailed, match=r"Wrong\(.*2024-01-01 00:01:00.*expected a target such as 1, 0 or -1"):
        run_alone(Portfolio(strategy=Wrong(what=what)), [columns(BARS)])


@pytest.mark.parametrize(
    ("what", "said"),
    [([1.0], r"shape \(1,\), expected \(200,\)"), ("up", "ValueError"), ([np.inf] * 200, "target is infinite")],
)
def test_arrays_that_are_no_targets_are_refused(what: Any, said: str) -> None:
    with pytest.raises(StrategyFailed, match=f"WrongArrays.*2024-01-01 00:01:00.*{said}"):
        run_alone(Portfolio(strategy=WrongArrays(what=what)), [columns(BARS)])


def test_a_missing_column_names_those_there_are() -> None:
    with pytest.raises(StrategyFailed, match=r"expected a column 'sma_20', found ts_event, .*close"):
        run_alone(Portfolio(strategy=Rising()), [columns(BARS)])


def test_a_strategy_that_decides_nothing_says_what_is_missing() -> None:
    with pytest.raises(StrategyFailed, match=r"neither build\(\) nor on_bar\(bar\) nor on_bars\(bars\)"):
        Portfolio(strategy=Strategy()).build(Context())


class Odd(Strategy, frozen=True):
    """Asks for what nobody computes."""

    def features(self) -> Any:
        return ["smile_20"]


def test_features_nobody_computes_name_the_strategy() -> None:
    with pytest.raises(ValueError, match=r"features\(\) of strategy Odd.*smile_20"):
        Portfolio(strategy=Odd()).needs()


def test_recipes_come_from_plain_values() -> None:
    recipe = msgspec.convert(
        {"strategy": SmaCross(fast=3), "fills": {"at": "close", "fee_bps": 10}, "statistics": {"calendar": "xnys"}},
        Portfolio,
        from_attributes=True,
    )
    assert (recipe.fills.fee_bps, recipe.statistics.every, recipe.start_equity) == (10, "auto", 100_000)
    for wrong, said in [
        ({}, "strategy"),
        ({"strategy": SmaCross(), "start_equity": 0}, "start_equity above 0, found 0"),
        ({"strategy": SmaCross(), "fills": {"slippage_bps": -1}}, "slippage_bps from 0"),
        ({"strategy": SmaCross(), "fills": {"fee_bps": 1e9}}, "fee_bps between"),
        ({"strategy": SmaCross(), "fills": {"at": "noon"}}, "noon"),
    ]:
        with pytest.raises(msgspec.ValidationError, match=said):
            msgspec.convert(wrong, Portfolio, from_attributes=True)


class Contrary(SmaCross, frozen=True):
    """Built on another strategy, and decides by itself."""

    def on_bar(self, bar: Any) -> float:
        return -1.0


def test_a_subclass_that_decides_by_itself_is_asked_alone_and_in_a_group() -> None:
    bars = [columns(random_bars(30), [Feature.sma(n) for n in (2, 3, 4)])]
    recipes = {str(slow): Portfolio(strategy=Contrary(fast=2, slow=slow)) for slow in (3, 4)}
    sides = [row["side"] for row in run_alone(recipes["3"], bars).rows()]
    assert sides == [row["side"] for row in run_group(recipes, bars).rows("3")] == [2]


class Undeclared(Strategy, frozen=True):
    def on_bar(self, bar: Any) -> float:
        return float(bar.sma_9 > 0)


class Leaving(Strategy, frozen=True):
    def on_bar(self, bar: Any) -> float:
        raise SystemExit(3)


class LeavingInNumpy(Strategy, frozen=True):
    def on_bars(self, bars: Bars) -> Any:
        raise SystemExit(3)


class NeverThere(Strategy, frozen=True):
    def build(self) -> Any:
        raise SystemExit(3)


def test_a_feature_that_was_not_asked_for_says_where_to() -> None:
    said = r"no attribute 'sma_9'; it has .*close.*; a feature must be among those of features\(\)"
    with pytest.raises(StrategyFailed, match=said):
        TargetsOf(Undeclared()).targets(Bars(columns(BARS).columns))


@pytest.mark.parametrize("kind", [Leaving, LeavingInNumpy, NeverThere])
def test_a_strategy_that_leaves_the_program_only_fails(kind: type[Strategy]) -> None:
    with pytest.raises(StrategyFailed, match="SystemExit: 3"):
        TargetsOf(kind()).targets(Bars(columns(BARS).columns))
