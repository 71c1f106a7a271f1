"""Sizes: close to the truth, and never far below it. C-5."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.errors import UnsizedValue
from pipeline.storage.sizing import ENTRY_BYTES, compact, size_of


class Trade(msgspec.Struct):
    price: float
    note: str


MAKERS: dict[str, Callable[[], Any]] = {
    "numbers": lambda: [float(n) for n in range(5000)],
    "texts": lambda: [f"text {n}" for n in range(5000)],
    "dict": lambda: {f"key {n}": n + 10**9 for n in range(2000)},
    "structs": lambda: [Trade(n / 7, f"note {n}") for n in range(2000)],
    "nested": lambda: [{"a": [n + 0.5, n + 1.5], "b": (f"x{n}",)} for n in range(800)],
    "bytes": lambda: bytes(1_000_000),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_sizes_of_python_objects_are_close_to_what_they_take(kind: str) -> None:
    MAKERS[kind]()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        value = MAKERS[kind]()
        truth = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 * truth <= size_of(value) - ENTRY_BYTES <= 1.3 * truth


def test_arrow_arrays_and_frames_are_exact() -> None:
    batch = pa.RecordBatch.from_pydict({"n": np.arange(1000), "s": ["abc"] * 1000})
    assert size_of(batch) == ENTRY_BYTES + batch.get_total_buffer_size()
    array = np.zeros(10_000)
    assert 80_000 <= size_of(array) <= 80_600
    frame = pd.DataFrame({"s": pd.Series(["x" * 100] * 1000, dtype=object)})
    assert size_of(frame) >= 100_000


def test_a_view_is_charged_its_base_and_copied_when_it_shows_little_of_it() -> None:
    base = np.zeros(100_000)
    assert size_of(base[:60_000]) >= 800_000
    assert compact(base[:60_000]).base is not None
    small = compact(base[:100])
    assert small.base is None
    assert size_of(small) < 2000


@pytest.mark.parametrize("make", [lambda batch: batch, lambda batch: pa.Table.from_batches([batch])])
def test_a_slice_that_pins_a_big_parent_is_copied(make: Callable[[pa.RecordBatch], Any]) -> None:
    parent = pa.RecordBatch.from_pydict({"n": np.arange(1_000_000), "s": [f"{n}" for n in range(1_000_000)]})
    part = make(parent.slice(500, 100))
    kept = compact(part)
    assert kept.equals(part)
    assert size_of(kept) < 5000
    assert compact(make(parent.slice(0, 900_000))).get_total_buffer_size() == parent.get_total_buffer_size()


@pytest.mark.parametrize("heavy", [0, 1, 999, 5000, 9000])
def test_a_skewed_collection_up_to_ten_thousand_nodes_is_never_undercharged(heavy: int) -> None:
    value: list[Any] = [None] * 9000
    value.insert(heavy, bytes(10_000_000))
    assert size_of(value) >= 10_000_000


def test_a_large_homogeneous_collection_is_sampled_upwards_in_no_time() -> None:
    value = [{"a": n + 0.5, "b": f"text {n}"} for n in range(200_000)]
    truth = sum(sys.getsizeof(row) + sys.getsizeof(row["a"]) + sys.getsizeof(row["b"]) for row in value)
    assert truth <= size_of(value) <= 1.7 * truth


def test_shared_objects_are_counted_once_and_cycles_end() -> None:
    text = "x" * 1_000_000
    value: list[Any] = [text] * 100
    value.append(value)
    assert size_of(value) < 1_010_000


def test_an_opaque_object_has_no_size() -> None:
    with pytest.raises(UnsizedValue, match=r"pass size="):
        size_of([1, {"k": object()}])


def arrow_batch() -> Any:
    return pa.RecordBatch.from_pydict({"n": pa.array(range(200_000)), "s": pa.array([f"{n}" for n in range(200_000)])})


MEASURED: dict[str, Callable[[], Any]] = {
    "arrow": arrow_batch,
    "arrow slice": lambda: compact(arrow_batch().slice(1000, 20_000)),
    "arrow table": lambda: pa.Table.from_batches([arrow_batch(), arrow_batch()]),
    "numpy": lambda: np.zeros((300, 400)),
    "numpy view": lambda: compact(np.zeros(500_000)[100_000:400_000]),
    "numpy small view": lambda: compact(np.zeros(500_000)[:20_000]),
    "pandas": lambda: pd.DataFrame({"a": np.arange(100_000), "b": np.arange(100_000) / 7}),
    "bytes": lambda: b"x" * 700_000,
    "text": lambda: "ü" * 300_000,
    "dicts": lambda: [{"price": n / 7, "size": n + 1000} for n in range(1900)],
}


@pytest.mark.parametrize("kind", MEASURED)
def test_c5_what_is_charged_is_between_four_fifths_and_thirteen_tenths_of_what_is_taken(kind: str) -> None:
    """Taken from both allocators, with everything let go that the value does not keep alive."""
    MEASURED[kind]()
    pa.default_memory_pool().release_unused()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes()
        value = MEASURED[kind]()
        gc.collect()
        truth = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    finally:
        tracemalloc.stop()
    assert truth > 10_000
    assert 0.8 * truth <= size_of(value) <= 1.3 * truth
