"""Bars and features brought back from a checkpoint go on as if nothing had happened, wherever they were cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bar_oracle import Tick, batch_of, money, run

from pipeline import Batch, StateMismatch, Watermark
from pipeline.stage import Context
from pipeline.testing import check_snapshots
from stages.features.bars import Bars
from stages.features.feature import union
from stages.features.features import Features

EVERY = 60_000_000_000
NARROW, WIDE, FLOAT = pa.decimal64(18, 4), pa.decimal128(38, 4), pa.float64()
Frames = list[Batch | Watermark]
EVERY_FAMILY = (
    "sma_3", "sma_7_volume", "ema_5", "rsi_4", "bollinger_4", "volatility_4", "stddev_3", "zscore_5", "returns_2",
    "max_4_high", "min_4_low", "median_5", "quantile_6_q0.9", "atr_3", "vwap_4", "max_3_lag2_high", "ema_4_lag1",
)  # fmt: skip
CROSSING = ("ratio_vs_b", "correlation_5_vs_b", "beta_4_vs_a", "spread_zscore_6_vs_b", "rank_1", "rank_3_lag1")


def trades(
    rng: np.random.Generator, kind: pa.DataType, count: int = 240, *, late: bool = False, seconds: int = 9
) -> Frames:
    """Trades of three instruments in random batches, each with a dictionary of its own, watermarks here and there.

    Late ones come after a watermark that said that they could not; from one to the next it is up to `seconds`.
    """
    times = np.cumsum(rng.integers(0, seconds * 1_000_000_000, count)) - 7 * EVERY
    if late:
        times = times - rng.integers(0, 3 * EVERY, count) * (rng.random(count) < 0.2)
    prices = 1_000_000 + np.cumsum(rng.integers(-20, 21, count))
    ticks = [
        Tick(
            int(ts),
            "abc"[rng.integers(3)],
            None if rng.random() < 0.03 else money(int(price)),
            money(int(rng.integers(0, 9999))),
            int(rng.integers(3)),
        )
        for ts, price in zip(times, prices, strict=True)
    ]
    if kind == FLOAT:
        ticks = [tick._replace(price=tick.price and float(tick.price), size=float(tick.size)) for tick in ticks]
    frames: Frames = []
    place = 0
    while place < count:
        part = ticks[place : place + int(rng.integers(1, 40))]
        place += len(part)
        frames.append(batch_of(part, kind, list(rng.permutation(list("zcab")))))
        if rng.random() < 0.7:
            frames.append(Watermark(max(tick.ts for tick in part)))
    return frames


def quotes(rng: np.random.Generator) -> Frames:
    """The same as quotes."""
    frames: Frames = []
    for frame in trades(rng, NARROW):
        if isinstance(frame, Batch):
            columns = frame.columns
            bid = columns.column("price")
            ask = pa.array([None if price is None else price + money(3) for price in bid.to_pylist()], NARROW)
            names = ["ts_event", "instrument_id"]
            frame = Batch(columns.select(names).append_column("bid_price", bid).append_column("ask_price", ask))
        frames.append(frame)
    return frames


def finer(rng: np.random.Generator, made_of: Frames | None = None, **fields: Any) -> Frames:
    """Bars of ten seconds, of trades where nothing else is given, cut anew."""
    table = run(Bars(every="10s", **fields).build(Context()), made_of or trades(rng, NARROW))
    frames: Frames = []
    first = 0
    while first < len(table):
        part = table.slice(first, int(rng.integers(1, 30)))
        first += len(part)
        frames.append(Batch(part.combine_chunks().to_batches()[0]))
        frames.append(Watermark(int(part["ts_event"].cast(pa.int64())[-1].as_py())))
    return frames


def chosen(rng: np.random.Generator, frames: Frames, count: int = 3) -> list[int]:
    """Before the first row, after the end, and some in between."""
    return [0, *rng.integers(1, len(frames) + 1, count).tolist(), len(frames) + 1]


@pytest.mark.parametrize("empty", ["skip", "fill"])
@pytest.mark.parametrize("kind", [NARROW, WIDE, FLOAT])
@pytest.mark.parametrize("seed", range(2))
async def test_r6_bars_of_trades_go_on_from_wherever_they_were_cut(kind: pa.DataType, empty: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = trades(rng, kind, late=seed > 0, seconds=60 if empty == "fill" else 9)
    given = await check_snapshots(Bars(every="1m", empty=empty), frames, cuts=chosen(rng, frames))
    assert given.output is not None
    assert (sum(given.output["is_empty"].to_pylist()) > 9) == (empty == "fill")
    assert given.metrics["bars"] > 20
    assert (given.metrics["late_rows"] > 0) == (seed > 0)
    assert given.metrics["unpriced_rows"] > 0


@pytest.mark.parametrize("price", [None, "bid", "ask", "mid"])
async def test_r6_bars_of_quotes_do(price: Any) -> None:
    rng = np.random.default_rng(5)
    frames = quotes(rng)
    given = await check_snapshots(Bars(every="1m", price=price), frames, cuts=chosen(rng, frames))
    assert given.metrics["bars"] > 20


@pytest.mark.parametrize("empty", ["skip", "fill"])
async def test_r6_bars_of_finer_bars_do(empty: Any) -> None:
    """Which price they are of, they said before the cut."""
    rng = np.random.default_rng(6)
    frames = finer(rng, quotes(rng), price="bid", empty=empty)
    given = await check_snapshots(Bars(every="1m", empty=empty), frames, cuts=chosen(rng, frames))
    assert given.metrics["bars"] > 20


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("bars", [None, "30s", "10s"])
async def test_r6_features_of_all_families_go_on_however_their_bars_come(bars: str | None, seed: int) -> None:
    """As they are, made of finer ones here, and of the interval that was asked for already."""
    rng = np.random.default_rng(seed)
    frames = finer(rng)
    names = EVERY_FAMILY + (CROSSING if seed else ())
    given = await check_snapshots(Features(bars=bars, indicators=names), frames, cuts=chosen(rng, frames))
    assert given.output is not None
    formed = [len(given.output) - given.output[feature.name].null_count for feature in union(names)]
    assert min(formed) > 3


async def test_r6_features_of_trades_are_cut_at_every_single_call() -> None:
    rng = np.random.default_rng(8)
    frames = trades(rng, FLOAT, 90, late=True)
    recipe = Features(bars="1m", indicators=("ema_3", "median_3", "rank_1", "ratio_vs_b"))
    given = await check_snapshots(recipe, frames)
    assert given.output is not None and len(given.output) > 10


def test_r6_a_state_that_does_not_fit_is_refused_and_says_in_what() -> None:
    def made(**fields: Any) -> Any:
        logic = Features(**fields).build(Context())
        logic.warm()
        return logic

    state = made(bars="1m", indicators=("sma_3",)).snapshot()
    with pytest.raises(StateMismatch, match=r"features with features \['sma_4'\], found \['sma_3'\]; a checkpoint bel"):
        made(bars="1m", indicators=("sma_4",)).restore(state)
    with pytest.raises(StateMismatch, match="every_ns 120000000000, found 60000000000"):
        made(bars="2m", indicators=("sma_3",)).restore(state)
    with pytest.raises(StateMismatch, match="expected a state of bars, version 1, found one of features, version 1"):
        Bars(every="1m").build(Context()).restore(state)
    with pytest.raises(StateMismatch, match="features, version 1, found one of features, version 2"):
        made(bars="1m", indicators=("sma_3",)).restore(state | {"version": 2})
    with pytest.raises(StateMismatch, match="expected a state of features, found 17"):
        made(bars="1m", indicators=("sma_3",)).restore(17)
    narrow, wide = (Bars(every="1m").build(Context()) for _ in range(2))
    narrow.on_batch(batch_of([Tick(5, "a", money(1))], NARROW))
    wide.on_batch(batch_of([Tick(5, "a", money(1))], WIDE))
    mixed = narrow.snapshot()
    mixed["state"]["cells"] = wide.snapshot()["state"]["cells"]
    with pytest.raises(StateMismatch, match="expected open bars to be"):
        Bars(every="1m").build(Context()).restore(mixed)
