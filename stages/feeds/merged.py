"""Replays many sources as one: rows of all of them in the order in which they were received."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import Batch, Feed, InputError, Pacing, parts_of
from stages.schemas import KINDS

from .beginning import begun
from .counts import Counts
from .interpretation import Interpretation
from .layout import OwnFile, find_series
from .merging import Lane, Merge, Order
from .opening import Format, open_recording
from .recording import Recording

HELD_ROWS = 1 << 18
"""Rows of all sources that are held at a time, about, where files can be read by as many as are wanted."""
LEAST_READ, MOST_READ = 2_048, 65_536


@dataclass(frozen=True)
class Source:
    """One of the sources: its recording, and its place among the others at equal times."""

    kind: str
    rank: int
    recording: Recording
    own: tuple[OwnFile, ...] = ()
    """Files of our own, each of which opens with its books; none: it is something else."""
    read_rows: int = MOST_READ
    """Rows read at a time of files of our own."""

    def since(self, ts_ns: int | None) -> tuple[Callable[[Counts], Iterator[pa.RecordBatch]], int | None]:
        """How it is read from a moment on, beginning with the last file that began before; and when that begins."""
        if not self.own:
            return self.recording.read, None
        from .own import begins_ns, open_own, since

        files, schema = self.own if ts_ns is None else since(self.own, ts_ns), self.recording.schema
        read = self.recording.read if len(files) == len(self.own) else open_own(files, self.read_rows, schema).read
        return read, begins_ns(files[0])

    def read_as(self, schema: pa.Schema) -> Source:
        """The same files of our own, their rows with these columns."""
        from .own import open_own

        return replace(self, recording=open_own(self.own, self.read_rows, schema))


@dataclass(frozen=True)
class Sources:
    """Sources that are read as one, found but not read; those of a kind share their columns."""

    of: tuple[Source, ...]

    def narrowed(self, names: frozenset[str]) -> Sources:
        """The same with these columns and those that order rows; all where there are several kinds of record."""
        from .parquet import only

        if len(self.schemas) > 1 or not all(one.own and one.kind in ("trade", "quote") for one in self.of):
            return self
        names |= {"ts_recv", "ingest_seq"}
        return Sources(tuple(one.read_as(only(one.recording.schema, names)) for one in self.of))

    @property
    def schemas(self) -> Mapping[str, pa.Schema]:
        """Columns by kind of record, kinds in the order of the standard."""
        kinds = {source.kind: source.recording.schema for source in self.of}
        return {kind: kinds[kind] for kind in KINDS if kind in kinds}

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for source in self.of for file in source.recording.files)


def find_sources(paths: Sequence[Path], format: Format, declared: Interpretation) -> Sources | None:
    """What is to be merged: several paths, or a folder in our own layout; None for anything else.

    Ranks follow the order of the paths; in our layout venues and sessions in the order of their names. Raises
    `InputError`.
    """
    from .own import open_own

    series = find_series(paths) if format in ("auto", "parquet") else []
    if series:
        wanted = declared.records
        read = min(MOST_READ, max(LEAST_READ, HELD_ROWS // len(series)))
        sources = []
        for one in series:
            if wanted is None or one.kind in wanted:
                recording = open_own(one.files, read)
                sources.append(Source(kind_of(recording.schema), one.rank, recording, one.files, read))
        sources = _as_fine(sources)
    elif len(paths) > 1:
        recordings = [open_recording(path, format, declared) for path in paths]
        sources = [Source(kind_of(each.schema), rank, each) for rank, each in enumerate(recordings)]
    else:
        return None
    if not sources:
        kinds = ", ".join(dict.fromkeys(one.kind for one in series))
        raise InputError(f"{paths[0]}: expected records of {', '.join(declared.records or ())}, found {kinds}")
    _check(sources)
    return Sources(tuple(sources))


def _as_fine(sources: Sequence[Source]) -> list[Source]:
    """Files of our own whose decimal places differ, as those of several venues, with the most that one of them has."""
    from .own import finest

    told: dict[str, dict[pa.Schema, None]] = {}
    for one in sources:
        told.setdefault(one.kind, {})[one.recording.schema] = None
    common = {kind: finest(list(schemas)) for kind, schemas in told.items() if len(schemas) > 1}
    return [one.read_as(common[one.kind]) if one.kind in common else one for one in sources]


def _check(sources: Sequence[Source]) -> None:
    first: dict[str, Source] = {}
    for source in sources:
        other = first.setdefault(source.kind, source)
        if source.recording.schema != other.recording.schema:
            here, there = source.recording.schema, other.recording.schema
            differing = [f"{field.name} {field.type}" for field in here if field not in list(there)]
            raise InputError(
                f"{source.recording.files[0]}: expected the columns of {other.recording.files[0]}, whose rows it is "
                f"merged with, found {', '.join(differing) or 'others'}; declare `scale`, `size_scale` or `numbers`"
            )


class MergedFeed(Feed):
    """Reads many sources at once, their batches ahead in threads, and sends their rows in one order.

    Batches, of several kinds of record tuples of them, are of at most `batch_rows` rows together.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        order: Order = "ts_recv",
        batch_rows: int = 65_536,
        log: logging.Logger | None = None,
        pacing: Pacing | None = None,
        lateness_ns: int = 0,
        begin_ns: int | None = None,
    ) -> None:
        self.sources, self.order, self.begin_ns = sources, order, begin_ns
        self.pacing, self.lateness_ns = pacing or Pacing(), lateness_ns
        self._batch_rows = batch_rows
        self._log = log or logging.getLogger("penstock.replay")
        self.counts = [Counts() for _ in sources.of]
        self._merge: Merge | None = None
        self._rows: dict[str, int] = {}

    def batches(self) -> Iterator[Batch | tuple[Batch, ...]]:
        return self._from(self.begin_ns)

    def seek(self, ts_ns: int) -> Iterator[Batch | tuple[Batch, ...]]:
        """Begin anew at that time of receipt; books are made of what lies before it, from the head of a file on."""
        self.counts, self._rows = [Counts() for _ in self.sources.of], {}
        return self._from(ts_ns)

    def _from(self, begin_ns: int | None) -> Iterator[Batch | tuple[Batch, ...]]:
        several = len(self.sources.schemas) > 1
        for window in begun(self._windows(begin_ns), begin_ns):
            for parts in parts_of(tuple(Batch(columns) for columns in window), self._batch_rows):
                yield parts if several else parts[0]

    def _windows(self, begin_ns: int | None) -> Iterator[tuple[pa.RecordBatch, ...]]:
        """Rows of all sources in their order, as the merge has them."""
        lanes = []
        for source, counts in zip(self.sources.of, self.counts, strict=True):
            read, begins = source.since(begin_ns)
            lanes.append(Lane(source.kind, source.rank, source.recording.schema, partial(read, counts), begins))
        self._merge = merge = Merge(lanes, self.order)
        for window in merge.windows():
            for columns in window:
                kind = kind_of(columns.schema)
                self._rows[kind] = self._rows.get(kind, 0) + columns.num_rows
            yield window
        for counts in self.counts:
            for reason, place in sorted(counts.first.items()):
                self._log.warning("%s: the first of %s", place, reason)

    def metrics(self) -> Mapping[str, Any]:
        """Rows read by kind of record, how many stepped back in their source, and rows left out or doubtful."""
        told: dict[str, int] = {}
        for counts in self.counts:
            for name, counted in (("left_out", counts.left_out), ("doubtful", counts.doubtful)):
                for reason, rows in counted.items():
                    told[f"{name}: {reason}"] = told.get(f"{name}: {reason}", 0) + rows
        return {
            "sources": len(self.sources.of),
            "rows": dict(sorted(self._rows.items())),
            "time_steps_back": 0 if self._merge is None else self._merge.steps_back,
            **dict(sorted(told.items())),
        }

    def progress(self) -> str:
        return f"{len(self.sources.of)} sources, {sum(self._rows.values()):,} rows read"


def kind_of(schema: pa.Schema) -> str:
    """The kind of record a schema says it holds."""
    told: bytes = (schema.metadata or {}).get(b"record", b"")
    return told.decode()
