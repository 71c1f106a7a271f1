"""What one run of messages becomes: rows of every kind of record, gathered by a decoder and taken as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from .arrow import column_types, kind_named, received_schema, schema_of
from .conversion import Values, converted, named, repeated, stored, words_array
from .kinds import CHECKSUM, KINDS, Column
from .names import Names
from .types import NS_UTC, Scales
from .words import QUALITY_KINDS

_SINGLE = (type(None), str, bytes, int)
"""One value for all rows."""
At = Sequence[int] | np.ndarray[Any, Any]
STAMPS = ("ts_recv", "ingest_seq", "source_id")
"""Columns that a row has from its message."""


class Stamped(Protocol):
    """What records need to know of the messages they came in; `stages.messages.Messages` is one."""

    ts_recv: np.ndarray[Any, np.dtype[np.int64]]
    ingest_seq: np.ndarray[Any, np.dtype[np.uint64]]
    source: list[str]
    source_code: np.ndarray[Any, np.dtype[np.int16]]

    def __len__(self) -> int: ...

    def raw(self, at: int) -> bytes: ...


class Records:
    """Rows by kind of record, each with the message it came in. Add all rows, then take kind after kind.

    What does not fit its column (a price with more places than the scale, a sequence below 0) takes every row of that
    kind that came in the same message away, and leaves one `quality_event` of kind parse_error with the raw message:
    whichever messages are decoded together, the same rows come out. Take `quality_event` last.
    """

    def __init__(self, messages: Stamped, scales: Scales, instruments: Names) -> None:
        self.messages = messages
        self.scales = scales
        self.instruments = instruments
        self._added: dict[str, list[_Rows]] = {}
        self._settled: dict[str, list[_Settled]] = {}
        self._bad: dict[str, set[int]] = {}
        self._sources = words_array(tuple(messages.source))

    def add(self, kind: str, at: At, /, **columns: Any) -> None:
        """Rows of one kind, in columns by the names of the schema.

        `at`: the place of each row's message in `messages`. A column is a list, a numpy or Arrow array with as many
        values, or one value for all rows (str, int, bool, None). Instruments are names or codes of `instruments`;
        prices and sizes lists of decimal texts, ints or `Decimal`s, or integer arrays in units of 10^-scale; times
        ISO 8601 texts, seconds as texts, or integer nanoseconds; words of fixed lists words or their codes. What may be
        null may be left out.

        Raises TypeError for a column that the kind has not, or that is missing, ValueError for one of another length.
        """
        known, rows = _layout(kind), len(at)
        if not columns.keys() <= known.given.keys():
            wrong = next(name for name in columns if name not in known.given)
            raise TypeError(f"{kind} has no column '{wrong}' to be given; it has: {', '.join(known.given)}")
        if not known.needed <= columns.keys():
            lacking = next(name for name in known.given if name in known.needed - columns.keys())
            raise TypeError(f"{kind} needs the column '{lacking}'; found: {', '.join(columns) or 'none'}")
        for name, values in columns.items():
            if not isinstance(values, _SINGLE) and len(values) != rows:
                raise ValueError(f"{kind}.{name}: expected {rows} values, one for each row, found {len(values)}")
        if rows:
            self._added.setdefault(kind, []).append(_Rows(at, columns))

    def quality(
        self,
        at: int,
        kind: str,
        *,
        channel: str | None = None,
        instrument_id: str | int | None = None,
        seq_expected: int | None = None,
        seq_got: int | None = None,
        missing: int | None = None,
        gap_start: int | None = None,
        gap_end: int | None = None,
        action_taken: str | None = None,
        detail: str | None = None,
        keep_raw: bool = False,
    ) -> None:
        """One `quality_event` about the message `at`; times in ns, instruments by name or code.

        Raises ValueError for a `kind` that is not one of QUALITY_KINDS. What does not fit its column is left out; the
        event stays.
        """
        if kind not in QUALITY_KINDS:
            raise ValueError(f"expected a kind of quality event out of {', '.join(QUALITY_KINDS)}, found {kind!r}")
        columns = {
            "kind": [kind],
            "channel": [channel],
            "instrument_id": [instrument_id],
            "seq_expected": [seq_expected],
            "seq_got": [seq_got],
            "missing": [missing],
            "gap_start": [gap_start],
            "gap_end": [gap_end],
            "action_taken": [action_taken],
            "detail": [detail],
            "raw": [self.messages.raw(at) if keep_raw else None],
        }
        self._added.setdefault("quality_event", []).append(_Rows([at], columns))

    def kinds(self) -> list[str]:
        """The kinds there are rows of, in the order of KINDS."""
        self._settle()
        return [kind for kind in KINDS if kind in self._settled and any(len(part.at) for part in self._kept(kind))]

    def take(self, kind: str, *, received: bool = False) -> pa.RecordBatch | None:
        """All rows of a kind in the order of their messages, those of one message as they were added; None if none are.

        Its schema is `schema_of(kind, scales)`; with `received`, book deltas have their checksum (`received_schema`).
        What was taken is no longer here.
        """
        self._settle()
        parts = [part for part in self._kept(kind) if len(part.at)]
        self._settled.pop(kind, None)
        if not parts:
            return None
        schema = received_schema(self.scales) if received else schema_of(kind, self.scales)
        at = parts[0].at if len(parts) == 1 else np.concatenate([part.at for part in parts])
        given = _layout(kind).given
        arrays = [
            self._stamps(name, at)
            if name in STAMPS
            else named(given[name], _joined([part.arrays[name] for part in parts]), self.instruments)
            for name in schema.names
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        if len(at) > 1 and (at[1:] < at[:-1]).any():
            batch = batch.take(pa.array(np.argsort(at, kind="stable")))
        return batch

    def _settle(self) -> None:
        """Convert what was added; kinds in fixed order, so that what is at fault is told in it."""
        for kind in KINDS:
            if kind in self._added:
                self._settled.setdefault(kind, []).append(self._converted(kind, self._added.pop(kind)))

    def _converted(self, kind: str, added: list[_Rows]) -> _Settled:
        at = _places([rows.at for rows in added], len(self.messages))
        types = column_types(kind, self.scales)
        stretches = _stretches(added)
        given = set[str]().union(*(rows.columns for rows in added))
        arrays: dict[str, pa.Array] = {}
        faults: dict[int, tuple[str, str]] = {}
        for name, column in _layout(kind).given.items():
            if name not in given and column.default is None:
                arrays[name] = pa.nulls(len(at), stored(types[name]))
                continue
            pieces, first = [], 0
            for values in (values for stretch in stretches for values in stretch.values(column)):
                array, misfits = converted(column, types[name], values, self.instruments)
                pieces.append(array)
                for row, said in misfits.items():
                    faults.setdefault(first + row, (name, said))
                first += len(array)
            arrays[name] = _joined(pieces)
        if kind == "quality_event":
            _let_go(faults)
        elif faults:
            self._refuse(kind, at, arrays["instrument_id"], faults)
        return _Settled(at, arrays)

    def _refuse(self, kind: str, at: Any, instruments: pa.Array, faults: dict[int, tuple[str, str]]) -> None:
        """One event for each message, about its first row at fault."""
        bad = self._bad.setdefault(kind, set())
        for row in sorted(faults, key=lambda row: (at[row], row)):
            message = int(at[row])
            if message in bad:
                continue
            bad.add(message)
            name, said = faults[row]
            code = instruments[row].as_py()
            known = code is not None and 0 <= code < len(self.instruments)
            self.quality(
                message,
                "parse_error",
                channel=kind,
                instrument_id=code if known else None,
                detail=f"{kind}.{name}: {said}",
                action_taken=f"its rows of kind {kind} left out",
                keep_raw=True,
            )

    def _kept(self, kind: str) -> Iterator[_Settled]:
        """What was converted, without the rows of messages at fault."""
        if not self._bad.get(kind):
            yield from self._settled.get(kind, ())
            return
        bad = np.fromiter(self._bad[kind], np.int64)
        for part in self._settled.get(kind, ()):
            keep = ~np.isin(part.at, bad)
            mask = pa.array(keep)
            yield _Settled(part.at[keep], {name: array.filter(mask) for name, array in part.arrays.items()})

    def _stamps(self, name: str, at: Any) -> pa.Array:
        messages = self.messages
        if name == "ts_recv":
            return pa.array(messages.ts_recv[at]).view(NS_UTC)
        if name == "ingest_seq":
            return pa.array(messages.ingest_seq[at])
        return pa.DictionaryArray.from_arrays(messages.source_code[at], self._sources)


def _let_go(faults: dict[int, tuple[str, str]]) -> None:
    """Events about what is wrong are never themselves left out: a column that may be null is, in place of a misfit."""
    for name, said in faults.values():
        if not _layout("quality_event").given[name].nullable:
            raise ValueError(f"quality_event.{name}: {said}")


class _Rows(NamedTuple):
    """One call of `add`."""

    at: At
    columns: dict[str, Any]


class _Stretch:
    """Calls of `add` one after another that gave the same columns."""

    def __init__(self, calls: list[_Rows]) -> None:
        self._calls = calls
        self._rows = sum(len(call.at) for call in calls)

    def values(self, column: Column) -> Sequence[Values]:
        """The column's values over all calls; lists that follow each other become one, and so do numpy arrays."""
        if column.name not in self._calls[0].columns:
            return (repeated(column, column.default, self._rows),)
        given = [
            repeated(column, values, len(at)) if isinstance(values := columns[column.name], _SINGLE) else values
            for at, columns in self._calls
        ]
        if len(given) == 1:
            return given
        found: list[Values] = []
        for form, run in groupby(given, _form):
            if form is None:
                found += run
            elif form is list:
                found.append(list(chain.from_iterable(run)))
            else:
                found.append(np.concatenate(list(run)))
        return found


class _Settled(NamedTuple):
    """Rows whose columns are arrays; instruments and words are codes still."""

    at: np.ndarray[Any, np.dtype[np.int64]]
    arrays: dict[str, pa.Array]


class _Layout(NamedTuple):
    """The columns of a kind that are given by rows, and the names of those that have to be."""

    given: dict[str, Column]
    needed: frozenset[str]


@lru_cache(maxsize=64)
def _layout(kind: str) -> _Layout:
    columns = (*kind_named(kind).columns, *((CHECKSUM,) if kind == "book_delta" else ()))
    given = {column.name: column for column in columns if column.name not in STAMPS}
    return _Layout(given, frozenset(name for name, it in given.items() if not it.nullable and it.default is None))


def _stretches(added: list[_Rows]) -> list[_Stretch]:
    if len(added) == 1:
        return [_Stretch(added)]
    return [_Stretch(list(rows)) for _, rows in groupby(added, lambda rows: tuple(rows.columns))]


def _form(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return values.dtype
    return list if isinstance(values, list | tuple) else None


def _places(ats: list[At], messages: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    arrays = [np.asarray(at, np.int64) for at in ats]
    at = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    if at.min() < 0 or at.max() >= messages:
        raise IndexError(f"expected places of messages from 0 to {messages - 1}, found {at.min()} to {at.max()}")
    return at


def _joined(arrays: list[pa.Array]) -> pa.Array:
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)
