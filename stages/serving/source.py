"""The recording a server plays: runs of messages, the venue they are of, and what is found by looking ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pipeline import InputError
from stages.messages import Messages
from stages.messages.captures import RecordedCapture, open_captures
from stages.venues import VENUES, Venue, venue_named, venue_of
from stages.venues.serving import VenueServer

RUN = 4096
"""Messages that are made ready at a time, beside the loop."""
LOOKED_AHEAD = 65_536
"""Messages in which a book's first snapshot is looked for before anything is sent."""
Runs: TypeAlias = Callable[[], Iterator[Messages]]
"""Begins to read a recording; each time the same."""


class Source(NamedTuple):
    """A recording that can be served."""

    runs: Runs
    head: list[Messages]
    """Its first messages."""
    venue: Venue
    server: VenueServer


def open_source(given: str | Path | Iterable[str | Path] | Runs, venue: str | None) -> Source:
    """Look at a recording; reads `LOOKED_AHEAD` messages of it. Raises `InputError`."""
    if callable(given):
        runs: Runs = given
        where = "the messages given"
    else:
        capture = open_captures(given)
        where = str(capture.files[0])
        if isinstance(capture, RecordedCapture):  # it says whose messages it has, and may begin with ones that do not
            capture.venue = venue = venue or capture.first_venue
            where = str(capture.folder)

        def runs() -> Iterator[Messages]:
            return capture.runs(most=RUN)

    head = _head(runs)
    if not head:
        raise InputError(f"{where}: expected a recording to serve, found no message in it")
    try:
        found = venue_named(venue) if venue else venue_of(head[0])
    except LookupError as error:
        raise InputError(f"{where}: {error}") from error
    server = found.server()
    if server is None:
        served = ", ".join(each.name for each in VENUES if each.server() is not None)
        raise InputError(f"{where}: expected a recording of a venue that can be served ({served}), found {found.name}")
    return Source(runs, head, found, server)


def _head(runs: Runs) -> list[Messages]:
    with closing(cut(runs())) as reading:
        seen = 0

        def is_wanted(run: Messages) -> bool:
            nonlocal seen
            seen += len(run)
            return seen - len(run) < LOOKED_AHEAD

        return [run for run in takewhile(is_wanted, reading) if len(run)]


def cut(runs: Iterator[Messages]) -> Generator[Messages]:
    """The same in runs of at most `RUN` messages."""
    for run in runs:
        for start in range(0, len(run), RUN):
            yield run.slice(start, min(start + RUN, len(run)))
