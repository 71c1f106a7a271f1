"""Several instruments from one cash account: steps are never cut, and one account pays for all."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portfolio_bars import MIDNIGHT, MINUTE, columns, random_bars, run_alone, run_group
from portfolio_oracle import OracleBar

from pipeline.errors import InputError
from pipeline.frames import Batch
from stages.features.feature import Feature
from stages.portfolio.exits import Exits
from stages.portfolio.fills import Fills
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.sizing import Sizing
from stages.portfolio.strategies.sma_cross import SmaCross
from stages.portfolio.strategy import Strategy

FEATURES = [Feature.sma(n) for n in (2, 5)]


class Above(Strategy, frozen=True):
    """Long above a price; counts its bars, to see that it sees one instrument's alone."""

    price: float = 100.0

    def build(self) -> Any:
        return _Above(self.price)


class _Above:
    def __init__(self, price: float) -> None:
        self.price, self.last = price, 0

    def on_bar(self, bar: Any) -> float:
        assert bar.bar_end > self.last
        self.last = bar.bar_end
        return 1.0 if bar.close > self.price else 0.0


def interleaved(**bars: list[OracleBar]) -> Batch:
    """Bars of several instruments in the order of their ends, later names first within a step."""
    tables = [pa.Table.from_batches([columns(own, FEATURES, name).columns]) for name, own in reversed(bars.items())]
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    ends = table.column("bar_end").cast(pa.int64()).to_numpy()
    return Batch(table.take(pa.array(np.argsort(ends, kind="stable"))).combine_chunks().to_batches()[0])


def bar(price: float, place: int) -> OracleBar:
    return OracleBar(price, price, price, price, MIDNIGHT + place * MINUTE, MIDNIGHT + (place + 1) * MINUTE)


def test_one_account_pays_for_all_and_every_decision_sees_the_same_equity() -> None:
    a = [bar(price, place) for place, price in enumerate((100.0, 200.0, 100.0))]
    b = [bar(price, place) for place, price in enumerate((50.0, 120.0, 60.0))]
    recipe = Portfolio(
        strategy=Above(price=90.0),
        instruments=("A", "B"),
        sizing=Sizing(by="equity", share=0.5),
        fills=Fills(at="close"),
        start_equity=1_000.0,
    )
    found = run_alone(recipe, [interleaved(A=a, B=b)])
    rows = [(row["instrument_id"], row["side"], row["quantity"], row["cash_after"]) for row in found.rows()]
    assert rows == [
        ("A", 1, 5.0, 500.0),
        ("B", 1, 0.5 * 1_500 / 120, -250.0),
        ("B", 2, 6.25, 125.0),
    ]
    told = found.statistics()
    assert told["end_equity"] == 125.0 + 5 * 100.0
    assert told["n_trades"] == 1
    assert told["max_leverage"] == pytest.approx((5 * 200 + 750) / 1_500)
    assert told["instrument_id"] == "A, B"


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 500), max_size=6), terms=st.integers(0, 2))
def test_any_cut_gives_the_same_bytes_grouped_or_not(cuts: list[int], terms: int) -> None:
    a, b, c = (random_bars(200, seed=seed) for seed in (1, 2, 3))
    batch = interleaved(A=a, B=b[40:], C=c[::2])
    settings = [
        {"instruments": ("A", "B", "C")},
        {"instruments": "all", "sizing": Sizing(by="weight", share=0.3, band=0.01)},
        {"instruments": ("C", "A"), "fills": Fills(order="limit", offset_bps=5), "exits": Exits(stop_loss=0.003)},
    ][terms]
    members = {
        f"portfolio_{n}": Portfolio(strategy=strategy, **settings)  # type: ignore[arg-type]
        for n, strategy in enumerate([SmaCross(fast=2, slow=5), Above(), SmaCross(fast=2, slow=5, short=True)])
    }
    alone = {name: msgspec.structs.replace(recipe, grouped=False) for name, recipe in members.items()}
    places = sorted({0, *(min(cut, batch.num_rows) for cut in cuts), batch.num_rows})
    parts = [batch.slice(first, last - first) for first, last in pairwise(places)]
    whole, cut = run_group(members, [batch]), run_group(alone, parts)
    assert sum(len(whole.rows(name)) for name in members) > 20
    for name in [*members, "portfolio_*_baseline"]:
        assert whole.bytes_of(name) == cut.bytes_of(name)
    assert whole.batches[0].equals(cut.batches[0])


def test_two_bars_of_one_instrument_in_a_step_are_refused() -> None:
    twice = [bar(100.0, 0), bar(100.0, 0)]
    with pytest.raises(InputError, match="one bar of A for each interval"):
        run_alone(Portfolio(strategy=Above(), instruments="all"), [interleaved(A=twice, B=[bar(50.0, 1)])])


def test_a_declared_instrument_that_never_comes_is_named() -> None:
    with pytest.raises(InputError, match="no bar was of instrument 'C'; there were bars of A, B"):
        run_alone(Portfolio(strategy=Above(), instruments=("A", "C")), [interleaved(A=[bar(1.0, 0)], B=[bar(1.0, 0)])])


def test_the_baseline_holds_equal_parts_of_the_first_step() -> None:
    a = [bar(price, place) for place, price in enumerate((100.0, 100.0, 200.0))]
    b = [bar(price, place) for place, price in enumerate((50.0, 50.0, 50.0))]
    c = [bar(10.0, 2)]
    recipe = Portfolio(strategy=Above(price=1e9), instruments="all", start_equity=1_000.0)
    found = run_group({"portfolio_0": recipe}, [interleaved(A=a, B=b, C=c)])
    rows = found.rows("portfolio_*_baseline")
    assert [(row["instrument_id"], row["quantity"]) for row in rows] == [("B", 10.0), ("A", 5.0)]
    assert found.statistics("portfolio_*_baseline")["end_equity"] == 1_500.0


def test_one_or_several_are_declared_but_not_both() -> None:
    with pytest.raises(ValueError, match="leave one of them out"):
        Portfolio(strategy=Above(), instrument="A", instruments=("A", "B"))
    for wrong in ((), ("A", "A")):
        with pytest.raises(ValueError, match="expected instruments, each once"):
            Portfolio(strategy=Above(), instruments=wrong)
