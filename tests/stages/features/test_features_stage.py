"""The stage that adds indicators: what it passes on, what it makes, what it refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from bar_oracle import Tick, batch_of, money, plain, run

from pipeline.errors import InputError, SchemaMismatch
from pipeline.frames import Batch, Watermark
from pipeline.stage import Context
from stages.features.bars import Bars
from stages.features.feature import Feature
from stages.features.features import Features
from tests.patience import SECONDS

EVERY = 60_000_000_000
KIND = pa.decimal64(18, 4)


def ticks(count=600, seed=0):
    rng = np.random.default_rng(seed)
    ts = np.cumsum(rng.integers(0, EVERY // 4, count))
    prices = 1_000_000 + np.cumsum(rng.integers(-50, 51, count))
    return [
        Tick(int(t), f"i{rng.integers(3)}", money(int(p)), money(int(rng.integers(1, 99))))
        for t, p in zip(ts, prices, strict=True)
    ]


def frames(rows, size=50):
    for place in range(0, len(rows), size):
        yield batch_of(rows[place : place + size], KIND)
        yield Watermark(rows[min(place + size, len(rows)) - 1].ts)


def built(**fields):
    logic = Features(**fields).build(Context())
    logic.warm()
    return logic


def test_bars_and_their_features_come_out_as_the_schema_said():
    stage = Features(bars="1m", indicators=("sma_3",)).providing(frozenset({Feature.ema(2), "somebody else's need"}))
    told = stage.output_schema({"data": batch_of([], KIND).schema})
    table = run(stage.build(Context()), frames(ticks()))
    assert table.schema.equals(told, check_metadata=True)
    assert table.schema.names[-2:] == ["ema_2", "sma_3"]
    bars = run(Bars(every="1m").build(Context()), frames(ticks()))
    assert table.drop_columns(["ema_2", "sma_3"]).equals(bars)


def test_rows_that_come_too_late_are_counted_for_the_ledger():
    logic = built(bars="1m", indicators=("sma_3",))
    late = batch_of([Tick(5, "a", money(9)), Tick(EVERY + 1, "a", money(3))], KIND)
    run(logic, [batch_of([Tick(1, "a", money(1))], KIND), Watermark(EVERY), late])
    assert logic.late_rows == 1 == logic.metrics()["late_rows"]


def test_features_are_per_instrument_and_null_until_formed():
    rows = plain(run(built(bars="1m", indicators=("sma_3",)), frames(ticks())))
    for name in ("i0", "i1", "i2"):
        closes = [float(row["close"]) for row in rows if row["instrument_id"] == name]
        means = [row["sma_3"] for row in rows if row["instrument_id"] == name]
        assert means[:2] == [None, None]
        assert means[2:] == pytest.approx([sum(closes[i - 2 : i + 1]) / 3 for i in range(2, len(closes))], rel=1e-15)


def test_the_order_of_asking_does_not_matter():
    one = Features(indicators=("sma_3",)).providing(frozenset({Feature.sma(5), Feature.ema(2)}))
    other = Features(indicators=("ema_2", "sma_5", "sma_3")).providing(frozenset())
    assert one == other
    assert hash(one) == hash(other)


def test_bars_of_the_interval_wanted_pass_as_they_are():
    bars = run(Bars(every="1m").build(Context()), frames(ticks()))
    sent = [Batch(batch) for batch in bars.to_batches()]
    through = run(built(bars="1m", indicators=("sma_3",)), sent)
    direct = run(built(bars="1m", indicators=("sma_3",)), frames(ticks()))
    assert through.equals(direct)
    logic = built(bars="1m")
    (at_once,) = [logic.on_batch(sent[0])]
    assert at_once.num_rows == sent[0].num_rows


def test_finer_bars_are_made_coarser_and_coarser_ones_refused():
    bars = run(Bars(every="1m").build(Context()), frames(ticks()))
    finer = [frame for batch in bars.to_batches() for frame in (Batch(batch), Watermark(Batch(batch).max_ts))]
    through = run(built(bars="5m", indicators=("sma_2",)), finer)
    direct = run(built(bars="5m", indicators=("sma_2",)), frames(ticks()))
    for name in set(direct.schema.names) - {"vwap"}:
        assert through[name].equals(direct[name]), name
    np.testing.assert_allclose(through["vwap"].to_numpy(), direct["vwap"].to_numpy(), rtol=1e-12)
    with pytest.raises(SchemaMismatch, match="multiple"):
        run(built(bars="1s"), finer)


def test_bars_of_two_prices_must_be_chosen_from():
    rows = [Tick(place * EVERY, "a", money(place + 1)) for place in range(3)]
    last = run(Bars(every="1m").build(Context()), [batch_of(rows, KIND)]).to_batches()[0]
    kind = last.schema.field("price_type").type
    mixed = pa.array(["bid", "ask"] * last.num_rows).cast(pa.utf8()).dictionary_encode().cast(kind)[: last.num_rows]
    both = Batch(last).with_columns(price_type=mixed)
    with pytest.raises(InputError, match="choose one"):
        run(built(bars="5m"), [both])
    assert plain(run(built(bars="5m", price="ask"), [both]))[0]["open"] == money(2)


def test_a_column_that_is_missing_is_named_with_what_was_found():
    schema = batch_of([], KIND).schema
    with pytest.raises(SchemaMismatch, match=r"'sma_3' needs a column 'close', found ts_event.*bars: 1m"):
        Features(indicators=("sma_3",)).output_schema({"data": schema})
    assert Features(indicators=("sma_3_price",)).output_schema({"data": schema}).names[-1] == "sma_3_price"


def test_a_wrong_indicator_is_refused_when_the_recipe_is_made():
    with pytest.raises(ValueError, match="expected a feature such as"):
        Features(indicators=("sma",))


def test_planning_needs_no_compiler():
    code = (
        "import sys, pyarrow as pa\n"
        "from stages.features.bars import Bars\n"
        "from stages.features.features import Features\n"
        "from stages.features.feature import Feature\n"
        "schema = pa.schema([('ts_event', pa.timestamp('ns', 'UTC')), ('price', pa.decimal64(18, 2))])\n"
        "Bars(every='1m').output_schema({'data': schema})\n"
        "stage = Features(bars='1m').providing(frozenset({Feature.sma(3)}))\n"
        "assert stage.output_schema({'data': schema}).names[-1] == 'sma_3'\n"
        "assert 'numba' not in sys.modules, 'numba was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SECONDS)
