"""The one examination every data manager passes; run it on a manager of your own."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from ..data import DataFlow, DataManager
from ..data.base import Key
from ..errors import (
    BackpressureTimeout,
    BudgetExceeded,
    DataError,
    DiskFull,
    InvalidKey,
    ManagerClosed,
    NotResident,
    SchemaMismatch,
    UnsizedValue,
    UnsupportedType,
    ValueTooLarge,
)
from ..frames import Batch

Make: TypeAlias = Callable[[DataFlow], "Awaitable[DataManager] | DataManager"]

WEIRD_KEYS: tuple[Key, ...] = (
    "", "a/b", "..", "../../etc/passwd", ".", ".hidden", "nul\0inside", "con", "🪣", "x" * 10_000, "Case", "case",
    "caf\u00e9", "cafe\u0301", "100%", "%2e", "a?b#c", " ", b"", b"case", b"\xff\xfe", "line\nfeed",
)  # fmt: skip
"""Keys that have broken stores elsewhere; all of them are legal and distinct."""


class Point(msgspec.Struct, frozen=True):
    """A struct with a struct inside."""

    x: int
    inner: tuple[Point, ...] = ()
    note: str | None = None


async def check_data_manager(make: Make) -> None:
    """Examine managers made by `make(policy)`; raises AssertionError saying what is wrong.

    Every manager is closed by the examination. `make` may ignore settings it has no use for, but has to respect
    `memory_limit_mb`. Managers that hand values away (a `streaming` one with a callback) are not meant.
    """
    for examine in (
        _check_values,
        _check_what_is_not_stored,
        _check_replacing,
        _check_series,
        _check_series_that_do_not_fit,
        _check_keys,
        _check_deleting,
        _check_missing,
        _check_budget,
        _check_closing,
    ):
        await examine(make)


def sample_values() -> dict[str, Any]:
    """One value of every kind a data manager keeps; frames only of libraries that are installed."""
    batch = pa.RecordBatch.from_pydict(
        {
            "n": pa.array([1, None, 3]),
            "s": pa.array(["a", "bb", None]),
            "t": pa.array([1, 2, 3], pa.timestamp("ns", tz="UTC")),
            "d": pa.array([Decimal("1.10"), None, Decimal("-2.00")], pa.decimal128(9, 2)),
        }
    )
    values: dict[str, Any] = {
        "batch": batch,
        "slice": batch.slice(1, 1),
        "no rows": batch.slice(0, 0),
        "dictionary": pa.RecordBatch.from_pydict({"d": pa.array(["x", "y", "x", None]).dictionary_encode()}),
        "metadata": batch.replace_schema_metadata({"k": "v"}),
        "nested": pa.table({"l": [[1, 2], None, []], "m": [{"a": 1}, None, {"a": 2}]}),
        "table": pa.Table.from_batches([batch, batch.slice(2)]),
        "array": np.arange(12.0).reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "strided": np.arange(20)[::3],
        "empty array": np.empty((0, 4), dtype="M8[ns]"),
        "records": np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
        "bytes": bytes(range(256)),
        "no bytes": b"",
        "text": "naïve \N{SNOWMAN}",
        "struct": Point(1, (Point(2, note="deep"), Point(3))),
        "structs": [Point(n) for n in range(20)],
        "dict": {"sharpe": 1.5, "trades": [1, 2, {"side": None}], "ok": True, "nan-free": -0.0},
        "odd dict": {1: "one", (2, 3): {4, 5}, None: Decimal("0.10"), "big": 2**80, b"k": frozenset({1})},
        "numpy inside": {"f": np.float64(0.5), "i": np.int8(3)},
        "times": [
            datetime.datetime(2024, 1, 2, 3, 4, 5, 6, datetime.UTC),
            datetime.datetime(2024, 1, 2),
            datetime.date(2024, 1, 2),
            datetime.timedelta(days=1, microseconds=1),
        ],
        "empty": {},
        "nothing": None,
        "number": 42,
        "tuple": (1, "two", (3.0,)),
    }
    try:
        import pandas as pd

        values["pandas"] = pd.DataFrame(
            {"p": [1.5, None], "s": ["x", None]}, index=pd.to_datetime(["2024-01-01", "2024-02-01"], utc=True)
        )
    except ImportError:
        pass
    try:
        import polars as pl

        values["polars"] = pl.DataFrame({"p": [1, None], "e": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"]))})
    except ImportError:
        pass
    return values


def same_value(found: Any, expected: Any) -> bool:
    """Whether two values are of one type and equal, floats bit for bit."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, pa.RecordBatch | pa.Table):
        return bool(found.schema.equals(expected.schema, check_metadata=True) and found.equals(expected))
    if isinstance(expected, np.ndarray):
        same = found.dtype == expected.dtype and found.shape == expected.shape
        return bool(same and found.tobytes() == expected.tobytes())
    if type(expected).__name__ == "DataFrame":
        if hasattr(expected, "index"):
            return bool(found.dtypes.equals(expected.dtypes) and found.equals(expected))
        return bool(found.schema == expected.schema and found.equals(expected))
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same_value(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same_value, found, expected))
    return bool(found == expected)


@asynccontextmanager
async def _made(make: Make, **settings: Any) -> AsyncIterator[DataManager]:
    manager = await _make(make, **settings)
    try:
        yield manager
    finally:
        await manager.close()


async def _make(make: Make, **settings: Any) -> DataManager:
    made = make(DataFlow(**settings))
    return await made if inspect.isawaitable(made) else made


async def _check_values(make: Make) -> None:
    async with _made(make) as manager:
        values = sample_values()
        for key, value in values.items():
            uri = await manager.store(key, value)
            assert uri == manager.uri(key), f"{key}: store returned {uri}"
        await _compare(manager, values)
        await manager.flush()
        await _compare(manager, values)
        for key in values:
            rows = 0
            async for batch in manager.iter_batches(key):
                assert isinstance(batch, pa.RecordBatch), f"{key}: iter_batches gave a {type(batch).__name__}"
                rows += batch.num_rows
            expected = getattr(values[key], "num_rows", rows)
            assert rows == expected, f"{key}: iter_batches gave {rows} of {expected} rows"
        await manager.store("rows", _row_batch())
        found = await manager.retrieve("rows")
        assert same_value(found, _row_batch().columns), f"a Batch came back as {found!r}"
        assert await manager.get_final_results() == {key: manager.uri(key) for key in manager.keys()}


def _row_batch() -> Batch:
    return Batch.from_pydict({"ts_event": [1, 2], "price": [1.5, 2.5]})


async def _compare(manager: DataManager, values: dict[str, Any]) -> None:
    for key, value in values.items():
        found = await manager.retrieve(key)
        assert same_value(found, value), f"{key}: stored {value!r}, retrieved {found!r}"
        try:
            at_once = manager.retrieve_nowait(key)
        except NotResident:
            continue
        assert same_value(at_once, value), f"{key}: stored {value!r}, retrieve_nowait gave {at_once!r}"


async def _check_what_is_not_stored(make: Make) -> None:
    async with _made(make) as manager:
        loop: list[Any] = []
        loop.append(loop)
        for value in (object(), [object()], np.array([object()]), loop, "\ud800", {"k": [lambda: None]}):
            for size in (None, 100):
                await _raises((UnsizedValue, UnsupportedType), manager.store("k", value, size=size), repr(value)[:40])
        for key in ("\ud800", "x" * 65_536, b"x" * 65_536, 1, None, ("a",)):
            await _raises(InvalidKey, manager.store(key, 1), repr(key)[:40])  # type: ignore[arg-type]
            await _raises(InvalidKey, manager.append(key, _rows(0, 1)), repr(key)[:40])  # type: ignore[arg-type]
        for rows in (1, "rows", [1, 2], object()):
            await _raises(UnsupportedType, manager.append("k", rows), repr(rows)[:40])
        assert list(manager.keys()) == [], f"what was refused left keys: {manager.keys()}"
        assert manager.stats().charged_bytes == 0, "what was refused left a charge"


async def _check_replacing(make: Make) -> None:
    async with _made(make, memory_limit_mb=1) as manager:
        for n in range(12):
            await manager.store("other", n)
            await manager.store("k", _column(n, 30_000))  # 240 kB: charged twice, five of them would be too many
            assert same_value(await manager.retrieve("k"), _column(n, 30_000)), f"replacement {n} is not what came back"
        assert manager.stats().charged_bytes <= 600_000, f"a replaced key is charged twice: {manager.stats()}"
        await manager.store("k", {"now": "small"})
        await manager.append("s", _rows(0, 5))
        await manager.store("s", 7)
        assert await manager.retrieve("s") == 7, "a stored value did not replace a series"
        await manager.flush()
        assert list(manager.keys()) == ["other", "k", "s"], f"keys in order of first storing, found {manager.keys()}"
        assert manager.stats().entries == 3


async def _check_series(make: Make) -> None:
    async with _made(make) as manager:
        batch = _rows(0, 4)
        for n, rows in enumerate((batch, pa.Table.from_batches([_rows(4, 4)]), Batch.from_columns(_rows(8, 4)))):
            await manager.append("s", rows)
            if n == 1:
                await manager.flush()
        await manager.append("s", _rows(12, 4).to_pylist())
        await manager.append("s", _rows(0, 0))
        await manager.append("s", [])
        await manager.append("t", [Tick(n, n / 2) for n in range(3)])
        await manager.append("t", Tick(3, 1.5))
        for n in range(16, 300):
            await manager.append("s", _rows(n, 1))
        expected = pa.Table.from_batches([_rows(0, 300)])
        found = await manager.retrieve("s")
        assert isinstance(found, pa.Table), f"a series came back as {type(found).__name__}"
        assert found.schema.equals(expected.schema), f"expected {expected.schema}, found {found.schema}"
        assert found.equals(expected), f"rows of a series are lost, doubled or out of order: {found['n'].to_pylist()}"
        streamed = pa.Table.from_batches([batch async for batch in manager.iter_batches("s")], schema=found.schema)
        assert streamed.equals(expected), "iter_batches gave other rows than retrieve"
        assert (await manager.retrieve("t")).to_pylist() == [{"n": n, "x": n / 2} for n in range(4)]
        await manager.append("empty", [])
        assert (await manager.retrieve("empty")).num_rows == 0
        await manager.append("empty", _rows(0, 2))
        assert (await manager.retrieve("empty")).num_rows == 2
        await manager.delete("s")
        await manager.append("s", [{"other": "columns"}])
        assert (await manager.retrieve("s")).to_pylist() == [{"other": "columns"}]


async def _check_series_that_do_not_fit(make: Make) -> None:
    async with _made(make) as manager:
        await manager.append("s", _rows(0, 2))
        for rows in ([{"n": 1}], [{"n": 1.5, "x": 1.5}], [{"x": 1.5, "n": 1}], [{"n": 1, "x": 1.5, "y": 1}]):
            await _raises(SchemaMismatch, manager.append("s", rows), repr(rows))
        await manager.store("v", _rows(0, 2))
        await _raises(SchemaMismatch, manager.append("v", _rows(2, 2)), "a stored value")
        await manager.flush()
        await _raises(SchemaMismatch, manager.append("v", _rows(2, 2)), "a stored value")
        await _raises(SchemaMismatch, manager.append("s", [{"n": 1}]), "another schema, after a flush")
        assert (await manager.retrieve("s")).num_rows == 2, "refused rows were kept"


async def _check_keys(make: Make) -> None:
    async with _made(make) as manager:
        uris = set()
        for n, key in enumerate(WEIRD_KEYS):
            uris.add(await manager.store(key, [n]))
            await manager.append(_series_key(key), _rows(n, 1))
        await manager.flush()
        for n, key in enumerate(WEIRD_KEYS):
            assert await manager.retrieve(key) == [n], f"{key!r:.40} holds another key's value"
            assert (await manager.retrieve(_series_key(key)))["n"].to_pylist() == [n], f"{key!r:.40} holds other rows"
        assert len(uris) == len(WEIRD_KEYS), "two keys have one URI"
        expected = [each for key in WEIRD_KEYS for each in (key, _series_key(key))]
        assert list(manager.keys()) == expected, "keys are not in order of first storing"


def _series_key(key: Key) -> Key:
    return f"series {key}" if isinstance(key, str) else b"series " + key


async def _check_deleting(make: Make) -> None:
    async with _made(make) as manager:
        await manager.store("v", _column(1, 1000))
        await manager.append("s", _rows(0, 100))
        await manager.store("kept", "kept")
        await manager.flush()
        await manager.append("s", _rows(100, 100))
        for key in ("v", "s"):
            await manager.delete(key)
            await _raises(KeyError, manager.retrieve(key), "a deleted key")
            await _raises(KeyError, manager.delete(key), "a deleted key")
        assert list(manager.keys()) == ["kept"], f"expected only 'kept', found {manager.keys()}"
        await manager.store("v", "again")
        assert await manager.retrieve("v") == "again"
        assert await manager.retrieve("kept") == "kept"
        for key in ("v", "kept"):
            await manager.delete(key)
        assert manager.stats().charged_bytes == 0, f"deleting everything left a charge: {manager.stats()}"


async def _check_missing(make: Make) -> None:
    async with _made(make) as manager:
        await _raises(KeyError, manager.retrieve("absent"), "a missing key")
        await _raises(KeyError, manager.delete("absent"), "a missing key")
        await _raises(KeyError, _drain(manager.iter_batches("absent")), "a missing key")
        try:
            manager.retrieve_nowait("absent")
        except KeyError:
            pass
        else:
            raise AssertionError("retrieve_nowait gave a value for a missing key")
        assert manager.stats().entries == 0


async def _check_budget(make: Make) -> None:
    """Whatever does not fit is refused with a typed error, never kept beyond the budget and never lost silently."""
    async with _made(make, memory_limit_mb=0.25, admission_timeout_seconds=5) as manager:
        kept: dict[str, int] = {}
        rows = 0
        for n in range(40):
            try:
                await manager.store(f"k{n}", _column(n, 2000))
                kept[f"k{n}"] = n
            except (BudgetExceeded, BackpressureTimeout, DiskFull):
                pass
            try:
                await manager.append("s", _rows(rows, 200))
                rows += 200
            except (BudgetExceeded, BackpressureTimeout, DiskFull):
                pass
            _check_charge(manager)
        assert kept, "nothing at all could be stored"
        for key, n in kept.items():
            assert same_value(await manager.retrieve(key), _column(n, 2000)), f"{key} changed under pressure"
            _check_charge(manager)
        if rows:
            assert (await manager.retrieve("s"))["n"].to_pylist() == list(range(rows)), (
                "a series changed under pressure"
            )
        try:
            await manager.store("huge", _column(0, 100_000))
        except ValueTooLarge:
            pass
        else:
            seen = sum([batch.num_rows async for batch in manager.iter_batches("huge")])
            assert seen == 100_000, f"a value larger than the budget gave {seen} of 100000 rows"
            assert same_value(await manager.retrieve("huge"), _column(0, 100_000))
        _check_charge(manager)


def _check_charge(manager: DataManager) -> None:
    stats = manager.stats()
    if stats.limit_bytes is not None:
        assert stats.charged_bytes <= stats.peak_bytes <= stats.limit_bytes, f"the budget was exceeded: {stats}"


async def _check_closing(make: Make) -> None:
    manager = await _make(make)
    await manager.store("k", 1)
    await manager.append("s", _rows(0, 3))
    await manager.close()
    await manager.close()
    assert manager.stats().charged_bytes == 0, "a closed manager is still charged"
    for call in (
        lambda: manager.store("k", 1),
        lambda: manager.append("s", _rows(0, 1)),
        lambda: manager.retrieve("k"),
        lambda: manager.delete("k"),
        lambda: manager.flush(),
        lambda: _drain(manager.iter_batches("s")),
    ):
        await _raises(ManagerClosed, call(), "a closed manager")


async def _raises(kinds: type[Exception] | tuple[type[Exception], ...], call: Awaitable[Any], what: str) -> None:
    try:
        outcome = await call
    except kinds as error:
        outcome = error
    assert isinstance(outcome, kinds), f"{what}: expected {kinds}, found {outcome!r}"
    assert isinstance(outcome, DataError | KeyError | SchemaMismatch), f"{what}: an untyped {outcome!r}"
    assert str(outcome), f"{what}: the error says nothing"


async def _drain(batches: AsyncIterator[pa.RecordBatch]) -> int:
    return sum([batch.num_rows async for batch in batches])


class Tick(msgspec.Struct):
    """A row."""

    n: int
    x: float


def _rows(start: int, count: int) -> pa.RecordBatch:
    numbers = np.arange(start, start + count)
    return pa.RecordBatch.from_pydict({"n": numbers, "x": numbers / 2})


def _column(n: int, count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"v": np.full(count, n)})
