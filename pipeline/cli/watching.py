"""What a run is at, as a few figures, shown live on a terminal or as log lines elsewhere."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from pipeline.containers.container import ContainerStats
from pipeline.service import Run
from pipeline.status import RunStatus

from .conduct import Watch
from .figures import bytes_said, rows_said, seconds_said
from .tables import may_decorate

LIVE_SECONDS = 1 / 8
LINE_SECONDS = 3.0
LOOK_SECONDS = 0.02
"""How often the beginning is looked for."""
RATE_SECONDS = 3.0
"""Rows per second are an average over this long."""
log = logging.getLogger("penstock.progress")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a run."""

    phase: str
    phase_number: int
    phases: int
    """Phase `phase_number` of `phases`, from 1."""
    state: str
    seconds: float
    rows: int
    """Rows the feeds have given."""
    rows_per_second: float
    memory_bytes: int
    """What all data managers hold."""
    budget_bytes: int
    """The sum of their ceilings, or the pool they share if that is less."""
    disk_bytes: int
    event_time: str | None
    """How far event time has come in the feed that is least far."""

    @property
    def phase_said(self) -> str:
        """The phase, and which of how many it is where there are several."""
        return f"{self.phase} ({self.phase_number} of {self.phases})" if self.phases > 1 else self.phase

    def said(self) -> str:
        words = [
            f"{self.phase_said} {self.state}",
            f"{rows_said(self.rows)} rows",
            f"{rows_said(self.rows_per_second)} rows/s",
            f"memory {bytes_said(self.memory_bytes)} of {bytes_said(self.budget_bytes)}",
            f"disk {bytes_said(self.disk_bytes)}",
        ]
        if self.event_time is not None:
            words.append(f"at {self.event_time}")
        return ", ".join([*words, seconds_said(self.seconds)])


class Gauge:
    """Turns statuses of one run into figures."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._phase: str | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def read(self, status: RunStatus) -> Figures:
        now = time.monotonic()
        if status.phase != self._phase:
            self._phase = status.phase
            self._seen.clear()
        feeds = [container for container in status.containers if container.kind == "feed"]
        rows = sum(feed.sent_rows for feed in feeds)
        times = [feed.watermark for feed in feeds if feed.watermark is not None and not feed.ended]
        times = times or [feed.watermark for feed in feeds if feed.watermark is not None]
        stores = status.stores.values()
        return Figures(
            phase=status.phase or "-",
            phase_number=status.phase_number,
            phases=status.phases,
            state=_state(status, feeds),
            seconds=now - self._began,
            rows=rows,
            rows_per_second=self._rate(now, rows),
            memory_bytes=sum(store.charged_bytes for store in stores),
            budget_bytes=min(
                sum(store.limit_bytes or 0 for store in stores),
                status.pool.limit_bytes if status.pool is not None else sys.maxsize,
            ),
            disk_bytes=sum(store.disk_bytes for store in stores),
            event_time=moment(min(times)) if times else None,
        )

    def _rate(self, now: float, rows: int) -> float:
        self._seen.append((now, rows))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0]
        return (rows - before) / (now - then) if now > then else 0.0


def _state(status: RunStatus, feeds: Sequence[ContainerStats]) -> str:
    """A run's state, and more words for what takes long: before there is a graph, after the data has ended, and where
    memory is short."""
    if status.phase is None:
        return "preparing"
    state = "finishing" if feeds and all(feed.ended for feed in feeds) else status.state
    return f"{state}, {status.pool.pressure}" if status.pool is not None and status.pool.pressure else state


def moment(ns: int) -> str | None:
    """Nanoseconds since 1970 as `2024-05-01 12:34:56`, None where that is no date."""
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return None


def watcher(*, quiet: bool, log_format: str) -> Watch:
    """How this process shows a run: not at all, live, or line by line."""
    if quiet:
        return _nothing
    if may_decorate(sys.stderr) and log_format == "text":
        from .live import watch_live

        return watch_live
    return watch_lines


async def _nothing(run: Run) -> None:
    return None


async def watch_lines(run: Run) -> None:
    """Log until cancelled: before data flows, with its first rows, then every few seconds; JSON has the figures."""
    gauge = Gauge()
    log.info("preparing %s", run.pipeline.plan.name)
    while run.status().phase is None:
        await asyncio.sleep(LOOK_SECONDS)
    log.info("results go to %s", run.folder)
    patience = LINE_SECONDS
    while gauge.read(run.status()).rows == 0 and patience > 0:
        await asyncio.sleep(LOOK_SECONDS)
        patience -= LOOK_SECONDS
    while True:
        figures = gauge.read(run.status())
        log.info("%s", figures.said(), extra=msgspec.structs.asdict(figures))
        await asyncio.sleep(LINE_SECONDS)
