"""One portfolio or a thousand, one batch or many: the same bytes."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portfolio_bars import MINUTE, Scripted, ScriptedArrays, columns, random_bars, run, run_alone, run_group
from portfolio_oracle import OracleBar

from pipeline.errors import InputError, SchemaMismatch
from pipeline.frames import Batch
from pipeline.stage import Context
from stages.features.feature import Feature
from stages.portfolio import group as group_module
from stages.portfolio.fills import Fills
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.records import PORTFOLIOS
from stages.portfolio.strategies.ema_cross import EmaCross
from stages.portfolio.strategies.sma_cross import SmaCross
from stages.portfolio.strategy import Strategy, StrategyFailed

FEATURES = [Feature.sma(n) for n in (2, 3, 5, 8, 13)] + [Feature.ema(n) for n in (3, 8)]


def mixed_members() -> dict[str, Portfolio]:
    """Compiled and Python strategies, several terms, in an order that is not the order of their classes."""
    random = np.random.default_rng(5)
    wanted = [None if x < 0 else float(x) for x in random.integers(-1, 2, 3_000).tolist()]
    costly = Fills(fee_bps=10, slippage_bps=1)
    return {
        "portfolio_0": Portfolio(strategy=SmaCross(fast=2, slow=5), fills=costly),
        "portfolio_1": Portfolio(strategy=Scripted(targets=tuple(wanted))),
        "portfolio_2": Portfolio(strategy=EmaCross(fast=3, slow=8), fills=Fills(at="close")),
        "portfolio_3": Portfolio(strategy=SmaCross(fast=3, slow=13, short=True), start_equity=5_000.0),
        "portfolio_4": Portfolio(strategy=ScriptedArrays(targets=tuple(wanted), quantity=3)),
        "portfolio_5": Portfolio(strategy=SmaCross(fast=5, slow=8, quantity=0.5), fills=costly),
    }


def test_grouped_and_alone_give_the_same_bytes() -> None:
    batch = columns(random_bars(2_500, interval=17 * MINUTE), FEATURES)
    members = mixed_members()
    together = run_group(members, [batch])
    for name, recipe in members.items():
        alone = run_alone(recipe, [batch])
        assert together.bytes_of(name) == alone.bytes_of()
    (rows,) = together.batches
    assert rows.schema == PORTFOLIOS
    assert rows.column("container").to_pylist() == [*members, "portfolio_*_baseline"]


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 2_500), max_size=8))
def test_any_cut_of_the_stream_gives_the_same_bytes(cuts: list[int]) -> None:
    batch = columns(random_bars(2_500, seed=2), FEATURES)
    members = mixed_members()
    places = sorted({0, *cuts, 2_500})
    parts = [batch.slice(a, b - a) for a, b in pairwise(places)]
    whole, cut = run_group(members, [batch]), run_group(members, [*parts, batch.slice(0, 0)])
    for name in members:
        assert whole.bytes_of(name) == cut.bytes_of(name)
    assert whole.batches[0].equals(cut.batches[0])


def test_batches_of_one_bar_and_small_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = columns(random_bars(300, seed=4), FEATURES)
    members = mixed_members()
    whole = run_group(members, [batch])
    single = run_group(members, [batch.slice(place, 1) for place in range(300)])
    monkeypatch.setattr(group_module, "BLOCK_BARS", 7)
    monkeypatch.setattr(group_module, "BLOCK_CELLS", 11)
    monkeypatch.setattr(group_module, "EMIT_FILLS", 5)
    monkeypatch.setattr(group_module, "EMIT_FILLS_EACH", 1)
    small = run_group(members, [batch])
    assert len(small.fills["portfolio_1"]) > 1
    for name in members:
        assert whole.bytes_of(name) == single.bytes_of(name) == small.bytes_of(name)


def test_fills_are_handed_over_rarely() -> None:
    batch = columns(random_bars(2_500, seed=2), FEATURES)
    found = run_group(mixed_members(), [batch.slice(place, 50) for place in range(0, 2_500, 50)])
    assert {len(parts) for parts in found.fills.values()} == {1}


class Fragile(Strategy, frozen=True):
    """Breaks at a close above its limit."""

    limit: float = 1e9

    def on_bar(self, bar: Any) -> float:
        if bar.close > self.limit:
            raise ZeroDivisionError("oh")
        return 1.0


def test_a_failing_strategy_names_itself_and_the_bar() -> None:
    bars = random_bars(10, single=0)
    with pytest.raises(StrategyFailed, match=r"Fragile\(quantity=1.0, limit=0\).*2024-01-01 00:01:00: ZeroDiv"):
        run_alone(Portfolio(strategy=Fragile(limit=0)), [columns(bars)])


def test_a_member_that_fails_leaves_the_others_alone() -> None:
    bars = random_bars(50, single=0)
    members = {
        "good": Portfolio(strategy=Fragile()),
        "bad": Portfolio(strategy=Fragile(limit=max(bar.close for bar in bars) - 1e-9)),
    }
    found = run_group(members, [columns(bars)])
    assert found.bytes_of("good") == run_alone(members["good"], [columns(bars)]).bytes_of()
    rows = found.batches[0].to_pylist()
    assert rows[0]["error"] is None
    assert "ZeroDivisionError: oh" in rows[1]["error"]
    assert rows[1]["sharpe"] is None
    assert rows[1]["n_fills"] is None
    assert found.statistics("bad")["error"] == rows[1]["error"]


def test_a_group_whose_members_all_fail_fails() -> None:
    members = {f"portfolio_{n}": Portfolio(strategy=Fragile(limit=0)) for n in range(3)}
    with pytest.raises(StrategyFailed):
        run_group(members, [columns(random_bars(5))])


def test_no_bars_at_all_give_a_row_without_figures() -> None:
    found = run_alone(Portfolio(strategy=SmaCross()), [])
    told = found.statistics()
    assert (told["n_fills"], told["n_periods"], told["end_equity"]) == (0, 0, 100_000.0)
    assert told["total_return"] is None
    assert told["sharpe"] is None
    assert found.batches[0].column("baseline").to_pylist() == [False, True]
    assert found.values["", "equity"].num_rows == 0


def test_bars_of_two_instruments_are_refused_by_name_unless_one_is_declared() -> None:
    bars = random_bars(20, single=0)
    first, other = columns(bars, instrument="A.X").columns, columns(bars, instrument="B.X").columns
    script = Scripted(targets=(1.0, None, None) * 10)
    for batches in ([first, other], [_interleaved(first, other)]):
        with pytest.raises(InputError, match=r"A\.X, B\.X"):
            run_alone(Portfolio(strategy=script), [Batch(batch) for batch in batches])
    declared = Portfolio(strategy=script, instrument="B.X")
    told = run_alone(declared, [Batch(_interleaved(first, other)), Batch(first)])
    alone = run_alone(declared, [Batch(other)])
    assert told.bytes_of() == alone.bytes_of()
    assert told.statistics()["instrument_id"] == "B.X"
    with pytest.raises(InputError, match=r"'C\.X', all were of others: A\.X, B\.X"):
        run_alone(Portfolio(strategy=script, instrument="C.X"), [Batch(first), Batch(other)])


def _interleaved(first: Any, other: Any) -> Any:
    import pyarrow as pa

    table = pa.Table.from_batches([first, other]).unify_dictionaries().combine_chunks()
    order = np.arange(2 * first.num_rows).reshape(2, -1).T.ravel()
    return table.take(pa.array(order)).combine_chunks().to_batches()[0]


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_a_bar_that_comes_twice_is_refused_wherever_the_stream_is_cut(cut: int) -> None:
    bars = random_bars(4)
    twice = [*bars[:2], *bars[1:]]
    batches = [columns(twice[:cut]), columns(twice[cut:])]
    with pytest.raises(InputError, match="expected one bar for each interval, found two from 2024-01-01 00:01:00 to"):
        run_alone(Portfolio(strategy=Scripted(targets=(1.0,) * 5)), batches)


def test_bars_out_of_order_are_refused() -> None:
    batch = columns(random_bars(5))
    with pytest.raises(InputError, match="order of bar_end"):
        run_alone(Portfolio(strategy=Scripted(targets=(None,) * 10)), [batch, batch])


def test_prices_may_be_exact_decimals() -> None:
    import pyarrow as pa

    bars = [
        OracleBar(*(round(price, 2) for price in bar[:4]), bar.start, bar.end) for bar in random_bars(200, single=0)
    ]
    batch = columns(bars, FEATURES)
    exact = batch.with_columns(
        **{
            name: pa.array([f"{price:.2f}" for price in batch.columns.column(name).to_pylist()]).cast(kind)
            for name, kind in [
                ("open", pa.decimal64(18, 8)),
                ("high", pa.decimal64(18, 2)),
                ("low", pa.decimal128(38, 24)),
                ("close", pa.decimal64(18, 8)),
            ]
        }
    )
    recipe = Portfolio(strategy=SmaCross(fast=2, slow=5))
    assert run_alone(recipe, [batch]).bytes_of() == run_alone(recipe, [exact]).bytes_of()


def test_what_is_missing_is_found_before_the_run() -> None:
    recipe = Portfolio(strategy=SmaCross(fast=2, slow=5))
    schema = columns(random_bars(1), FEATURES[:2]).schema
    with pytest.raises(SchemaMismatch, match="sma_5, which 'features' does not send"):
        recipe.output_schema({"features": schema})
    assert recipe.output_schema({"features": None}) == PORTFOLIOS


def test_parameters_vary_the_strategy_and_nothing_else() -> None:
    recipe = Portfolio(strategy=SmaCross(), start_equity=7.0)
    varied = recipe.vary({"fast": 3, "slow": 9})
    assert varied == Portfolio(strategy=SmaCross(fast=3, slow=9), start_equity=7.0)
    assert recipe.parameter_fields() == ("quantity", "fast", "slow", "short", "start_equity")
    assert varied.needs() == {Feature.sma(3), Feature.sma(9)}
    with pytest.raises(ValueError, match="no parameter 'fats'; its fields are quantity, fast, slow, short"):
        recipe.vary({"fats": 3})
    with pytest.raises(ValueError, match="expected fast below slow, found fast=9 and slow=9"):
        recipe.vary({"fast": 9, "slow": 9})
    with pytest.raises(ValueError, match="int"):
        recipe.vary({"fast": "many"})


class Funded(Strategy, frozen=True):
    start_equity: int = 1


def test_cash_at_the_start_varies_unless_the_strategy_calls_a_field_so() -> None:
    varied = Portfolio(strategy=SmaCross()).vary({"fast": 3, "start_equity": 500})
    assert varied == Portfolio(strategy=SmaCross(fast=3), start_equity=500.0)
    assert varied.parameters()["start_equity"] == 500.0
    assert "start_equity" not in Portfolio(strategy=SmaCross()).parameters()
    with pytest.raises(ValueError, match="expected a start_equity above 0, found -1"):
        varied.vary({"start_equity": -1.0})
    funded = Portfolio(strategy=Funded())
    assert funded.parameter_fields() == ("quantity", "start_equity")
    assert funded.vary({"start_equity": 3}) == Portfolio(strategy=Funded(start_equity=3))


def test_recipes_and_their_checks_never_import_numba() -> None:
    code = (
        "import sys; from stages.portfolio.portfolio import Portfolio\n"
        "from stages.execution.execution import Execution\n"
        "from stages.portfolio.strategies.sma_cross import SmaCross; from pipeline.stage import Context\n"
        "from stages.portfolio.strategies.ema_cross import EmaCross\n"
        "p = Portfolio(strategy=SmaCross()).vary({'fast': 3}); p.needs(); p.output_schema({}); Execution()\n"
        "p.build_group({'a': p}, Context()); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_group_says_what_it_did() -> None:
    batch = columns(random_bars(300), FEATURES)
    recipe = Portfolio(strategy=SmaCross(fast=2, slow=5))
    logic = recipe.build_group({"a": recipe, "b": recipe.vary({"slow": 8})}, Context())
    logic.warm()
    outputs = [*logic.on_batch(batch), *logic.on_end()]  # type: ignore[attr-defined]
    fills = sum(output.columns.num_rows for output in outputs if getattr(output, "key", "") == "fills") - 1
    assert logic.metrics() == {"portfolios": 2, "failed": 0, "bars": 300, "fills": fills, "skipped_decisions": 0}
    assert logic.progress() == "2 portfolios, 300 bars"


class Meddles(Strategy, frozen=True):
    """Writes to the prices it is shown."""

    def on_bars(self, bars: Any) -> Any:
        close = bars.close
        close *= 2
        return np.ones(len(bars))


class Holds(Strategy, frozen=True):
    """Buys and holds; or wants more than any number can hold."""

    far: bool = False

    def on_bar(self, bar: Any) -> Any:
        return 10**400 if self.far else 1


def test_no_strategy_can_change_the_market_of_the_others() -> None:
    bars = columns(random_bars(20))
    alone = run_group({"good": Portfolio(strategy=Holds())}, [bars])
    found = run_group({"good": Portfolio(strategy=Holds()), "bad": Portfolio(strategy=Meddles())}, [bars])
    rows = {row["container"]: row for row in found.batches[0].to_pylist()}
    assert "read-only" in rows["bad"]["error"]
    assert rows["good"]["error"] is None
    assert rows["good"]["end_equity"] == alone.batches[0].to_pylist()[0]["end_equity"]


def test_a_target_no_number_can_hold_takes_out_its_own_member_only() -> None:
    bars = columns(random_bars(20))
    members = {"good": Portfolio(strategy=Holds()), "far": Portfolio(strategy=Holds(far=True))}
    rows = {row["container"]: row for row in run_group(members, [bars]).batches[0].to_pylist()}
    assert "OverflowError" in rows["far"]["error"]
    assert rows["good"]["error"] is None


def test_a_run_in_which_nothing_could_trade_says_why(caplog: pytest.LogCaptureFixture) -> None:
    bars = columns(random_bars(20), SmaCross(fast=2, slow=3).features()).columns
    silent = bars.set_column(bars.schema.names.index("volume"), "volume", pa.array([0.0] * 20))
    with caplog.at_level("WARNING", "penstock.portfolio"):
        given = run_alone(Portfolio(strategy=SmaCross(fast=2, slow=3)), [Batch(silent)])
    assert given.rows() == []
    assert caplog.messages == [
        "nothing traded in any of 20 bars (volume 0, or is_empty), so no order could fill; where the volume "
        "is not known leave its column out, or empty"
    ]


def test_a_window_without_bars_says_so(caplog: pytest.LogCaptureFixture) -> None:
    bars = columns(random_bars(20), SmaCross(fast=2, slow=3).features())
    after = int(bars.columns["bar_end"].cast(pa.int64())[-1].as_py())
    context = Context(name="portfolio", active_from_ns=after)
    with caplog.at_level("WARNING", "penstock.portfolio"):
        run(Portfolio(strategy=SmaCross(fast=2, slow=3)).build(context), [bars])
    assert caplog.messages == [
        "no bar came to the portfolios, so nothing was decided; is the phase's window in the data?"
    ]
