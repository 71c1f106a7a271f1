"""Replays recorded market data, whatever its format, as standard records."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa

from pipeline import (
    Batch,
    Context,
    Duration,
    Feed,
    Footprint,
    HandedTable,
    InputError,
    Pacing,
    Recipe,
    parse_duration,
)
from stages.messages.captures import Capture, open_captures
from stages.schemas import record_kind, schema_of

from .captured import CaptureFeed, span_of_capture
from .counts import Counts
from .interpretation import Interpretation
from .opening import Format, is_of_captures, open_recording
from .recording import Recording, cut, span_of

NO_PATH = "no recording was given; add `path:` to the feed, run with `--data PATH`, or use `type: synthetic`"


class ReplayClock(Recipe, frozen=True):
    """How fast a recording is replayed; `max` is as fast as its consumers take it, 1 as it was recorded."""

    speed: Literal["max"] | float = "max"
    max_idle_gap: Duration | None = None
    """Stretches without a row last no longer than this in recorded time, such as `5s`; left out: as they were."""

    def __post_init__(self) -> None:
        if self.speed != "max" and not self.speed > 0:
            raise ValueError(f"speed: expected max or a number above 0, found {self.speed:g}")

    @property
    def pacing(self) -> Pacing:
        gap = None if self.max_idle_gap is None else parse_duration(self.max_idle_gap)
        return Pacing(speed=None if self.speed == "max" else self.speed, max_idle_gap_ns=gap)


class Replay(Interpretation, frozen=True):
    """What was recorded: a file, folder or glob of parquet, CSV (also .gz and .zip), LEAN, Tardis, DBN, or captures.

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
    batch_rows: int = 65_536
    clock: ReplayClock = ReplayClock()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_rows < 1:
            raise ValueError(f"batch_rows: expected at least 1, found {self.batch_rows}")

    def build(self, context: Context) -> Feed:
        pacing = self.clock.pacing
        if self.is_of_captures:
            return CaptureFeed(
                self.capture(), self, run_messages=self.batch_rows, log=context.log, pacing=pacing
            )  # fmt: skip
        recording = self.recording()
        if recording.unused:
            context.log.info("columns that are not read: %s", ", ".join(recording.unused))
        for note in recording.notes:
            context.log.info(note)
        return ReplayFeed(recording, self.batch_rows, context.log, pacing, self.lateness_ns(several=False))

    def record_schemas(self, inputs: Mapping[str, pa.Schema | None]) -> Mapping[str, pa.Schema]:
        """Columns by kind of record, of a capture. Raises `InputError`."""
        return self.schemas_sent() if self.is_of_captures else {}

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema | None:
        """The columns of the recording; without a path those declared, or None. Raises `InputError`."""
        if self.path is not None or self.table is not None:
            return self.recording().schema
        return None if self.schema == "auto" else schema_of(self.schema, self.scale or 8)

    def footprint(self, members: int, rows: int | None) -> Footprint:
        """Rows as the footers of parquet files tell them; other formats have to be read for it."""
        if self.path is None or self.is_of_captures:
            return Footprint(rows=rows)
        from .parquet import rows_of_footers

        told = rows_of_footers(self.recording().files)
        read = told if rows is None else rows if told is None else min(told, rows)
        return Footprint(rows=read, batch_rows=None if told is None or read is None else min(read, self.batch_rows))

    def input_files(self) -> Sequence[Path]:
        return self.capture().files if self.is_of_captures else self.recording().files

    def span(self, rows: int | None = None) -> tuple[int, int] | None:
        """Reads the whole recording once, since rows need not be sorted."""
        if self.is_of_captures:
            return span_of_capture(CaptureFeed(self.capture(), self), rows)
        return span_of(self.recording().read(Counts()), rows)

    def cadence_ns(self, inputs: Mapping[str, int | None]) -> int | None:
        """Length of a recording's first bar, None of anything else; reads its first rows."""
        if self.is_of_captures:
            return None
        recording = self.recording()
        if record_kind(recording.schema) != "bar":
            return None
        first = next((batch for batch in recording.read(Counts()) if batch.num_rows), None)
        found = None if first is None else first.column("interval_ns")[0].as_py()
        return None if found is None else int(found)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths given. Raises `InputError` where there are none."""
        given = (self.path,) if isinstance(self.path, str) else self.path or ()
        if not given:
            raise InputError(NO_PATH)
        return tuple(Path(path).expanduser() for path in given)

    @property
    def is_of_captures(self) -> bool:
        """Whether it gives several kinds of record, made of messages as received; looks into the files."""
        return self.table is None and bool(self.path) and is_of_captures(self.paths, self.format)

    def capture(self) -> Capture:
        """The capture this recipe names, found but not read. Raises `InputError`."""
        return open_captures(self.paths)

    def recording(self) -> Recording:
        """The recording of one kind of record this recipe names, found but not read. Raises `InputError`."""
        if self.table is not None:
            from .handed import open_handed

            return open_handed(self.table, self.instrument or "DATA.TABLE", self)
        return open_recording(self.paths[0], self.format, self)


class ReplayFeed(Feed):
    """Reads a recording in a thread and sends it in batches of exactly `batch_rows` rows, only the last is shorter."""

    def __init__(
        self, recording: Recording, batch_rows: int, log: logging.Logger, pacing: Pacing | None = None,
        lateness_ns: int = 0,
    ) -> None:  # fmt: skip
        self._recording = recording
        self.pacing = pacing or Pacing()
        self.lateness_ns = lateness_ns
        self._batch_rows = batch_rows
        self._log = log
        self.counts = Counts()

    def batches(self) -> Iterator[Batch]:
        for columns in cut(self._watched(), self._batch_rows):
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
