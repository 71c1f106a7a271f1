"""So many bars as `bars_to_form` says are enough to be as if all had been seen, and few less are not."""

from __future__ import annotations

import numpy as np
import pytest

from stages import Feature
from stages.features.indicators import Indicators
from stages.features.warmup import REST, bars_to_form

BARS = 6_000


def of(feature: Feature, closes: np.ndarray) -> np.ndarray:
    owners = np.zeros(len(closes), np.int64)
    array = Indicators([feature]).over([np.ascontiguousarray(closes)], owners, 1)[0]
    return array.to_numpy(zero_copy_only=False)


@pytest.fixture(scope="module")
def closes() -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.001, BARS)))


@pytest.mark.parametrize(
    "feature",
    [
        Feature.sma(50),
        Feature.volatility(20),
        Feature.bollinger(30)[0],
        Feature.ema(1),
        Feature.ema(40),
        Feature.rsi(14),
    ],
    ids=lambda feature: feature.name,
)
def test_a_warm_up_makes_the_first_value_that_of_all_the_data(feature: Feature, closes: np.ndarray) -> None:
    whole = of(feature, closes)
    for begin in (3000, 4321):
        warm = of(feature, closes[begin - bars_to_form(feature) : begin + 5])[-5:]
        np.testing.assert_allclose(warm, whole[begin : begin + 5], rtol=10 * REST)


def test_a_tenth_of_it_would_not_do_for_what_never_forgets(closes: np.ndarray) -> None:
    feature = Feature.ema(40)
    short = of(feature, closes[3000 - bars_to_form(feature) // 10 : 3001])[-1]
    assert abs(short / of(feature, closes)[3000] - 1) > 10 * REST


def test_windows_are_counted_and_averages_forget_a_billionth() -> None:
    assert bars_to_form(Feature.sma(20)) == 21
    assert bars_to_form(Feature.ema(99)) == 100 + 1026
    assert 0.98**1025 > REST >= 0.98**1026
    assert bars_to_form(Feature.rsi(14)) == 15 + 280
