"""What every reader of recordings gives back, and how its rows become standard records cut to equal batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from stages.schemas import FLAG_BAD_TS_RECV, INSTRUMENT, NS_UTC, SOURCE

Int64s: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Counts:
    """What a reader counts while it reads; true of the recording, whatever the batch size."""

    rows: int = 0
    steps_back: int = 0
    """Rows whose time lies before that of the row in front of them in the same file."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows not passed on, by reason."""
    file: str = ""
    """The file being read."""

    def leave_out(self, reason: str, rows: int) -> None:
        if rows:
            self.left_out[reason] = self.left_out.get(reason, 0) + rows


@dataclass(frozen=True)
class Recording:
    """A recording that was found: its schema, its files, and a reader that makes batches of any size."""

    schema: pa.Schema
    files: tuple[Path, ...]
    """Everything that decides what comes out, in reading order."""
    read: Callable[[Counts], Iterator[pa.RecordBatch]]


class Standardizer:
    """Completes a reader's own columns to a standard schema: ordinals, names, receive times, flags and absent columns.

    Where a recording has no receive time, `ts_recv` is the event time and `flags` says BAD_TS_RECV. Codes of
    `instrument_id` and `source_id` never change their meaning within a recording.
    """

    def __init__(
        self, schema: pa.Schema, counts: Counts, *, sources: Sequence[str], instruments: Sequence[str] = ()
    ) -> None:
        if len(sources) > 32_767:
            raise InputError(
                f"expected at most 32,767 files in one recording, found {len(sources)}; read one folder at a time"
            )
        self.schema = schema
        self.counts = counts
        self._sources = pa.array(sources, pa.utf8())
        self._codes = {name: code for code, name in enumerate(instruments)}
        self._instruments = pa.array(list(self._codes), pa.utf8())
        self._source = -1
        self._newest: int | None = None

    def open(self, source: int) -> None:
        """The following rows come from the file at this place in `sources`."""
        self._source = source
        self._newest = None
        self.counts.file = self._sources[source].as_py()

    def batch(self, columns: Mapping[str, pa.Array], instruments: pa.Array | None = None) -> pa.RecordBatch:
        """A standard batch of a chunk's columns; `instruments` holds a name per row, without it the first is meant.

        `columns` must hold `ts_event` or `ts_recv` without nulls in both; what it lacks becomes null.
        """
        given = dict(columns)
        rows = len(next(iter(given.values())))
        recorded = "ts_recv" in given
        if not recorded:
            given["ts_recv"] = given["ts_event"]
        elif "ts_event" not in given:
            given["ts_event"] = pa.nulls(rows, NS_UTC)
        self._count(given["ts_event"], given["ts_recv"])
        start = self.counts.rows
        self.counts.rows += rows
        given["ingest_seq"] = pa.array(np.arange(start, start + rows, dtype=np.uint64))
        given["instrument_id"] = self._instrument_ids(instruments, rows)
        given["source_id"] = pa.DictionaryArray.from_arrays(
            pa.array(np.full(rows, self._source, np.int16)), self._sources
        ).cast(SOURCE)
        if "flags" not in given:
            given["flags"] = pa.array(np.full(rows, 0 if recorded else FLAG_BAD_TS_RECV, np.uint8))
        arrays = [given[column.name] if column.name in given else pa.nulls(rows, column.type) for column in self.schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _instrument_ids(self, names: pa.Array | None, rows: int) -> pa.Array:
        if names is None:
            codes = pa.array(np.zeros(rows, np.int32))
        else:
            encoded = names.dictionary_encode()
            places = [self._code(name) for name in encoded.dictionary.to_pylist()]
            codes = pa.array(np.array(places, np.int32)[encoded.indices.to_numpy()])
        return pa.DictionaryArray.from_arrays(codes, self._instruments).cast(INSTRUMENT)

    def _code(self, name: str) -> int:
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = len(self._codes)
            self._instruments = pa.array(list(self._codes), pa.utf8())
        return code

    def _count(self, ts_event: pa.Array, ts_recv: pa.Array) -> None:
        times = pc.coalesce(ts_event, ts_recv) if ts_event.null_count else ts_event
        moments: Int64s = times.cast(pa.int64()).to_numpy()
        if not len(moments):
            return
        self.counts.steps_back += int(np.count_nonzero(moments[1:] < moments[:-1]))
        if self._newest is not None and moments[0] < self._newest:
            self.counts.steps_back += 1
        self._newest = int(moments[-1])


def cut(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows`, only the last may be shorter; empty batches vanish.

    A small piece of a big batch is copied, so that whoever keeps it does not keep the big one alive.
    """
    held: list[pa.RecordBatch] = []
    have = 0
    for batch in batches:
        taken = 0
        while batch.num_rows - taken >= rows - have:
            piece = batch.slice(taken, rows - have)
            taken += piece.num_rows
            yield _joined([*held, piece], batch.num_rows)
            held, have = [], 0
        if taken < batch.num_rows:
            held.append(batch.slice(taken))
            have += batch.num_rows - taken
    if held:
        yield _joined(held, 0)


def _joined(pieces: list[pa.RecordBatch], parent_rows: int) -> pa.RecordBatch:
    if len(pieces) > 1:
        return pa.concat_batches(pieces)
    piece = pieces[0]
    if piece.num_rows * 2 >= parent_rows:
        return piece
    return pa.RecordBatch.from_arrays([pa.concat_arrays([column]) for column in piece.columns], schema=piece.schema)
