"""How a group shares its work, what it shows before the window, and what it is held against."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
from portfolio_bars import Scripted, columns, random_bars, run, run_alone, run_group

from pipeline.errors import PenstockError
from pipeline.stage import Context
from stages.features.feature import Feature
from stages.portfolio import group as group_module
from stages.portfolio.exits import Exits
from stages.portfolio.fills import Fills
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.sizing import Sizing
from stages.portfolio.strategies.sma_cross import SmaCross
from stages.portfolio.strategy import Strategy, StrategyFailed

WINDOWS = (2, 3, 5, 8, 13)
FEATURES = [Feature.sma(n) for n in WINDOWS]


def many(**settings: Any) -> dict[str, Portfolio]:
    pairs = [(fast, slow) for fast in WINDOWS for slow in WINDOWS if fast < slow] * 3
    terms = [
        {"fills": Fills(fee_bps=5)},
        {"sizing": Sizing(by="weight"), "exits": Exits(trailing_stop=0.002)},
        {"fills": Fills(order="stop", offset_bps=3), "sizing": Sizing(by="equity", share=2.0)},
    ]
    return {
        f"portfolio_{n:02d}": Portfolio(strategy=SmaCross(fast=fast, slow=slow), **terms[n % 3], **settings)  # type: ignore[arg-type]
        for n, (fast, slow) in enumerate(pairs)
    }


@pytest.mark.parametrize("threads", [2, 8])
def test_threads_blocks_and_grouping_change_nothing(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    batch = columns(random_bars(700, seed=6), FEATURES)
    one = run_group(many(threads=1), [batch])
    monkeypatch.setattr(group_module, "BLOCK_BARS", 100)
    monkeypatch.setattr(group_module, "BLOCK_CELLS", 300)
    monkeypatch.setattr(group_module, "EMIT_FILLS", 50)
    monkeypatch.setattr(group_module, "EMIT_FILLS_EACH", 1)
    monkeypatch.setattr(group_module, "TOGETHER", 7)
    shared = run_group(many(threads=threads), [batch])
    alone = run_group(many(threads=threads, grouped=False), [batch])
    for name in [*many(), "portfolio_*_baseline"]:
        assert one.bytes_of(name) == shared.bytes_of(name) == alone.bytes_of(name)
    assert one.batches[0].equals(shared.batches[0])
    assert one.batches[0].equals(alone.batches[0])


def test_a_closed_group_leaves_no_thread() -> None:
    before = threading.active_count()
    run_group(many(threads=4), [columns(random_bars(50), FEATURES)])
    assert threading.active_count() == before


def test_bars_before_the_window_form_what_strategies_remember_and_nothing_else() -> None:
    bars = random_bars(400, seed=8)
    batch = columns(bars, FEATURES)
    members = many()
    since = bars[149].end
    first = members["portfolio_00"]
    windowed = run(first.build_group(members, Context(name="portfolio", active_from_ns=since)), [batch])
    later = run(first.build_group(members, Context(name="portfolio")), [batch.slice(150)])
    for name in [*members, "portfolio_baseline"]:
        assert windowed.bytes_of(name) == later.bytes_of(name)
    assert windowed.batches[0].equals(later.batches[0])
    for cut in (100, 150, 151):
        parts = [batch.slice(0, cut), batch.slice(cut)]
        again = run(first.build_group(members, Context(name="portfolio", active_from_ns=since)), parts)
        assert again.batches[0].equals(windowed.batches[0])


class Remembers(Strategy, frozen=True):
    """Long once it has seen so many bars."""

    bars: int = 10

    def build(self) -> Any:
        return _Remembers(self.bars)


class _Remembers:
    def __init__(self, bars: int) -> None:
        self.left = bars

    def on_bar(self, bar: Any) -> float | None:
        self.left -= 1
        return None if self.left > 0 else 1.0


def test_what_was_decided_before_the_window_is_not_carried_into_it() -> None:
    bars = random_bars(20, single=0)
    wants = (*[1.0] * 10, None, None, 0.0, *[1.0] * 7)
    context = Context(name="portfolio", active_from_ns=bars[9].end)
    found = run(Portfolio(strategy=Scripted(targets=wants)).build(context), [columns(bars)])
    assert [row["ts_event"].value for row in found.rows()] == [bars[14].start]
    formed = run(Portfolio(strategy=Remembers()).build(context), [columns(bars)])
    assert [row["ts_event"].value for row in formed.rows()] == [bars[11].start]


def test_the_baseline_buys_for_all_its_equity_and_holds() -> None:
    bars = random_bars(100, single=0, seed=2)
    recipe = Portfolio(
        strategy=SmaCross(fast=2, slow=5),
        fills=Fills(order="limit", offset_bps=5, fee_bps=10),
        exits=Exits(stop_loss=0.001),
        start_equity=5_000.0,
    )
    found = run_group({"portfolio_0": recipe}, [columns(bars, FEATURES)])
    (fill,) = found.rows("portfolio_*_baseline")
    assert (fill["ts_event"].value, fill["price"]) == (bars[1].start, bars[1].open)
    assert fill["quantity"] == 5_000.0 / bars[0].close
    told = found.batches[0].to_pylist()[-1]
    assert (told["container"], told["baseline"], told["strategy"]) == ("portfolio_*_baseline", True, "BuyAndHold")
    assert told["end_equity"] == pytest.approx(
        5_000.0 + fill["quantity"] * (float(bars[-1].close) - float(bars[1].open)) - fill["fee"]
    )
    alone = run_alone(recipe, [columns(bars, FEATURES)])
    assert [row["container"] for row in alone.batches[0].to_pylist()] == ["portfolio", "portfolio_baseline"]
    assert {member for member, _ in alone.values} == {""}
    without = run_group({"portfolio_0": msgspec.structs.replace(recipe, baseline=False)}, [columns(bars, FEATURES)])
    assert without.batches[0].num_rows == 1


class Fragile(Strategy, frozen=True):
    """Breaks on its first bar, if it does."""

    breaks: bool = False

    def on_bar(self, bar: Any) -> float:
        if self.breaks:
            raise ZeroDivisionError("oh")
        return 1.0


def test_more_failures_than_declared_fail_the_phase_with_their_number() -> None:
    def members(failing: int, **settings: Any) -> dict[str, Portfolio]:
        return {f"p{n}": Portfolio(strategy=Fragile(breaks=n < failing), **settings) for n in range(5)}

    batch = columns(random_bars(20))
    assert run_group(members(2), [batch]).batches[0].column("error").null_count == 4
    with pytest.raises(PenstockError, match=r"3 of 5 portfolios failed, and max_failed_share is 0.5; the first, 'p0'"):
        run_group(members(3), [batch])
    assert run_group(members(4, max_failed_share=0.8), [batch]).batches[0].column("error").null_count == 2
    with pytest.raises(PenstockError, match="1 of 5 portfolios failed"):
        run_group(members(1, max_failed_share=0.0), [batch])
    with pytest.raises(StrategyFailed):
        run_group(members(5, max_failed_share=1.0), [batch])


def test_terms_that_make_no_sense_are_refused() -> None:
    for settings in ({"max_failed_share": 1.5}, {"threads": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            Portfolio(strategy=Fragile(), **settings)  # type: ignore[arg-type]
