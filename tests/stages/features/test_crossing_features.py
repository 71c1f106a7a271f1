"""Pairs and ranks: what an instrument's bar is held against, in whatever order and pieces the bars come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bar_oracle import Tick, batch_of, money
from feature_oracle import crossing
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.frames import Batch, Watermark
from pipeline.stage import Context
from stages.features import moment_kernels
from stages.features.feature import Feature, union
from stages.features.features import Features
from stages.features.indicators import Indicators

NS_UTC = pa.timestamp("ns", tz="UTC")
INSTRUMENT = pa.dictionary(pa.int32(), pa.utf8())
CROSSING = tuple(
    union(
        [
            "ratio_vs_b", "correlation_5_vs_b", "beta_4_vs_b", "spread_zscore_6_vs_b", "rank_1", "rank_5",
            "ratio_vs_c", "ratio_lag1_vs_b", "rank_1_lag2", "correlation_2_vs_c",
        ]
    )
)  # fmt: skip
Row = tuple[int, str, float]


def market(seed: int, moments: int = 60, ugly: bool = False) -> list[Row]:
    """Some of the instruments a, b, c, d at each moment, in random order; ugly values stand still or are not known."""
    rng = np.random.default_rng(seed)
    prices = dict.fromkeys("abcd", 100.0)
    rows: list[Row] = []
    for ts in range(moments):
        for name in rng.permutation(list("abcd")):
            prices[name] *= 1.0 if ugly and rng.random() < 0.5 else float(np.exp(rng.normal(0, 0.01)))
            if rng.random() < 0.75:
                unknown = ugly and rng.random() < 0.1
                rows.append((ts, str(name), float(rng.choice([np.nan, np.inf, 0.0])) if unknown else prices[name]))
    return rows


def batch(rows: Sequence[Row]) -> Batch:
    """With a dictionary of this batch's own."""
    times = pa.array([row[0] for row in rows], pa.int64()).cast(NS_UTC)
    names = pa.array([row[1] for row in rows], pa.utf8()).dictionary_encode().cast(INSTRUMENT)
    closes = pa.array([row[2] for row in rows], pa.float64())
    return Batch.from_pydict({"ts_event": times, "instrument_id": names, "bar_end": times, "close": closes})


def frames(rows: Sequence[Row], cuts: Iterable[int]) -> Iterator[Batch | Watermark]:
    for first, last in pairwise([0, *sorted(cuts), len(rows)]):
        if first < last:
            yield batch(rows[first:last])
            yield Watermark(rows[last - 1][0])


def sent(rows: Sequence[Row], cuts: Iterable[int] = (), features: Sequence[Feature] = CROSSING) -> list[dict[str, Any]]:
    logic = Features(indicators=tuple(features)).build(Context())
    logic.warm()
    batches: list[Batch] = []
    for frame in frames(rows, cuts):
        batches += (logic.on_batch(frame) if isinstance(frame, Batch) else logic.on_watermark(frame)) or ()
    return [row for batch in [*batches, *logic.on_end()] for row in batch.columns.to_pylist()]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), ugly=st.booleans())
def test_pairs_and_ranks_equal_their_definition(seed: int, ugly: bool) -> None:
    rows = market(seed, ugly=ugly)
    found = sent(rows, np.random.default_rng(seed).integers(0, len(rows), 20))
    assert [(row["ts_event"].value, row["instrument_id"]) for row in found] == [row[:2] for row in rows]
    for feature in CROSSING:
        line = np.array([row[feature.name] for row in found], np.float64)
        expected = crossing(feature, rows)
        # Correlations of returns that differ in their last digits only are noise, here and there.
        np.testing.assert_allclose(line, expected, rtol=1e-9, atol=1e-9, err_msg=feature.name)
        if feature.kind in ("ratio", "rank"):
            np.testing.assert_array_equal(line, expected, feature.name)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_neither_cuts_nor_the_order_within_a_moment_change_a_bit(seed: int) -> None:
    rows = market(seed, ugly=True)
    whole = {(row["ts_event"].value, row["instrument_id"]): repr(row) for row in sent(rows)}
    turned = sorted(rows, key=lambda row: (row[0], -ord(row[1])))
    for other, size in ((rows, 1), (rows, 7), (turned, len(rows)), (turned, 3)):
        found = sent(other, range(size, len(rows), size))
        assert {(row["ts_event"].value, row["instrument_id"]): repr(row) for row in found} == whole


def test_bars_of_a_moment_wait_until_it_is_over_and_others_do_not() -> None:
    rows = [(1, "a", 2.0), (1, "b", 4.0), (2, "a", 3.0)]
    logic = Features(indicators=("ratio_vs_b",)).build(Context())
    assert list(logic.on_batch(batch(rows[:1]))) == []
    assert list(logic.on_watermark(Watermark(1))) == []
    assert list(logic.on_batch(batch(rows[1:2]))) == []
    (first, second) = logic.on_watermark(Watermark(2))
    assert [batch.columns["ratio_vs_b"].to_pylist() for batch in (first, second)] == [[0.5], [None]]
    assert list(logic.on_batch(batch(rows[2:]))) == []
    (last,) = logic.on_end()
    assert last.columns["ratio_vs_b"].to_pylist() == [0.75]
    plain = Features(indicators=("sma_1",)).build(Context())
    assert plain.on_batch(batch(rows)).num_rows == 3


def test_the_others_bar_of_later_is_never_seen_and_an_old_one_is() -> None:
    rows = [(1, "a", 2.0), (2, "b", 4.0), (3, "a", 2.0), (9, "a", 6.0), (10, "b", 1.0)]
    found = sent(rows, features=[Feature.ratio("b")])
    assert [row["ratio_vs_b"] for row in found] == [None, None, 0.5, 1.5, None]


def test_equal_returns_share_their_rank_and_one_alone_has_none() -> None:
    prices = {0: "1111", 1: "2235", 2: "2"}
    rows = [(ts, "abcd"[place], float(price)) for ts in prices for place, price in enumerate(prices[ts])]
    found = sent(rows, features=[Feature.rank(1)])
    assert [row["rank_1"] for row in found] == [None] * 4 + [1 / 6, 1 / 6, 2 / 3, 1.0] + [None]


def test_a_pair_that_does_not_move_has_neither_score_nor_correlation() -> None:
    rows = [(ts, name, price) for ts in range(30) for name, price in (("a", 97.53), ("b", 31.07))]
    found = sent(rows, features=union(["spread_zscore_5_vs_b", "correlation_5_vs_b", "beta_5_vs_b"]))
    assert all(row[name] is None for row in found for name in row if "_vs_" in name)


def test_an_instrument_that_never_comes_is_missed() -> None:
    with pytest.raises(InputError, match=r"'ratio_vs_x' looks at an instrument that no bar was of; all were of a, b"):
        sent([(1, "a", 1.0), (2, "b", 1.0)], features=[Feature.ratio("x")])


def test_time_must_not_go_back() -> None:
    with pytest.raises(InputError, match=r"1970-01-01T00:00:00.000000001 after one of 1970-01-01T00:00:00.000000002"):
        sent([(2, "a", 1.0), (1, "b", 1.0)], features=[Feature.ratio("b")])


@pytest.mark.parametrize("size", [1, 7, 600])
def test_bars_made_here_are_held_against_each_other(size: int) -> None:
    every = 60_000_000_000
    rng = np.random.default_rng(2)
    ts = np.cumsum(rng.integers(0, every // 4, 600))
    prices = 1_000_000 + np.cumsum(rng.integers(-500, 501, 600))
    ticks = [
        Tick(int(t), str(rng.choice(["b", "c", "d"])), money(int(p)), money(1)) for t, p in zip(ts, prices, strict=True)
    ]
    logic = Features(bars="1m", indicators=("ratio_vs_b", "rank_2", "sma_2")).build(Context())
    logic.warm()
    found: list[Any] = []
    for first in range(0, 600, size):
        part = ticks[first : first + size]
        logic.on_batch(batch_of(part, pa.decimal64(18, 4)))
        found += logic.on_watermark(Watermark(part[-1].ts))
    table = pa.Table.from_batches([batch.columns for batch in [*found, *logic.on_end()]])
    ends = table["bar_end"].cast(pa.int64()).to_pylist()
    names = table["instrument_id"].cast(pa.utf8()).to_pylist()
    rows = list(zip(ends, names, map(float, table["close"].to_pylist()), strict=True))
    assert len(rows) > 100
    for feature in (Feature.ratio("b"), Feature.rank(2)):
        line = [np.nan if value is None else value for value in table[feature.name].to_pylist()]
        np.testing.assert_array_equal(line, crossing(feature, rows))


def test_a_snapshot_continues_where_it_was_taken() -> None:
    rows = [row for row in market(3) if row[1] != "d"]
    middle = next(place for place in range(len(rows) // 2, len(rows)) if rows[place][0] > rows[place - 1][0])
    owners = np.array(["bca".index(row[1]) for row in rows], np.int64)
    times, values = np.array([row[0] for row in rows], np.int64), np.array([row[2] for row in rows])

    def given(indicators: Indicators, part: slice) -> Any:
        others = [{"b": 0, "c": 1, None: -1}[other] for other in indicators.others]
        arrays = indicators.over([values[part]], owners[part], 3, times[part], others)
        return np.array([array.to_numpy(zero_copy_only=False) for array in arrays])

    whole = given(Indicators(CROSSING), slice(None))
    first, second = Indicators(CROSSING), Indicators(CROSSING)
    given(first, slice(middle))
    second.restore(first.snapshot())
    np.testing.assert_array_equal(given(second, slice(middle, None)), whole[:, middle:])


def test_the_compiled_kernels_do_what_their_python_says(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = market(8, 40, ugly=True)
    compiled = sent(rows)
    for name in ("follow_moments", "follow_pair", "related", "mean_and_square", "rank_in_place"):
        monkeypatch.setattr(moment_kernels, name, getattr(moment_kernels, name).py_func)
    with np.errstate(all="ignore"):
        python = sent(rows)
    for one, other in zip(compiled, python, strict=True):
        for name in one:
            assert one[name] == other[name] or one[name] == pytest.approx(other[name], rel=1e-9, nan_ok=True), name
