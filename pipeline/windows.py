"""The stretch of event time a phase is about, and how a feed's rows are cut to it and to the warm-up before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from .durations import parse_instant, said_duration
from .errors import InputError
from .frames import Batch, first_rows
from .hashing import TableHash, hash_plain

MAX_HELD_BYTES = 256 << 20
"""Rows a feed's container holds back while it counts a warm-up in bars; more is an error that says what to try."""
TRIM_ROWS = 65_536
"""Rows held back beyond twice the necessary before what is too old is let go."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """`[from_ns, until_ns)` in event time, ns UTC; None is open."""

    from_ns: int | None = None
    until_ns: int | None = None

    def said(self) -> str:
        """`2021-01-01 .. 2022-01-01`, open ends left out."""
        ends = ["" if ns is None else moment_said(ns) for ns in (self.from_ns, self.until_ns)]
        return " .. ".join(ends).strip() if any(ends) else ""


class WarmUp(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what lies before a window comes along: `duration_ns` of it, or else `count` bars of `every_ns`.

    Bars are counted where something happened: of stretches of `every_ns` without a row there may be any number.
    """

    duration_ns: int | None = None
    count: int = 0
    every_ns: int = 0

    @property
    def nothing(self) -> bool:
        return not self.duration_ns and not self.count

    def said(self) -> str:
        if self.duration_ns is not None:
            return said_duration(self.duration_ns)
        return f"{self.count:,} bars of {said_duration(self.every_ns)}" if self.count else "none"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Where feeds begin and end: the window, what warms it up, and how many rows are read at most."""

    rows: int | None = None
    """Rows a feed is read for, counted from its beginning, whatever the window."""
    until_ns: int | None = None
    from_ns: int | None = None
    warmup: WarmUp = WarmUp()
    windowed: bool = False
    """Whether this is of a phase with a window, whose data are the rows it was given rather than whole files."""


ALL = Window()
"""No window."""
UNLIMITED = Limits()


class WindowCut:
    """Cuts the batches of one feed to `[from - warm-up, until)`, wherever the feed happened to cut them.

    Rows before the window are held back only where the warm-up is counted in bars, and are let go with the first row
    of the window: those of the last `count` stretches of `every_ns` in which there were rows, and those of the bar
    that straddles the window's start. Where no row of the window comes, none is sent.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.read_rows = 0
        self.shortened = False
        """Whether the feed has more than it was read for."""
        self.warmup_from_ns: int | None = None
        """Event time of the earliest row sent before the window; None: there is none."""
        self._begin_ns = limits.from_ns
        warmup = limits.warmup
        if limits.from_ns is not None and warmup.duration_ns is not None:
            self._begin_ns = limits.from_ns - warmup.duration_ns
        self._counting = limits.from_ns is not None and warmup.duration_ns is None and warmup.every_ns > 0
        self._held: list[Batch] = []
        self._held_rows = self._kept_rows = 0

    @property
    def holds(self) -> bool:
        """Whether rows are held back, so that event time must not be told to have passed them."""
        return self._counting

    @property
    def is_full(self) -> bool:
        """Whether all rows have come that the feed is read for."""
        return self.limits.rows is not None and self.read_rows >= self.limits.rows

    def wanted(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """What of batches that cover the same time is read before the feed has been read for all its rows."""
        return batches if self.limits.rows is None else first_rows(batches, self.limits.rows - self.read_rows)

    def take(self, batch: Batch, lateness_ns: int = 0) -> tuple[Sequence[Batch], bool]:
        """What of the feed's next batch is to be sent now, and whether the feed need not be asked for more.

        `lateness_ns` is how far its event time may step back: as much as that may still follow the end.
        """
        done = False
        rows = self.limits.rows
        if rows is not None and batch.num_rows >= rows - self.read_rows:
            batch = batch.slice(0, rows - self.read_rows)
            done = self.shortened = True
        self.read_rows += batch.num_rows
        batch, over = self._before_the_end(batch, lateness_ns)
        return self._after_the_beginning(batch), done or over

    def _before_the_end(self, batch: Batch, lateness_ns: int) -> tuple[Batch, bool]:
        until = self.limits.until_ns
        if until is None or batch.max_ts is None or batch.max_ts < until:
            return batch, False
        self.shortened = True
        assert batch.min_ts is not None
        over = batch.min_ts - lateness_ns >= until or lateness_ns == 0
        return _where(batch, _times(batch) < until), over

    def _after_the_beginning(self, batch: Batch) -> list[Batch]:
        begin, inside = self._begin_ns, self.limits.from_ns
        if begin is None or inside is None or not batch.num_rows:
            return [batch]
        times = _times(batch)
        if not self._counting:
            return [self._noted(_where(batch, times >= begin))]
        reached = np.flatnonzero(times >= inside)
        first = int(reached[0]) if len(reached) else len(times)
        if first:
            self._hold(batch.slice(0, first))
        if not len(reached):
            return []
        self._trim()
        self._counting = False
        held, self._held = self._held, []
        rest = batch.slice(first)
        assert self._begin_ns is not None
        return [self._noted(part) for part in (*held, _where(rest, times[first:] >= self._begin_ns))]

    def _hold(self, batch: Batch) -> None:
        self._held.append(batch)
        self._held_rows += batch.num_rows
        if self._held_rows > 2 * self._kept_rows + TRIM_ROWS:
            self._trim()

    def _trim(self) -> None:
        """Let go of what is older than the warm-up; what is left begins at `_begin_ns`."""
        warmup, inside = self.limits.warmup, self.limits.from_ns
        assert inside is not None
        straddling = inside // warmup.every_ns
        times = [_times(batch) for batch in self._held]
        bars = np.unique(np.concatenate([stamps // warmup.every_ns for stamps in times])) if times else np.empty(0, int)
        bars = bars[bars < straddling]
        if len(bars) and warmup.count:
            begin = int(bars[max(len(bars) - warmup.count, 0)]) * warmup.every_ns
        else:
            begin = straddling * warmup.every_ns
        parts = (_where(batch, stamps >= begin) for batch, stamps in zip(self._held, times, strict=True))
        self._held = [part for part in parts if part.num_rows]
        self._held_rows = self._kept_rows = sum(part.num_rows for part in self._held)
        self._begin_ns = begin
        if sum(part.num_bytes for part in self._held) > MAX_HELD_BYTES:
            raise InputError(
                f"expected a warm-up of at most {MAX_HELD_BYTES >> 20} MiB of rows, found {warmup.said()} to be more; "
                "write a duration, such as `warmup: 30d`, whose rows are not held back to be counted"
            )

    def _noted(self, batch: Batch) -> Batch:
        earliest = batch.min_ts
        assert self.limits.from_ns is not None
        if earliest is not None and earliest < self.limits.from_ns:
            self.warmup_from_ns = earliest if self.warmup_from_ns is None else min(self.warmup_from_ns, earliest)
        return batch


class RowsHash:
    """Hash of the rows a feed gives, however they are cut into batches."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, ...], TableHash] = {}

    def update(self, batch: Batch) -> None:
        columns = batch.columns
        self._tables.setdefault(tuple(columns.schema.names), TableHash()).update(columns)

    def hexdigest(self) -> str:
        return hash_plain([table.hexdigest() for table in self._tables.values()])


def _times(batch: Batch) -> np.ndarray[Any, np.dtype[np.int64]]:
    times = batch.times()
    if times is None:
        raise InputError("a window needs rows with an event time: a column `ts_event` or `ts_recv`")
    return times


def _where(batch: Batch, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> Batch:
    """The batch itself where all rows are kept."""
    return batch if kept.all() else Batch(batch.columns.take(np.flatnonzero(kept)))


def moment_said(ns: int) -> str:
    """ns UTC as `2021-01-01` or `2021-01-01 12:30:00`, with a fraction where there is one."""
    text = iso(ns)[:-1].replace("T", " ")
    return text.removesuffix(" 00:00:00")


def iso(ns: int) -> str:
    """ns UTC as `2021-01-01T00:00:00Z`, with a fraction of a second where there is one."""
    text = str(np.datetime_as_string(np.datetime64(ns, "ns")))
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def nanoseconds(text: str) -> int:
    """An ISO time as nanoseconds since 1970 UTC; without a zone it is UTC. Raises `InputError`."""
    try:
        return parse_instant(text)
    except ValueError as error:
        raise InputError(f"expected a time such as '2024-05-01T12:00:00Z', found '{text}'") from error
