"""The decoder of Binance's markets: the compiled scanner first, the typed structures for whatever it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.messages import MessageKind, Messages
from stages.schemas import Records
from stages.venues.venue import Decoder

from . import wire
from .reading import Unreadable, WholeBook, read
from .rows import Group, Market, add, check

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
        found, refused = self._parse(messages, left)
        symbols = [] if scan is None else scan.symbols
        found = self._place_snapshots(messages, found, symbols, refused)
        codes = self._codes(records, found, symbols, refused)
        for at in sorted(refused):
            self._refuse(at, refused[at], records, codes)
        groups: dict[type, Group] = {}
        for at, event in found:
            group = groups.setdefault(type(event), Group([], [], []))
            group.at.append(at)
            group.codes.append(codes[_symbol(event)])
            group.events.append(event)
        for kind, group in groups.items():
            add(kind, group, records, self._market)
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

    def _parse(self, messages: Messages, left: Any) -> tuple[list[tuple[int, Any]], dict[int, Unreadable]]:
        found: list[tuple[int, Any]] = []
        refused: dict[int, Unreadable] = {}
        kinds, urls = messages.kind, messages.url_code
        payloads = messages.payload.take(left).to_pylist() if len(left) != len(messages) else messages.payloads()
        for at, payload in zip(left.tolist(), payloads, strict=True):
            kind = kinds[at]
            if kind != MessageKind.RECEIVED and kind != MessageKind.RESPONSE:
                self.control[MessageKind(kind).name.lower()] += 1
                continue
            try:
                events = read(payload, messages.url[urls[at]])
                if isinstance(events, str):
                    self.control[events] += 1
                    continue
                for event in events:
                    check(event)
            except Unreadable as error:
                refused[at] = error
            else:
                found.extend((at, event) for event in events)
        return found, refused

    def _place_snapshots(
        self,
        messages: Messages,
        found: list[tuple[int, Any]],
        scanned: list[tuple[int, int, str]],
        refused: dict[int, Unreadable],
    ) -> list[tuple[int, Any]]:
        """Give books without a symbol the one that their source has had, and remember what sources have."""
        sources = messages.source_code
        seen = [(at, messages.source[source], symbol) for at, source, symbol in scanned]
        placed: list[tuple[int, Any]] = []
        seen.extend((at, messages.source[sources[at]], _symbol(event)) for at, event in found if _symbol(event))
        seen.sort(key=lambda each: each[0])
        upto = 0
        for at, event in found:
            if isinstance(event, WholeBook) and event.symbol is None:
                while upto < len(seen) and seen[upto][0] < at:
                    self._remember(*seen[upto][1:])
                    upto += 1
                source = messages.source[sources[at]]
                symbols = self._seen.get(source, ())
                if len(symbols) != 1:
                    said = "none" if not symbols else "several"
                    refused[at] = Unreadable(
                        f"expected a book's symbol in its address, or one symbol in '{source}' before it, found {said}"
                    )
                    continue
                event.symbol = symbols[0]
            placed.append((at, event))
        for _, source, symbol in seen[upto:]:
            self._remember(source, symbol)
        return placed

    def _remember(self, source: str, symbol: str) -> None:
        symbols = self._seen.get(source, ())
        if len(symbols) < 2 and symbol not in symbols:
            self._seen[source] = _SEVERAL if symbols else (symbol,)

    def _codes(
        self,
        records: Records,
        found: list[tuple[int, Any]],
        scanned: list[tuple[int, int, str]],
        refused: dict[int, Unreadable],
    ) -> dict[str, int]:
        """Codes of all symbols in the order of the messages, whatever the cuts and whichever way a message went."""
        first: dict[str, int] = {}
        for at, _, symbol in scanned:
            first.setdefault(symbol, at)
        named = [(at, _symbol(event)) for at, event in found]
        named += [(at, error.stream.symbol) for at, error in refused.items() if error.stream and _is_told(error)]
        for at, symbol in named:
            if at < first.get(symbol, at + 1):
                first[symbol] = at
        code = records.instruments.code
        ordered = sorted(first, key=first.__getitem__)
        return {symbol: code(f"{symbol}.{self._suffix}") for symbol in ordered}

    def _refuse(self, at: int, error: Unreadable, records: Records, codes: dict[str, int]) -> None:
        told = _is_told(error)
        records.quality(
            at,
            "parse_error",
            channel=error.stream.channel if told and error.stream else None,
            instrument_id=codes[error.stream.symbol] if told and error.stream else None,
            action_taken="left out",
            detail=str(error),
            keep_raw=True,
        )


def _is_told(error: Unreadable) -> bool:
    """Whether the stream that brought it is one of an instrument."""
    return error.stream is not None and error.stream.is_known and 0 < len(error.stream.symbol) <= 64


def _symbol(event: Any) -> str:
    if isinstance(event, wire.ForceOrder):
        return event.o.s
    return getattr(event, "s", None) or getattr(event, "symbol", None) or ""
