"""The first row of a container that another run does not have the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..data.tables import as_table
from ..frames import Batch
from ..hashing import hash_value
from .futures import Times, early
from .recording import Noted, Series

OUTPUT = "output"
"""How rows that were sent are called beside the keys of those that were kept."""
NO_ROW = "no row"
Extent: TypeAlias = Literal["all", "as far as it came", "where both have a time"]
FOREVER = 2**63 - 1


class Difference(NamedTuple):
    """One row that differs: whose and under which key, its time (ns; None without one), its column, both values."""

    member: str
    key: str
    ts: int | None
    column: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Table:
    """Columns of one kind of row of a container, dictionaries decoded, and each row's time."""

    columns: pa.Table
    times: Times | None

    @classmethod
    def of(cls, values: Sequence[Any]) -> Table | None:
        """The rows of some batches or tables in their order; None without a row."""
        tables = [_plain(value.columns if isinstance(value, Batch) else value) for value in values]
        tables = [table for table in tables if table.num_rows]
        if not tables:
            return None
        table = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
        return cls(table, Batch(table.to_batches()[0]).times())

    def until(self, moment: int) -> Table:
        """The rows stamped at or before `moment`; those without a time are none of them."""
        if self.times is None:
            return Table(self.columns.slice(0, 0), np.zeros(0, np.int64))
        if moment == FOREVER:
            return self
        chosen = self.times <= moment
        return Table(self.columns.filter(pa.array(chosen)), self.times[chosen])


class Compared(NamedTuple):
    """How many rows were held against each other, and each member's first that differs."""

    rows: int
    differences: list[Difference]
    untimed: bool
    """Whether there was something that carries no time."""


def compare(before: Noted, after: Noted, moment: int, *, cut_off: bool) -> Compared:
    """Rows stamped at or before `moment` (ns) of two runs of one container.

    Where the second was `cut off`, it may lack rows that were held back for later ones, and what it sent once its
    inputs had ended is not looked at; what was kept, perhaps on a grid that widens as a run grows, is compared at the
    times both have. So are values kept once, not as a series, whatever the future.
    """
    found: list[Difference] = []
    rows, untimed = 0, False
    one = _sent(before)
    other = Table.of(after.sent) if cut_off else _sent(after)
    extent: Extent = "as far as it came" if cut_off else "all"
    for member, key, left, right, how in (
        ("", OUTPUT, one, other, extent),
        *_kept(before, after, "where both have a time" if cut_off else "all"),
    ):
        untimed = untimed or any(table is not None and table.times is None for table in (left, right))
        count, difference = _compare(left, right, moment, how)
        rows += count
        if difference is not None:
            found.append(Difference(member, key, *difference))
    return Compared(rows, found, untimed)


def compare_all(before: Noted, after: Noted) -> list[Difference]:
    """The same of everything two runs over the same rows sent and kept, with a time or without."""
    found = []
    _, difference = _compare(_sent(before), _sent(after), FOREVER, "all", untimed=True)
    if difference is not None:
        found.append(Difference("", OUTPUT, *difference))
    for place in dict.fromkeys([*before.kept, *after.kept]):
        one, other = before.kept.get(place, Series()), after.kept.get(place, Series())
        if not (one.appended or other.appended) and one.values and other.values:
            same = hash_value(one.values[-1]) == hash_value(other.values[-1])
            if same:
                continue
        _, difference = _compare(_series(one), _series(other), FOREVER, "all", untimed=True)
        if difference is not None:
            found.append(Difference(*place, *difference))
    return found


def known_until(sources: Sequence[tuple[Noted, Noted]], moment: int) -> int:
    """Up to which time (ns) a reader of these rows cannot have been told of another future.

    That is `moment`, but for rows stamped later that say something of an earlier time, such as the open of a bar that
    had begun: where the two runs differ in that, what they say it of is no longer the past.
    """
    for before, after in sources:
        one, other = (_begun(noted, moment) for noted in (before, after))
        if one.times is None or other.times is None or not one.columns.equals(other.columns):
            starts = [int(begun.times.min()) for begun in (one, other) if begun.times is not None and len(begun.times)]
            moment = min([moment, *(start - 1 for start in starts)])
    return moment


def _begun(noted: Noted, moment: int) -> Table:
    """The rows that began at or before `moment` and are stamped after it: what was known of them from the start."""
    table = _sent(noted)
    if table is None or table.times is None:
        return Table(pa.table({}), np.zeros(0, np.int64))
    late = np.flatnonzero(table.times > moment)
    rows = table.columns.take(pa.array(late)).combine_chunks()
    if not rows.num_rows:
        return Table(pa.table({}), np.zeros(0, np.int64))
    found = early(rows.to_batches()[0], table.times[late])
    chosen = found.times <= moment
    return Table(rows.select(list(found.columns)).filter(pa.array(chosen)), found.times[chosen])


def _kept(before: Noted, after: Noted, extent: Extent) -> Iterator[tuple[str, str, Table | None, Table | None, Extent]]:
    for member, key in dict.fromkeys([*before.kept, *after.kept]):
        one, other = before.kept.get((member, key), Series()), after.kept.get((member, key), Series())
        appended = one.appended or other.appended
        yield member, key, _series(one), _series(other), extent if appended else "where both have a time"


def _sent(noted: Noted) -> Table | None:
    if "table" not in noted.made:
        noted.made["table"] = Table.of([*noted.sent, *noted.sent_at_end])
    made: Table | None = noted.made["table"]
    return made


def _series(series: Series) -> Table | None:
    if "table" not in series.made:
        series.made["table"] = Table.of(series.values)
    made: Table | None = series.made["table"]
    return made


def _compare(
    left: Table | None, right: Table | None, moment: int, extent: Extent, *, untimed: bool = False
) -> tuple[int, tuple[int | None, str, Any, Any] | None]:
    """How many rows were compared, and the first that differs: its time, column and both values."""
    empty = Table(pa.table({}), np.zeros(0, np.int64))
    one, other = left or empty, right or empty
    if not untimed:
        one, other = one.until(moment), other.until(moment)
    if extent == "where both have a time":
        assert one.times is not None and other.times is not None
        if not np.array_equal(one.times, other.times):
            ours, theirs = _shared(one.times, other.times)
            one, other = (
                Table(table.columns.take(pa.array(places)), table.times[places])  # type: ignore[index]
                for table, places in ((one, ours), (other, theirs))
            )
    rows = min(one.columns.num_rows, other.columns.num_rows)
    first = _first_difference(one.columns.slice(0, rows), other.columns.slice(0, rows)) if rows else None
    if first is not None:
        row, column = first
        return rows, (_time(one, row), column, _value(one, row, column), _value(other, row, column))
    longer = one if one.columns.num_rows > other.columns.num_rows else other
    if longer.columns.num_rows == rows or (extent == "as far as it came" and longer is one):
        return rows, None
    told = _row_said(longer, rows)
    return rows, (_time(longer, rows), "", *((told, NO_ROW) if longer is one else (NO_ROW, told)))


def _first_difference(one: pa.Table, other: pa.Table) -> tuple[int, str] | None:
    """Row and column of the first cell that differs; NaN equals NaN, null equals null, -0.0 equals 0.0."""
    if one.equals(other):
        return None
    first: tuple[int, str] | None = None
    for name in dict.fromkeys([*one.column_names, *other.column_names]):
        if name not in one.column_names or name not in other.column_names:
            return 0, name
        differs = np.flatnonzero(_differs(one.column(name).combine_chunks(), other.column(name).combine_chunks()))
        if len(differs) and (first is None or differs[0] < first[0]):
            first = int(differs[0]), name
    return first


def _differs(one: Any, other: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if one.type != other.type:
        return np.ones(len(one), np.bool_)
    valid, there = (np.asarray(column.is_valid().to_numpy(zero_copy_only=False)) for column in (one, other))
    if pa.types.is_floating(one.type):
        left, right = (column.to_numpy(zero_copy_only=False) for column in (one, other))
        same = (left == right) | (np.isnan(left) & np.isnan(right))
    else:
        try:
            same = np.asarray(pc.fill_null(pc.equal(one, other), True).to_numpy(zero_copy_only=False))
        except pa.ArrowNotImplementedError:
            pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
            same = np.array([left == right for left, right in pairs], np.bool_)
    return np.asarray((valid != there) | (valid & ~same))


def _shared(one: Times, other: Times) -> tuple[Times, Times]:
    """Places of rows with times that both have, the n-th of a time with the n-th of it."""
    if all(len(times) < 2 or (np.diff(times) > 0).all() for times in (one, other)):
        _, ours, theirs = np.intersect1d(one, other, assume_unique=True, return_indices=True)
        return ours, theirs
    places: dict[tuple[int, int], int] = {}
    seen: dict[int, int] = {}
    for place, ts in enumerate(one.tolist()):
        seen[ts] = seen.get(ts, -1) + 1
        places[ts, seen[ts]] = place
    mine, yours = [], []
    seen.clear()
    for place, ts in enumerate(other.tolist()):
        seen[ts] = seen.get(ts, -1) + 1
        if (ts, seen[ts]) in places:
            mine.append(places[ts, seen[ts]])
            yours.append(place)
    return np.array(mine, np.int64), np.array(yours, np.int64)


def _plain(value: Any) -> pa.Table:
    """Columns without dictionaries, whose codes may differ where their words do not."""
    table = as_table([*value] if isinstance(value, list) else value)
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(
                index, field.with_type(field.type.value_type), table.column(index).cast(field.type.value_type)
            )
    return table


def _time(table: Table, row: int) -> int | None:
    return None if table.times is None or row >= len(table.times) else int(table.times[row])


def _value(table: Table, row: int, column: str) -> Any:
    if column not in table.columns.column_names:
        return "no such column"
    try:
        return table.columns.column(column)[row].as_py()
    except ValueError:  # nanoseconds that a datetime has no place for
        return str(table.columns.column(column)[row])


def _row_said(table: Table, row: int, most: int = 6) -> str:
    names = [name for name in table.columns.column_names if name not in ("ts_event", "ts_recv")][:most]
    return ", ".join(f"{name} {_value(table, row, name)}" for name in names)
