"""Venues: how to read each one's messages, how to connect to it, and by which rule its books go on.

A venue is a frozen value: how to read its messages, how to connect to it, by which rule its books go on. Its decoder
makes records of a run of messages as they were received, and nothing else: it keeps no book and knows no gap. In
`binance/`, `scanning.py` reads the joined bytes of messages in their usual form, compiled, into columns
(`scanned.py`); `wire.py` has a structure for each message, by which `reading.py` reads whatever the scanner left, and
tells why where it cannot; `rows.py` and `contracts.py` make records of them. Both ways give the same bytes.

Other venues say what a message told as facts in no venue's words (`facts.py`), of which rows come in bulk
(`fact_rows.py`); `factual.py` reads their messages one at a time, `subscribing.py` plans connections that are
subscribed by messages. What only messages tell of a book's rule, such as how deep it was asked for, the decoder adds
(`Decoder.book_rule`). An update that cannot be read stops its book; where not even the book can be made out, all
books of its connection. Where a venue counts no messages but says whether a level is inserted, updated or deleted,
`keyed.py` knows which there are: an update that cannot be true shows that one before it is missing. Numbers that are
no texts are taken from the bytes (`numbers.py`).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from stages.messages import MessageKind, Messages

from .binance import BINANCE_COINM, BINANCE_SPOT, BINANCE_US, BINANCE_USDM
from .bitmex import BITMEX
from .bybit import BYBIT, BYBIT_SPOT, BYBIT_V2
from .coinbase import COINBASE_ADVANCED, COINBASE_EXCHANGE
from .kraken import KRAKEN, KRAKEN_V1
from .venue import (
    ConnectionPlan,
    Decoder,
    Heartbeat,
    Limits,
    SnapshotRequest,
    Venue,
    nearest,
)

__all__ = [
    "VENUES",
    "ConnectionPlan",
    "Decoder",
    "Heartbeat",
    "Limits",
    "SnapshotRequest",
    "Venue",
    "nearest",
    "venue_named",
    "venue_of",
]

VENUES: tuple[Venue, ...] = (
    *(BINANCE_SPOT, BINANCE_USDM, BINANCE_COINM, BINANCE_US),
    *(KRAKEN, KRAKEN_V1),
    *(COINBASE_ADVANCED, COINBASE_EXCHANGE),
    BITMEX,
    *(BYBIT, BYBIT_SPOT, BYBIT_V2),
)
"""All that are known; a venue is added by entering it here."""

_BLANKS = re.compile(rb'(":|[\]},"\d],) +(?=[\[{"\d]|-|true|false|null)')
_FIRST_BYTES = 64
LOOKED_AT = 1000
"""Messages of a run that are looked at to find whose they are."""


def venue_named(word: str) -> Venue:
    """The venue that YAML calls `word`. Raises LookupError with the nearest name."""
    for venue in VENUES:
        if venue.name == word:
            return venue
    raise LookupError(f"no venue is called '{word}'; {nearest(word, [venue.name for venue in VENUES])}")


def venue_of(*runs: Messages) -> Venue:
    """Whose messages these are, by the first thousand of each run. Raises LookupError where none or several know them.

    A run of responses without an address, which nobody can know, goes with the others.
    """
    found: dict[str, str] = {}
    unknown: list[Messages] = []
    for run in runs:
        known = [
            (venue.name, message.source)
            for message in run.slice(0, min(LOOKED_AT, len(run)))
            for venue in VENUES
            if venue.recognises(message.url, _tight(message.payload))
        ]
        for name, source in known:
            found.setdefault(name, source)
        if not known and len(run) and (any(run.url) or (run.kind == MessageKind.RECEIVED).any()):
            unknown.append(run)
    if len(found) > 1:
        told = ", ".join(f"{name} ({found[name]})" for name in sorted(found))
        raise LookupError(f"expected messages of one venue, found {told}; give those of one, or name the one")
    if found and not unknown:
        return venue_named(next(iter(found)))
    names = ", ".join(venue.name for venue in VENUES)
    beside = f" beside those of {next(iter(found))}" if found else ""
    said = _told(unknown[0] if unknown else next(iter(runs), Messages.of([])))
    raise LookupError(
        f"{said}{beside}; another venue has to be added first (CONTRIBUTING.md, 'Adding a venue'), and the capture is "
        f"read then as it is; known are {names}: if it is one of these, name it"
    )


def _tight(payload: bytes) -> bytes:
    """JSON as venues write it, where a recorder has put blanks between its parts."""
    return _BLANKS.sub(rb"\1", payload) if b'": ' in payload[:_FIRST_BYTES] else payload


def _told(run: Messages) -> str:
    """Whose messages were expected, and what there is: hosts, where they are told, and how the first one begins."""
    if not len(run):
        return "expected messages of a known venue, found no messages"
    hosts = dict.fromkeys(host for url in run.url if (host := urlsplit(url).hostname))
    first = next((message.payload for message in run.slice(0, min(LOOKED_AT, len(run))) if message.payload), b"")
    whose = f"{' and '.join(list(hosts)[:3])}: " if hosts else ""
    return f"{_source(run)}: expected messages of a known venue, found {whose}{first[:60].decode(errors='replace')!r}"


def _source(run: Messages) -> str:
    return run.source[int(run.source_code[0])]
