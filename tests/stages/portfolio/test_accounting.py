"""The books against an oracle that shares no code with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portfolio_bars import MINUTE, Scripted, ScriptedArrays, columns, random_bars, run_alone
from portfolio_oracle import OracleBar, drawdown, exposed_ns, keep_books, round_trips

from stages.portfolio.accounting import (
    FILL,
    MOST_FILLS_A_BAR,
    TERMS,
    Block,
    account_kernel,
    opening_holdings,
    opening_state,
    settle,
    terms_of,
)
from stages.portfolio.exits import Exits
from stages.portfolio.fills import Fills
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.sizing import Sizing

TARGETS = st.sampled_from([None, None, 0.0, 1.0, 1.0, -1.0, 0.5, -0.25, 2.0])


@st.composite
def markets(draw: st.DrawFn) -> tuple[list[OracleBar], list[float | None]]:
    """Bars with jumps between them and gaps in time, and targets."""
    prices = draw(st.lists(st.tuples(_PRICE, _PRICE, st.integers(0, 3)), min_size=1, max_size=60))
    bars, at = [], 1_704_067_200_000_000_000
    for first, last, gap in prices:
        at += gap * MINUTE
        bars.append(OracleBar(first, max(first, last), min(first, last), last, at, at + MINUTE))
        at += MINUTE
    return bars, draw(st.lists(TARGETS, min_size=len(bars), max_size=len(bars)))


_PRICE = st.floats(0.5, 2_000.0, allow_nan=False)


@pytest.mark.parametrize("at", ["next_open", "close"])
@settings(max_examples=150, deadline=None)
@given(market=markets(), fee=st.sampled_from([0.0, 10.0, -1.0]), slippage=st.sampled_from([0.0, 3.0]))
def test_the_books_agree_with_exact_fractions(
    at: Any, market: tuple[list[OracleBar], list[float | None]], fee: float, slippage: float
) -> None:
    bars, targets = market
    recipe = Portfolio(
        strategy=Scripted(quantity=1.5, targets=tuple(targets)),
        fills=Fills(at=at, fee_bps=fee, slippage_bps=slippage),
    )
    found = run_alone(recipe, [columns(bars)])
    books = keep_books(bars, targets, at=at, quantity=1.5, fee_bps=fee, slippage_bps=slippage)

    rows = found.rows()
    assert len(rows) == len(books.fills)
    for row, fill in zip(rows, books.fills, strict=True):
        assert (row["ts_event"].value, row["side"]) == (fill.ts, fill.side)
        for name in ("quantity", "price", "fee", "slippage", "position_after", "cash_after"):
            assert row[name] == pytest.approx(float(getattr(fill, name)), rel=1e-12, abs=1e-8)

    told = found.statistics()
    assert told["n_orders"] == books.orders
    assert told["n_fills"] == len(books.fills)
    kept = found.values["", "equity"].column("equity").to_pylist()
    assert kept == pytest.approx([float(value) for value in books.equity], rel=1e-12)
    assert told["end_equity"] == pytest.approx(float(books.equity[-1]), rel=1e-12)
    assert told["fees"] == pytest.approx(float(sum(fill.fee for fill in books.fills)), rel=1e-9, abs=1e-9)
    assert told["slippage"] == pytest.approx(float(sum(fill.slippage for fill in books.fills)), rel=1e-9)

    results = [float(result) for result in round_trips(books.fills)]
    assert told["n_trades"] == len(results)
    if results:
        assert told["expectancy"] == pytest.approx(sum(results) / len(results), rel=1e-7, abs=1e-7)
    span = bars[-1].end - bars[0].start
    assert told["exposure_time"] == exposed_ns(books.fills, bars[0].start, bars[-1].end) / span
    deepest, longest, below = drawdown(bars, books.equity, 100_000.0)
    assert told["max_drawdown"] == pytest.approx(float(deepest), abs=1e-12)
    assert told["max_drawdown_duration"] == pytest.approx(longest / 1e9, abs=0) or deepest < 1e-12
    assert told["time_under_water"] == pytest.approx(below / span, abs=1e-12) or deepest < 1e-12
    if min(books.equity) > 0:
        shares = [float(value / equity) for value, equity in zip(books.exposure, books.equity, strict=True)]
        assert told["net_exposure_mean"] == pytest.approx(sum(shares) / len(bars), abs=1e-12)
        assert told["gross_exposure_mean"] == pytest.approx(sum(map(abs, shares)) / len(bars), abs=1e-12)
        assert told["max_leverage"] == pytest.approx(max(map(abs, shares)), rel=1e-12)
        traded = float(sum(fill.quantity * fill.price for fill in books.fills))
        mean = float(sum(books.equity)) / len(bars)
        assert told["turnover"] == pytest.approx(traded / mean, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(market=markets())
def test_targets_of_python_and_of_arrays_fill_alike(market: tuple[list[OracleBar], list[float | None]]) -> None:
    bars, targets = market
    one = run_alone(Portfolio(strategy=Scripted(targets=tuple(targets))), [columns(bars)])
    other = run_alone(Portfolio(strategy=ScriptedArrays(targets=tuple(targets))), [columns(bars)])
    assert one.rows() == other.rows()


def test_a_flip_closes_and_opens_in_two_fills() -> None:
    bars = random_bars(3, single=0)
    found = run_alone(Portfolio(strategy=Scripted(targets=(1, -1, None)), fills=Fills(at="close")), [columns(bars)])
    assert [(row["side"], row["quantity"], row["position_after"]) for row in found.rows()] == [
        (1, 1.0, 1.0),
        (2, 1.0, 0.0),
        (2, 1.0, -1.0),
    ]
    assert found.statistics()["n_trades"] == 1


def test_a_decision_fills_at_the_next_open_and_carries_its_time() -> None:
    bars = random_bars(3, single=0)
    found = run_alone(Portfolio(strategy=Scripted(targets=(1, None, None))), [columns(bars)])
    (fill,) = found.rows()
    assert fill["ts_event"].value == bars[1].start
    assert fill["price"] == bars[1].open


def test_an_order_of_the_last_bar_is_counted_and_not_filled() -> None:
    found = run_alone(Portfolio(strategy=Scripted(targets=(None, 1))), [columns(random_bars(2))])
    told = found.statistics()
    assert (told["n_orders"], told["n_fills"], found.rows()) == (1, 0, [])


def test_a_target_below_zero_times_nothing_leaves_no_negative_zero() -> None:
    bars = random_bars(3)
    found = run_alone(Portfolio(strategy=Scripted(targets=(1, -0.0, None)), fills=Fills(at="close")), [columns(bars)])
    assert str(found.rows()[-1]["position_after"]) == "0.0"


def test_equity_that_runs_out_leaves_returns_and_exposures_undefined() -> None:
    bars = [
        OracleBar(100, 100, 100, 100, 0, MINUTE),
        OracleBar(100, 100, 1, 1, MINUTE, 2 * MINUTE),
        OracleBar(1, 1, 1, 1, 2 * MINUTE, 3 * MINUTE),
    ]
    recipe = Portfolio(strategy=Scripted(quantity=20, targets=(1, None, None)), start_equity=1_000)
    told = run_alone(recipe, [columns(bars)]).statistics()
    assert told["end_equity"] == 1_000 - 20 * 99
    assert told["max_drawdown"] > 1
    for name in ("sharpe", "cagr", "max_leverage", "gross_exposure_mean", "volatility_ann", "turnover"):
        assert told[name] is None, name


def plain_block(bars: list[OracleBar]) -> Block:
    """Bars of one instrument that all trade, every one of them kept."""
    count = len(bars)
    prices = {f"{name}s": np.array([float(getattr(bar, name)) for bar in bars]) for name in OracleBar._fields[:4]}
    return Block(
        **prices,
        starts=np.array([bar.start for bar in bars]),
        ends=np.array([bar.end for bar in bars]),
        trades=np.arange(count) % 7 != 3,
        owners=np.zeros(count, np.int64),
        steps=np.arange(count + 1),
        slots=np.arange(count),
        kept_steps=np.arange(count),
        kept_before=np.arange(count + 1),
        volatilities=np.linspace(0.1, 0.5, count)[None],
    ).sealed()


@pytest.mark.parametrize(
    ("fills", "sizing", "exits"),
    [
        (Fills(fee_bps=10, slippage_bps=2), Sizing(), Exits()),
        (Fills(), Sizing(by="equity", share=0.7, lot=0.1), Exits()),
        (Fills(at="close"), Sizing(by="equity", share=0.7, lot=0.1), Exits()),
        (Fills(order="limit", offset_bps=5, expires_bars=3), Sizing(by="weight"), Exits(stop_loss=0.004)),
        (Fills(order="stop", offset_bps=5, fee_minimum=1), Sizing(by="volatility"), Exits(trailing_stop=0.004)),
        (Fills(), Sizing(), Exits(take_profit=0.003, stop_loss=0.003, intrabar="best", reenter="at_once")),
    ],
)
def test_the_compiled_ledger_is_its_python_self(
    monkeypatch: pytest.MonkeyPatch, fills: Fills, sizing: Sizing, exits: Exits
) -> None:
    from stages.portfolio import ledger, marking, plain, rules

    random = np.random.default_rng(7)
    members, length = 3, 200
    block = plain_block(random_bars(length, seed=3))
    targets = random.choice([np.nan, 0.0, 1.0, 1.0, -1.0, 0.5], size=(members, length))
    recipe = Portfolio(strategy=Scripted(quantity=1.5), fills=fills, sizing=sizing, exits=exits)
    terms = np.array([terms_of(recipe)] * members, TERMS)

    def call(kernel: Any) -> tuple[int, bytes, bytes, bytes, bytes]:
        state, kept = opening_state([1_000.0] * members), np.zeros((members, length))
        holdings, fills = opening_holdings(members, 1), np.zeros(MOST_FILLS_A_BAR * members * length, FILL)
        written = kernel(state, holdings, terms, targets, block, kept, fills)
        return written, fills[:written].tobytes(), state.tobytes(), holdings.tobytes(), kept.tobytes()

    compiled = call(account_kernel())
    assert compiled[0] > 20
    for module in (ledger, marking, plain, rules):
        for name, function in vars(module).copy().items():
            if name != "account" and hasattr(function, "py_func"):
                monkeypatch.setattr(module, name, function.py_func)
    assert call(account_kernel().py_func) == compiled  # type: ignore[attr-defined]


@pytest.mark.parametrize("equity", [1_000.0, 130.0, 9.0])
@pytest.mark.parametrize("sizing", [Sizing(), Sizing(by="equity", share=0.7, lot=0.1), Sizing(by="equity", share=40)])
def test_walking_from_change_to_change_is_walking_bar_by_bar_to_the_last_bit(sizing: Sizing, equity: float) -> None:
    random = np.random.default_rng(11)
    members, length = 6, 700
    block = plain_block(random_bars(length, seed=5))
    stays = random.random((members, length)) < np.linspace(0.2, 0.99, members)[:, None]
    targets = np.where(stays, np.nan, random.choice([0.0, 1.0, -1.0, 0.5], size=(members, length)))
    for member in range(0, members, 2):  # given again on every bar, as crossings do
        for bar in range(1, length):
            if np.isnan(targets[member, bar]):
                targets[member, bar] = targets[member, bar - 1]
    recipe = Portfolio(strategy=Scripted(quantity=1.5), fills=Fills(fee_bps=10, slippage_bps=2), sizing=sizing)

    def call(plain: int) -> tuple[int, bytes, bytes, bytes, bytes]:
        terms = np.array([terms_of(recipe)] * members, TERMS)
        assert terms["plain"].all()
        terms["plain"] = plain
        state, kept = opening_state([equity] * members), np.zeros((members, length))
        holdings, fills = opening_holdings(members, 1), np.zeros(MOST_FILLS_A_BAR * members * length, FILL)
        written = account_kernel()(state, holdings, terms, targets, block, kept, fills)
        settle(state)
        return written, fills[:written].tobytes(), state.tobytes(), holdings.tobytes(), kept.tobytes()

    assert call(1) == call(0)
