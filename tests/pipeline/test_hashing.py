"""Hashes of rows: the same for the same rows however they lie in memory, another for every other content."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.hashing import TableHash, hash_files, hash_plain, hash_value

calmly = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CELLS = {
    "n": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "x": (pa.float64(), st.none() | st.floats()),
    "name": (pa.utf8(), st.none() | st.text(st.characters(codec="utf-8"), max_size=4)),
    "raw": (pa.binary(), st.none() | st.binary(max_size=4)),
    "yes": (pa.bool_(), st.none() | st.booleans()),
    "small": (pa.int8(), st.none() | st.integers(-128, 127)),
    "price": (pa.decimal64(18, 2), st.none() | st.decimals(-1000, 1000, places=2)),
    "ts": (pa.timestamp("ns", tz="UTC"), st.none() | st.integers(0, 2**62)),
    "list": (pa.list_(pa.int64()), st.none() | st.lists(st.integers(-5, 5), max_size=3)),
}
ROWS = st.lists(st.tuples(*(values for _, values in CELLS.values())), max_size=25)


def table_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = [pa.array([row[i] for row in rows], kind) for i, (kind, _) in enumerate(CELLS.values())]
    return pa.Table.from_arrays(columns, names=list(CELLS))


def streamed(pieces: list[pa.RecordBatch]) -> str:
    one = TableHash()
    for piece in pieces:
        one.update(piece)
    return one.hexdigest()


@calmly
@given(ROWS, st.lists(st.integers(0, 25), max_size=5))
def test_cuts_do_not_show(rows: list[tuple[Any, ...]], cuts: list[int]) -> None:
    table = table_of(rows)
    edges = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    pieces = [table.slice(a, b - a) for a, b in pairwise(edges)]
    batches = [batch for piece in pieces for batch in piece.to_batches()]
    fresh = [batch for start, stop in pairwise(edges) for batch in table_of(rows[start:stop]).to_batches()]
    if rows:
        assert streamed(batches) == streamed(fresh) == hash_value(table)[0], "views and copies, in any cut"
    assert hash_value(table)[1] == len(rows)


@calmly
@given(ROWS, ROWS)
def test_other_rows_have_another_hash(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> None:
    equal = repr(first) == repr(second)
    assert (hash_value(table_of(first))[0] == hash_value(table_of(second))[0]) == equal or first == second


@calmly
@given(ROWS.filter(lambda rows: len(rows) > 1))
def test_the_order_of_rows_and_columns_counts(rows: list[tuple[Any, ...]]) -> None:
    table = table_of(rows)
    backwards = table_of(rows[::-1])
    assert (hash_value(table) == hash_value(backwards)) == (repr(rows) == repr(rows[::-1]))
    turned = table.select(table.column_names[::-1])
    assert hash_value(turned)[0] != hash_value(table)[0]


def column(values: Any, kind: pa.DataType | None = None, name: str = "a") -> str:
    return hash_value(pa.table({name: pa.array(values, kind)}))[0]


def test_null_zero_nan_and_nothing_are_four_things() -> None:
    floats = [[None], [0.0], [-0.0], [math.nan], [math.inf], []]
    assert len({column(values, pa.float64()) for values in floats}) == len(floats)
    texts = [[None], [""], ["", ""], ["a", "b"], ["ab", ""], ["", "ab"], [None, "ab"]]
    assert len({column(values, pa.utf8()) for values in texts}) == len(texts)
    flags = [[None], [False], [True]]
    assert len({column(values, pa.bool_()) for values in flags}) == len(flags)
    assert column([None], pa.null()) != column([None, None], pa.null())


def test_what_lies_beneath_a_null_does_not_show() -> None:
    mask = np.array([False, True, False])
    first, second = (pa.array(np.array([1.0, under, 3.0]), mask=mask) for under in (2.0, 99.0))
    assert hash_value(pa.table({"a": first})) == hash_value(pa.table({"a": second}))
    assert column([1.0, None, 3.0]) == hash_value(pa.table({"a": first}))[0]


def test_names_and_types_count() -> None:
    assert column([1, 2], name="a") != column([1, 2], name="b")
    kinds = [
        pa.int64(),
        pa.int32(),
        pa.float64(),
        pa.utf8(),
        pa.decimal64(18, 2),
        pa.timestamp("ns"),
        pa.timestamp("ms"),
    ]
    values: dict[str, list[Any]] = {"string": ["1"], "decimal64(18, 2)": [Decimal(1)]}
    assert len({column(values.get(str(kind), [1]), kind) for kind in kinds}) == len(kinds)


def test_a_dictionary_counts_as_its_values() -> None:
    words = ["EURUSD", None, "BTCUSD", "EURUSD"]
    plain = column(words, pa.utf8())
    for indices in (pa.int8(), pa.int32()):
        encoded = pa.array(words).cast(pa.dictionary(indices, pa.utf8()))
        assert hash_value(pa.table({"a": encoded}))[0] == plain
    turned = pa.DictionaryArray.from_arrays(pa.array([1, None, 0, 1], pa.int8()), ["BTCUSD", "EURUSD"])
    assert hash_value(pa.table({"a": turned}))[0] == plain, "whatever the order of the dictionary"
    spare = pa.DictionaryArray.from_arrays(pa.array([2, None, 0, 2], pa.int8()), ["BTCUSD", "unused", "EURUSD"])
    assert hash_value(pa.table({"a": spare}))[0] == plain


def test_columns_that_change_on_the_way_are_refused() -> None:
    total = TableHash()
    total.update(pa.RecordBatch.from_pydict({"a": [1]}))
    with pytest.raises(ValueError, match="columns changed"):
        total.update(pa.RecordBatch.from_pydict({"b": [1]}))


def test_all_tabular_values_of_the_same_rows_have_one_hash() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    table = pa.table({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]})
    wanted = hash_value(table)
    assert hash_value(table.to_batches()[0]) == wanted
    assert hash_value(pandas.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]})) == wanted
    assert hash_value(polars.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]})) == wanted
    assert wanted[1] == 3


def test_arrays_bytes_and_plain_data_have_hashes_of_their_content() -> None:
    array = np.arange(6.0)
    assert hash_value(array) == hash_value(array.copy()) != hash_value(array.reshape(2, 3))
    assert hash_value(array[::2])[0] == hash_value(np.array([0.0, 2.0, 4.0]))[0], "strides do not show"
    assert hash_value(array.astype(np.float32))[0] != hash_value(array)[0]
    assert hash_value(b"abc") == hash_value(b"abc") != hash_value(b"abd")
    assert hash_value([1, 2, 3])[1] == 3 and hash_value({"a": 1})[1] == 1


@calmly
@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=8))
def test_the_order_of_keys_does_not_show(values: dict[str, Any]) -> None:
    assert hash_plain(values) == hash_plain(dict(reversed(list(values.items()))))
    assert hash_plain({**values, "one more": 1}) != hash_plain(values)


def test_files_count_by_content_and_order_not_by_name(tmp_path: Path) -> None:
    for name, content in {"a": b"1", "b": b"23", "c": b"12", "d": b"3", "e": b"1"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c, d, e = (tmp_path / name for name in "abcde")
    assert hash_files([a, b]) == hash_files([e, b])
    assert len({hash_files(files) for files in ([a, b], [b, a], [c, d], [a], [])}) == 5
