"""Binance as a venue: what its markets share; each says the rest in a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from stages.books.rule import BookRule
from stages.venues.serving import VenueServer
from stages.venues.venue import ConnectionPlan, Decoder, SnapshotRequest, Venue, comes_from

from .decoder import BinanceDecoder
from .group import Market
from .serving import BinanceServer
from .streams import Stream, plans, stream_name


class BinanceMarket(Venue, frozen=True, kw_only=True):
    """One of Binance's markets."""

    hosts: tuple[str, ...]
    """What ends the host names of this market."""
    shared_hosts: tuple[str, ...] = ("www.binance.com",)
    """Those at which requests tell by their path which market they are of."""
    streams: dict[str, str]
    """The stream of a symbol that brings a kind of record."""
    rule: BookRule
    trade_sequence: Literal["next", "monotone", "none"] = "next"
    symbol_form: str = r"[^\Wa-z]+"
    depth_path: str
    depth_weight: int
    """Of a request for `rule.known_depth` levels."""
    size_unit: str = "base"

    def decoder(self) -> Decoder:
        return BinanceDecoder(self.suffix, Market(self.size_unit))

    def book_rule(self, instrument_id: str) -> BookRule:
        return self.rule

    def connections(
        self, symbols: Sequence[str], channels: Sequence[str], base_url: str | None = None
    ) -> list[ConnectionPlan]:
        names = [stream_name(symbol, channel, self.streams) for symbol in symbols for channel in channels]
        return plans(names, base_url or self.websocket_url, self.limits, self.path_of)

    def path_of(self, name: str) -> str:
        """Where on the host a stream is asked for."""
        return ""

    def snapshot_request(self, symbol: str, base_url: str | None = None) -> SnapshotRequest:
        base = (base_url or self.http_url).rstrip("/")
        return SnapshotRequest(
            f"{base}{self.depth_path}?symbol={symbol}&limit={self.rule.known_depth}", self.depth_weight
        )

    def server(self) -> VenueServer:
        return BinanceServer(self.depth_path)

    def record_of(self, channel: str) -> str | None:
        if Stream("", channel).is_depth:
            return "book_delta" if Stream("", channel).levels is None else "book_snapshot"
        return {"trade": "trade", "aggTrade": "trade", "blockTrade": "trade", "bookTicker": "quote"}.get(channel)

    def instrument_asked(self, url: str) -> str | None:
        symbols = parse_qs(urlsplit(url).query).get("symbol")
        return None if symbols is None else self.instrument_id(symbols[0].upper())

    def recognises(self, url: str, payload: bytes) -> bool:
        known = comes_from(url, self.hosts)
        if known is None:
            return self.writes(payload)
        return known or self._is_asked_at(url)

    def _is_asked_at(self, url: str) -> bool:
        """Whether it is a request of this market at a host that several share."""
        begin = self.depth_path.rpartition("/v")[0]
        return comes_from(url, self.shared_hosts) is True and urlsplit(url).path.startswith(f"{begin}/")

    def writes(self, payload: bytes) -> bool:
        """Whether only this market writes such a message."""
        return False
