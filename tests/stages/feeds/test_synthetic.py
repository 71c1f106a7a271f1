"""The made-up market is the same wherever and however it is made, and looks like one."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from pipeline.stage import Context
from stages.feeds.synthetic import Synthetic
from stages.schemas import schema_of

KINDS = ("bar", "trade", "quote")


def made(recipe: Synthetic, context: Context | None = None) -> pa.Table:
    batches = [batch.columns for batch in recipe.build(context or Context()).batches()]
    table = pa.Table.from_batches(batches, schema=recipe.output_schema({}))
    table.validate(full=True)
    return table.combine_chunks()


def floats(table: pa.Table, name: str) -> np.ndarray[Any, Any]:
    return table[name].cast(pa.float64()).to_numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_rows", [7, 1000, 65_536, 100_000])
def test_batch_size_changes_nothing(kind: Any, batch_rows: int) -> None:
    recipe = Synthetic(schema=kind, instruments=("A.X", "B.X", "C.X"), rows=70_001, seed=1)
    assert recipe.output_schema({}) == schema_of(kind)
    assert made(msgspec.structs.replace(recipe, batch_rows=batch_rows)).equals(made(recipe))


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_market_begins_with_the_shorter(kind: Any) -> None:
    recipe = Synthetic(schema=kind, instruments=("A.X", "B.X"), rows=80_000, seed=1)
    assert made(msgspec.structs.replace(recipe, rows=66_000)).equals(made(recipe).slice(0, 66_000).combine_chunks())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("bar", "d2f4db32c5168e06"), ("trade", "ee9ae341172f80d6"), ("quote", "f0a50c0bdd0685b4")],
)
def test_the_bytes_are_the_same_on_every_machine(kind: Any, expected: str) -> None:
    table = made(Synthetic(schema=kind, instruments=("A.X", "B.X", "C.X"), rows=70_000, seed=42))
    digest = hashlib.sha256()
    for name in ("ts_event", "close", "high", "volume", "price", "size", "bid_price", "ask_size"):
        if name in table.schema.names:
            digest.update(table[name].chunk(0).buffers()[1])
    assert digest.hexdigest()[:16] == expected


def test_the_seed_decides_and_the_run_s_stands_in() -> None:
    recipe = Synthetic(rows=100)
    assert made(recipe, Context(seed=5)).equals(made(Synthetic(rows=100, seed=5)))
    assert not made(recipe, Context(seed=6)).equals(made(recipe, Context(seed=5)))


def test_bars_are_bars() -> None:
    table = made(Synthetic(instruments=("A.X", "B.X"), rows=20_000, interval="5m", start="2024-03-01"))
    opened, high, low, close = (floats(table, name) for name in ("open", "high", "low", "close"))
    assert (high >= np.maximum(opened, close)).all()
    assert (low <= np.minimum(opened, close)).all()
    assert (low > 0).all()
    assert (opened[2:] == close[:-2]).all()
    assert str(table["bar_start"][0]) == "2024-03-01 00:00:00+00:00"
    assert table["instrument_id"][:4].to_pylist() == ["A.X", "B.X"] * 2
    assert table["ts_event"].equals(table["bar_end"])
    assert set(np.diff(table["ts_event"].cast(pa.int64()).to_numpy()[::2])) == {300 * 10**9}


@pytest.mark.parametrize("kind", ["trade", "quote"])
def test_ticks_come_in_order_at_the_declared_rate(kind: Any) -> None:
    table = made(Synthetic(schema=kind, instruments=tuple("ABCD"), rows=100_000, interval="2s"))
    times = table["ts_event"].cast(pa.int64()).to_numpy()
    assert (np.diff(times) >= 0).all()
    assert (times[-1] - times[0]) / 100_000 == pytest.approx(0.5e9, rel=0.02)
    counts = np.bincount(table["instrument_id"].chunk(0).indices.to_numpy())
    assert counts == pytest.approx(25_000, rel=0.03)
    if kind == "quote":
        assert (floats(table, "ask_price") > floats(table, "bid_price")).all()


def test_returns_have_the_declared_volatility_and_regimes_trend() -> None:
    table = made(Synthetic(rows=200_000, volatility=0.002, trend=0.0))
    returns = np.diff(np.log(floats(table, "close")))
    assert returns.std() == pytest.approx(0.002 * np.sqrt((0.25 + 1 + 1 + 4) / 4), rel=0.1)
    calm = np.log(floats(table, "close"))[::500]
    wild = np.log(floats(made(Synthetic(rows=200_000, volatility=0.002, trend=0.3)), "close"))[::500]
    assert np.diff(wild).std() > 1.5 * np.diff(calm).std()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"instruments": []}, "instruments: expected distinct names"),
        ({"instruments": ["A", "A"]}, "instruments: expected distinct names"),
        ({"rows": -1}, "rows: expected 0 or more, found -1"),
        ({"volatility": 0}, "volatility: expected more than 0"),
        ({"interval": "soon"}, "expected a duration such as '1m', found 'soon'"),
        ({"interval": "0s"}, "interval: expected a duration"),
        ({"start": "yesterday"}, "start: expected a time such as 2024-01-01T00:00:00Z, found 'yesterday'"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(fields, Synthetic)


def test_no_rows_are_no_batches() -> None:
    assert list(Synthetic(rows=0).build(Context()).batches()) == []
