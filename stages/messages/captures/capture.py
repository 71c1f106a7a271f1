"""Opens files of messages as received and yields the messages of all of them in the order received."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..messages import Messages
from .counts import CaptureCounts
from .finding import Found, find_captures
from .lines import BLOCK_BYTES
from .merging import merged
from .recorded import begins, is_recording, recorded
from .source import Source

MOST = 65_536
"""Messages in one run, unless declared."""


def open_captures(paths: str | Path | Iterable[str | Path]) -> Capture:
    """The capture at a file, folder or glob, or at several of them, found but not read. Raises `InputError`.

    Formats are told by content: hftbacktest's and cryptofeed's, plain or gzip; or the folder of a recording.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(given) == 1 and is_recording(folder := Path(given[0]).expanduser()):
        return RecordedCapture(folder)
    return Capture(find_captures(given))


class Capture:
    """Messages of one or many sources. Reading it twice gives the same."""

    def __init__(self, found: Found) -> None:
        self.sources: tuple[Source, ...] = found.sources
        """What their messages are merged by at equal times: the order of their names."""
        self.files: tuple[Path, ...] = tuple(file for source in found.sources for file in source.files)
        self.passed_over: tuple[Path, ...] = found.passed_over
        """Files of the folders given that are no captures."""
        self.begins_ns: int = min(source.begins_ns for source in found.sources)
        self._notes = found.notes

    def of(self, names: Sequence[str]) -> Capture:
        """The capture of some of the sources."""
        return Capture(Found(tuple(source for source in self.sources if source.name in names), (), ()))

    def apart(self) -> list[tuple[str, Capture]]:
        """Each source by itself, with its name."""
        return [(source.name, self.of([source.name])) for source in self.sources]

    def runs(
        self, counts: CaptureCounts | None = None, *, most: int = MOST, block_bytes: int = BLOCK_BYTES
    ) -> Iterator[Messages]:
        """All messages in order of `ts_recv`, then of their source, then as written, in runs of at most `most`.

        Where runs are cut is of no meaning. Holds `block_bytes` of text of each source whose time has come. What is
        wrong in the files is noted in `counts`, never raised: see `Source.pieces`.
        """
        import pyarrow.compute as pc

        counts = CaptureCounts() if counts is None else counts
        for note in self._notes:
            counts.note(note)
        urls: dict[str, int] = {}
        names = [source.name for source in self.sources]

        def code_of(url: str) -> int:
            return urls.setdefault(url, len(urls))

        for run in merged(
            [
                (source.begins_ns, partial(source.pieces, code, code_of, counts, block_bytes))
                for code, source in enumerate(self.sources)
            ]
        ):
            rows = len(run.ts_recv)
            messages = Messages(
                ts_recv=run.ts_recv,
                ingest_seq=np.arange(counts.messages, counts.messages + rows, dtype=np.uint64),
                kind=run.kind,
                source=names,
                source_code=run.source_code,
                url=list(urls),
                url_code=run.url_code,
                payload=run.payload,
            )
            counts.messages += rows
            counts.payload_bytes += pc.sum(pc.binary_length(run.payload)).as_py()
            for kind, times in zip(*np.unique(run.kind, return_counts=True), strict=True):
                counts.by_kind[int(kind)] = counts.by_kind.get(int(kind), 0) + int(times)
            for start in range(0, rows, most):
                yield messages if rows <= most else messages.slice(start, min(start + most, rows))

    def span(self) -> tuple[int, int] | None:
        """First and last `ts_recv`, ns UTC; reads the capture once."""
        last: int | None = None
        for run in self.runs():
            last = int(run.ts_recv[-1])
        return None if last is None else (self.begins_ns, last)


class RecordedCapture(Capture):
    """The messages of a recording, in the order recorded; its numbers stand."""

    def __init__(self, folder: Path) -> None:
        self.begins_ns, self.first_venue = begins(folder)
        self.folder = folder
        self.venue: str | None = None
        """Whose messages are read; None: they have to be of one venue, which is `first_venue`."""
        self.sources, self.passed_over = (), ()
        self.files = tuple(sorted((folder / "wal").glob("*.seg")))

    def runs(
        self, counts: CaptureCounts | None = None, *, most: int = MOST, block_bytes: int = BLOCK_BYTES
    ) -> Iterator[Messages]:
        """All messages in the order recorded, in runs of at most `most`; while it is recorded, as far as it has come.

        Raises `InputError` where there are several venues' and none was named.
        """
        yield from recorded(self.folder, CaptureCounts() if counts is None else counts, most, self.venue)
