"""Features as people write them."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pytest

from pipeline.errors import SchemaMismatch
from stages.features.columns import with_features
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
        (Feature.max(20, "high").before(), "max_20_lag1_high"),
        (Feature.quantile(50, 0.9), "quantile_50_q0.9"),
        (Feature.quantile(50, 0.123456789, "low").before(3), "quantile_50_q0.123456789_lag3_low"),
        (Feature.quantile(5, 1), "quantile_5_q1"),
        (Feature.bollinger(20, 2.0000001)[0], "bollinger_upper_20_k2.0000001"),
        (Feature.atr(), "atr_14"),
        (Feature.vwap(9, "vwap"), "vwap_9_vwap"),
        (Feature.returns(5).before().before(2), "returns_5_lag3"),
        (Feature.ratio("ETHUSD.COINBASE"), "ratio_vs_ETHUSD.COINBASE"),
        (Feature.ratio("ETHUSD", "high").before(), "ratio_lag1_high_vs_ETHUSD"),
        (Feature.spread_zscore(50, "ES_H5.CME"), "spread_zscore_50_vs_ES_H5.CME"),
        (Feature.rank(20, "volume"), "rank_20_volume"),
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
    "text",
    ["sma", "sma_0", "sma20", "mean_20", "sma_20_k2", "volatility_1", "sma_99999999999", "", "zscore_1", "max"],
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quantil_50_q0.9", "did you mean 'quantile'?"),
        ("quantile_50", "expected q of a quantile between 0 and 1"),
        ("quantile_50_q1.5", "expected q of a quantile between 0 and 1.*1.5"),
        ("sma_20_q1", "a sma has no q, found 1.0; a quantile has one"),
        ("beta_60", "expected another instrument for a beta, such as 'other: ETHUSD.COINBASE', found none"),
        ("sma_20_vs_ETHUSD", "a sma has no other instrument, found 'ETHUSD'; ratio, correlation, beta"),
        ("ratio", "expected another instrument for a ratio"),
        ("ratio_5_vs_ETHUSD", "did you mean 'ratio'?"),
        ("max_20_high_lag1", "expected a column of bars such as 'close', found 'high_lag1'"),
        ("atr_5_high", "an atr is of high, low and close and has no column, found 'high'"),
        ("sma_20_lag9999999", "expected a lag between 0 and 1000000, found 9999999"),
    ],
)
def test_what_was_meant_is_suggested(text, said):
    with pytest.raises(ValueError, match=said):
        Feature.parse(text)


def test_fields_that_do_not_belong_to_a_kind_are_refused_in_yaml():
    for wrong in ({"type": "atr", "n": 3, "column": "low"}, {"type": "ratio", "n": 3, "other": "A"}, {"type": "sma"}):
        with pytest.raises(msgspec.ValidationError, match=r"expected n|has no"):
            msgspec.convert(wrong, Feature)
    told = {"type": "max", "n": 20, "lag": 1, "column": "high"}
    assert msgspec.convert(told, Feature) == Feature.max(20, "high").before()


def test_columns_that_are_missing_are_named_for_every_kind():
    schema = pa.schema([("close", pa.float64()), ("high", pa.float64())])
    for name, missing in (("atr_3", "low"), ("vwap_3", "volume"), ("max_3_low", "low"), ("beta_3_low_vs_A", "low")):
        with pytest.raises(SchemaMismatch, match=rf"'{name}' needs a column '{missing}', found close, high"):
            with_features(schema, Feature.parse(name), None)
