"""What a server knows beside the stream: books as of its moment of the recording, and answers that were recorded."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pyarrow as pa

from stages.interpreting import Interpreter, Interpreting
from stages.messages import MessageKind, Messages
from stages.venues import Venue
from stages.venues.serving import BookNow, VenueServer


class Stock:
    """Follows the recording behind the stream, and catches up when it is asked. Its calls compute for milliseconds.

    A book that the recording has no snapshot of yet is told as its first snapshot will have it, which fits the updates
    that are sent until then by the venue's own rule.
    """

    def __init__(self, venue: Venue, server: VenueServer, head: Sequence[Messages]) -> None:
        self._venue, self._server = venue, server
        self._settings = Interpreting(records=("book_delta",))
        self._interpreter = Interpreter(venue, self._settings)
        self._run: Messages | None = None
        self._done = 0
        self._answers: dict[str, bytes] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._opening: dict[str, BookNow] = {}
        self._open(head)

    def turn(self, run: Messages) -> None:
        """The stream has come to the end of the last run, and goes on with this one."""
        if self._run is not None:
            self._catch_up(len(self._run))
        self._run, self._done = run, 0

    def book(self, symbol: str, limit: int, position: int, now_ns: int) -> BookNow | None:
        """A book after the first `position` messages of the run; None where the recording does not have it then."""
        self._catch_up(position)
        instrument = self._venue.instrument_id(symbol)
        books = self._interpreter.books
        if books.state(instrument).name == "LIVE":
            return self._told(instrument, limit, now_ns)
        if books.keyframe(instrument, 0, 0, "").num_rows:
            return None
        opening = self._opening.get(instrument)
        if opening is None:
            return None
        return msgspec.structs.replace(opening, bids=opening.bids[:limit], asks=opening.asks[:limit], now_ns=now_ns)

    def knows(self, symbol: str) -> bool:
        """Whether the recording has told anything of such an instrument."""
        instrument = self._venue.instrument_id(symbol)
        return instrument in self._opening or instrument in self._interpreter.instruments.names

    def answer(self, path: str, position: int) -> bytes | None:
        """What the venue answered, last or for the first time, when it was asked for the same."""
        self._catch_up(position)
        return self._answers.get(path)

    def _open(self, head: Sequence[Messages]) -> None:
        """Look ahead: what was answered first, and each book as of its first snapshot."""
        ahead = Interpreter(self._venue, self._settings)
        for run in head:
            done = 0
            for at in np.flatnonzero(run.kind == MessageKind.RESPONSE).tolist():
                ahead.interpret(run.slice(done, at + 1))
                done = at + 1
                self._keep_answer(run, at, first=True)
                for instrument in ahead.books.instruments_kept():
                    if instrument not in self._opening and ahead.books.state(instrument).name == "LIVE":
                        self._note_opening(instrument, run.raw(at), int(run.ts_recv[at]))
            ahead.interpret(run.slice(done))

    def _catch_up(self, position: int) -> None:
        run = self._run
        if run is None or position <= self._done:
            return
        self._interpreter.interpret(run.slice(self._done, position))
        for at in np.flatnonzero(run.kind[self._done : position] == MessageKind.RESPONSE).tolist():
            self._keep_answer(run, self._done + at, first=False)
        self._done = position

    def _keep_answer(self, run: Messages, at: int, *, first: bool) -> None:
        parts = urlsplit(run.url[int(run.url_code[at])])
        if not parts.path:
            return
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if self._venue.instrument_asked(path) is None and not (first and path in self._answers):
            self._answers[path] = run.raw(at)

    def _note_opening(self, instrument: str, body: bytes, now_ns: int) -> None:
        """A book's first snapshot, and how many decimal places the venue writes in it."""
        told = self._server.told(body, self._venue.symbol(instrument), now_ns)
        if told is None:
            return
        self._opening[instrument] = told
        levels = (*told.bids, *told.asks)
        price, size = (max((len(level[at].partition(".")[2]) for level in levels), default=0) for at in (0, 1))
        self._places[instrument] = (price, size)

    def _told(self, instrument: str, limit: int, now_ns: int) -> BookNow:
        books = self._interpreter.books
        frame = books.keyframe(instrument, now_ns, 0, "")
        scales = self._interpreter.scales
        price, size = self._places.get(instrument, (scales.price, scales.size))
        sides = []
        for prices, sizes in books.book(instrument):
            prices, sizes = prices[:limit], sizes[:limit]
            sides.append(tuple(zip(_texts(prices, scales.price, price), _texts(sizes, scales.size, size), strict=True)))
        times = frame.column("ts_event").cast(pa.int64())
        return BookNow(
            self._venue.symbol(instrument), frame.column("sequence")[0].as_py(), sides[0], sides[1],
            times[0].as_py(), now_ns,
        )  # fmt: skip


def _texts(units: np.ndarray[tuple[int], np.dtype[np.int64]], scale: int, places: int) -> list[str]:
    """Decimal texts of counts of 10^-scale, with at least so many places, and more where there is more to say."""
    texts = []
    for value in units.tolist():
        whole, rest = divmod(value, 10**scale)
        digits = f"{rest:0{scale}d}" if scale else ""
        digits = digits[:places] + digits[places:].rstrip("0")
        texts.append(f"{whole}.{digits}" if digits else str(whole))
    return texts
