"""BitMEX as a venue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stages.books.rule import BookRule
from stages.schemas import Scales
from stages.venues.subscribing import plans, words
from stages.venues.venue import ConnectionPlan, Decoder, Limits, Venue, comes_from

from . import wire
from .decoder import BitmexDecoder

_USUAL = {
    "trade": "trade",
    "quote": "quote",
    "bar": "tradeBin1m",
    "book_delta": "orderBookL2",
    "book_snapshot": "orderBook10",
    "funding_rate": "instrument",
    "open_interest": "instrument",
    "liquidation": "liquidation",
    "instrument_status": "instrument",
    "instrument": "instrument",
}
"""The table that brings a kind of record; `funding` tells of what was paid alone."""
_RECORDS = {
    "trade": "trade",
    "quote": "quote",
    "orderBook10": "book_snapshot",
    "funding": "funding_rate",
    "instrument": "instrument",
    "liquidation": "liquidation",
    **dict.fromkeys(wire.BINS, "bar"),
    **dict.fromkeys(wire.BOOKS, "book_delta"),
}
_WHOLE = frozenset(("announcement", "chat", "connected", "insurance", "publicNotifications"))
_MESSAGE = re.compile(rb'\{"table":"[A-Za-z0-9_]+","action":"(partial|insert|update|delete)",')
_WELCOME = re.compile(rb'\{"info":"Welcome to the BitMEX ')


class Bitmex(Venue, frozen=True, kw_only=True):
    """Nothing in its messages counts them. What is missing of a book shows where an update is for a level that is not
    there, or an insert for one that is; of trades and quotes nothing shows."""

    def decoder(self) -> Decoder:
        return BitmexDecoder(self.suffix)

    def book_rule(self, instrument_id: str) -> BookRule:
        return BookRule(chain="none", join="stream", snapshots="stream")

    def connections(
        self, symbols: Sequence[str], channels: Sequence[str], base_url: str | None = None
    ) -> list[ConnectionPlan]:
        tables = words(channels, _USUAL, lambda word: word in _RECORDS or word in wire.OTHERS)
        url = f"{(base_url or self.websocket_url).rstrip('/')}/realtime"
        return plans(symbols, tables, url, self.limits, _subscription, whole=_WHOLE)

    def record_of(self, channel: str) -> str | None:
        return _RECORDS.get(channel)

    def recognises(self, url: str, payload: bytes) -> bool:
        known = comes_from(url, ("bitmex.com",))
        return known or (known is None and any(form.match(payload) for form in (_MESSAGE, _WELCOME)))


def _subscription(word: str, symbols: Sequence[str]) -> dict[str, Any]:
    return {"op": "subscribe", "args": [f"{word}:{symbol}" for symbol in symbols] or [word]}


BITMEX = Bitmex(
    name="bitmex",
    suffix="BITMEX",
    websocket_url="wss://ws.bitmex.com",
    http_url="https://www.bitmex.com",
    limits=Limits(
        streams_per_connection=500,
        streams_per_request=50,
        messages_per_second=5,
        connections_per_minute=1,
        weight_per_minute=30,
    ),
    scales=Scales(price=10, size=0),  # coins against bitcoin have ticks as fine as this; sizes are whole contracts
)
