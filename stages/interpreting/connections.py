"""What is known of connections: when each was lost and came back, and whose books it brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from stages.messages import MessageKind, Messages
from stages.schemas import Records

_FIRST_TOLD, _LAST_TOLD = int(MessageKind.OPENED), int(MessageKind.FAILED)
"""Kinds of message that tell of a connection are those between."""


class Connections:
    """Connections of a session, by the name of their source."""

    def __init__(self) -> None:
        self._lost_at: dict[str, int] = {}
        self._opened: set[str] = set()
        self._books: dict[str, dict[str, None]] = {}

    def follow(self, messages: Messages, records: Records) -> list[tuple[int, str]]:
        """Note what happened to connections; where one was lost or a request failed, and whose it is.

        A loss is a `disconnect`, the next opening a `reconnect` that says how long it took.
        """
        lost: list[tuple[int, str]] = []
        for at in np.flatnonzero((messages.kind >= _FIRST_TOLD) & (messages.kind <= _LAST_TOLD)).tolist():
            kind, source = int(messages.kind[at]), messages.source[int(messages.source_code[at])]
            said = messages.raw(at).decode(errors="replace") or None
            if kind == MessageKind.OPENED:
                if source in self._opened or source in self._lost_at:
                    since = self._lost_at.pop(source, int(messages.ts_recv[at]))
                    records.quality(
                        at, "reconnect", channel=source, gap_start=since, gap_end=int(messages.ts_recv[at]), detail=said
                    )
                self._opened.add(source)
                continue
            if kind == MessageKind.CLOSED:
                self._lost_at.setdefault(source, int(messages.ts_recv[at]))
                records.quality(at, "disconnect", channel=source, gap_start=int(messages.ts_recv[at]), detail=said)
            lost.append((at, source))
        return lost

    def were_there(self, sources: Iterable[str], until_ns: int) -> None:
        """These have brought what came until then, and nobody heard them afterwards: their next opening tells."""
        for source in sources:
            self._lost_at.setdefault(source, until_ns)

    def saw(self, received: pa.RecordBatch) -> None:
        """Book deltas came: which instrument's by which connection."""
        sources, instruments = received.column("source_id"), received.column("instrument_id")
        width = len(instruments.dictionary)
        pairs, first = np.unique(
            np.asarray(sources.indices).astype(np.int64) * width + np.asarray(instruments.indices), return_index=True
        )
        for source, instrument in (divmod(pair, width) for pair in pairs[np.argsort(first)].tolist()):
            books = self._books.setdefault(sources.dictionary[source].as_py(), {})
            books.setdefault(instruments.dictionary[instrument].as_py())

    def books_of(self, source: str) -> list[str]:
        """Instruments whose books came by this connection."""
        return list(self._books.get(source, ()))

    def source_of(self, instrument_id: str) -> str | None:
        """A connection that has brought this instrument's book."""
        return next((source for source, books in reversed(self._books.items()) if instrument_id in books), None)

    def snapshot(self) -> dict[str, Any]:
        return {
            "lost_at": dict(self._lost_at),
            "opened": sorted(self._opened),
            "books": {source: list(books) for source, books in self._books.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._lost_at, self._opened = dict(state["lost_at"]), set(state["opened"])
        self._books = {source: dict.fromkeys(books) for source, books in state["books"].items()}
