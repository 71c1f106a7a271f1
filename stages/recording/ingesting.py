"""Takes captures into a recording: what is there already is passed over, so that doing it again changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pipeline import InputError, SystemClock
from stages.messages import Messages
from stages.messages.captures import Capture, CaptureCounts, open_captures
from stages.venues import VENUES, Venue, nearest, venue_of

from .recorder import Figures, Recorder, open_recorder
from .seen import Again, moment
from .settings import DAY_NS, Recording
from .stream import Stream

RUN_MESSAGES = 8192
"""Messages that are read at a time."""
log = logging.getLogger("penstock.recording")


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """What came of captures."""

    folder: str
    skipped: int
    """Messages that the recording had already."""
    figures: Figures
    quality: dict[str, Any]
    wrong: dict[str, int]
    """Lines of the captures that are not as they should be, by reason."""
    left_out: tuple[str, ...]
    """Sources whose venue is not known."""


Watch = Callable[[Figures, int], None]
"""Told now and then what was done, and how many messages were passed over."""


async def ingest(
    paths: str | Path | Iterable[str | Path],
    folder: str | Path,
    settings: Recording | None = None,
    *,
    venue: str | None = None,
    watch: Watch = lambda figures, skipped: None,
    stopped: Callable[[], bool] = lambda: False,
    repair: bool = False,
) -> Ingested:
    """Take the captures at `paths` into the recording in `folder`, in the order received; publishes all at the end.

    Captures that continue others may overlap them: messages the recording has from the same source are passed over,
    and trades and book updates that it has from another source are known by their numbers. When `stopped` says so, it
    ends early, and may be called again. Raises `InputError` where captures cannot be read, are of no known venue, are
    older than what the recording has, of the future, or are not what it has from that source and time; `DiskFull`,
    `StorageFailed`.
    """
    async with open_recorder(folder, settings, repair=repair) as recorder:
        taken = await take_in(recorder, paths, venue=venue, watch=watch, stopped=stopped)
        await recorder.roll()
        return Ingested(
            folder=str(folder), skipped=taken.skipped, figures=recorder.figures(), quality=dict(recorder.quality()),
            wrong=dict(taken.counts.wrong), left_out=taken.left_out,
        )  # fmt: skip


class Taken(NamedTuple):
    """Beside what the recorder counts."""

    skipped: int
    counts: CaptureCounts
    left_out: tuple[str, ...]


async def take_in(
    recorder: Recorder,
    paths: str | Path | Iterable[str | Path],
    *,
    venue: str | None = None,
    watch: Watch = lambda figures, skipped: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Taken:
    """As `ingest`, into a recorder that is open; what was taken is published when it rolls."""
    counts = CaptureCounts()
    skipped = 0
    apart = recorder.folder.apart
    found, left_out = await apart(_by_venue, paths, venue)
    for whose, capture in found:
        stream = recorder.stream(whose)
        await apart(_check_order, capture, stream)
        again = stream.seen.again()
        runs = capture.runs(counts, most=RUN_MESSAGES)
        try:
            while not stopped() and (run := await apart(_next_new, runs, again)) is not None:
                past = _past(run)
                await recorder.take(past, whose)
                if len(past) < len(run):
                    raise InputError(_of_the_future(run.slice(len(past))))
                watch(recorder.figures(), skipped + again.skipped)
            again.finish()
        finally:
            await apart(runs.close)  # type: ignore[attr-defined]
        skipped += again.skipped
    for note in counts.notes:
        log.warning("%s", note.said())
    return Taken(skipped, counts, left_out)


def _past(run: Messages) -> Messages:
    """Those in front of the first of the future: a recording that believed it would bring all that follows there."""
    limit = SystemClock().now_ns() + DAY_NS
    return run.slice(0, int(np.searchsorted(run.ts_recv, limit)))


def _of_the_future(run: Messages) -> str:
    return (
        f"{run.source[run.source_code[0]]}: expected messages that came until now, found one of "
        f"{moment(int(run.ts_recv[0]))}; its time is damaged, or the clock of one of the machines is wrong; what came "
        "before it is taken in"
    )


def _next_new(runs: Iterator[Messages], again: Again) -> Messages | None:
    for run in runs:
        new = again.new(run)
        if len(new):
            return new
    return None


def _by_venue(paths: str | Path | Iterable[str | Path], venue: str | None) -> tuple[list[tuple[Venue, Capture]], Any]:
    """The sources of captures, those of a venue together, and the names of those whose venue is not known."""
    capture = open_captures(paths)
    if venue is not None:
        return [(_named(venue), capture)], ()
    found: dict[str, tuple[Venue, list[str]]] = {}
    left_out = []
    reason = ""
    for name, part in capture.apart():
        try:
            whose = venue_of(next(part.runs()))
        except LookupError as error:
            reason = reason or str(error)
            log.warning("left out: %s", error)
            left_out.append(name)
            continue
        found.setdefault(whose.name, (whose, []))[1].append(name)
    if not found:
        raise InputError(f"{reason} with --venue")
    return [(whose, capture.of(names)) for whose, names in found.values()], tuple(left_out)


def _named(word: str) -> Venue:
    for venue in VENUES:
        if venue.name == word:
            return venue
    raise InputError(f"no venue is called '{word}'; {nearest(word, [venue.name for venue in VENUES])}")


def _check_order(capture: Capture, stream: Stream) -> None:
    """A capture that a recording does not know has to reach beyond it: reads it once where that is in doubt."""
    unknown = [
        name for name, part in capture.apart() if not stream.seen.knows(name) and part.begins_ns < stream.last_ts
    ]
    for name in unknown:
        span = capture.of([name]).span()
        if span is not None and span[1] < stream.last_ts:
            raise InputError(
                f"{name}: expected messages that continue the recording, which reaches to {moment(stream.last_ts)}, "
                f"found some up to {moment(span[1])}; take captures in by the order of their times, or these into a "
                "folder of their own"
            )
