"""Moments to cut the data at, and other futures for the rows after them: none, or other values at the same times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from ..errors import InputError
from ..frames import TIME_COLUMNS, Batch

Times: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Future: TypeAlias = Literal["cut off", "shuffled and raised", "shuffled and lowered"]
FUTURES: tuple[Future, ...] = ("shuffled and raised", "shuffled and lowered", "cut off")

KNOWN_AT = b"known_at"
"""Field metadata: the time column of the same row that says when this column's value is known, where that is before
the row's own time. A bar is stamped at its end, and its open is known at its start."""
UNEVEN = (1, 7, 64, 333)
"""Batch sizes of the run that is cut differently, in turns."""
EARLIEST_CUT = 0.25
"""Share of the rows before the first cut, so that averages have formed."""
LATEST_CUT = 0.9


@dataclass(frozen=True)
class Rows:
    """What a feed gave, or a container sent, with the event time of each row (ns)."""

    columns: pa.RecordBatch
    times: Times

    @classmethod
    def of(cls, batches: Sequence[Batch], name: str) -> Rows:
        """All rows of some batches. Raises `InputError` where there are none, or they carry no time."""
        if not batches:
            raise InputError(f"'{name}' gave no row")
        try:
            columns = pa.concat_batches([batch.columns for batch in batches])
        except pa.ArrowInvalid as error:
            raise InputError(f"the columns of '{name}' change on the way: {error}") from error
        times = Batch(columns).times()
        if times is None:
            raise InputError(
                f"the rows of '{name}' carry no time: expected a column {' or '.join(TIME_COLUMNS)}, found "
                f"{', '.join(columns.schema.names)}"
            )
        return cls(columns, times)

    def before(self, moment: int) -> int:
        """How many rows come until the last one stamped at or before `moment`: those after them are its future."""
        past = np.flatnonzero(self.times <= moment)
        return int(past[-1]) + 1 if len(past) else 0


def moments(feeds: Sequence[Rows], cuts: int) -> list[int]:
    """Up to `cuts` event times (ns) with rows before and after them, spread over all feeds' rows, ascending."""
    times = np.sort(np.concatenate([feed.times for feed in feeds]))
    shares = np.linspace(EARLIEST_CUT, LATEST_CUT, cuts) if cuts > 1 else np.array([0.6])
    chosen = np.unique(times[(shares * (len(times) - 1)).astype(np.int64)])
    found = [int(moment) for moment in chosen if moment < times[-1]]
    if not found:
        raise InputError(
            f"expected rows at different times to cut between, found {len(times):,} rows at {len(np.unique(times)):,}"
        )
    return found


def borders(feed: Rows, cuts: Sequence[int]) -> list[int]:
    """Where the feed's batches end: at every other cut, so that the rest of the cuts go through a batch."""
    ends = {feed.before(moment) for moment in cuts[1::2]}
    return sorted(end for end in ends if 0 < end < feed.columns.num_rows)


def uneven(feed: Rows) -> list[int]:
    """The ends of batches of sizes that follow no pattern of the data."""
    ends = np.cumsum(np.resize(UNEVEN, len(UNEVEN) * (feed.columns.num_rows // sum(UNEVEN) + 1)))
    return [int(end) for end in ends if end < feed.columns.num_rows]


def cut(columns: pa.RecordBatch, ends: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """The rows as batches that end at `ends`."""
    begin = 0
    for end in (*ends, columns.num_rows):
        if begin < min(end, columns.num_rows):
            yield columns.slice(begin, min(end, columns.num_rows) - begin)
            begin = end


def changed(feed: Rows, moment: int, future: Future, seed: int) -> pa.RecordBatch:
    """The feed with another future after `moment`.

    `cut off` leaves it out. Else values move between the rows after it (seeded), floats and decimals then by a half up
    or down; times, names and rising integers stay, so that a feed in order stays in order. What is `KNOWN_AT` the
    moment or before stays; the other values of such rows are moved up or down where they are.
    """
    first = feed.before(moment)
    if future == "cut off":
        return feed.columns.slice(0, first)
    past, rest = feed.columns.slice(0, first), feed.columns.slice(first)
    rows = rest.num_rows
    begun = early(rest, feed.times[first:]).times <= moment
    order, free = np.arange(rows), np.flatnonzero(~begun)
    order[free] = np.random.default_rng([seed, FUTURES.index(future), moment & (2**63 - 1)]).permutation(free)
    up = future == "shuffled and raised"
    columns = []
    for field, column in zip(rest.schema, rest.columns, strict=True):
        if _stays(field, column):
            columns.append(column)
            continue
        other = _scaled(column.take(pa.array(order)), up)
        known = (field.metadata or {}).get(KNOWN_AT)
        if known is not None and (index := rest.schema.get_field_index(known.decode())) >= 0:
            keep = _ns(rest.column(index)) <= moment
            places = np.where(keep, np.arange(rows), np.arange(rows) + rows)
            other = pa.concat_arrays([column, other]).take(pa.array(places))
        columns.append(other)
    return pa.concat_batches([past, pa.RecordBatch.from_arrays(columns, schema=rest.schema)])


@dataclass(frozen=True)
class Early:
    """When the earliest of each row's values is known, and which columns that is true of."""

    times: Times
    columns: tuple[str, ...]


def early(columns: pa.RecordBatch, times: Times) -> Early:
    """As the columns' `KNOWN_AT` says; where none does, a row that names an earlier time (such as the start of an
    interval) may hold anything from then on. Receive times do not count."""
    names = columns.schema.names
    known = {
        field.name: field.metadata[KNOWN_AT].decode()
        for field in columns.schema
        if field.metadata and KNOWN_AT in field.metadata and field.metadata[KNOWN_AT].decode() in names
    }
    stamps = set(known.values()) or {
        field.name for field in columns.schema if pa.types.is_timestamp(field.type) and field.name not in TIME_COLUMNS
    }
    earliest = times
    for name in sorted(stamps):
        column = columns.column(names.index(name))
        earliest = np.minimum(earliest, np.where(_valid(column), _ns(column), earliest))
    return Early(earliest, tuple(known) or tuple(names))


def _stays(field: pa.Field, column: pa.Array) -> bool:
    """Whether a column keeps its values: times, names, ordinals, lengths of time, and what holds but one value."""
    kind = field.type
    if field.name in TIME_COLUMNS or field.name.endswith("_ns"):
        return True
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        return False
    if not pa.types.is_integer(kind):
        return True
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    return bool((values[1:] >= values[:-1]).all())


def _scaled(column: pa.Array, up: bool) -> pa.Array:
    """Half as much more, or half; exact decimals stay multiples of their unit."""
    kind = column.type
    if pa.types.is_floating(kind):
        values = column.to_numpy(zero_copy_only=False) * kind.to_pandas_dtype()(1.5 if up else 0.5)
        return pa.array(values, kind, mask=~_valid(column))
    if pa.types.is_decimal64(kind) or pa.types.is_decimal128(kind):
        words = 1 if pa.types.is_decimal64(kind) else 2
        copied = pa.concat_arrays([column, column.slice(0, 0)])
        units = np.frombuffer(copied.buffers()[1] or b"", np.int64)[copied.offset * words :][: len(copied) * words]
        low, high = units[::words], units[words - 1 :: words]
        most = 10 ** min(kind.precision, 18) - 1
        scaled = low + low // 2 if up else low // 2
        if (words == 2 and (high != low >> 63).any()) or (np.abs(low) > most // 2).any():
            return column  # too large to move
        made = scaled if words == 1 else np.stack([scaled, scaled >> 63], axis=1).reshape(-1)
        valid = pa.array(_valid(column))
        return pa.Array.from_buffers(
            kind, len(column), [valid.buffers()[1] if column.null_count else None, pa.py_buffer(made.tobytes())]
        )
    return column


def _valid(column: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)


def _ns(column: pa.Array) -> Times:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64())
    return np.asarray(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
