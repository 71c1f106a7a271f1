"""Batches: rows and columns are two views of the same data, cheap to slice, with times that stand null values."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import Barrier, Batch, End, Row, Watermark
from pipeline.frames import NS_UTC, columns_from_rows, row_schema

calmly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
INT64 = st.integers(-(2**63), 2**63 - 1)


class Tick(Row, frozen=True):
    ts_event: int | None
    instrument_id: str
    price: float | None
    size: int
    raw: bytes
    buy: bool


TICKS = st.lists(
    st.builds(
        Tick,
        st.none() | st.integers(0, 2**62),
        st.text(st.characters(codec="utf-8"), max_size=8),
        st.none() | st.floats(allow_nan=False),
        INT64,
        st.binary(max_size=8),
        st.booleans(),
    ),
    max_size=30,
)


def astuples(rows: Any) -> list[tuple[Any, ...]]:
    return [msgspec.structs.astuple(row) for row in rows]


@calmly
@given(TICKS)
def test_rows_become_columns_and_rows_again_without_loss(ticks: list[Tick]) -> None:
    made = Batch.from_rows(ticks)
    assert made.is_rows and made.num_rows == len(ticks)
    columns = made.columns
    assert made.columns is columns, "converted once"
    if ticks:
        assert columns.schema == row_schema(Tick)
        assert astuples(Batch.from_columns(columns).rows) == astuples(ticks)
        assert astuples(made.rows) == astuples(ticks)


@calmly
@given(TICKS, st.data())
def test_a_slice_is_the_same_rows_whichever_way_they_are_held(ticks: list[Tick], data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(ticks)))
    length = data.draw(st.none() | st.integers(0, len(ticks) - offset))
    wanted = astuples(ticks[offset : None if length is None else offset + length])
    by_rows = Batch.from_rows(ticks).stamped("data", 100)
    part = by_rows.slice(offset, length)
    assert astuples(part.rows) == wanted and part.is_rows
    assert (part.source, part.first_seq, part.num_rows) == ("data", 100 + offset, len(wanted))
    if wanted:
        by_columns = Batch(columns_from_rows(ticks)).slice(offset, length)
        assert astuples(by_columns.rows) == wanted
        assert (by_columns.min_ts, by_columns.max_ts) == (part.min_ts, part.max_ts)


def test_a_slice_of_columns_shares_their_memory() -> None:
    whole = Batch.from_pydict({"n": list(range(1000))})
    part = whole.slice(10, 20)
    assert part.columns.column(0).buffers()[1].address == whole.columns.column(0).buffers()[1].address
    assert part.slice(5).columns.column("n").to_pylist() == list(range(15, 30))


def test_rows_of_columns_are_made_anew_each_time() -> None:
    """Kept structs weigh five times the columns."""
    batch = Batch.from_pydict({"n": [1, 2]})
    first, second = list(batch.rows), list(batch.rows)
    assert first == second and first[0] is not second[0]
    assert not batch.is_rows


def test_a_batch_holds_either_rows_or_columns() -> None:
    columns = pa.RecordBatch.from_pydict({"n": [1]})
    for given_ in ((), (columns, [Tick(1, "A", 1.0, 1, b"", True)])):
        with pytest.raises(TypeError, match="either columns or rows"):
            Batch(*given_)


def test_rows_of_exact_prices_are_decimals_and_times_are_nanoseconds() -> None:
    prices = pa.array([Decimal("1.10"), None], pa.decimal64(18, 2))
    times = pa.array([1_500_000_000_000_000_001, None], NS_UTC)
    first, second = Batch(pa.RecordBatch.from_pydict({"ts_event": times, "price": prices})).rows
    assert (first.ts_event, first.price) == (1_500_000_000_000_000_001, Decimal("1.10"))
    assert (second.ts_event, second.price) == (None, None)


# -- times -----------------------------------------------------------------------------------------------------------


def timed(ts_event: list[int | None] | None, ts_recv: list[int | None] | None = None) -> Batch:
    columns = {}
    for name, values in (("ts_event", ts_event), ("ts_recv", ts_recv)):
        if values is not None:
            columns[name] = pa.array(values, NS_UTC)
    return Batch(pa.RecordBatch.from_pydict({**columns, "n": pa.array([0] * len(ts_event or ts_recv or []))}))


@pytest.mark.parametrize(
    ("batch", "times", "extremes"),
    [
        (timed([3, 1, 2]), [3, 1, 2], (1, 3)),
        (timed([3, None, 2], [9, 7, 9]), [3, 7, 2], (2, 7)),
        (timed(None, [4, 5]), [4, 5], (4, 5)),
        (timed([3, None, None, 9]), [3, 3, 3, 9], (3, 9)),
        (timed([None, 5], [None, 7]), [5, 5], (5, 5)),
        (timed([None, None]), [0, 0], (None, None)),
        (timed([]), [], (None, None)),
    ],
    ids=["plain", "received", "received only", "forward", "nothing before", "nothing at all", "empty"],
)
def test_the_time_of_a_row_is_its_event_else_its_receipt_else_the_one_before(
    batch: Batch, times: list[int], extremes: tuple[int | None, int | None]
) -> None:
    found = batch.times()
    assert found is not None and found.dtype == np.int64
    assert found.tolist() == times
    assert (batch.min_ts, batch.max_ts) == extremes, "over the times that are known"


def test_without_a_time_column_there_are_no_times() -> None:
    batch = Batch.from_pydict({"n": [1, 2]})
    assert batch.times() is None and batch.min_ts is None and batch.max_ts is None


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit_are_nanoseconds(unit: str) -> None:
    moment = datetime.datetime(2024, 5, 1, 12, 0, 1, tzinfo=datetime.UTC)
    batch = Batch(pa.RecordBatch.from_pydict({"ts_event": pa.array([moment], pa.timestamp(unit, tz="UTC"))}))
    assert batch.max_ts == int(moment.timestamp()) * 10**9


@calmly
@given(st.lists(st.none() | st.integers(0, 2**60), min_size=1, max_size=20))
def test_extremes_of_rows_are_those_of_known_times(stamps: list[int | None]) -> None:
    batch = Batch.from_rows([Tick(stamp, "A", 1.0, 1, b"", True) for stamp in stamps])
    known = [stamp for stamp in stamps if stamp is not None]
    assert (batch.min_ts, batch.max_ts) == ((min(known), max(known)) if known else (None, None))


# -- weights, columns, stamps ----------------------------------------------------------------------------------------


def test_bytes_are_exact_for_columns_and_grow_with_the_rows() -> None:
    columns = Batch.from_pydict({"n": list(range(1000))})
    assert columns.num_bytes == 8000
    one, many = (Batch.from_rows([Tick(1, "A", 1.0, 1, b"", True)] * count) for count in (1, 100))
    assert many.num_bytes == 100 * one.num_bytes > 0
    weight = many.num_bytes
    many.columns
    assert many.num_bytes == weight, "what an edge was charged is what it gives back"
    assert Batch.from_rows([]).num_bytes == 0


def test_columns_are_added_and_replaced_beside_those_there_are() -> None:
    batch = Batch.from_pydict({"a": [1, 2], "b": [3, 4]})
    other = batch.with_columns(b=np.array([5.0, 6.0]), c=pa.array(["x", "y"]), d=[True, None])
    assert other.columns.to_pydict() == {"a": [1, 2], "b": [5.0, 6.0], "c": ["x", "y"], "d": [True, None]}
    assert batch.columns.to_pydict() == {"a": [1, 2], "b": [3, 4]}, "a batch never changes"
    with pytest.raises(pa.ArrowInvalid):
        batch.with_columns(e=[1, 2, 3])


def test_a_stamp_counts_rows_and_a_second_stamp_is_a_copy() -> None:
    batch = Batch.from_pydict({"n": [1, 2, 3]})
    first = batch.stamped("data", 10)
    assert (first.source, first.first_seq, first.last_seq) == ("data", 10, 12)
    second = first.stamped("features", 0)
    assert (first.source, second.source) == ("data", "features")
    assert second.columns is first.columns
    assert repr(second) == "Batch(3 columns from features)"


def test_frames_are_values() -> None:
    assert Watermark(5) == Watermark(5) != Watermark(5, idle=True)
    assert Barrier(1, "stop") == Barrier(1, "stop") and End() == End()


# -- the schema of rows ----------------------------------------------------------------------------------------------


def test_fields_become_columns_by_their_annotation() -> None:
    assert row_schema(Tick) == pa.schema(
        [
            ("ts_event", NS_UTC), ("instrument_id", pa.utf8()), ("price", pa.float64()), ("size", pa.int64()),
            ("raw", pa.binary()), ("buy", pa.bool_()),
        ]
    )  # fmt: skip


def test_a_row_may_declare_its_own_schema() -> None:
    class Exact(Row, frozen=True):
        arrow_schema: ClassVar[pa.Schema | None] = pa.schema([("price", pa.decimal64(18, 2))])
        price: Decimal

    assert Batch.from_rows([Exact(Decimal("1.25"))]).schema == Exact.arrow_schema


class Nested(Row, frozen=True):
    sizes: list[int]


class Either(Row, frozen=True):
    value: int | str


@pytest.mark.parametrize(("row_type", "field"), [(Nested, "Nested.sizes"), (Either, "Either.value")])
def test_a_field_of_no_known_type_says_what_to_do(row_type: type[Row], field: str) -> None:
    with pytest.raises(TypeError, match=rf"{field}: expected int, .*`arrow_schema`"):
        row_schema(row_type)


def test_a_value_that_is_not_of_its_fields_type_is_refused_on_conversion() -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        Batch.from_rows([Tick(1, "A", "dear", 1, b"", True)]).columns  # type: ignore[arg-type]
