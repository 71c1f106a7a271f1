"""Bybit as a venue (v5): one value for all derivatives, whose symbols are distinct, and one for spot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from stages.books.rule import BookRule
from stages.venues.subscribing import plans, words
from stages.venues.venue import ConnectionPlan, Decoder, Heartbeat, Limits, Venue, comes_from

from .decoder import BEST, BybitDecoder
from .topics import HOSTS, category_of, topic_begun, topic_named

_SPOT = {"trade": "publicTrade", "quote": BEST, "bar": "kline.1", "book_delta": "orderbook.200"}
_FUTURES = {
    **_SPOT,
    "funding_rate": "tickers",
    "open_interest": "tickers",
    "liquidation": "allLiquidation",
}
_OPTIONS = {"trade": "publicTrade", "quote": "tickers", "book_delta": "orderbook.100", "open_interest": "tickers"}
_KNOWN = re.compile(
    r"publicTrade|tickers|allLiquidation|liquidation|orderbook\.(1|25|50|100|200|500|1000|rpi)"
    r"|kline\.(1|3|5|15|30|60|120|240|360|720|D|W|M)"
)
_RECORDS = {
    "publicTrade": "trade",
    "trade": "trade",
    "kline": "bar",
    "tickers": "funding_rate",
    "allLiquidation": "liquidation",
    "liquidation": "liquidation",
}
_V5 = re.compile(rb'\s*\{.{0,200}?"topic"\s*:\s*"(publicTrade|orderbook\.\d+|tickers|kline\.\w+|allLiquidation)\.')
_OF_FUTURES = re.compile(
    rb'"topic":"(orderbook\.500|allLiquidation)\.|"fundingRate":|"markIv":|"L":"|"i":"[0-9a-f]{8}-'
)
_OF_SPOT = re.compile(rb'"usdIndexPrice":|"topic":"publicTrade\..*"i":"\d+"')
"""Trades of spot have numbers for ids, those of contracts have others."""
_PING = msgspec.json.encode({"op": "ping"})


class Bybit(Venue, frozen=True, kw_only=True):
    """Updates of a book are counted without a hole from its snapshot on. Trades have ids that are no numbers: of those
    nothing shows what is missing."""

    categories: tuple[str, ...]
    """Ends of the path on the host."""

    def decoder(self) -> Decoder:
        return BybitDecoder(self.suffix, has_funding=not self._is_spot)

    def book_rule(self, instrument_id: str) -> BookRule:
        return BookRule(chain="next", join="stream", snapshots="stream", reset_sequence=1)

    def connections(
        self, symbols: Sequence[str], channels: Sequence[str], base_url: str | None = None
    ) -> list[ConnectionPlan]:
        base = (base_url or self.websocket_url).rstrip("/")
        found: list[ConnectionPlan] = []
        for category in self.categories:
            of_it = [symbol for symbol in symbols if self._is_spot or category_of(symbol) == category]
            usual = _SPOT if self._is_spot else _OPTIONS if category == "option" else _FUTURES
            if of_it:
                topics = words(channels, usual, lambda word: _KNOWN.fullmatch(word) is not None)
                books = [topic for topic in topics if self.record_of(topic) == "book_delta"]
                if len(books) > 1:
                    raise LookupError(f"expected one book of an instrument, found {', '.join(books)}; name the one")
                url = f"{base}/v5/public/{category}"
                found += plans(of_it, topics, url, self.limits, _subscription, between=".")
        return found

    def record_of(self, channel: str) -> str | None:
        word, _, rest = channel.partition(".")
        if word == "orderbook":
            return "quote" if channel == BEST else "book_delta" if rest.isdigit() else None
        return _RECORDS.get(word)

    def heartbeat(self) -> Heartbeat | None:
        return Heartbeat(_PING, 20)

    def recognises(self, url: str, payload: bytes) -> bool:
        parts, known = urlsplit(url), comes_from(url, HOSTS)
        if known is False:
            return False
        if "/v5/public/" in parts.path:
            return parts.path.rpartition("/")[2] in self.categories
        if "/v5/market/" in parts.path:
            return parse_qs(parts.query).get("category", [""])[0] in self.categories
        return known is None and _V5.match(payload) is not None and self._writes(payload)

    def _writes(self, payload: bytes) -> bool:
        """Whether such a message is of its categories alone; of many it cannot be told."""
        is_contract = category_of(topic_named(topic_begun(payload) or "").symbol) != "linear"
        if self._is_spot:
            return _OF_SPOT.search(payload) is not None
        return is_contract or _OF_FUTURES.search(payload) is not None

    @property
    def _is_spot(self) -> bool:
        return self.categories == ("spot",)


def _subscription(word: str, symbols: Sequence[str]) -> dict[str, Any]:
    return {"op": "subscribe", "args": [f"{word}.{symbol}" for symbol in symbols]}


_LIMITS = Limits(
    streams_per_connection=400,
    streams_per_request=10,
    messages_per_second=10,
    connections_per_minute=100,
    weight_per_minute=7200,
)
BYBIT = Bybit(
    name="bybit",
    suffix="BYBIT",
    websocket_url="wss://stream.bybit.com",
    http_url="https://api.bybit.com",
    limits=_LIMITS,
    categories=("linear", "inverse", "option"),
)
BYBIT_SPOT = Bybit(
    name="bybit_spot",
    suffix="BYBIT_SPOT",
    websocket_url="wss://stream.bybit.com",
    http_url="https://api.bybit.com",
    limits=_LIMITS,
    categories=("spot",),
)
