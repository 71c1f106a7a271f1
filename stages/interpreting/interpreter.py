"""A venue's messages become records: read, checked, put into books, and published while they are trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import StateOf
from stages.books.keeper import BookKeeper, BookState
from stages.books.kept import SnapshotNeeded
from stages.books.rule import BookRule
from stages.messages import MessageKind, Messages
from stages.schemas import KINDS, Names, Records
from stages.venues import Venue

from .connections import Connections
from .ledger import Ledger
from .sequences import Sequences
from .settings import Interpreting
from .silence import Silence

VERSION = 2
_TOLD = ("parse_error", "gap", "out_of_order")
"""Events of a decoder after which a book is not what the venue's is."""


class Interpreted(NamedTuple):
    """What a run of messages came to."""

    batches: tuple[pa.RecordBatch, ...]
    """One for each kind of record there are rows of, rows in the order of the messages they came of."""
    requests: tuple[SnapshotNeeded, ...]
    """Books that can go on only from a fresh snapshot. A live feed fetches it; in a replay it follows by itself."""
    silent: tuple[str, ...] = ()
    """Connections that have brought nothing for longer than they may."""


class Interpreter:
    """Turns one venue's messages into records.

    What comes out is a function of the messages alone: how they are cut into runs changes nothing, and what a live
    session did beside receiving (it connected, fetched a snapshot) is among the messages. So a replay of what was
    recorded says what was said live. Blocks for as long as it computes; compiled where that is worth it.
    """

    def __init__(self, venue: Venue, settings: Interpreting, instruments: Names | None = None) -> None:
        self.venue, self.settings, self.scales = venue, settings, settings.scales(venue.scales)
        self.instruments = Names() if instruments is None else instruments
        self.decoder = venue.decoder()
        self.books = BookKeeper(
            self._rule_of, self.scales, self.instruments, depth=settings.depth, every_ns=settings.every_ns,
            quotes=settings.quotes != "venue",
        )  # fmt: skip
        self.ledger = Ledger()
        self._sequences = Sequences(venue)
        self._connections = Connections()
        self._silence = Silence(settings.stale_ns)
        self._kinds = settings.kinds
        self._wanted = frozenset(self._kinds)
        self._wants_books = bool(self._wanted & {"book_delta", "book_snapshot"}) or settings.quotes != "venue"

    def interpret(self, messages: Messages) -> Interpreted:
        """The records of the messages that follow those before."""
        records = Records(messages, self.scales, self.instruments)
        self.decoder.decode(messages, records)
        lost = self._connections.follow(messages, records)
        events = records.take("quality_event")
        unread = self._unread(messages, events)
        found: dict[str, list[pa.RecordBatch]] = {}
        requests: list[SnapshotNeeded] = []
        deltas = records.take("book_delta", received=True)
        received = [] if deltas is None else [deltas]
        for kind in records.kinds():
            if kind in ("quality_event", "book_delta"):
                continue
            batch = records.take(kind)
            if batch is not None:
                received.append(batch)
                batch = self._sequences.checked(kind, batch, messages, records)
                if kind in self._wanted and not (kind == "quote" and self.settings.quotes == "book"):
                    found.setdefault(kind, []).append(batch)
        silent = self._silence.follow(messages, received, records)
        moments = sorted([*lost, *unread])
        self._keep_books(messages, deltas, moments, found, requests)
        checks = records.take("quality_event")
        found["quality_event"] = [
            *(part for part in (events, checks) if part is not None), *found.get("quality_event", ())
        ]  # fmt: skip
        made = {kind: batch for kind in self._kinds if kind in found and (batch := _in_order(found[kind])) is not None}
        self.ledger.count(messages, made)
        return Interpreted(tuple(made.values()), tuple(requests), tuple(silent))

    def _rule_of(self, instrument_id: str) -> BookRule:
        return self.decoder.book_rule(instrument_id, self.venue.book_rule(instrument_id))

    def _keep_books(
        self,
        messages: Messages,
        received: pa.RecordBatch | None,
        moments: Sequence[tuple[int, str]],
        found: dict[str, list[pa.RecordBatch]],
        requests: list[SnapshotNeeded],
    ) -> None:
        """Apply what came of books, in pieces between moments at which something happened beside it.

        A moment is a message, with the connection it was about, or the book whose update it was and could not be read;
        where that is not known, no name.
        """
        if received is not None:
            self._connections.saw(received)
        if not self._wants_books:
            return
        seqs = None if received is None else received.column("ingest_seq").to_numpy()
        begun = 0
        for at, name in [*moments, (len(messages), "")]:
            if received is not None and seqs is not None:
                end = len(seqs) if at == len(messages) else int(np.searchsorted(seqs, messages.ingest_seq[at]))
                if end > begun:
                    kept = self.books.apply(received.slice(begun, end - begun))
                    requests += kept.requests
                    self._publish(kept, found)
                    begun = end
            if at < len(messages):
                requests += self._happened(messages, at, name)

    def _publish(self, kept: Any, found: dict[str, list[pa.RecordBatch]]) -> None:
        parts = {"book_delta": kept.deltas, "book_snapshot": kept.snapshots, "quality_event": kept.quality}
        if self.settings.quotes != "venue":
            parts["quote"] = kept.quotes
        for kind, batch in parts.items():
            if batch.num_rows and kind in self._wanted:
                found.setdefault(kind, []).append(batch)

    def _happened(self, messages: Messages, at: int, name: str) -> list[SnapshotNeeded]:
        if messages.kind[at] == MessageKind.CLOSED:
            return self.books.interrupted(self._connections.books_of(name))
        if messages.kind[at] == MessageKind.FAILED:
            asked = self.venue.instrument_asked(messages.url[int(messages.url_code[at])])
            if asked is not None:
                self.books.refused(asked)
            return []
        source = messages.source[int(messages.source_code[at])]
        needed = [self.books.unread(each) for each in ([name] if name else self._connections.books_of(source))]
        return [each for each in needed if each is not None]

    def _unread(self, messages: Messages, events: pa.RecordBatch | None) -> list[tuple[int, str]]:
        """Messages that could not be read, or showed that one before them is missing, told already: those of trades
        excuse a number that is missing then, those of books are given back with the instrument, which is empty where
        not even that could be read."""
        books: list[tuple[int, str]] = []
        if events is None:
            return books
        columns = events.select(["kind", "channel", "instrument_id", "ingest_seq"]).to_pylist()
        for event in columns:
            instrument, channel = event["instrument_id"], event["channel"]
            if event["kind"] not in _TOLD or channel is None:
                continue
            record = channel if channel in KINDS else self.venue.record_of(channel)
            if record == "trade" and instrument is not None:
                self._sequences.unread(instrument, event["ingest_seq"])
            elif record == "book_delta":
                books.append((int(np.searchsorted(messages.ingest_seq, event["ingest_seq"])), instrument or ""))
        return books

    def went_away(self, sources: Iterable[str], since_ns: int) -> None:
        """Whoever listened to these connections has stopped then, and what was remembered of them is gone."""
        self._connections.were_there(sources, since_ns)

    def source_of(self, instrument_id: str) -> str | None:
        """The connection that brings an instrument's book."""
        return self._connections.source_of(instrument_id)

    def stale_books(self) -> list[str]:
        """Instruments whose books were given up: no snapshot is asked for any more, but one that fits is taken."""
        return [name for name in self.books.instruments_kept() if self.books.state(name) == BookState.STALE]

    # -- checkpoints -------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """All that later records depend on; nothing in it changes afterwards."""
        return self._state_of().seal(
            {
                "instruments": list(self.instruments.names),
                "decoder": self.decoder.snapshot(),
                "control": dict(self.decoder.control),
                "books": self.books.snapshot(),
                "sequences": self._sequences.snapshot(),
                "connections": self._connections.snapshot(),
                "silence": self._silence.snapshot(),
                "ledger": self.ledger.snapshot(),
            }
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what an equal interpreter gave. Raises `StateMismatch`."""
        told = self._state_of().open(state)
        for name in told["instruments"]:
            self.instruments.code(name)
        self.decoder.restore(told["decoder"])
        self.decoder.control.update(told["control"])
        self.books.restore(told["books"])
        self._sequences.restore(told["sequences"])
        self._connections.restore(told["connections"])
        self._silence.restore(told["silence"])
        self.ledger.restore(told["ledger"])

    def _state_of(self) -> StateOf:
        told = {"venue": self.venue.name, "scales": [self.scales.price, self.scales.size]}
        return StateOf("interpreter", VERSION, told)


def _in_order(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch | None:
    """Rows of several batches in the order of their messages; those of one message in the order of the batches."""
    parts = [part for part in parts if part.num_rows]
    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]
    names = [part.column("instrument_id").dictionary for part in parts]
    sources = [part.column("source_id").dictionary for part in parts]
    table = pa.Table.from_batches(parts)
    if any(not each.equals(names[0]) for each in names) or any(not each.equals(sources[0]) for each in sources):
        table = table.unify_dictionaries()
    whole: pa.RecordBatch = table.combine_chunks().to_batches()[0]
    seqs = whole.column("ingest_seq").to_numpy()
    if np.any(seqs[1:] < seqs[:-1]):
        whole = whole.take(pa.array(np.argsort(seqs, kind="stable")))
    return whole
