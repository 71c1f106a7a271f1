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
from stages.schemas import record_kind, schema_of

from .counts import Counts
from .dbn_layout import is_dbn
from .declaration import Declaration
from .lean_layout import is_lean
from .recording import Recording, cut, span_of
from .tables import find_tables

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


class Replay(Declaration, frozen=True):
    """A recording on disk: a file, a folder or a glob, of parquet, CSV (also .gz and .zip), LEAN, Tardis or DBN.

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

    Files are read in order of their names, rows in the order recorded; rows whose time steps back are counted, not
    moved. A bar that repeats the one before it is left out and counted, one that contradicts it or cannot have been is
    an error: see `bar_checks`. Trades and quotes may share their times. `batch_rows` never changes what comes out.
    `Pipeline.from_table` hands a table over in place of a path; it is read by the rules for parquet files.
    """

    is_feed: ClassVar[bool | None] = True

    tuning: ClassVar[frozenset[str]] = frozenset({"path", "table", "batch_rows", "clock"})

    path: str | None = None
    table: HandedTable | None = None
    """Rows handed over from Python instead of a path."""
    format: Literal["auto", "parquet", "csv", "lean", "tardis", "dbn"] = "auto"
    batch_rows: int = 65_536
    clock: ReplayClock = ReplayClock()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_rows < 1:
            raise ValueError(f"batch_rows: expected at least 1, found {self.batch_rows}")

    def build(self, context: Context) -> ReplayFeed:
        recording = self.recording()
        if recording.unused:
            context.log.info("columns that are not read: %s", ", ".join(recording.unused))
        for note in recording.notes:
            context.log.info(note)
        return ReplayFeed(recording, self.batch_rows, context.log, self.clock.pacing)

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema | None:
        """The columns of the recording; without a path those declared, or None. Raises `InputError`."""
        if self.path is not None or self.table is not None:
            return self.recording().schema
        return None if self.schema == "auto" else schema_of(self.schema, self.scale or 8)

    def footprint(self, members: int, rows: int | None) -> Footprint:
        """Rows as the footers of parquet files tell them; other formats have to be read for it."""
        if self.path is None:
            return Footprint(rows=rows)
        from .parquet import rows_of_footers

        told = rows_of_footers(self.recording().files)
        read = told if rows is None else rows if told is None else min(told, rows)
        return Footprint(rows=read, batch_rows=None if told is None or read is None else min(read, self.batch_rows))

    def input_files(self) -> Sequence[Path]:
        return self.recording().files

    def span(self, rows: int | None = None) -> tuple[int, int] | None:
        """Reads the whole recording once, since rows need not be sorted."""
        return span_of(self.recording().read(Counts()), rows)

    def cadence_ns(self, inputs: Mapping[str, int | None]) -> int | None:
        """Length of a recording's first bar, None of anything else; reads its first rows."""
        recording = self.recording()
        if record_kind(recording.schema) != "bar":
            return None
        first = next((batch for batch in recording.read(Counts()) if batch.num_rows), None)
        found = None if first is None else first.column("interval_ns")[0].as_py()
        return None if found is None else int(found)

    def recording(self) -> Recording:
        """The recording this recipe names, found but not read. Raises `InputError`."""
        if self.table is not None:
            from .handed import open_handed

            return open_handed(self.table, self.instrument or "DATA.TABLE", self)
        if self.path is None:
            raise InputError(NO_PATH)
        path = Path(self.path).expanduser()
        if self.format == "lean" or (self.format == "auto" and is_lean(path)):
            from .lean import open_lean

            return open_lean(path, self)
        if self.format == "dbn" or (self.format == "auto" and is_dbn(path)):
            from .dbn import open_dbn

            return open_dbn(path, self)
        kind, files = find_tables(path, "csv" if self.format == "tardis" else self.format)
        instrument = self.instrument or f"{files[0].name.split('.')[0]}.FILE".upper()
        if kind == "parquet":
            from .nautilus import is_nautilus, open_nautilus
            from .parquet import open_parquet

            if is_nautilus(files[0]):
                return open_nautilus(files, self)
            return open_parquet(files, instrument, self)
        from .csv import open_csv
        from .tardis import is_tardis, open_tardis

        if self.format == "tardis" or (self.format == "auto" and is_tardis(files[0], self)):
            return open_tardis(files, self)
        return open_csv(files, instrument, self)


class ReplayFeed(Feed):
    """Reads a recording in a thread and sends it in batches of exactly `batch_rows` rows, only the last is shorter."""

    def __init__(
        self, recording: Recording, batch_rows: int, log: logging.Logger, pacing: Pacing | None = None
    ) -> None:
        self._recording = recording
        self.pacing = pacing or Pacing()
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
