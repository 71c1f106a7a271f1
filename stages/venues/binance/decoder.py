"""The decoder of Binance's markets: the compiled scanner first, the typed structures for whatever it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.messages import MessageKind, Messages
from stages.schemas import Records
from stages.venues.venue import Decoder

from .group import Group, Market
from .reading import Unreadable, WholeBook, read
from .rows import HANDLING
from .streams import Stream

_READ = (int(MessageKind.RECEIVED), int(MessageKind.RESPONSE))
_SEVERAL = ("", "")
"""Stands for two symbols or more: which they are does not matter any more."""


class BinanceDecoder(Decoder):
    """Reads what one of Binance's markets sends.

    A depth snapshot that names no symbol, as in captures of a single one, is of the only symbol its source had until
    then; those symbols are what the decoder remembers. `scanned` and `parsed` count which way messages went.
    """

    def __init__(self, suffix: str, market: Market, *, compiled: bool = True) -> None:
        super().__init__()
        self.scanned = 0
        self.parsed = 0
        self._suffix = suffix
        self._market = market
        self._compiled = compiled
        self._seen: dict[str, tuple[str, ...]] = {}

    def decode(self, messages: Messages, records: Records) -> None:
        scan = self._scan(messages, records)
        left = np.arange(len(messages)) if scan is None else np.flatnonzero(scan.kinds == 0)
        self.scanned += len(messages) - len(left)
        self.parsed += len(left)
        parsed = self._parse(messages, left)
        for at, source, symbol in scan.symbols if scan else ():
            parsed.note(at, source, symbol)
        self._place_books(messages, parsed)
        codes = self._codes(records, parsed)
        for at in sorted(parsed.refused):
            _refuse(at, parsed.refused[at], records, codes)
        for kind, found in parsed.found.items():
            group = Group(found.at, [codes[symbol] for symbol in found.symbols], found.events)
            HANDLING[kind].add(group, records, self._market)
        if scan is not None:
            scan.add(records, codes)

    def snapshot(self) -> dict[str, Any]:
        return {"symbols": {source: list(symbols) for source, symbols in self._seen.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._seen = {source: tuple(symbols) for source, symbols in state["symbols"].items()}

    def _scan(self, messages: Messages, records: Records) -> Any:
        """What the compiled scanner took; None where it may not look: its counts reach to 10 decimal places."""
        if not self._compiled or max(records.scales.price, records.scales.size) > 10 or not len(messages):
            return None
        from .scanned import scan_messages

        return scan_messages(messages, records.scales)

    def _parse(self, messages: Messages, left: Any) -> _Parsed:
        parsed = _Parsed({}, {}, {})
        payloads = messages.payload.take(pa.array(left)).to_pylist() if len(left) else []
        kinds, urls, sources = (
            column[left].tolist() for column in (messages.kind, messages.url_code, messages.source_code)
        )
        for at, kind, url, source, payload in zip(left.tolist(), kinds, urls, sources, payloads, strict=True):
            if kind not in _READ:
                self.control[MessageKind(kind).name.lower()] += 1
                continue
            try:
                events = read(payload, messages.url[url])
                if isinstance(events, str):
                    self.control[events] += 1
                    continue
                for event in events:
                    HANDLING[type(event)].check(event)
            except Unreadable as error:
                parsed.refused[at] = error
                continue
            for event in events:
                parsed.add(at, source, event)
        return parsed

    def _place_books(self, messages: Messages, parsed: _Parsed) -> None:
        """Give books without a symbol the one that their source has had, and remember what sources have."""
        books = parsed.found.get(WholeBook, _Found([], [], []))
        for place, symbol in enumerate(books.symbols):
            if symbol is None:
                at = books.at[place]
                source = int(messages.source_code[at])
                name = messages.source[source]
                before = [known for (other, known), first in parsed.seen.items() if other == source and first < at]
                symbols = {*self._seen.get(name, ()), *before}
                if len(symbols) == 1:
                    books.symbols[place] = symbols.pop()
                    parsed.note(at, source, books.symbols[place])
                    continue
                parsed.refused[at] = Unreadable(
                    f"expected the symbol of a book in its address, or one symbol in '{name}' before it, "
                    f"found {'several' if symbols else 'none'}"
                )
        placed = [place for place, symbol in enumerate(books.symbols) if symbol is not None]
        if len(placed) < len(books.symbols):
            parsed.found[WholeBook] = _Found(*([column[place] for place in placed] for column in books))
        for source, symbol in sorted(parsed.seen, key=parsed.seen.__getitem__):
            self._remember(messages.source[source], symbol)

    def _remember(self, source: str, symbol: str) -> None:
        symbols = self._seen.get(source, ())
        if len(symbols) < 2 and symbol not in symbols:
            self._seen[source] = _SEVERAL if symbols else (symbol,)

    def _codes(self, records: Records, parsed: _Parsed) -> dict[str, int]:
        """Codes of all symbols in the order of the messages, whatever the cuts and whichever way a message went."""
        first: dict[str, int] = {}
        for (_, symbol), at in parsed.seen.items():
            first[symbol] = min(at, first.get(symbol, at))
        for at, error in parsed.refused.items():
            if error.stream is not None and _is_told(error.stream):
                first[error.stream.symbol] = min(at, first.get(error.stream.symbol, at))
        code = records.instruments.code
        return {symbol: code(f"{symbol}.{self._suffix}") for symbol in sorted(first, key=first.__getitem__)}


class _Found(NamedTuple):
    """Events of one type: the message of each, its symbol, and the event."""

    at: list[int]
    symbols: list[Any]
    events: list[Any]


class _Parsed(NamedTuple):
    """What the structures read: events by type, in which message a source first had a symbol, and what was refused."""

    found: dict[type, _Found]
    seen: dict[tuple[int, str], int]
    refused: dict[int, Unreadable]

    def add(self, at: int, source: int, event: Any) -> None:
        kind = type(event)
        found = self.found.get(kind)
        if found is None:
            found = self.found[kind] = _Found([], [], [])
        symbol = HANDLING[kind].symbol(event)
        found.at.append(at)
        found.symbols.append(symbol)
        found.events.append(event)
        if symbol is not None:
            self.seen.setdefault((source, symbol), at)

    def note(self, at: int, source: int, symbol: str) -> None:
        """The scanner has found a symbol first in this message."""
        self.seen[source, symbol] = min(at, self.seen.get((source, symbol), at))


def _refuse(at: int, error: Unreadable, records: Records, codes: dict[str, int]) -> None:
    stream = error.stream if error.stream is not None and _is_told(error.stream) else None
    records.quality(
        at,
        "parse_error",
        channel=stream.channel if stream else None,
        instrument_id=codes[stream.symbol] if stream else None,
        action_taken="left out",
        detail=str(error),
        keep_raw=True,
    )


def _is_told(stream: Stream) -> bool:
    """Whether it is a known one, of one instrument."""
    return stream.is_known and 0 < len(stream.symbol) <= 64
