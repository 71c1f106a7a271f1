"""Bybit's derivatives as they were told until 2023 (v2), for recordings of those years."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from stages.books.rule import BookRule
from stages.venues.subscribing import plans, words
from stages.venues.venue import ConnectionPlan, Decoder, Heartbeat, Limits, Venue, comes_from

from .decoder_v2 import BOOKS, BybitV2Decoder
from .topics import HOSTS, category_of

_LINEAR = {
    "trade": "trade",
    "book_delta": BOOKS[0],
    "bar": "candle.1",
    "funding_rate": "instrument_info.100ms",
    "open_interest": "instrument_info.100ms",
    "liquidation": "liquidation",
}
_INVERSE = {**_LINEAR, "bar": "klineV2.1"}
_PATHS = {"linear": ("/realtime_public", _LINEAR), "inverse": ("/realtime", _INVERSE)}
_KNOWN = re.compile(
    r"trade|orderBookL2_25|orderBook_200\.100ms|instrument_info\.100ms|liquidation"
    r"|(candle|klineV2)\.(1|3|5|15|30|60|120|240|360|D|W|M)"
)
_RECORDS = {"trade": "trade", "liquidation": "liquidation", "instrument_info.100ms": "funding_rate"}
_MESSAGE = re.compile(
    rb'\{"topic":"(orderBookL2_25\.|orderBook_200\.|instrument_info\.|klineV2\.|trade\.[A-Z0-9]+","data":\[\{"[^}]*"tick_)'
)


class BybitV2(Venue, frozen=True, kw_only=True):
    """Numbers of a book's messages rise, with holes: they tell of late messages and of repeated ones. What is missing
    shows where an update is for a level that is not there, or an insert for one that is; of trades nothing shows."""

    def decoder(self) -> Decoder:
        return BybitV2Decoder(self.suffix)

    def book_rule(self, instrument_id: str) -> BookRule:
        return BookRule(chain="monotone", join="stream", snapshots="stream")

    def connections(
        self, symbols: Sequence[str], channels: Sequence[str], base_url: str | None = None
    ) -> list[ConnectionPlan]:
        base = (base_url or self.websocket_url).rstrip("/")
        found: list[ConnectionPlan] = []
        for category, (path, usual) in _PATHS.items():
            of_it = [symbol for symbol in symbols if category_of(symbol) == category]
            if of_it:
                topics = words(channels, usual, lambda word: _KNOWN.fullmatch(word) is not None)
                found += plans(of_it, topics, f"{base}{path}", self.limits, _subscription, between=".")
        return found

    def record_of(self, channel: str) -> str | None:
        if channel in BOOKS:
            return "book_delta"
        return "bar" if channel.startswith(("candle.", "klineV2.")) else _RECORDS.get(channel)

    def heartbeat(self) -> Heartbeat | None:
        return Heartbeat(msgspec.json.encode({"op": "ping"}), 30)

    def recognises(self, url: str, payload: bytes) -> bool:
        path, known = urlsplit(url).path, comes_from(url, HOSTS)
        if known:
            return path in ("/realtime", "/realtime_public") or path.startswith("/v2/public/")
        return known is None and "/v5/" not in path and _MESSAGE.match(payload) is not None


def _subscription(word: str, symbols: Sequence[str]) -> dict[str, Any]:
    return {"op": "subscribe", "args": [f"{word}.{symbol}" for symbol in symbols]}


BYBIT_V2 = BybitV2(
    name="bybit_v2",
    suffix="BYBIT",
    websocket_url="wss://stream.bybit.com",
    http_url="https://api.bybit.com",
    limits=Limits(
        streams_per_connection=400,
        streams_per_request=10,
        messages_per_second=10,
        connections_per_minute=100,
        weight_per_minute=1400,
    ),
)
