"""Bars of trades against a plain Python program, however the stream is cut and watermarks fall."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from bar_oracle import Tick, bars_of, batch_of, money, plain, run
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError, SchemaMismatch
from pipeline.frames import NS_UTC, Batch, Watermark
from pipeline.stage import Context
from stages.features import bar_closing, bar_kernels
from stages.features.bars import Bars

EVERY = 60_000_000_000
NARROW, WIDE = pa.decimal64(18, 4), pa.decimal128(38, 4)


def bars(**fields):
    return Bars(every="1m", **fields).build(Context())


def cut(ticks, rng, kind, lateness=0):
    """The ticks in random batches, each with its own dictionary, and true watermarks between them."""
    frames = []
    place, reached = 0, ticks[0].ts if ticks else 0
    while place < len(ticks):
        size = int(rng.integers(1, 40))
        part = ticks[place : place + size]
        names = sorted({tick.instrument for tick in part} | {"z"})
        rng.shuffle(names)
        frames.append(batch_of(part, kind, names))
        place += size
        reached = max(reached, *(tick.ts for tick in part))
        if rng.random() < 0.6:
            frames.append(Watermark(reached - lateness - int(rng.integers(0, EVERY)) * (rng.random() < 0.3)))
    return frames


def market(rng, count, instruments=3, step=5_000_000_000, lateness=0):
    ts = np.cumsum(rng.integers(0, step, count)) - 7 * EVERY + 13
    if lateness:
        ts = ts + rng.integers(-lateness // 2, lateness // 2, count)
    prices = 1_000_000 + np.cumsum(rng.integers(-20, 21, count))
    return [
        Tick(
            int(t),
            f"i{rng.integers(instruments)}",
            money(int(p)),
            money(int(rng.integers(0, 9999))),
            int(rng.integers(3)),
        )
        for t, p in zip(ts, prices, strict=True)
    ]


def check(table, expected):
    rows = plain(table)
    assert len(rows) == len(expected)
    for row, bar in zip(rows, expected, strict=True):
        vwap = bar.pop("vwap")
        assert {name: row[name] for name in bar} == bar
        assert row["vwap"] == pytest.approx(vwap, rel=1e-14) if vwap is not None else row["vwap"] is None
        assert row["ts_event"] == row["ts_recv"] == bar["bar_end"]
        assert (row["interval_ns"], row["bar_kind"], row["price_type"], row["source"], row["is_empty"]) == (
            EVERY,
            "time",
            "last",
            "internal",
            False,
        )
    assert [row["ingest_seq"] for row in rows] == list(range(len(rows)))


@pytest.mark.parametrize("kind", [NARROW, WIDE])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), instruments=st.integers(1, 4))
def test_bars_equal_the_oracle_however_the_stream_is_cut(kind, seed, instruments):
    rng = np.random.default_rng(seed)
    ticks = market(rng, int(rng.integers(1, 300)), instruments)
    check(run(bars(), cut(ticks, rng, kind)), bars_of(ticks, EVERY))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_rows_out_of_order_within_the_lateness_find_their_bar(seed):
    rng = np.random.default_rng(seed)
    ticks = market(rng, 300, lateness=3 * EVERY)
    logic = bars()
    check(run(logic, cut(ticks, rng, NARROW, 3 * EVERY)), bars_of(ticks, EVERY))
    assert logic.metrics()["late_rows"] == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_two_cuts_give_the_same_rows_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    ticks = [tick._replace(price=float(tick.price), size=float(tick.size)) for tick in market(rng, 300, lateness=EVERY)]
    one, other = (run(bars(), cut(ticks, rng, pa.float64(), EVERY)) for _ in range(2))
    assert plain(one) == plain(other)


def test_time_before_1970_is_aligned_as_time_after():
    ticks = [Tick(-1, "a", money(1)), Tick(-EVERY, "a", money(2)), Tick(-EVERY - 1, "a", money(3))]
    rows = plain(run(bars(), [batch_of(sorted(ticks), NARROW)]))
    assert [row["bar_start"] for row in rows] == [-2 * EVERY, -EVERY]


def test_an_interval_is_closed_at_its_start_and_open_at_its_end():
    ticks = [Tick(0, "a", money(1)), Tick(EVERY - 1, "a", money(2)), Tick(EVERY, "a", money(3))]
    rows = plain(run(bars(), [batch_of(ticks, NARROW)]))
    assert [(row["open"], row["close"], row["is_complete"]) for row in rows] == [
        (money(1), money(2), True),
        (money(3), money(3), False),
    ]


def test_a_bar_is_sent_by_the_watermark_that_reaches_its_end_and_not_before():
    logic = bars()
    logic.on_batch(batch_of([Tick(5, "a", money(1)), Tick(EVERY + 5, "a", money(2))], NARROW))
    assert list(logic.on_watermark(Watermark(EVERY - 1))) == []
    assert [batch.num_rows for batch in logic.on_watermark(Watermark(EVERY))] == [1]
    assert list(logic.on_watermark(Watermark(EVERY))) == []


def test_rows_for_a_bar_that_was_sent_are_dropped_and_counted():
    logic = bars()
    late = batch_of([Tick(5, "a", money(9)), Tick(EVERY + 1, "a", money(3))], NARROW)
    table = run(logic, [batch_of([Tick(1, "a", money(1))], NARROW), Watermark(EVERY), late])
    assert [row["close"] for row in plain(table)] == [money(1), money(3)]
    assert logic.metrics() == {"bars": 2, "late_rows": 1, "unpriced_rows": 0}
    assert logic.late_rows == 1


@pytest.mark.parametrize(("kind", "nothing"), [(NARROW, None), (pa.float64(), None), (pa.float64(), float("nan"))])
def test_rows_without_a_price_make_no_bar_and_are_counted(kind, nothing):
    one = Decimal(1) if kind == NARROW else 1.0
    ticks = [Tick(1, "a", nothing, one), Tick(2, "b", one, one), Tick(3, "b", nothing, one)]
    logic = bars()
    rows = plain(run(logic, [batch_of(ticks, kind)]))
    assert [(row["instrument_id"], row["trade_count"], row["close"]) for row in rows] == [("b", 1, one)]
    assert logic.metrics()["unpriced_rows"] == 2


def test_a_volume_that_does_not_fit_is_an_error_that_says_what_to_do():
    size = Decimal(10) ** 13
    ticks = [Tick(place, "a", money(1), size) for place in range(12)]
    with pytest.raises(InputError, match="give sizes as decimal128"):
        run(bars(), [batch_of(ticks, NARROW)])
    assert plain(run(bars(), [batch_of(ticks, WIDE)]))[0]["volume"] == 12 * size


def test_decimals_of_38_digits_stay_exact():
    high, low = Decimal("1234567890123456789012345678901234.5678"), Decimal("-0.0001")
    ticks = [Tick(1, "a", high, Decimal(1)), Tick(2, "a", low, Decimal(2))]
    row = plain(run(bars(), [batch_of(ticks, WIDE)]))[0]
    assert (row["open"], row["high"], row["low"], row["close"]) == (high, high, low, low)


def test_more_open_bars_than_the_first_arrays_hold():
    ticks = [Tick(place * EVERY, f"i{place % 2}", money(place)) for place in range(5000)]
    check(run(bars(), [batch_of(ticks, NARROW)]), bars_of(ticks, EVERY))


def test_a_stream_without_instruments_is_one_instrument_without_a_name():
    columns = batch_of([Tick(1, "a", money(1)), Tick(2, "b", money(2))], NARROW).columns
    columns = columns.drop_columns(["instrument_id", "aggressor_side"])
    row = plain(run(bars(), [Batch(columns)]))[0]
    assert (row["instrument_id"], row["trade_count"], row["buy_volume"]) == ("", 2, None)


def test_a_dictionary_with_a_name_twice_and_null_codes():
    names = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None], pa.int32()), pa.array(["a", "a", "b"]))
    columns = batch_of([Tick(place, "a", money(1)) for place in range(4)], NARROW).with_columns(instrument_id=names)
    rows = plain(run(bars(), [columns]))
    assert [(row["instrument_id"], row["trade_count"]) for row in rows] == [("a", 2), ("b", 1), ("", 1)]


def test_missing_columns_are_named():
    with pytest.raises(SchemaMismatch, match=r"input 'data'.*found ts_event, level"):
        Bars(every="1m").output_schema({"data": pa.schema([("ts_event", NS_UTC), ("level", pa.int64())])})
    with pytest.raises(SchemaMismatch, match="bid_price"):
        Bars(every="1m", price="bid").output_schema({"data": batch_of([], NARROW).schema})


def test_the_schema_told_beforehand_is_the_schema_sent():
    batch = batch_of([Tick(1, "a", money(1))], NARROW)
    told = Bars(every="1m").output_schema({"data": batch.schema})
    assert run(bars(), [batch]).schema.equals(told, check_metadata=True)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from([NARROW, WIDE]))
def test_empty_intervals_repeat_the_last_close(seed, kind):
    rng = np.random.default_rng(seed)
    ticks = market(rng, int(rng.integers(1, 120)), step=3 * EVERY)
    real = {(bar["bar_end"], bar["instrument_id"]): bar for bar in bars_of(ticks, EVERY)}
    rows = plain(run(bars(empty="fill"), cut(ticks, rng, kind)))
    order = list(dict.fromkeys(tick.instrument for tick in ticks))
    first = {name: min(end for end, owner in real if owner == name) for name in order}
    complete = ticks[-1].ts // EVERY * EVERY
    wanted = [
        (end, name)
        for end in range(min(first.values()), complete + EVERY + 1, EVERY)
        for name in order
        if end >= first[name] and (end <= complete or (end, name) in real)
    ]
    assert [(row["bar_end"], row["instrument_id"]) for row in rows] == wanted
    closes: dict[str, Decimal] = {}
    for row in rows:
        bar = real.get((row["bar_end"], row["instrument_id"]))
        assert row["is_empty"] == (bar is None)
        if bar is None:
            last = closes[row["instrument_id"]]
            assert [row[name] for name in ("open", "high", "low", "close")] == [last] * 4
            assert (row["volume"], row["trade_count"], row["vwap"]) == (0, 0, None)
        else:
            assert (row["open"], row["close"], row["volume"]) == (bar["open"], bar["close"], bar["volume"])
        closes[row["instrument_id"]] = row["close"]


def test_a_wrong_time_stamp_does_not_fill_the_memory():
    ticks = [Tick(0, "a", money(1)), Tick(10**9 * 86400 * 365 * 40, "a", money(1))]
    with pytest.raises(InputError, match="no bar for more than"):
        run(bars(empty="fill"), [batch_of(ticks, NARROW)])


@pytest.mark.parametrize("kind", [NARROW, pa.float64()])
def test_the_compiled_kernel_does_what_its_python_says(kind, monkeypatch):
    rng = np.random.default_rng(3)
    ticks = market(rng, 400, lateness=EVERY)
    if kind == pa.float64():
        ticks = [tick._replace(price=float(tick.price), size=float(tick.size)) for tick in ticks]
    frames = cut(ticks, rng, kind, EVERY)
    fine = Bars(every="10s")
    compiled = run(bars(), frames)
    finer = [Batch(batch) for batch in run(fine.build(Context()), frames).to_batches()]
    coarser = run(bars(), finer)
    filled = run(bars(empty="fill"), frames)
    for module, name in (
        (bar_kernels, "add_ticks"), (bar_kernels, "add_bars"), (bar_closing, "take_due"), (bar_closing, "lay_out"),
    ):  # fmt: skip
        python = getattr(module, name).py_func
        monkeypatch.setattr(module, name, python)
        python.py_func = python
    assert run(bars(empty="fill"), frames).equals(filled)
    assert run(bars(), frames).equals(compiled)
    assert run(bars(), finer).equals(coarser)


@pytest.mark.parametrize("seed", range(3))
def test_bars_stay_open_and_in_order_while_others_of_their_instrument_close(seed):
    rng = np.random.default_rng(seed)
    ticks = market(rng, 2000, instruments=40, lateness=9 * EVERY)
    frames = cut(ticks, rng, NARROW, 9 * EVERY)
    whole = [frame for frame in frames if isinstance(frame, Batch)]
    assert plain(run(bars(), frames)) == plain(run(bars(), whole))
