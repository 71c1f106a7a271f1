"""The feed of Coinbase Exchange, formerly Coinbase Pro: objects with a type, and numbers as texts.

Sources: Coinbase's documentation of the Exchange WebSocket feed, its channels and limits, and of the endpoint products.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from stages.books.rule import BookRule
from stages.schemas import BUY, SELL
from stages.venues.facts import Book, Fact, Quote, Trade, Unreadable
from stages.venues.factual import About, FactualDecoder, Found, checked
from stages.venues.subscribing import plans, words
from stages.venues.venue import ConnectionPlan, Decoder, Limits, Venue, comes_from

from .products import Product, facts, known_time

_USUAL = {
    "trade": "matches",
    "quote": "ticker",
    "book_delta": "level2_batch",
    "instrument": "status",
    "instrument_status": "status",
}
_CHANNELS = frozenset((*_USUAL.values(), "level2", "ticker_batch", "heartbeat", "full"))
_RECORDS = {"matches": "trade", "ticker": "quote", "ticker_batch": "quote", "level2": "book_delta",
            "level2_batch": "book_delta", "status": "instrument_status"}  # fmt: skip
_CHANNEL_OF = {"match": "matches", "last_match": "matches", "snapshot": "level2", "l2update": "level2",
               "ticker": "ticker", "status": "status"}  # fmt: skip
"""The channel that brings a type of message."""
_CONTROL = frozenset(
    ("subscriptions", "heartbeat", "received", "open", "done", "change", "activate", "auction", "rfq_match", "level3")
)
"""Orders one by one are told by ids that are words; books here are of levels. Matches by request have no part in it."""
_BEGINS = re.compile(rb'\s*\{\s*"type":\s*"(\w+)"')
_ORDER = re.compile(rb'\s*\[\s*"(received|open|done|match|change|activate|noop)"\s*,')
_PRODUCT = re.compile(rb'"product_id":\s*"([^"\\\s]{1,64})"')
_WRITES = re.compile(rb'\s*\{\s*"type":\s*"(l2update|match|last_match|ticker|snapshot)",.*"product_id":')

_Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Snapshot(Struct, tag_field="type", tag="snapshot"):
    product_id: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    time: str | None = None


class L2Update(Struct, tag_field="type", tag="l2update"):
    product_id: str
    changes: list[tuple[Literal["buy", "sell"], str, str]]
    time: str | None = None


class Match(Struct, tag_field="type", tag="match", gc=False):
    """`side` is the maker's."""

    product_id: str
    trade_id: _Id
    side: Literal["buy", "sell"]
    price: str
    size: str
    time: str


class LastMatch(Match, tag_field="type", tag="last_match", gc=False):
    """The last trade before the subscription."""


class Ticker(Struct, tag_field="type", tag="ticker", gc=False):
    """Sizes of the best levels are told since 2022; of a product that does not trade yet, no best prices."""

    product_id: str
    sequence: _Id
    best_bid: str = ""
    best_ask: str = ""
    best_bid_size: str | None = None
    best_ask_size: str | None = None
    time: str | None = None


class StatusMessage(Struct, tag_field="type", tag="status"):
    products: list[Product]


class Outline(Struct, gc=False):
    type: str = ""


_message = msgspec.json.Decoder(Snapshot | L2Update | Match | LastMatch | Ticker | StatusMessage)
_outline = msgspec.json.Decoder(Outline)
_products = msgspec.json.Decoder(list[Product])


class ExchangeDecoder(FactualDecoder):
    """Trades are numbered one after another by product; updates of books are not numbered."""

    def read(self, payload: bytes, url: str, source: str) -> Found:
        if payload.lstrip()[:1] == b"[":
            if _ORDER.match(payload):
                return "level3"
            return checked(facts(_products.decode(payload), None))
        told = _outline.decode(payload).type
        if told in _CONTROL:
            return told
        if told not in _CHANNEL_OF:
            text = payload[:200].decode(errors="replace")
            raise Unreadable(f"expected a type that is known and no error, found {text}")
        return checked(_facts(_message.decode(payload)))

    def about(self, payload: bytes, source: str) -> About:
        begin = _BEGINS.match(payload)
        channel = None if begin is None else _CHANNEL_OF.get(begin[1].decode(errors="replace"))
        products = {product.decode(errors="replace") for product in _PRODUCT.findall(payload)}
        if not products and channel == "matches":
            products = self.traders_of(payload)
        return About(channel, products.pop() if channel and len(products) == 1 else None)


def _facts(told: Any) -> list[Fact]:
    if isinstance(told, L2Update):
        return [
            Book(
                symbol=told.product_id,
                time=known_time(told.time),
                bids=[(price, size) for side, price, size in told.changes if side == "buy"],
                asks=[(price, size) for side, price, size in told.changes if side == "sell"],
            )
        ]
    if isinstance(told, Match):
        return [
            Trade(
                symbol=told.product_id,
                time=told.time,
                price=told.price,
                size=told.size,
                side=SELL if told.side == "buy" else BUY,
                number=told.trade_id,
                again=isinstance(told, LastMatch),
            )
        ]
    if isinstance(told, Ticker):
        if not (told.best_bid or told.best_ask):
            return []
        return [
            Quote(
                symbol=told.product_id,
                time=told.time,
                number=told.sequence,
                bid=(told.best_bid or "0", told.best_bid_size or ""),
                ask=(told.best_ask or "0", told.best_ask_size or ""),
                bid_size_told=told.best_bid_size is not None,
                ask_size_told=told.best_ask_size is not None,
            )
        ]
    if isinstance(told, StatusMessage):
        return facts(told.products, None)
    return [Book(symbol=told.product_id, time=known_time(told.time), bids=told.bids, asks=told.asks, snapshot=True)]


class ExchangeFeed(Venue, frozen=True, kw_only=True):
    """Coinbase Exchange. Nothing of a book's update tells whether one before it is missing: the venue holds that the
    channel delivers all. An update that comes twice is known by its time and content, a lost connection by its end."""

    def decoder(self) -> Decoder:
        return ExchangeDecoder(self.suffix)

    def book_rule(self, instrument_id: str) -> BookRule:
        return BookRule(chain="none", join="stream", snapshots="stream")

    def connections(
        self, symbols: Sequence[str], channels: Sequence[str], base_url: str | None = None
    ) -> list[ConnectionPlan]:
        found = words(channels, _USUAL, _CHANNELS.__contains__)
        return plans(symbols, found, base_url or self.websocket_url, self.limits, _subscribe, whole=("status",))

    def record_of(self, channel: str) -> str | None:
        return _RECORDS.get(channel)

    def recognises(self, url: str, payload: bytes) -> bool:
        hosts = ("exchange.coinbase.com", "pro.coinbase.com")
        known = comes_from(url, hosts)
        if known is not None:
            return known and not (urlsplit(url).hostname or "").startswith("international")
        return _WRITES.match(payload) is not None


def _subscribe(word: str, symbols: Sequence[str]) -> dict[str, Any]:
    named = {"product_ids": list(symbols)} if symbols else {}
    return {"type": "subscribe", **named, "channels": [word]}


COINBASE_EXCHANGE = ExchangeFeed(
    name="coinbase_exchange",
    suffix="COINBASE",
    websocket_url="wss://ws-feed.exchange.coinbase.com",
    http_url="https://api.exchange.coinbase.com",
    limits=Limits(
        streams_per_connection=200,
        streams_per_request=50,
        messages_per_second=100,
        connections_per_minute=480,
        weight_per_minute=600,
    ),
    trade_sequence="next",
)
"""Eight connections a second, 100 messages a second and ten public requests a second are the venue's limits; how many
streams a connection may bring, it does not tell, so that this is moderate."""
