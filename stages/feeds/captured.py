"""Replays captures: messages as they were received become records by the code that reads them live."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline import Batch, Feed, InputError, Pacing
from stages.messages import Messages
from stages.messages.captures import Capture, CaptureCounts, RecordedCapture, is_capture, open_captures

from .beginning import begun
from .interpretation import Interpretation
from .tables import ARCHIVE, ENDINGS

if TYPE_CHECKING:
    from stages.interpreting import Interpreter
    from stages.venues import Venue

    from .synthetic_venue import MadeUp

RUN_MESSAGES = 4096
"""Messages that are interpreted together at most; what they become is sent together."""
LOOKED_AT = 20
"""Files of a folder that are looked into, to tell whether it holds captures."""
HEAD_BYTES = 4096
TOLD_BY = 1000
"""Messages of each source by which a capture's venue is found."""

_TABLES = (*(ending for endings in ENDINGS.values() for ending in endings), ARCHIVE)


def holds_captures(paths: Sequence[Path]) -> bool:
    """Whether one of the first files there that are not called as tables are is of a capture format.

    A file named outright may be called as a table is, if it looks otherwise.
    """
    looked = 0
    for path in paths:
        for file in _files(path):
            if file.name.lower().endswith(_TABLES) and not (file == path and _holds_json(file)):
                continue
            if is_capture(file):
                return True
            looked += 1
            if looked == LOOKED_AT:
                return False
    return False


class CaptureFeed(Feed):
    """Reads a capture in a thread and sends what each run of messages came to: batches of all kinds of record."""

    def __init__(
        self,
        capture: Capture | MadeUp,
        declared: Interpretation,
        *,
        run_messages: int = RUN_MESSAGES,
        log: logging.Logger | None = None,
        pacing: Pacing | None = None,
        begin_ns: int | None = None,
    ) -> None:
        self.capture, self.begin_ns = capture, begin_ns
        self.pacing = pacing or Pacing()
        self.lateness_ns = declared.lateness_ns(several=True)
        self.counts = CaptureCounts()
        self._declared = declared
        self._run_messages = max(1, min(run_messages, RUN_MESSAGES))
        self._log = log or logging.getLogger("penstock.replay")
        self._interpreter: Interpreter | None = None
        self._venue: Venue | None = None

    def warm(self) -> None:
        """Find whose messages these are, and compile what reads them."""
        from stages.interpreting import Interpreter

        if self._venue is None:
            capture = self.capture
            known = venue_of_capture(capture, self._declared) if isinstance(capture, Capture) else capture.venue()
            self._venue = known
        self._interpreter = Interpreter(self._venue, self._declared.interpreting())

    def batches(self) -> Iterator[tuple[Batch, ...]]:
        return self._from(self.begin_ns)

    def seek(self, ts_ns: int) -> Iterator[tuple[Batch, ...]]:
        """Read again from its beginning, silently up to then: books are as if it had been read all along."""
        self._interpreter, self.counts = None, CaptureCounts()
        return self._from(ts_ns)

    def _from(self, begin_ns: int | None) -> Iterator[tuple[Batch, ...]]:
        if self._interpreter is None:
            self.warm()
        interpreter = self._interpreter
        assert interpreter is not None
        for window in begun(self._interpreted(interpreter), begin_ns):
            yield tuple(Batch(batch) for batch in window)
        for note in self.counts.notes:
            self._log.warning("%s", note.said())

    def _interpreted(self, interpreter: Interpreter) -> Iterator[tuple[pa.RecordBatch, ...]]:
        for messages in gathered(self.capture.runs(self.counts, most=self._run_messages), self._run_messages):
            if made := interpreter.interpret(messages).batches:
                yield made

    def metrics(self) -> Mapping[str, Any]:
        """The quality ledger of what was read, and what the capture's files were like."""
        if self._interpreter is None:
            return {}
        return {
            "venue": self._interpreter.venue.name,
            **self._interpreter.ledger.figures(),
            "control": dict(sorted(self._interpreter.decoder.control.items())),
            "time_steps_back": self.counts.steps_back,
            "wrong_lines": dict(sorted(self.counts.wrong.items())),
        }

    def progress(self) -> str:
        return f"{self.counts.messages:,} messages read"


def venue_of_capture(capture: Capture, declared: Interpretation) -> Venue:
    """The venue declared, or the one whose messages these are. Raises `InputError`."""
    from stages.venues import venue_named, venue_of

    try:
        if declared.venue is not None:
            if isinstance(capture, RecordedCapture):
                capture.venue = declared.venue
            return venue_named(declared.venue)
        if isinstance(capture, RecordedCapture):
            return venue_named(capture.first_venue)
        # Each source by itself: those of another venue may begin long after the first.
        runs = [next(open_captures(source.files).runs(most=TOLD_BY), None) for source in capture.sources]
        return venue_of(*(run for run in runs if run is not None))
    except LookupError as error:
        raise InputError(
            f"{capture.files[0].parent}: {error.args[0]}, as `venue:` of the feed or with --venue"
        ) from None


def gathered(runs: Iterator[Messages], most: int) -> Iterator[Messages]:
    """The same messages in runs that are not much shorter than `most`: what merging many sources leaves is short."""
    held: list[Messages] = []
    for run in runs:
        if held and sum(map(len, held)) + len(run) > most:
            yield Messages.concat(held)
            held = []
        held.append(run)
    if held:
        yield Messages.concat(held)


def _holds_json(file: Path) -> bool:
    with file.open("rb") as lines:
        return b" {" in lines.readline(HEAD_BYTES)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "_")))
    else:
        yield from sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
