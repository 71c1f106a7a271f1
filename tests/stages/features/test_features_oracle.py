"""Windows, ranges, weighted prices and lags against their definitions, however bars are cut and instruments mixed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from feature_oracle import wanted
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.features import lag_kernels, range_kernels, weighted_kernels, window_kernels
from stages.features.feature import Feature, union
from stages.features.indicators import Indicators

COLUMNS = ("high", "low", "close", "volume")
EXACT = ("max", "min", "median", "quantile", "returns", "atr")
"""Kinds whose every bit must be the definition's."""
EVERY_KIND = union(
    [
        "stddev_2", "stddev_20", "zscore_2", "zscore_9", "returns_1", "returns_7", "max_1", "max_5", "max_20_lag1_high",
        "min_3_lag1_low", "min_8_volume", "median_4", "median_1", "quantile_50_q0.9", "quantile_5_q0", "quantile_5_q1",
        "quantile_5_q0.123", "atr_1", "atr_14", "vwap_1", "vwap_6", "vwap_6_high", "zscore_9_lag2", "returns_1_lag3",
    ]
)  # fmt: skip


def computed(
    features: Sequence[Feature], bars: Any, owners: Any, cuts: Iterable[int] = (), indicators: Indicators | None = None
) -> Any:
    """Values (features x bars, NaN where null) of `bars`, columns by name, fed in pieces that end at `cuts`."""
    indicators = indicators or Indicators(features)
    parts = []
    for first, last in pairwise([0, *sorted(cuts), len(owners)]):
        columns = pa.RecordBatch.from_pydict(
            {name: pa.array(values[first:last], pa.float64(), from_pandas=True) for name, values in bars.items()}
        )
        arrays = indicators.compute(columns, owners[first:last])
        for array in arrays:
            array.validate(full=True)
        parts.append(np.array([array.to_numpy(zero_copy_only=False) for array in arrays]).reshape(len(features), -1))
    return np.concatenate(parts, axis=1)


def market(rng: Any, rows: int, instruments: int, ugly: bool) -> tuple[Any, Any]:
    """Bars of several instruments mixed; ugly ones stand still, jump, have one price, no volume, or are not known."""
    close = np.round(100 + rng.normal(0, 0.05, rows).cumsum(), 2)
    high, low = close + np.round(rng.random(rows), 2), close - np.round(rng.random(rows), 2)
    volume = np.round(rng.lognormal(0, 3, rows), 4)
    if ugly:
        flat = rng.random(rows) < 0.5
        for values in (high, low, close):
            values[flat] = np.round(close[0])
        volume[rng.random(rows) < 0.6] = 0.0
        close[rng.random(rows) < 0.02] *= 1e6
        for values in (high, low, close, volume):
            values[rng.random(rows) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
        close[rng.random(rows) < 0.01] = 0.0
        volume[rng.random(rows) < 0.01] = -1.0
    return dict(zip(COLUMNS, (high, low, close, volume), strict=True)), rng.integers(0, instruments, rows)


def compare(features: Sequence[Feature], bars: Any, owners: Any, found: Any) -> None:
    for owner in set(owners.tolist()):
        mine = owners == owner
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*(bars[c][mine] for c in COLUMNS), strict=True)]
        for feature, line in zip(features, found, strict=True):
            expected = np.array(wanted(feature, rows))
            if feature.kind in EXACT:
                np.testing.assert_array_equal(line[mine], expected, feature.name)
            else:
                np.testing.assert_allclose(line[mine], expected, rtol=1e-12, atol=1e-11, err_msg=feature.name)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), instruments=st.integers(1, 4), ugly=st.booleans())
def test_features_equal_their_definition(seed: int, instruments: int, ugly: bool) -> None:
    rng = np.random.default_rng(seed)
    bars, owners = market(rng, 250, instruments, ugly)
    compare(EVERY_KIND, bars, owners, computed(EVERY_KIND, bars, owners, rng.integers(0, 250, 20)))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_how_bars_are_batched_does_not_change_a_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bars, owners = market(rng, 300, 3, True)
    whole = computed(EVERY_KIND, bars, owners)
    for size in (1, 7):
        assert computed(EVERY_KIND, bars, owners, range(size, 300, size)).tobytes() == whole.tobytes()
    for owner in range(3):
        mine = owners == owner
        alone = computed(EVERY_KIND, {name: values[mine] for name, values in bars.items()}, np.zeros(mine.sum(), int))
        assert alone.tobytes() == np.ascontiguousarray(whole[:, mine]).tobytes()


def test_one_bar_is_enough_for_windows_of_one() -> None:
    bars = {"high": [3.0], "low": [1.0], "close": [2.0], "volume": [0.0]}
    features = union(["max_1_high", "min_1_low", "median_1", "atr_1", "vwap_1", "returns_1", "max_2"])
    found = dict(zip([f.name for f in features], computed(features, bars, np.zeros(1, np.int64))[:, 0], strict=True))
    assert (found["max_1_high"], found["min_1_low"], found["median_1"], found["atr_1"]) == (3.0, 1.0, 2.0, 2.0)
    assert all(np.isnan(found[name]) for name in ("vwap_1", "returns_1", "max_2"))


@pytest.mark.parametrize("price", [0.1, 97.53, 1e-8, 123456.789])
def test_the_vwap_of_one_price_is_that_price_and_a_flat_price_has_no_score(price: float) -> None:
    rng = np.random.default_rng(3)
    values = np.full(500, price)
    bars = {"high": values, "low": values, "close": values, "volume": rng.lognormal(0, 4, 500)}
    features = union(["vwap_7", "vwap_100", "stddev_9", "zscore_9", "atr_3"])
    found = computed(features, bars, np.zeros(500, np.int64))[:, 100:]
    for feature, line in zip(features, found, strict=True):
        expected = {"vwap": price, "stddev": 0.0, "atr": 0.0, "zscore": np.nan}[feature.kind]
        np.testing.assert_array_equal(line, expected, feature.name)


def test_the_channel_before_a_bar_does_not_hold_it() -> None:
    bars = {"high": np.array([1.0, 5.0, 2.0, 9.0, np.nan, 3.0])}
    found = computed([Feature.max(2, "high").before()], bars, np.zeros(6, np.int64))[0]
    np.testing.assert_array_equal(found, [np.nan, np.nan, 5.0, 5.0, np.nan, 9.0])


def test_volumes_that_have_left_a_window_leave_nothing_behind() -> None:
    rng = np.random.default_rng(4)
    volume = np.concatenate([rng.lognormal(20, 5, 50), np.zeros(10), [0.1], np.zeros(10)])
    close = rng.normal(100, 1, len(volume))
    found = computed([Feature.vwap(5)], {"close": close, "volume": volume}, np.zeros(len(volume), np.int64))[0]
    assert np.isnan(found[54:60]).all()
    assert set(found[60:65].tolist()) == {close[60]}
    assert np.isnan(found[65:]).all()


def test_quantiles_of_one_window_share_it_and_lags_share_what_they_delay() -> None:
    indicators = Indicators(union(["quantile_9_q0.1", "quantile_9_q0.9", "median_9", "median_9_lag1", "median_9_lag2"]))
    snapshot = indicators.snapshot()
    assert snapshot["Windows"]["values"].shape == (1, 2 * 9)
    assert snapshot["Lags"]["values"].shape == (1, 1 + 2)


def test_a_snapshot_continues_where_it_was_taken() -> None:
    bars, owners = market(np.random.default_rng(5), 400, 3, True)
    whole = computed(EVERY_KIND, bars, owners)
    halves = [{name: values[part] for name, values in bars.items()} for part in (slice(200), slice(200, None))]
    first, second = Indicators(EVERY_KIND), Indicators(EVERY_KIND)
    computed(EVERY_KIND, halves[0], owners[:200], indicators=first)
    second.restore(first.snapshot())
    rest = computed(EVERY_KIND, halves[1], owners[200:], indicators=second)
    assert rest.tobytes() == np.ascontiguousarray(whole[:, 200:]).tobytes()


def test_the_compiled_kernels_do_what_their_python_says(monkeypatch: pytest.MonkeyPatch) -> None:
    bars, owners = market(np.random.default_rng(7), 150, 2, True)
    compiled = computed(EVERY_KIND, bars, owners, (100, 101))
    for module, names in (
        (window_kernels, ("follow_windows", "queue", "sort_in", "quantile")),
        (range_kernels, ("follow_ranges",)),
        (weighted_kernels, ("follow_weighted", "added", "product")),
        (lag_kernels, ("follow_lags",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name).py_func)
    monkeypatch.setattr("stages.features.lags.follow_lags", lag_kernels.follow_lags)
    with np.errstate(all="ignore"):
        python = computed(EVERY_KIND, bars, owners, (100, 101))
    np.testing.assert_array_equal(python, compiled)
