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

from collections import Counter

from stages.messages import Messages

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

    Runs of which none is known, such as of responses without an address, go with the others.
    """
    found = Counter(
        venue.name
        for run in runs
        for message in run.slice(0, min(LOOKED_AT, len(run)))
        for venue in VENUES
        if venue.recognises(message.url, message.payload)
    )
    if len(found) == 1:
        return venue_named(next(iter(found)))
    known = ", ".join(venue.name for venue in VENUES)
    sources = list(dict.fromkeys(source for run in runs for source in run.source))
    if not found:
        where = sources[0] if sources else "no messages"
        raise LookupError(f"{where}: expected messages of a known venue, found none; name one of {known}")
    raise LookupError(
        f"{', '.join(sources)}: expected messages of one venue, found {', '.join(sorted(found))}; name the one"
    )
