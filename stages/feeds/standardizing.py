"""How the rows of a recording become standard records, whatever its reader found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import InputError
from stages.schemas import FLAG_BAD_TS_RECV, INSTRUMENT, SOURCE, WORDS, record_kind

from .bar_checks import BarChecks
from .counts import Counts
from .instants import Int64s, instant_said
from .text import Where


class Standardizer:
    """Completes a reader's own columns to a standard schema: ordinals, names, receive times, flags and absent columns.

    Where a recording has no receive time, `ts_recv` is the event time and `flags` says BAD_TS_RECV. The codes of
    dictionary columns never change their meaning within a recording.
    """

    def __init__(
        self, schema: pa.Schema, counts: Counts, *, sources: Sequence[str], instruments: Sequence[str] = ()
    ) -> None:
        if len(sources) > 32_767:
            raise InputError(
                f"expected at most 32,767 files in one recording, found {len(sources)}; read one folder at a time"
            )
        self.schema, self._wanted = schema, frozenset(schema.names)
        self.counts = counts
        self._sources = sources
        self._known = {
            column.name: _Names(column.type, WORDS.get(column.name, ()))
            for column in schema
            if pa.types.is_dictionary(column.type)
        }
        self._known["source_id"] = _Names(SOURCE, sources)
        self._known["instrument_id"] = _Names(INSTRUMENT, instruments)
        self._checks = BarChecks(counts) if record_kind(schema) == "bar" else None
        self._source = -1
        self._newest: int | None = None

    def open(self, source: int) -> None:
        """The following rows come from the file at this place in `sources`."""
        if source != self._source:
            self._newest = None
        self._source = source
        self.counts.file = self._sources[source]

    def batch(self, columns: Mapping[str, pa.Array], where: Where) -> pa.RecordBatch:
        """A standard batch of a chunk's columns, whose rows are at `where`; of bars those that `BarChecks` lets pass.

        `columns` must hold `ts_event` or `ts_recv`, not both null in a row; what it lacks becomes null. Without
        `instrument_id` (texts, one per row) all rows are of the first instrument; without `ingest_seq` they are
        numbered through. Raises `InputError` for bars that cannot be.
        """
        given = dict(columns)
        rows = len(next(iter(given.values())))
        recorded = "ts_recv" in given
        if not recorded:
            given["ts_recv"] = given["ts_event"]
        self._count(given.get("ts_event", given["ts_recv"]), given["ts_recv"], where)
        wanted = self._wanted
        if "flags" not in given and "flags" in wanted:
            given["flags"] = pa.array(np.full(rows, 0 if recorded else FLAG_BAD_TS_RECV, np.uint8))
        for name, code in (("instrument_id", 0), ("source_id", self._source)):
            if name not in given and name in wanted:
                given[name] = self._known[name].repeated(code, rows)
        if "ingest_seq" not in given and "ingest_seq" in wanted:
            given["ingest_seq"] = self._ordinals(rows)
        arrays = []
        for column in self.schema:
            if column.name not in given:
                arrays.append(pa.nulls(rows, column.type))
            elif column.name in self._known:
                arrays.append(self._known[column.name].encode(given[column.name]))
            else:
                arrays.append(given[column.name])
        made = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        if self._checks is not None:
            made = self._checks.checked(made, where)
            if made.num_rows < rows:
                place = self.schema.get_field_index("ingest_seq")
                made = made.set_column(place, self.schema.field(place), self._ordinals(made.num_rows))
        self.counts.rows += made.num_rows
        return made

    def _ordinals(self, rows: int) -> pa.Array:
        """Ordinals of the next rows: of those passed on, so that what is left out leaves no gap."""
        return pa.array(np.arange(self.counts.rows, self.counts.rows + rows, dtype=np.uint64))

    def _count(self, ts_event: pa.Array, ts_recv: pa.Array, where: Where) -> None:
        times = pc.coalesce(ts_event, ts_recv) if ts_event.null_count else ts_event
        moments: Int64s = times.cast(pa.int64()).to_numpy()
        if not len(moments):
            return
        back = np.flatnonzero(moments[1:] < moments[:-1]) + 1
        newest = moments[0] if self._newest is None else self._newest
        if moments[0] < newest:
            back = np.append(0, back)
        self.counts.steps_back += len(back)
        if len(back) and not self.counts.first_step_back:
            before = moments[back[0] - 1] if back[0] else newest
            this, last = instant_said(int(moments[back[0]])), instant_said(int(before))
            self.counts.first_step_back = f"{where.place(int(back[0]))}: time steps back from {last} to {this}"
        self._newest = int(moments[-1])


class _Names:
    """The words of a dictionary column: a list that only grows, so that a code keeps its meaning."""

    def __init__(self, kind: pa.DictionaryType, words: Sequence[str]) -> None:
        self._kind = kind
        self._codes = {word: code for code, word in enumerate(words)}
        self._words = pa.array(list(self._codes), pa.utf8())

    def repeated(self, code: int, rows: int) -> pa.Array:
        return self._array(pa.array(np.full(rows, code, np.int32)))

    def encode(self, values: pa.Array) -> pa.Array:
        """Texts, or a dictionary array of other codes, in these codes; nulls stay null."""
        if values.type == self._kind and values.dictionary.equals(self._words):
            return values
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        for word in values.dictionary.to_pylist():
            self._codes.setdefault(word, len(self._codes))
        if len(self._codes) > len(self._words):
            self._words = pa.array(list(self._codes), pa.utf8())
        places = pa.array([self._codes[word] for word in values.dictionary.to_pylist()], pa.int32())
        return self._array(places.take(values.indices))

    def _array(self, codes: pa.Array) -> pa.Array:
        return pa.DictionaryArray.from_arrays(codes.cast(self._kind.index_type), self._words)
