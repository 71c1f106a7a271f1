"""Features as people write them."""

from __future__ import annotations

import msgspec
import pytest

from stages.features.feature import Feature, union


@pytest.mark.parametrize(
    ("feature", "name"),
    [
        (Feature.sma(20), "sma_20"),
        (Feature.ema(10, "volume"), "ema_10_volume"),
        (Feature.rsi(), "rsi_14"),
        (Feature.bollinger(20)[0], "bollinger_upper_20"),
        (Feature.bollinger(20, 2.5)[2], "bollinger_lower_20_k2.5"),
        (Feature.bollinger(20, 2.5, "trade_count")[0], "bollinger_upper_20_k2.5_trade_count"),
        (Feature.volatility(30), "volatility_30"),
    ],
)
def test_a_name_says_everything_and_reads_back(feature, name):
    assert feature.name == name
    assert Feature.parse(name) == (feature,)
    assert msgspec.convert(msgspec.to_builtins(feature), Feature) == feature


def test_a_union_holds_each_feature_once_in_one_order():
    one = union(["sma_20", Feature.ema(5), "bollinger_20"])
    other = union([*Feature.bollinger(20), "ema_5", Feature.sma(20), "sma_20"])
    assert one == other
    assert len({feature.name for feature in one}) == len(one) == 5


@pytest.mark.parametrize(
    "text", ["sma", "sma_0", "sma20", "mean_20", "sma_20_k2", "volatility_1", "sma_99999999999", ""]
)
def test_what_is_no_feature_is_refused(text):
    with pytest.raises(ValueError, match=r"expected|has no k"):
        Feature.parse(text)


def test_yaml_spelling_is_checked():
    assert msgspec.convert({"type": "sma", "n": 3}, Feature) == Feature.sma(3)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"type": "sma", "n": 0}, Feature)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"type": "sma", "length": 3}, Feature)
