"""Indicators against exact fractions and plain loops, however bars are batched and instruments mixed."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.features import kernels
from stages.features.feature import Feature, union
from stages.features.indicators import Indicators

EVERY_KIND = union(["sma_1", "sma_3", "sma_20", "sma_70", "ema_1", "ema_5", "rsi_1", "rsi_14", "bollinger_5",
                    "bollinger_20_k1.5", "volatility_2", "volatility_9"])  # fmt: skip


def computed(features, values, owners, cuts=(), indicators=None):
    """Feature values (features x rows, NaN where null), fed in pieces that end at `cuts`."""
    indicators = indicators or Indicators(features)
    parts = []
    borders = [0, *sorted(cuts), len(values)]
    for first, last in pairwise(borders):
        columns = pa.RecordBatch.from_pydict({"close": pa.array(values[first:last], pa.float64(), from_pandas=True)})
        arrays = indicators.compute(columns, owners[first:last])
        for array in arrays:
            array.validate(full=True)
        parts.append(np.array([array.to_numpy(zero_copy_only=False) for array in arrays]).reshape(len(features), -1))
    return np.concatenate(parts, axis=1)


def oracle(feature, values):
    """The feature by its definition, one instrument, NaN until formed; rows without a value are skipped."""
    seen, returns, results = [], [], []
    ema = gain = loss = 0.0
    for x in values:
        result = math.nan
        if math.isfinite(x):
            change = x - seen[-1] if seen else 0.0
            if seen and seen[-1] != 0:
                returns.append(x / seen[-1] - 1.0)
            seen.append(x)
            window = seen[-feature.n :]
            if feature.kind == "ema":
                ema = x if len(seen) == 1 else ema
                alpha = 2.0 / (feature.n + 1.0)
                ema = alpha * x + (1.0 - alpha) * ema
                result = ema if len(seen) >= feature.n else math.nan
            elif feature.kind == "rsi":
                up, down, n, changes = max(change, 0.0), max(-change, 0.0), feature.n, len(seen) - 1
                if changes > n:
                    gain, loss = (gain * (n - 1) + up) / n, (loss * (n - 1) + down) / n
                elif changes:
                    gain, loss = gain + up, loss + down
                    if changes == n:
                        gain, loss = gain / n, loss / n
                if changes >= n and gain + loss > 0:
                    result = 100.0 * gain / (gain + loss)
            elif feature.kind == "volatility":
                window = returns[-feature.n :]
                if len(window) == feature.n:
                    result = deviation(window, 1)
            elif len(window) == feature.n:
                mean = float(sum(map(Fraction, window)) / feature.n)
                result = mean
                if feature.kind == "bollinger_upper":
                    result = mean + feature.k * deviation(window, 0)
                elif feature.kind == "bollinger_lower":
                    result = mean - feature.k * deviation(window, 0)
        results.append(result)
    return results


def deviation(window, freedom):
    exact = [Fraction(x) for x in window]
    mean = sum(exact) / len(exact)
    return math.sqrt(float(sum((x - mean) ** 2 for x in exact) / (len(exact) - freedom)))


def market(rng, rows, instruments, holes=0.0):
    values = np.round(100 + rng.normal(0, 0.05, rows).cumsum(), 2)
    values[rng.random(rows) < holes] = np.nan
    return values, rng.integers(0, instruments, rows)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), instruments=st.integers(1, 4), holes=st.sampled_from([0.0, 0.2]))
def test_features_equal_their_definition(seed, instruments, holes):
    rng = np.random.default_rng(seed)
    values, owners = market(rng, 400, instruments, holes)
    found = computed(EVERY_KIND, values, owners, rng.integers(0, 400, 30))
    for feature, line in zip(EVERY_KIND, found, strict=True):
        for owner in range(instruments):
            wanted = np.array(oracle(feature, values[owners == owner]))
            mine = line[owners == owner]
            if feature.kind in ("sma", "bollinger_middle", "ema", "rsi"):
                np.testing.assert_array_equal(mine, wanted, feature.name)
            else:
                np.testing.assert_allclose(mine, wanted, rtol=1e-9, atol=1e-15, err_msg=feature.name)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_how_bars_are_batched_does_not_change_a_bit(seed):
    rng = np.random.default_rng(seed)
    values, owners = market(rng, 700, 3, 0.05)
    one, other = (computed(EVERY_KIND, values, owners, rng.integers(0, 700, cuts)) for cuts in (0, 100))
    assert one.tobytes() == other.tobytes()


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.floats(1e-6, 1e9, allow_nan=False), min_size=1, max_size=400),
    n=st.integers(1, 150),
)
def test_means_are_correctly_rounded_over_fifteen_orders_of_magnitude(values, n):
    found = computed([Feature.sma(n)], np.array(values), np.zeros(len(values), np.int64))[0]
    for end in range(n, len(values) + 1):
        assert found[end - 1] == float(sum(map(Fraction, values[end - n : end])) / n)


@pytest.mark.parametrize("price", [0.1, 1.1, 97.53, 1e-8, 123456.789])
def test_a_flat_price_is_its_own_mean_with_no_deviation(price):
    values = np.concatenate([np.linspace(price * 3, price, 333), np.full(2000, price)])
    features = union(["sma_7", "sma_100", "bollinger_30", "volatility_30"])
    found = computed(features, values, np.zeros(len(values), np.int64))[:, 333 + 101 :]
    for feature, line in zip(features, found, strict=True):
        assert set(line.tolist()) == {0.0 if feature.kind == "volatility" else price}


def test_a_null_leaves_everything_as_it_was():
    values = np.array([1.0, 2.0, np.nan, 3.0, np.inf, 4.0])
    found = computed([Feature.sma(2)], values, np.zeros(6, np.int64))[0]
    np.testing.assert_array_equal(found, [np.nan, 1.5, np.nan, 2.5, np.nan, 3.5])


def test_a_price_of_nothing_makes_a_return_unknown() -> None:
    found = computed([Feature.volatility(2)], np.array([1.0, 2.0, 0.0, 3.0, 6.0]), np.zeros(5, np.int64))[0]
    np.testing.assert_array_equal(found, [np.nan, np.nan, math.sqrt(2.0), np.nan, math.sqrt(2.0)])


def test_rsi_is_null_while_the_price_has_not_moved():
    found = computed([Feature.rsi(2)], np.array([1.0, 1.0, 1.0, 2.0, 2.0]), np.zeros(5, np.int64))[0]
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, 100.0, 100.0])


def test_a_snapshot_continues_where_it_was_taken():
    rng = np.random.default_rng(5)
    values, owners = market(rng, 500, 3)
    whole = computed(EVERY_KIND, values, owners)
    first = Indicators(EVERY_KIND)
    computed(EVERY_KIND, values[:250], owners[:250], indicators=first)
    second = Indicators(EVERY_KIND)
    second.restore(first.snapshot())
    rest = computed(EVERY_KIND, values[250:], owners[250:], indicators=second)
    assert rest.tobytes() == np.ascontiguousarray(whole[:, 250:]).tobytes()


def test_the_compiled_kernel_does_what_its_python_says(monkeypatch):
    rng = np.random.default_rng(7)
    values, owners = market(rng, 300, 2, 0.1)
    compiled = computed(EVERY_KIND, values, owners, (100, 101))
    for name in ("compute", "extend_sums", "window_means", "window_deviations", "follow_ema", "follow_rsi"):
        monkeypatch.setattr(kernels, name, getattr(kernels, name).py_func)
    python = computed(EVERY_KIND, values, owners, (100, 101))
    np.testing.assert_array_equal(python, compiled)


def test_no_bars_and_no_features():
    empty = pa.RecordBatch.from_pydict({"close": pa.array([], pa.float64())})
    assert [len(array) for array in Indicators([Feature.sma(2)]).compute(empty, np.zeros(0, np.int64))] == [0]
    assert Indicators([]).compute(empty, np.zeros(0, np.int64)) == []
