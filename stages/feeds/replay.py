"""Replays recorded market data, whatever its format, as standard records."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from pipeline import (
    Batch,
    Context,
    Feed,
    Footprint,
    HandedTable,
    InputError,
    Pacing,
    parse_instant,
)
from stages.messages.captures import Capture, open_captures
from stages.schemas import Scales, record_kind, schema_of

from .beginning import begun
from .captured import CaptureFeed, venue_of_capture
from .clock import ReplayClock
from .counts import Counts
from .interpretation import Interpretation
from .merged import MergedFeed, Sources, find_sources
from .merging import Order
from .opening import Format, is_of_captures, open_recording
from .recording import Recording, cut, span_of, span_of_several

NO_PATH = "no recording was given; add `path:` to the feed, run with `--data PATH`, or use `type: synthetic`"


class Replay(Interpretation, frozen=True):
    """A recording on disk: file, folder or glob of parquet, CSV (also .gz and .zip), LEAN, Tardis, DBN, or captures.

    ```yaml
    containers:
      data:
        type: replay
        path: data/crypto/coinbase/minute/btcusd
        clock: {speed: max}
    ```

    An ordinary CSV needs no more than its path; others declare their columns:

    ```yaml
    containers:
      data:
        type: replay
        path: trades-*.csv.gz
        instrument: BTCUSD.BITMEX
        columns: {t: ts_event, px: price, qty: size}
        time_format: ms
    ```

    Parquet files of our own hold any kind of record, those of a NautilusTrader catalog its trades, quotes, bars and
    deltas; Tardis' CSV books, liquidations and tickers as well; DBN files are read by the extra `dbn`: see `nautilus`,
    `tardis` and `dbn`. Formats are told by content; `format` overrules.

    A capture, messages as a recorder received them (lines of hftbacktest's or cryptofeed's, also .gz), becomes several
    kinds of record by the code that reads them live; who reads from the feed takes those it is made for, or names them:

    ```yaml
    containers:
      market:
        type: replay
        path: captures/btcusdt_20240808.gz
        depth: 10
      bars: {type: bars, inputs: [market], every: 1s}
      save:
        type: parquet
        inputs: [{from: market, records: book_snapshot}]
    ```

    Several paths, or a folder in our own layout (`<type>/venue=/instrument=/date=/`), are merged by time of receipt; at
    equal times the path listed first goes first. Of a folder that holds several kinds of record, all are sent. Only
    rows that overlap in time are held, some 260,000 of all sources.

    Files are read in order of their names, rows in the order recorded; rows whose time steps back are counted, not
    moved. A bar that repeats the one before it is left out and counted, one that contradicts it or cannot have been is
    an error: see `bar_checks`. Trades and quotes may share their times. `batch_rows` never changes what comes out.
    `Pipeline.from_table` hands a table over in place of a path; it is read by the rules for parquet files.
    """

    is_feed: ClassVar[bool | None] = True

    tuning: ClassVar[frozenset[str]] = frozenset({"path", "table", "batch_rows", "clock"})

    path: str | tuple[str, ...] | None = None
    table: HandedTable | None = None
    """Rows handed over from Python instead of a path."""
    format: Format = "auto"
    order: Order = "ts_recv"
    """By which times several sources are merged: when rows were received, or, for research, when things happened."""
    begin: str | None = None
    """An ISO time of receipt at which the replay begins: nothing before it comes out, but each book as it stood."""
    batch_rows: int = 65_536
    clock: ReplayClock = ReplayClock()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_rows < 1:
            raise ValueError(f"batch_rows: expected at least 1, found {self.batch_rows}")
        try:
            self.begin_ns  # noqa: B018 - only whether it is a time
        except ValueError:
            raise ValueError(f"begin: expected a time such as 2024-05-01T12:00:00Z, found {self.begin!r}") from None

    @property
    def begin_ns(self) -> int | None:
        return None if self.begin is None else parse_instant(self.begin)

    def build(self, context: Context) -> Feed:
        found, pacing, log = self.found(), self.clock.pacing, context.log
        if context.columns is not None and not isinstance(found, Capture):
            found = _narrowed(found, context.columns, log)
        if isinstance(found, Capture):
            return CaptureFeed(
                found, self, run_messages=self.batch_rows, log=log, pacing=pacing, begin_ns=self.begin_ns
            )
        if isinstance(found, Sources):
            late = self.lateness_ns(several=len(found.schemas) > 1)
            return MergedFeed(
                found, order=self.order, batch_rows=self.batch_rows, log=log, pacing=pacing, lateness_ns=late,
                begin_ns=self.begin_ns,
            )  # fmt: skip
        if found.unused:
            log.info("columns that are not read: %s", ", ".join(found.unused))
        for note in found.notes:
            log.info(note)
        late = self.lateness_ns(several=False)
        return ReplayFeed(found, self.batch_rows, log, pacing, late, self.begin_ns)

    def record_schemas(self, inputs: Mapping[str, pa.Schema | None]) -> Mapping[str, pa.Schema]:
        """Columns by kind of record where there are several; without a path, of those declared. Raises `InputError`."""
        if not self.has_data:
            return {} if self.records is None else self.schemas_sent(Scales())
        found = self.found()
        if isinstance(found, Capture):
            return self.schemas_sent(venue_of_capture(found, self).scales)
        return found.schemas if isinstance(found, Sources) and len(found.schemas) > 1 else {}

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema | None:
        """The columns of the recording; without a path those declared, or None. Raises `InputError`."""
        if not self.has_data:
            return None if self.schema == "auto" else schema_of(self.schema, self.scale or 8)
        found = self.found()
        if isinstance(found, Sources):
            return next(iter(found.schemas.values()))
        return found.schema if isinstance(found, Recording) else None

    def footprint(self, members: int, rows: int | None) -> Footprint:
        """Rows as the footers of parquet files tell them; other formats have to be read for it."""
        if not self.path:
            return Footprint(rows=rows)
        from .parquet import rows_of_footers

        told = rows_of_footers(self.input_files())
        read = told if rows is None else rows if told is None else min(told, rows)
        return Footprint(rows=read, batch_rows=None if told is None or read is None else min(read, self.batch_rows))

    def input_files(self) -> Sequence[Path]:
        return self.found().files

    def span(self, rows: int | None = None) -> tuple[int, int] | None:
        """Reads the whole recording once, since rows need not be sorted."""
        found = self.found()
        if isinstance(found, Recording):
            return span_of(found.read(Counts()), rows)
        if isinstance(found, Capture):
            return span_of_several(CaptureFeed(found, self, begin_ns=self.begin_ns).batches(), rows)
        return span_of_several(MergedFeed(found, order=self.order, begin_ns=self.begin_ns).batches(), rows)

    def cadence_ns(self, inputs: Mapping[str, int | None]) -> int | None:
        """Length of a recording's first bar, None of anything else; reads its first rows."""
        found = self.found()
        if isinstance(found, Sources) and list(found.schemas) == ["bar"]:
            found = found.of[0].recording
        if not isinstance(found, Recording) or record_kind(found.schema) != "bar":
            return None
        first = next((batch for batch in found.read(Counts()) if batch.num_rows), None)
        length = None if first is None else first.column("interval_ns")[0].as_py()
        return None if length is None else int(length)

    @property
    def has_data(self) -> bool:
        return self.table is not None or bool(self.path)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths given. Raises `InputError` where there are none."""
        given = (self.path,) if isinstance(self.path, str) else self.path or ()
        if not given:
            raise InputError(NO_PATH)
        return tuple(Path(path).expanduser() for path in given)

    def recording(self) -> Recording:
        """The recording of one kind of record at the first path, or the table. Raises `InputError`."""
        if self.table is not None:
            from .handed import open_handed

            return open_handed(self.table, self.instrument or "DATA.TABLE", self)
        return open_recording(self.paths[0], self.format, self)

    def found(self) -> Recording | Sources | Capture:
        """What this recipe names, found but not read: one recording, several to be merged, or messages as received.

        Looks into files. Raises `InputError`.
        """
        if self.table is not None:
            return self.recording()
        paths = self.paths
        if is_of_captures(paths, self.format):
            return open_captures(paths)
        sources = find_sources(paths, self.format, self)
        if sources is None:
            return self.recording()
        if self.order == "ts_event" and len(sources.schemas) > 1:
            raise InputError(
                f"{paths[0]}: expected one kind of record where rows are ordered by ts_event, found "
                f"{', '.join(sources.schemas)}; write `records: [{next(iter(sources.schemas))}]`, or `order: ts_recv`"
            )
        return sources


def _narrowed(found: Recording | Sources, names: frozenset[str], log: logging.Logger) -> Recording | Sources:
    """The same without columns that nobody takes, where they need not be read."""
    narrowed = found.narrowed(names) if found.narrowed is not None else found
    if narrowed is not found:
        log.info("columns that nobody takes are not read; those that are: %s", ", ".join(sorted(names)))
    return narrowed


class ReplayFeed(Feed):
    """Reads a recording in a thread and sends it in batches of exactly `batch_rows` rows, only the last is shorter."""

    def __init__(
        self, recording: Recording, batch_rows: int, log: logging.Logger, pacing: Pacing | None = None,
        lateness_ns: int = 0, begin_ns: int | None = None,
    ) -> None:  # fmt: skip
        self._recording = recording
        self.pacing = pacing or Pacing()
        self.lateness_ns, self.begin_ns = lateness_ns, begin_ns
        self._batch_rows = batch_rows
        self._log = log
        self.counts = Counts()
        self.columns_read = 0
        """Columns of what it sent last: fewer than the recording has where nobody takes the others."""

    def batches(self) -> Iterator[Batch]:
        return self._from(self.begin_ns)

    def seek(self, ts_ns: int) -> Iterator[Batch]:
        """Read again from its beginning, silently up to then."""
        self.counts = Counts()
        return self._from(ts_ns)

    def _from(self, begin_ns: int | None) -> Iterator[Batch]:
        windows = begun(((columns,) for columns in self._watched()), begin_ns)
        for columns in cut((columns for (columns,) in windows), self._batch_rows):
            self.columns_read = columns.num_columns
            yield Batch(columns)

    def metrics(self) -> Mapping[str, Any]:
        """Rows passed on, rows whose time steps back, rows left out and rows that look wrong, by reason."""
        return {
            "rows_read": self.counts.rows,
            "time_steps_back": self.counts.steps_back,
            **{f"left_out: {reason}": rows for reason, rows in sorted(self.counts.left_out.items())},
            **{f"doubtful: {reason}": rows for reason, rows in sorted(self.counts.doubtful.items())},
        }

    def _watched(self) -> Iterator[pa.RecordBatch]:
        """What the recording's reader makes; the first of everything odd is told at once, the counts at the end."""
        told: set[str] = set()
        for batch in self._recording.read(self.counts):
            for reason in sorted(self.counts.first.keys() - told):
                self._log.warning("%s: the first of %s", self.counts.first[reason], self._said(reason))
                told.add(reason)
            if self.counts.first_step_back and "steps back" not in told:
                self._log.warning("%s; sort the rows by time where their order matters", self.counts.first_step_back)
                told.add("steps back")
            yield batch
        if not self.counts.rows:
            files = [str(file) for file in self._recording.files] or ["the table"]
            named = files[0] if len(files) == 1 else f"{len(files):,} files from {files[0]} on"
            self._log.warning("the feed gave no row: there is none in %s", named)
        for reason in sorted({*self.counts.left_out, *self.counts.doubtful}):
            rows = self.counts.left_out.get(reason, 0) + self.counts.doubtful.get(reason, 0)
            self._log.warning("%s in all: %s", f"{rows:,}", self._said(reason))

    def _said(self, reason: str) -> str:
        return f"{reason}, which {'are left out' if reason in self.counts.left_out else 'are passed on'}"

    def progress(self) -> str:
        words = f"{self.counts.file}, {self.counts.rows:,} rows read"
        return f"{words}, {self.counts.steps_back:,} steps back" if self.counts.steps_back else words
